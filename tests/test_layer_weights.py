"""Weights of layers: learned from a planted layer, listed by encoder and stream, and drawn."""

import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from lib.analysis.layer_weights import list_weights
from lib.core.errors import InputError
from lib.core.shards import Record
from lib.model.encoders import vectors
from lib.report import figures
from lib.report.figures import FigureInputs
from lib.streams import base
from lib.streams.base import Steps, StreamInfo

SHAPE = (4, 6)  # layers, numbers


def make_encoder(*shapes: Sequence[int], reads: Sequence[str] = ("speech",), **changes: Any) -> vectors.Encoder:
    values = {
        "net": "linear",
        "pool": 1,
        "width": 12,
        "depth": 1,
        "dropout": 0.0,
        "take": "all",
        "steps": 1,
    } | changes
    torch.manual_seed(0)
    return vectors.Encoder(vectors.Settings(kind="vectors", reads=list(reads), **values), shapes)


def make_steps(values: torch.Tensor) -> Steps:
    return Steps(
        values, torch.arange(values.shape[1]).expand(values.shape[:2]).float(), torch.ones(values.shape[:2]) > 0
    )


def test_planted_layer_gets_the_largest_weight() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(200, 3, *SHAPE, generator=generator) * torch.tensor([1.0, 100.0, 1.0, 0.01])[:, None]
    labels = values[:, :, 2, 0].mean(1)  # only layer 2 has the label; layer 1 has the largest numbers
    encoder = make_encoder(SHAPE)
    encoder.standardise({"speech": Steps(clip.numpy(), None, None)} for clip in values)
    head = torch.nn.Linear(12, 1)
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], 0.02)
    for _ in range(150):
        optimizer.zero_grad()
        predicted = head(encoder({"speech": make_steps(values)}).values.mean(1))[:, 0]
        (predicted - labels).square().mean().backward()
        optimizer.step()
    weights = encoder.list_layer_weights()["speech"]
    assert weights.sum().item() == pytest.approx(1)
    assert weights.argmax() == 2
    assert weights[2] > 2 * weights[[0, 1, 3]].max()


@torch.no_grad()
def test_layers_are_standardised_before_they_are_added() -> None:
    values = torch.randn(5, 7, *SHAPE) * torch.arange(1.0, 5)[:, None] + 10
    encoder = make_encoder(SHAPE, (3,), reads=("speech", "features"))
    others = torch.randn(5, 7, 3)
    encoder.standardise(
        {"speech": Steps(clip.numpy(), None, None), "features": Steps(other.numpy(), None, None)}
        for clip, other in zip(values, others, strict=True)
    )
    encoder.layer_logits[0].copy_(torch.tensor([0.0, 1, 2, 3]))
    tokens = encoder({"speech": make_steps(values), "features": make_steps(others)}).values
    standardised, other = ((part - part.mean((0, 1))) / part.std((0, 1), correction=0) for part in (values, others))
    weights = torch.tensor([0.0, 1, 2, 3]).softmax(0)
    expected = torch.cat([(standardised * weights[:, None]).sum(2), other], -1)
    assert tokens.numpy() == pytest.approx(encoder.first(expected).numpy(), abs=1e-5)
    assert list(encoder.list_layer_weights()) == ["speech"]


def test_encoder_of_single_vectors_has_no_layer_weights() -> None:
    encoder = make_encoder((6,))
    assert encoder.list_layer_weights() == {}
    assert not [name for name in encoder.state_dict() if name.startswith("layer_logits")]


@pytest.mark.parametrize("shape", [[2, 3, 4], [0]])
def test_steps_that_are_no_vectors_are_rejected(shape: list[int]) -> None:
    with pytest.raises(
        InputError, match=r"reads has 'speech', whose steps are \[.*\]; allowed for vectors: .*; choose"
    ):
        make_encoder(shape)


def test_baselines_read_the_mean_over_layers() -> None:
    values = np.arange(12, dtype=np.float16).reshape(2, 3, 2)
    record = Record("a", {"values": values, "times": np.arange(2.0)}, {"parts": json.dumps({"speech": 2})})
    pooled = base.pool_steps(base.load("speech"), record, True)
    assert pooled.tolist() == [*values.mean((0, 1)), *values.mean(1).std(0)]


def make_table() -> pd.DataFrame:
    network = SimpleNamespace(
        encoders={
            "voice": make_encoder(SHAPE, (3,), reads=("speech", "audio.mfcc")),
            "words": make_encoder((2, 5), reads=("text.words",)),
            "flow": make_encoder((6,)),
        },
        settings_by_encoder={"voice": None, "words": None, "flow": None},
    )
    with torch.no_grad():
        network.encoders["voice"].layer_logits[0][3] = np.log(3)
    infos = {"speech": StreamInfo({"layers": "all"}, {}), "text": StreamInfo({"layers": [9, 12]}, {})}
    return list_weights(network, infos)  # type: ignore[arg-type]


def test_weights_are_listed_with_the_layers_of_the_stream() -> None:
    table = make_table()
    assert table["encoder"].tolist() == ["voice"] * 4 + ["words"] * 2
    assert table["stream"].unique().tolist() == ["speech", "text.words"]
    assert table["layer"].tolist() == [0, 1, 2, 3, 9, 12]
    assert table["weight"].tolist() == pytest.approx([1 / 6, 1 / 6, 1 / 6, 1 / 2, 1 / 2, 1 / 2])


def test_figure_has_a_bar_for_each_layer() -> None:
    module, results = figures.FIGURES["layer_weights"], FigureInputs(layer_weights=make_table())
    figure = module.draw(results)
    figure.draw_without_rendering()
    voice, words = figure.axes
    assert [bar.get_height() for bar in voice.patches] == pytest.approx([1 / 6, 1 / 6, 1 / 6, 1 / 2])
    assert (voice.get_title(), words.get_title()) == ("voice: speech", "words: text.words")
    assert [text.get_text() for text in words.get_xticklabels() if text.get_text()] == ["9", "12"]
    caption = figures.make_caption(module, results, None)
    assert caption.endswith(
        " Highest weights here: voice layer 3 of speech (0.50), words layer 9 of text.words (0.50)."
    )


def test_figure_is_left_out_without_layers() -> None:
    module = figures.FIGURES["layer_weights"]
    assert not module.applies(FigureInputs())
    assert figures.make_caption(module, FigureInputs(), None) == module.CAPTION
    monkey = {"layer_weights": module}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "FIGURES", monkey)
        assert not list(figures.draw_all(FigureInputs(), None))
        assert [name for name, _ in figures.draw_all(FigureInputs(layer_weights=make_table()), None)] == [
            "layer_weights"
        ]
