"""Stages on a small corpus: streams' folders, disabled streams, the choice of clips, and training."""

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from lib.core import resume
from lib.core.errors import InputError
from lib.model import checkpoint
from lib.report.provenance import describe_newest_input
from lib.sources import listing
from lib.streams import _shards, build
from lib.training import cached
from lib.training.prepare import load_streams, select_clips
from stages import train
from tests.small_corpus import (
    CPU,
    STREAMS,
    training_parameters,
)
from tests.small_corpus import corpus_with_streams as corpus_with_streams
from tests.small_corpus import use_small_corpus as use_small_corpus
from tests.stage_parameters import small_parameters, use_parameters


def test_stream_folder_describes_shapes_and_settings(project: Path) -> None:
    descriptions = {
        name: json.loads((project / f"data/{name}/stream.json").read_text()) for name in STREAMS if name != "features"
    }
    assert {name: description["shapes"] for name, description in descriptions.items()} == {
        "frames": {"": [3, 240, 320]},
        "audio": {"log_mel": [16], "mfcc": [6]},
        "faces": {"": [3, 64, 64]},
        "flow": {"": [2, 64, 64]},
    }
    values = small_parameters()
    assert all(descriptions[name]["settings"] == values[name] for name in descriptions)
    metrics = json.loads((project / "metrics/audio.json").read_text())
    assert (metrics["clips"], metrics["rejected"]) == (6, {"audio: has no sound": 1})


def test_disabled_stream_has_only_a_note(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [path.name for path in (project / "data/features").iterdir()] == ["disabled.txt"]
    assert json.loads((project / "metrics/features.json").read_text()) == {"enabled": False}
    shutil.copytree(project / "data/audio", project / "kept")
    use_parameters(monkeypatch, small_parameters(audio__enabled=False))
    build.build_stream("audio")
    assert [path.name for path in (project / "data/audio").iterdir()] == ["disabled.txt"]
    use_parameters(monkeypatch, small_parameters())
    monkeypatch.setattr(_shards, "write_shard", lambda *_: pytest.fail("a finished shard is written again"))
    build.build_stream("audio")
    for path in (project / "kept").iterdir():
        assert path.read_bytes() == (project / "data/audio" / path.name).read_bytes()


def test_disabled_input_streams_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    use_parameters(monkeypatch, small_parameters(faces__enabled=False))
    build.build_stream("faces")
    with pytest.raises(InputError) as caught:
        build.build_stream("flow")
    message = "faces.enabled = false, but {}; allowed: true; set faces.enabled to true, or {}"
    assert str(caught.value) == message.format("flow is made from it", "flow.enabled to false")
    with pytest.raises(InputError) as caught:
        load_streams(training_parameters(model__use=["faces"]).model.settings_by_encoder())
    assert str(caught.value) == message.format("model.use has faces, which reads it", "remove faces from model.use")


def test_select_clips_by_streams_labels_and_mix(project: Path) -> None:
    def select(**changes: Any) -> tuple[list[str], list[str]]:
        settings = training_parameters(**changes)
        tables = select_clips(
            settings, settings.model.settings_by_encoder(), settings.model.select_targets(settings.targets)
        )
        return tuple(table["clip"].str[1].tolist() for table in tables)  # type: ignore[return-value]

    assert select() == (list("0123"), list("45"))
    assert select(model__missing="drop") == (list("013"), list("45"))
    assert select(model__targets=["traits"]) == (list("012"), list("45"))  # one clip has no trait label
    assert select(model__use=["faces"], model__missing="drop") == (list("0123"), list("45"))
    with pytest.raises(InputError, match=r"train\.mix has 'fiv2'; allowed: the corpora .*, demo, own"):
        select(train__mix={"fiv2": 1.0})
    assert select(train__mix={"own": 0.0}) == (list("0123"), ["4"])
    with pytest.raises(InputError, match="no clip of the training split is usable"):
        select(train__mix={"demo": 0.0})


def test_train_reuses_a_finished_training(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outs = [project / path for path in ("data/model.pt", "plots/history.csv", "metrics/train.json")]
    train.main()
    contents = [path.read_bytes() for path in outs]
    history = pd.read_csv(outs[1])
    assert len(history) == 2
    assert {f"validation_{score}_{group}" for score in ("accuracy", "r2", "ccc", "std_ratio")
            for group in ("traits", "warmth")} <= set(history)  # fmt: skip
    assert {"training_accuracy_traits", "training_accuracy_warmth"} <= set(history)
    for path in outs:
        path.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(cached, "train_model", lambda *_: pytest.fail("nothing that it uses has changed"))
        use_parameters(patch, small_parameters(audio__enabled=True, model__encoders__features__width=96))
        train.main()
    assert [path.read_bytes() for path in outs] == contents
    (work_folder,) = (project / "data/.work/train").iterdir()
    assert not (work_folder / "last.pt").exists()
    use_parameters(monkeypatch, small_parameters(train__epochs=1))
    train.main()
    assert len(pd.read_csv(outs[1])) == 1
    assert cached not in (project / "data/.work/train").iterdir()  # only the last training is cached


def test_repeated_training_writes_the_same_bytes(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest, listed = "2026-01-02T03:04:05+00:00", tmp_path / "archives.csv"
    listed.write_text(f"path,bytes,sha256,modified\na,1,0,2025-01-01T00:00:00+00:00\nb,1,0,{newest}\nc,1,0,\n")
    monkeypatch.setattr(listing, "LISTING", listed)
    monkeypatch.setattr("lib.training.run.SYNTHETIC", ())
    monkeypatch.setattr("lib.training.run.MODEL", tmp_path / "model.pt")
    models = []
    for run in ("one", "two"):
        monkeypatch.setattr(resume, "ROOT", tmp_path / run)
        train.main()
        models.append((tmp_path / "model.pt").read_bytes())
    assert models[0] == models[1]
    provenance = checkpoint.load(tmp_path / "model.pt", CPU).provenance
    assert provenance["newest_input"] == newest
    assert describe_newest_input(provenance).endswith(" (newest archive)")
