"""The page docs/python.md: its example runs, and the parts it mentions work together without params.yaml."""

from typing import Any

import pytest
import torch
from torch import nn

from lib.core.errors import InputError
from lib.model.encoders import Encoder
from lib.model.fusions import FUSIONS, Fusion
from lib.model.heads import Sigmoid
from lib.model.network import Network
from lib.streams.base import Steps
from tests.code_blocks import find_code_blocks
from tests.conftest import ROOT


@pytest.fixture
def page() -> dict[str, Any]:
    """The variables of the page's Python blocks on networks after they ran."""
    blocks = find_code_blocks(ROOT / "docs/python.md", "python")[1:]
    printed: list[Any] = []
    scope: dict[str, Any] = {"__name__": "page", "print": printed.append, "printed": printed}
    torch.manual_seed(0)
    exec("\n".join(blocks), scope)
    return scope


def test_python_page_predicts_every_target_group(page: dict[str, Any]) -> None:
    assert page["printed"] == [(2, 5), (2, 1)]
    traits = page["output"].predictions["traits"].mean.detach()
    assert bool(((traits > 0) & (traits < 1)).all())
    assert float((traits[0] - traits[1]).abs().max()) > 1e-4


def test_python_page_network_ignores_padding(page: dict[str, Any]) -> None:
    network, short = page["network"].eval(), slice(0, 20)
    inputs = {"voice": {"audio.mfcc": page["voice"]}, "words": {"text": page["words"]}}
    cut = {
        name: {
            reference: Steps(*(part[1:, short] for part in steps)) for reference, steps in steps_by_reference.items()
        }
        for name, steps_by_reference in inputs.items()
    }
    for group, prediction in network(inputs).predictions.items():
        torch.testing.assert_close(prediction.mean[1:], network(cut).predictions[group].mean, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", FUSIONS)
def test_each_fusion_needs_only_the_widths_of_encoders(page: dict[str, Any], name: str) -> None:
    fusion = FUSIONS[name]({"voice": 24, "words": 24})
    assert isinstance(fusion, Fusion)
    heads = {"own": Sigmoid(fusion.output_dim, 2, fusion.vectors)}
    network = Network(page["encoders"], fusion, heads, page["projections"] if fusion.projected else {})
    output = network({"voice": {"audio.mfcc": page["voice"]}, "words": {"text": page["words"]}})
    assert output.predictions["own"].mean.shape == (2, 2)


def test_network_rejects_cross_attention_without_projections(page: dict[str, Any]) -> None:
    projections = {"voice": page["projections"]["voice"]}
    with pytest.raises(
        InputError, match=r"^projections has no 'words', but CrossAttention needs tokens with positions"
    ):
        Network(page["encoders"], page["fusion"], page["heads"], projections)


def test_projections_give_tokens_one_width(page: dict[str, Any]) -> None:
    encoders = {"voice": page["encoders"]["voice"], "words": page["LinearEncoder"]("text", 768, 9)}
    projections = {name: nn.Linear(encoder.output_dim, 12) for name, encoder in encoders.items()}
    fusion = FUSIONS["cross_attention"](dict.fromkeys(encoders, 12))
    network = Network(encoders, fusion, {"own": Sigmoid(fusion.output_dim, 2)}, projections, missing="keep")
    assert {name: token.shape for name, token in network.absent.items()} == {"voice": (12,), "words": (12,)}
    unknown = page["voice"]._replace(present=torch.zeros(2, 30, dtype=torch.bool))
    output = network({"voice": {"audio.mfcc": unknown}, "words": {"text": page["words"]}})
    assert output.predictions["own"].mean.shape == (2, 2)
    assert output.tokens["voice"].values.shape == (2, 1, 12)


def test_penalty_of_an_encoder_is_returned_once_in_training(page: dict[str, Any]) -> None:
    class Strict(Encoder):
        output_dim = 24

        def __init__(self, inner: Encoder) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, inputs: Any) -> Any:
            tokens = self.inner(inputs)
            if self.training:
                self.penalty = tokens.values.square().mean()
            return tokens

    strict = Strict(page["encoders"]["voice"])
    fusion = FUSIONS["plain_concat"]({"voice": 24})
    network = Network({"voice": strict}, fusion, {"own": Sigmoid(24, 2)})
    inputs = {"voice": {"audio.mfcc": page["voice"]}}
    output = network(inputs)
    torch.testing.assert_close(output.penalty, output.tokens["voice"].values.square().mean())
    assert strict.penalty is None
    assert network.eval()(inputs).penalty == 0
