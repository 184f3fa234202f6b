"""The file of a trained model: contents, and use after training."""

import re
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision

from lib.analysis import _features as features
from lib.core import parameters
from lib.core.errors import InputError
from lib.core.provenance import find_commit
from lib.data.batch import Sample, collate
from lib.model import checkpoint
from lib.model.checkpoint import TrainingSummary
from lib.model.network import Network
from lib.model.settings import Settings
from lib.streams.base import Steps, StreamInfo
from tests.small_network import (
    TRAITS_GROUP,
    make_settings,
    random_clips,
)
from tools import parameters as written

_SHAPES: dict[str, dict[str, list[int]]] = {
    "faces": {"": [3, 32, 32]}, "flow": {"": [2, 32, 32]}, "audio": {"log_mel": [8], "mfcc": [4]},
}  # fmt: skip
STREAMS = {
    name: StreamInfo(written.plain(written.merge_parameters("demo", []))[name], shapes)
    for name, shapes in _SHAPES.items()
}


@torch.no_grad()
def test_saved_model_predicts_the_same_after_loading(tmp_path: Path) -> None:
    torch.manual_seed(3)
    settings = make_settings(["faces", "flow", "audio"], missing="keep")
    targets = {"own": TRAITS_GROUP["traits"].model_copy()}
    net, clips = (
        Network.from_settings(settings, targets, STREAMS).eval(),
        random_clips([4, 9], ["faces", "flow", "audio"]),
    )
    net.encoders["audio"].standardise(clip.inputs["audio"] for clip in clips)
    checkpoint.save(
        tmp_path / "model.pt", net.state_dict(), settings, targets, STREAMS, TrainingSummary(["demo", "fiv2"], 40, 3)
    )
    loaded = checkpoint.load(tmp_path / "model.pt", torch.device("cpu"))
    assert not loaded.network.training
    assert (loaded.targets, loaded.streams, loaded.training.corpora) == (targets, STREAMS, ["demo", "fiv2"])
    assert (loaded.training.clips, loaded.training.seed) == (40, 3)
    assert loaded.settings == settings
    inputs = collate(clips).inputs
    assert torch.equal(loaded.network(inputs).predicted["own"], net(inputs).predicted["own"])


class LetteredClips(list[Sample]):
    """Clips named by letters."""

    @property
    def table(self) -> pd.DataFrame:
        return pd.DataFrame({"clip": list("abcdefg")[: len(self)]})


def test_pretrained_returns_encoders_as_before_training(tmp_path: Path) -> None:
    resnet = torchvision.models.resnet18(weights=None).eval()
    torch.save(resnet.state_dict(), tmp_path / "weights.pt")
    resnet_settings = {"backbone": "resnet18", "weights": str(tmp_path / "weights.pt")}
    settings = make_settings(["faces", "flow"], faces=resnet_settings)
    net = Network.from_settings(settings, TRAITS_GROUP, STREAMS).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(1.1)  # stands in for training
    checkpoint.save(tmp_path / "model.pt", net.state_dict(), settings, TRAITS_GROUP, STREAMS, TrainingSummary(["demo"]))
    (encoder,) = checkpoint.pretrained(tmp_path / "model.pt").values()
    trained = net.encoders["faces"].state_dict()
    initial = {name: weight for name, weight in encoder.state_dict().items() if name.endswith("weight")}
    assert initial
    assert all(torch.equal(trained[name], 1.1 * weight) for name, weight in initial.items())
    clips = LetteredClips(random_clips([5, 3, 4]))
    no_faces = Steps(np.zeros((0, 3, 32, 32), np.uint8), np.zeros(0, np.float32), np.zeros(0, bool))
    clips[1] = clips[1]._replace(inputs=clips[1].inputs | {"faces": {"faces": no_faces}})
    features_of_clips = features.encode(encoder, "faces", clips, 2, torch.device("cpu"))
    assert list(features_of_clips.index) == ["a", "c"]
    with torch.no_grad():
        tokens = encoder(collate([clips[2]]).inputs["faces"])
    assert features_of_clips.loc["c"].to_numpy() == pytest.approx(tokens.values[0].mean(0).numpy(), abs=1e-5)
    checkpoint.save(
        tmp_path / "scratch.pt",
        net.state_dict(),
        make_settings(["faces", "flow"]),
        TRAITS_GROUP,
        STREAMS,
        TrainingSummary(["demo"]),
    )
    assert checkpoint.pretrained(tmp_path / "scratch.pt") == {}
    (tmp_path / "weights.pt").unlink()
    with pytest.raises(InputError, match="weights"):
        checkpoint.pretrained(tmp_path / "model.pt")


def test_outputs_of_a_run_do_not_mark_its_commit_as_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("params.yaml", "dvc.lock", "metrics/scores.json"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("1")
    for command in ("init -q", "add -A", "-c user.name=a -c user.email=a@b.c commit -qm a"):
        subprocess.run(["git", *command.split()], check=True)
    Path("dvc.lock").write_text("2")
    Path("metrics/scores.json").unlink()
    assert re.fullmatch(r"[0-9a-f]{40}", str(find_commit()))
    Path("params.yaml").write_text("2")
    assert re.fullmatch(r"[0-9a-f]{40}\+", str(find_commit()))


def test_model_file_contains_only_plain_data_that_it_uses(tmp_path: Path) -> None:
    settings = make_settings(["flow"], flow={"backbone": "r3d_18"})
    net = Network.from_settings(settings, TRAITS_GROUP, STREAMS)
    weights = settings.model_copy(update={"encoders": {name: encoder | {"weights": "kinetics"} if name == "flow" else encoder
                                                    for name, encoder in settings.encoders.items()}})  # fmt: skip
    streams = {"flow": STREAMS["flow"]}
    checkpoint.save(tmp_path / "model.pt", net.state_dict(), weights, TRAITS_GROUP, streams, TrainingSummary(["demo"]))
    saved = torch.load(tmp_path / "model.pt", weights_only=True)
    keys = {
        "format",
        "corpora",
        "subset",
        "seconds",
        "ranges",
        "references",
        "about",
        "commit",
        "commit_date",
        "versions",
    }
    assert set(saved) == keys | {"weights", "model", "targets", "streams"}
    assert set(saved["model"]["encoders"]) == {"flow"}
    assert saved["model"]["encoders"]["flow"]["weights"] == "kinetics"
    assert parameters.check(saved["model"], Settings).fusion == "cross_attention"
    checkpoint.load(tmp_path / "model.pt", torch.device("cpu"))  # downloads nothing
