"""The page docs/explanation/model.md: its table of fusions has the network's shapes and effects of order."""

import re
from collections.abc import Mapping

import pytest
import torch
from torch import nn

from lib.model.encoders import Encoder
from lib.model.fusions import FUSIONS
from lib.model.heads import HEADS, Sigmoid
from lib.model.network import Network
from lib.model.tokens import Tokens
from lib.streams.base import Steps
from tests.conftest import ROOT

PAGE = (ROOT / "docs/explanation/model.md").read_text()
ROWS = re.findall(r"^\| `(\w+)` \| (yes|no) \| \((.*?)\) \| (yes|no) \|$", PAGE, re.MULTILINE)
SIZES = {"B": 2, "E": 2, "W": 12, "D": 24}
T = 5


class StepEncoder(Encoder):
    """A linear layer for each step by itself."""

    output_dim = SIZES["D"]

    def __init__(self, stream: str) -> None:
        super().__init__()
        self.stream, self.layer = stream, nn.Linear(3, SIZES["D"])

    def forward(self, inputs: Mapping[str, Steps]) -> Tokens:
        steps = inputs[self.stream]
        return Tokens(self.layer(steps.values), steps.times, steps.present, (1, 1))


def test_page_lists_every_fusion_and_head() -> None:
    assert [row[0] for row in ROWS] == [*FUSIONS]
    assert len(PAGE.splitlines()) <= 80
    heads = re.findall(r"`(\w+)`", PAGE.split("`targets.NAME.head` is")[1].split(".")[0])
    assert heads == [*HEADS]


@pytest.mark.parametrize(("name", "positions", "shape", "order"), ROWS)
def test_fusion_has_the_documented_shape_and_use_of_order(name: str, positions: str, shape: str, order: str) -> None:
    torch.manual_seed(0)
    kind, names = FUSIONS[name], ("voice", "words")
    assert kind.projected == (positions == "yes")
    encoders = {encoder: StepEncoder(encoder) for encoder in names}
    projections = {encoder: nn.Linear(SIZES["D"], SIZES["W"]) for encoder in names} if kind.projected else {}
    fusion = kind(dict.fromkeys(names, SIZES["W"] if kind.projected else SIZES["D"]))
    head = Sigmoid(fusion.output_dim, 1, fusion.vectors)
    network = Network(encoders, fusion, {"own": head}, projections).eval()
    values = {encoder: torch.randn(SIZES["B"], T, 3) for encoder in names}

    def fuse(order_of_steps: list[int]) -> torch.Tensor:
        """Return the vectors after the values of one encoder changed places; the times stay."""
        times, present = torch.arange(T).expand(SIZES["B"], T) * 0.7, torch.ones(SIZES["B"], T, dtype=torch.bool)
        moved = values | {"voice": values["voice"][:, order_of_steps]}
        output = network({encoder: {encoder: Steps(moved[encoder], times, present)} for encoder in names})
        assert output.fused is not None
        return output.fused.detach()

    fused = fuse([*range(T)])
    factors = [[SIZES.get(factor) or int(factor) for factor in part.split()] for part in shape.split(", ")]
    assert fused.shape == tuple(int(torch.tensor(part).prod()) for part in factors)
    changed = float((fuse([2, 0, 4, 1, 3]) - fused).abs().max())
    assert changed > 1e-3 if order == "yes" else changed < 1e-5


def test_params_yaml_explains_every_fusion() -> None:
    comment = (ROOT / "params/demo.yaml").read_text().split("\n  fusion:")[0].rsplit("those below\n", 1)[1]
    assert {*re.findall(r"(\w+): ", comment)} >= {*FUSIONS}


def test_cross_attention_of_one_encoder_equals_concat() -> None:
    tokens = {"voice": Tokens(torch.randn(2, T, 12), torch.rand(2, T), torch.ones(2, T, dtype=torch.bool), (1, 1))}
    vectors = [FUSIONS[name]({"voice": 12})(tokens)[0] for name in ("cross_attention", "concat")]
    torch.testing.assert_close(*vectors)
