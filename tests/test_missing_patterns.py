"""Clips that lack a pattern of features keep what the other pattern says, in ridge, in stacked ridge and in a stack."""

import json
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch

from lib.core import shards
from lib.data import pooled
from lib.model.stack import Stack
from lib.scoring import baselines
from lib.streams import base, features
from lib.streams.base import Raw
from lib.training import regressions

CLIPS, TRAINING, VALIDATION = 300, 200, 50
PATTERNS = ["a.csv", "b.csv"]


@pytest.fixture
def corpus(tmp_path: Path) -> pd.DataFrame:
    """Write features of two patterns; each causes half of `warm`. Every third clip has no b.csv."""
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=(CLIPS, 2))
    table = pd.DataFrame({"clip": [f"c{i}" for i in range(CLIPS)], "shard": "one", "a": numbers[:, 0]})
    table["video"], table["warm"] = table["clip"], 0.5 + 0.1 * numbers.sum(1)
    table[["clip", "a"]].to_csv(tmp_path / "a.csv", index=False)
    has_b = np.arange(CLIPS) % 3 > 0
    pd.DataFrame({"clip": table["clip"], "b": numbers[:, 1]})[has_b].to_csv(tmp_path / "b.csv", index=False)
    (tmp_path / "features").mkdir()
    (tmp_path / "features" / base.ABOUT).write_text(json.dumps({"settings": {}, "shapes": {"": [2]}}))
    with h5py.File(tmp_path / "features/one.h5", "w") as file:
        for clip in sorted(table["clip"]):
            shards.write_record(file, features.look_up(Raw(clip, None, tmp_path), PATTERNS, "keep"))
    return table.assign(has_b=has_b)


def check_predictions(predicted: np.ndarray, tested: pd.DataFrame) -> None:
    """Predictions of clips without b.csv follow a.csv."""
    lacking = ~tested["has_b"].to_numpy()
    assert lacking.sum() > 10
    slope = np.polyfit(tested["a"][lacking], predicted[lacking], 1)[0]
    assert 0.07 < slope < 0.12  # 0.1 is the cause; a prediction of the training mean has 0
    assert np.corrcoef(tested["a"][lacking], predicted[lacking])[0, 1] > 0.95


@pytest.mark.parametrize("predictor", ["ridge_features", "ridge_features.a", "stacked_ridge"])
def test_baselines_use_the_pattern_that_a_clip_has(corpus: pd.DataFrame, tmp_path: Path, predictor: str) -> None:
    parts = corpus[:TRAINING], corpus[-VALIDATION:], corpus[TRAINING:-VALIDATION]
    predictions = baselines.predict(*parts, ["warm"], pooled.pool_vectors(tmp_path))
    assert {"ridge_features.b", "stacked_ridge"} <= set(predictions)
    check_predictions(predictions[predictor][:, 0], parts[1])


def test_ridge_of_the_missing_pattern_predicts_the_mean(corpus: pd.DataFrame, tmp_path: Path) -> None:
    parts = corpus[:TRAINING], corpus[-VALIDATION:], corpus[TRAINING:-VALIDATION]
    predicted = baselines.predict(*parts, ["warm"], pooled.pool_vectors(tmp_path))["ridge_features.b"][:, 0]
    lacking = ~parts[1]["has_b"].to_numpy()
    assert predicted[lacking] == pytest.approx(np.full(lacking.sum(), corpus["warm"][:TRAINING].mean()), abs=0.02)
    assert predicted[~lacking].std() > 0.05


def test_stack_uses_the_pattern_that_a_clip_has(
    corpus: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lib.model.encoders.vectors import Settings

    monkeypatch.setattr(regressions, "DATA", tmp_path)
    inputs = {"own": Settings(kind="vectors", reads=["features"], take="all", steps=1, net="linear", width=6, depth=1,
                              dropout=0, pool=1)}  # fmt: skip
    numbers = regressions.read_numbers(corpus, inputs, base.load_stream_info(tmp_path, ["features"]))
    assert sorted(numbers.parts) == ["own.a", "own.b"]
    training = numbers._replace(values=numbers.values[:TRAINING])
    labels = corpus[["warm"]].to_numpy()
    fitted = regressions.fit_stack(training, labels[:TRAINING], corpus["video"][:TRAINING].to_numpy())
    stack = Stack()
    stack.set(**fitted.tensors)
    tested = corpus[TRAINING:]
    predicted = stack(torch.from_numpy(numbers.values[TRAINING:]), None)[:, 0].numpy()
    check_predictions(predicted, tested)
