"""tools.power: the smallest differences are detected in 80 % of simulated test sets, and the tool reads a run's files."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import brentq

import tools.power
from lib.core.artifacts import PREDICTIONS
from lib.scoring import power
from lib.scoring.bootstrap import Bootstrap
from tests.report_data import WARMTH
from tests.run_tool import run_tool

VIDEOS, CLIPS, SLOPE, NOISE, CORRELATION = 300, 2, 0.4, 0.45, 0.8
GROUP = WARMTH.model_copy(update={"columns": ["warm"], "range": [0, 1]})


def draw_corpus(
    rng: np.random.Generator, videos: int, noises: tuple[float, float] = (NOISE, NOISE), columns: int = 1
) -> tuple[np.ndarray, ...]:
    """Return labels, predictions of two models with residuals of these sizes, (N, K) each, and the videos (N,).

    A video's clips share a third of the variance of labels and residuals; residuals correlate by CORRELATION.
    """
    index = np.repeat(np.arange(videos), CLIPS)

    def draw() -> np.ndarray:
        shared, individual = rng.normal(size=(videos, columns))[index], rng.normal(size=(len(index), columns))
        return np.sqrt(1 / 3) * shared + np.sqrt(2 / 3) * individual

    labels, first, second = draw(), draw(), draw()
    rival = CORRELATION * first + np.sqrt(1 - CORRELATION**2) * second
    return labels, SLOPE * labels + noises[0] * first, SLOPE * labels + noises[1] * rival, index


def true_scores(noise: float) -> dict[str, float]:
    """Return the scores in an infinite corpus; the errors are normal with the variance `mse`."""
    mse = (1 - SLOPE) ** 2 + noise**2
    ccc = 2 * SLOPE / (1 + SLOPE**2 + noise**2)
    return {"accuracy": 1 - np.sqrt(2 * mse / np.pi), "r2": 1 - mse, "ccc": ccc}


@pytest.fixture(scope="module")
def smallest() -> dict[str, float]:
    """The smallest differences by corpora of VIDEOS videos, their own predictions and imitated rivals; mean of four."""
    differences = []
    for seed in range(1000, 1004):
        actual, predicted, _, videos = draw_corpus(np.random.default_rng(seed), VIDEOS)
        rivals = power.imitate_rivals(actual, predicted, videos, CORRELATION, 0)
        differences.append(power.find_smallest(actual, predicted, rivals, videos, GROUP, Bootstrap(300, 0)))
    return {name: float(np.mean([values[name][1] for values in differences])) for name in power.SCORES}


@pytest.mark.parametrize("score", power.SCORES)
def test_effect_of_smallest_size_is_shown_in_80_percent(score: str, smallest: dict[str, float]) -> None:
    """160 simulated test sets, 40 of four columns, of models that differ by exactly this in an infinite corpus."""

    def miss(change: float) -> float:
        return true_scores(NOISE - change)[score] - true_scores(NOISE + change)[score] - smallest[score]

    change = brentq(miss, 0, NOISE)
    is_shown: list[bool] = []
    for number in range(40):
        noises = NOISE - change, NOISE + change
        actual, *models, videos = draw_corpus(np.random.default_rng(1 + number), VIDEOS, noises, 4)
        scores, rivals = (
            power._resample_scores(actual, values, videos, GROUP, Bootstrap(300, number)) for values in models
        )
        low, high = np.percentile(scores[score][:, 1:] - rivals[score][:, 1:], [2.5, 97.5], axis=0)
        is_shown += ((low > 0) | (high < 0)).tolist()
    assert 0.7 <= np.mean(is_shown) <= 0.9


def test_rivals_have_the_asked_correlation_and_equal_scores() -> None:
    actual, predicted, _, videos = draw_corpus(np.random.default_rng(0), 400)
    actual[5] = np.nan
    rivals = power.imitate_rivals(actual, predicted, videos, 0.7, 1)
    measured = [power.correlate_residuals(actual, predicted, rival)[0] for rival in rivals]
    assert np.mean(measured) == pytest.approx(0.7, abs=0.03)
    known = np.isfinite(actual[:, 0])
    errors = [np.abs(rival - actual)[known].mean() for rival in rivals]
    assert np.mean(errors) == pytest.approx(np.abs(predicted - actual)[known].mean(), rel=0.03)
    residuals = power.split_residuals(actual, rivals[0])[1][known, 0]
    assert abs(np.corrcoef(residuals, actual[known, 0])[0, 1]) < 0.06


def write_run(folder: Path, seed: int) -> None:
    actual, predicted, _, videos = draw_corpus(np.random.default_rng(0), 45)
    predicted = predicted + np.random.default_rng(seed).normal(0, 0.1, predicted.shape)
    table = pd.DataFrame({"actual": actual[:, 0], "predicted": predicted[:, 0]}).assign(targets="warmth", target="warm")
    table["clip"], table["video"] = [f"c{index}" for index in range(90)], [f"v{index}" for index in videos]
    table["split"] = np.repeat(["training", "test"], 45)
    (folder / "data").mkdir(parents=True)
    table.to_csv(folder / PREDICTIONS, index=False)


def test_power_prints_a_table_for_each_score(tmp_path: Path) -> None:
    write_run(tmp_path / "one", 1)
    write_run(tmp_path / "two", 2)
    result = run_tool(
        tools.power, "one", "--with", "two/data", "--correlations", "0.5", "0.9", "--resamples", "200", cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    assert "test split: 45 labelled clips of 23 videos" in result.stdout
    for title in ("1 − MAE", "R²", "CCC"):
        assert f"\n{title}\n\n| compared with | mean | warm |" in result.stdout
    rows = dict(
        line.strip("| ").split(" | ", 1) for line in result.stdout.split("\nCCC\n")[1].splitlines() if " | " in line
    )
    far, near, second = (float(rows[name].split(" | ")[1]) for name in list(rows)[2:])
    assert far > near > 0
    assert "the run of --with, residuals correlate by 0.9" in list(rows)[4]
    assert second > 0


def test_power_rejects_a_folder_without_predictions(tmp_path: Path) -> None:
    write_run(tmp_path / "one", 1)
    for arguments, message in (
        (["none"], "none has neither data/predictions.csv nor predictions.csv; give a folder after"),
        (["one", "--targets", "warm"], "has no target group 'warm'; allowed: warmth. Change --targets"),
        (["one", "--split", "validation"], "has labelled validation clips of 0 videos; required: 10 videos"),
        (["one", "--correlations", "1"], "--correlations 1; allowed: 0 or more, and below 1"),
    ):
        result = run_tool(tools.power, *arguments, cwd=tmp_path)
        assert result.returncode == 1
        assert message in result.stderr
