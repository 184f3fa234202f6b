"""Complete published networks of SSL-MEPR: they load, predict as published, and start a training."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lib.core.errors import InputError
from lib.core.parameters import check
from lib.core.targets import TRAITS as OUR_TRAITS
from lib.core.targets import TargetGroup, Targets
from lib.model import checkpoint
from lib.model.network import Network
from lib.model.settings import Settings
from lib.model.ssl_mepr_weights import EMOTIONS, TRAITS, find_kind
from lib.streams.base import StreamInfo
from tests.conftest import ROOT
from tests.run_tool import call_main
from tests.small_network import make_settings, make_steps
from tools import import_model

FIXTURE = ROOT / "tests/data/parity/fusion_small.npz"
NAMES = json.loads((ROOT / "tests/data/parity/state_dicts.json").read_text())
FILES = {
    "multitask": "multitask_fusion_model.pth",
    "traits": "fiv2_best_checkpoint.pth, under model_state_dict",
    "emotions": "cmu_mosei_best_checkpoint.pth, under model_state_dict",
}


def make_targets(**changes: Any) -> Targets:
    common = {"range": [0, 1], "weight": 1.0}
    traits = {"columns": list(OUR_TRAITS), "head": "linear", "loss": "mse"} | common | changes
    emotions = {"columns": list(EMOTIONS), "head": "softmax", "loss": "kl"} | common
    return {"traits": check(traits, TargetGroup), "emotions": check(emotions, TargetGroup)}


def make_small_network(
    targets: Targets, use: tuple[str, ...] = ("of_traits", "of_emotions"), width: int = 32
) -> Network:
    transformer = {
        "kind": "sequence_transformer", "reads": ["embeddings"], "take": "all", "steps": 1, "positions": 30, "width": width,
        "heads": 8, "feed_forward": 4 * width, "depth": 3, "dropout": 0.2, "norm": "after", "mask": False, "weights": None,
        "frozen": False,
    }  # fmt: skip
    fusion = "multitask_pooled" if len(use) == 2 else "plain_concat"
    model = make_settings(
        list(use), fusion, targets=list(targets), heads=8, depth=2, hidden=32 if len(use) == 2 else 0,
        encoders=dict.fromkeys(use, transformer),
    )  # fmt: skip
    return Network.from_settings(
        check(model.model_dump(), Settings), targets, {"embeddings": StreamInfo({}, {"": [32]})}
    )


@pytest.fixture
def fixture(tmp_path: Path) -> dict[str, Tensor]:
    """The arrays of a small published network. Its parameters are in a file, as published."""
    with np.load(FIXTURE) as file:
        arrays = {name: torch.from_numpy(file[name]) for name in file}
    weights = {name.removeprefix("param/"): value for name, value in arrays.items() if name.startswith("param/")}
    torch.save(weights, tmp_path / "multitask_fusion_model.pth")
    return arrays


def read_steps(arrays: dict[str, Tensor]) -> Any:
    present = torch.arange(30) < arrays["in/lengths"][:, None]
    return {"embeddings": make_steps(arrays["in/x"], present)}


@torch.no_grad()
def test_complete_network_predicts_as_published(fixture: dict[str, Tensor], tmp_path: Path) -> None:
    network = make_small_network(make_targets()).eval()
    checkpoint.warm_start(network, tmp_path / "multitask_fusion_model.pth", make_targets())
    steps = read_steps(fixture)
    predicted = network({"of_traits": steps, "of_emotions": steps}).predicted
    order = [TRAITS.index(trait) for trait in OUR_TRAITS]
    torch.testing.assert_close(predicted["traits"], fixture["out/traits"][:, order], atol=1e-5, rtol=0)
    torch.testing.assert_close(predicted["emotions"], fixture["out/emotion_logits"].softmax(1), atol=1e-5, rtol=0)


@torch.no_grad()
def test_one_target_of_a_complete_network_can_be_used(fixture: dict[str, Tensor], tmp_path: Path) -> None:
    targets = {"traits": make_targets(columns=["openness", "neuroticism"])["traits"]}
    network = make_small_network(targets).eval()
    checkpoint.warm_start(network, tmp_path / "multitask_fusion_model.pth", targets)
    steps = read_steps(fixture)
    predicted = network({"of_traits": steps, "of_emotions": steps}).predicted["traits"]
    torch.testing.assert_close(predicted, fixture["out/traits"][:, [0, 4]], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("changes", "use", "width", "message"),
    [
        (
            {"head": "sigmoid"},
            ("a", "b"),
            32,
            "do not predict targets.traits with head = sigmoid and columns .* linear",
        ),
        (
            {"columns": ["interview"]},
            ("a", "b"),
            32,
            "and columns interview; allowed: head = linear with columns openness",
        ),
        ({}, ("a",), 32, r"of a published multitask network; model\.use = \['a'\]; allowed: 2 of kind"),
        ({}, ("a", "b"), 16, "do not fit the section model: .*; take it from params/multitask.yaml"),
    ],
)
def test_network_of_another_form_is_rejected(
    changes: dict[str, Any], use: tuple[str, ...], width: int, message: str, fixture: dict[str, Tensor], tmp_path: Path
) -> None:
    targets = make_targets(**changes)
    with pytest.raises(InputError, match=message):
        checkpoint.warm_start(make_small_network(targets, use, width), tmp_path / "multitask_fusion_model.pth", targets)


@pytest.mark.slow
@pytest.mark.parametrize("kind", FILES)
def test_published_names_and_shapes_become_a_model_file(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    monkeypatch.chdir(ROOT)
    state = {name: 0.02 * torch.randn(shape) for name, shape in NAMES[FILES[kind]].items()}
    assert find_kind(state) == kind
    torch.save(state if kind == "multitask" else {"model_state_dict": state}, tmp_path / "published.pth")
    call_main(import_model, tmp_path / "published.pth", tmp_path / "model.pt")
    assert f"the published {kind} network" in capsys.readouterr().out
    trained = checkpoint.load(tmp_path / "model.pt", torch.device("cpu"))
    assert list(trained.streams) == ["frames", "faces", "embeddings"]
    assert trained.streams["embeddings"].settings["colour"] == "bgr"
    x = torch.randn(2, 30, 1024)
    steps = {"embeddings": make_steps(x, torch.arange(30) < torch.tensor([[30], [17]]))}
    predicted = trained.network(dict.fromkeys(trained.network.encoders, steps)).predicted
    assert {name: values.shape[1] for name, values in predicted.items()} == {
        name: count for name, count in (("traits", 5), ("emotions", 7)) if kind in (name, "multitask")
    }
    assert all(values.std(0).min() > 0 for values in predicted.values())
    with pytest.raises(InputError, match=r"model\.pt exists; allowed: a new file"):
        call_main(import_model, tmp_path / "published.pth", tmp_path / "model.pt")


def test_other_weights_are_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    torch.save({"fc.weight": torch.zeros(5, 2)}, tmp_path / "other.pth")
    with pytest.raises(
        InputError, match="are not those of a network of SSL-MEPR; allowed: traits, emotions, multitask"
    ):
        call_main(import_model, tmp_path / "other.pth", tmp_path / "model.pt")
