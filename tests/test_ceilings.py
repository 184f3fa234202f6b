"""Ceilings by the reliability of labels: simulations with a known truth, and where reports and tools show them."""

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from lib.core.errors import InputError, SettingError
from lib.core.targets import TargetGroup, list_rating_columns
from lib.report import (
    card,
    ceilings,
    comparison,
    curve,
    figures,
    folds,
    latex,
    left_out_corpora,
    score_tables,
    spread,
    verdict,
)  # fmt: skip
from lib.report.figures import FigureInputs
from lib.scoring import results
from lib.scoring.ceilings import CEILING, bound_scores
from lib.scoring.corpus_scores import CorpusClips, score_corpus
from lib.scoring.paired import compare_predictors
from lib.scoring.reliability import estimate_reliability, read_error_variance, weigh_by_reliability
from lib.scoring.scores import score_columns
from lib.scoring.seeds import score_over_seeds
from lib.scoring.tables import ScoredClips, comparison_table, score_table
from lib.sources import _split, table
from lib.training.data import TrainData
from tests.conftest import ROOT
from tests.report_data import CLIPS_AND_VIDEOS, WARMTH, make_scored
from tests.test_report import CORRUPTIONS, compare, make_results, make_run, write_page

RELIABLE = WARMTH.model_copy(update={"reliability": {"warm": 0.64, "cold": 0.25}})


def draw_ratings(rng: np.random.Generator, clips: int, raters: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the consensus (N,) with variance 1, and the ratings (N, n), which have errors of this size."""
    consensus = rng.normal(size=clips)
    return consensus, consensus[:, None] + rng.normal(0, noise, (clips, raters))


def rate(ratings: np.ndarray) -> pd.DataFrame:
    cells = {"warm": ratings.mean(1), "warm_n": float(ratings.shape[1]), "warm_sd": ratings.std(1, ddof=1)}
    return pd.DataFrame(cells)


@pytest.mark.parametrize("reliability", [0.42, 0.76])
def test_consensus_reaches_r2_and_r_and_no_scale_exceeds_ccc(reliability: float) -> None:
    noise = np.sqrt(5 * (1 / reliability - 1))
    consensus, ratings = draw_ratings(np.random.default_rng(0), 40_000, 5, noise)
    labels = ratings.mean(1)[:, None]
    bounds = {score: values[1] for score, values in bound_scores(np.array([reliability])).items()}

    def score(predicted: np.ndarray) -> dict[str, float]:
        values = score_columns(labels, predicted[:, None], ["warm"], 1)
        return {name: float(values[name]["warm"] or 0) for name in bounds}

    of_consensus = score(consensus)
    assert of_consensus["r2"] == pytest.approx(bounds["r2"], abs=0.015)
    assert of_consensus["pearson"] == pytest.approx(bounds["pearson"], abs=0.01)
    assert of_consensus["ccc"] == pytest.approx(2 * reliability / (1 + reliability), abs=0.01)
    assert score(consensus / np.sqrt(reliability))["ccc"] == pytest.approx(bounds["ccc"], abs=0.01)
    for scale in np.linspace(0.2, 3, 15):
        scaled = score(scale * consensus + 0.1 * (scale - 1))
        assert all(scaled[name] < bounds[name] + 0.015 for name in bounds)


def test_reliability_from_columns_equals_icc_and_the_truth() -> None:
    _, ratings = draw_ratings(np.random.default_rng(1), 4000, 5, 2.0)
    clips = rate(ratings)
    (estimated,) = estimate_reliability(clips[["warm"]].to_numpy(), read_error_variance(clips, ["warm"]))
    between, within = 5 * ratings.mean(1).var(ddof=1), ratings.var(1, ddof=1).mean()  # mean squares of a one-way ANOVA
    assert estimated == pytest.approx(1 - within / between)
    assert estimated == pytest.approx(1 / (1 + 4 / 5), abs=0.02)
    clips.loc[0, "warm_n"] = 1
    assert np.isnan(read_error_variance(clips, ["warm"])[0, 0])
    assert np.isnan(read_error_variance(clips.drop(columns="warm_sd"), ["warm"])).all()


def test_score_table_has_ceilings_of_each_subset() -> None:
    group = WARMTH.model_copy(update={"columns": ["warm"]})
    _, ratings = draw_ratings(np.random.default_rng(2), 60, 4, 1.0)
    clips = rate(ratings)
    actual, seen = clips[["warm"]].to_numpy(), np.arange(60) < 30
    predictions = {"model": actual, "mean_predictor": np.zeros_like(actual)}
    errors = read_error_variance(clips, ["warm"])
    bootstrap = make_scored(WARMTH, 1).bootstrap
    scored = ScoredClips(actual, predictions, np.arange(60), seen, group, bootstrap, error_variance=errors)
    rows = score_table(scored)
    rows = rows[rows["predictor"] == CEILING].set_index(["subset", "score", "target"])["value"]
    for subset, members in (("all", seen | True), ("seen_videos", seen)):
        (reliability,) = estimate_reliability(actual[members], errors[members])
        assert rows[subset, "r2", "warm"] == pytest.approx(reliability)
        assert rows[subset, "ccc", "mean"] == pytest.approx(np.sqrt(reliability))
    assert CEILING not in set(
        score_table(ScoredClips(actual, predictions, np.arange(60), seen, group, bootstrap))["predictor"]
    )


def test_mean_has_a_ceiling_only_if_every_target_has_one() -> None:
    partly = WARMTH.model_copy(update={"reliability": {"warm": 0.64}})
    rows = score_table(make_scored(partly, 0.3))
    assert set(rows.loc[rows["predictor"] == CEILING, "target"]) == {"warm"}
    with pytest.raises(ValueError, match="reliability has 'hot'; allowed: warm, cold"):
        TargetGroup(**WARMTH.model_dump() | {"reliability": {"hot": 0.5}})


def test_report_and_card_show_the_ceilings() -> None:
    scores = score_table(make_scored(RELIABLE, 0.3)).assign(targets="warmth")
    persons = make_results("warmth", WARMTH)[2]
    findings = {finding.target: finding.ceiling for finding in verdict.find_results(scores, RELIABLE, False)}
    assert findings == {"warm": "0.64", "cold": "0.25"}
    text = verdict.describe_headline(scores, compare(scores), RELIABLE)[0]
    assert "(ceilings R² 0.445 and CCC 0.650 by the reliability of the labels)" in text
    page_text = write_page(scores, persons, {"warmth": RELIABLE}, "table")
    assert "<small>ceiling 0.64</small>" in page_text
    assert "<tr><th>ceiling</th><td>0.445</td><td>0.640</td><td>0.250</td></tr>" in page_text
    assert ceilings.ABOUT.replace("'", "&#39;") in page_text
    card_text = card.make_card(scores, compare(scores), persons, CORRUPTIONS, {"warmth": RELIABLE}, make_run("table"))
    assert "| ceiling of R² | ceiling of CCC |" in card_text
    assert "| 0.640 | 0.800 |" in card_text
    for tabulate in (latex.tabulate_headline, latex.tabulate_targets):
        tabulated = tabulate(scores, RELIABLE, "test")
        assert "ceiling" in tabulated
        assert "0.445" in tabulated


def test_figures_draw_the_ceilings() -> None:
    scores = score_table(make_scored(RELIABLE, 0.3)).assign(targets="warmth")
    results = FigureInputs(scores=scores, targets={"warmth": RELIABLE})
    panels = figures.FIGURES["headline"].draw(results, RELIABLE).axes
    lines = [[line.get_xdata()[0] for line in axes.lines if line.get_label() == ceilings.LABEL] for axes in panels]
    assert lines == [[], [pytest.approx(0.445)], [pytest.approx(0.65)]]
    assert "The ceiling is the highest expected" in figures.make_caption(figures.FIGURES["headline"], results, RELIABLE)
    rows = pd.DataFrame(
        {"split": "test", "score": ["r2"] * 3 + ["accuracy"] * 3, "target": ["mean", "warm", "cold"] * 2}
    )
    rows = rows.assign(value=0.1, low=0.0, high=0.2, clips=60, videos=30)
    r2 = figures.FIGURES["scores_by_split"].draw(FigureInputs(scores=scores, split_scores=rows), RELIABLE).axes[0]
    (marks,) = [line.get_ydata() for line in r2.lines if line.get_label() == ceilings.LABEL]
    assert list(marks) == pytest.approx([0.445, 0.64, 0.25])
    lens = pd.DataFrame(
        {"target": "warm", "side": ["label", "model"], "feature": "pitch", "r": 0.1, "low": 0.0, "high": 0.2}
    )
    warm = figures.FIGURES["lens"].draw(FigureInputs(scores=scores, lens=lens), RELIABLE).axes[0]
    drawn = [line.get_xdata()[0] for line in warm.lines if line.get_label() == ceilings.LABEL]
    assert drawn == pytest.approx([0.8, -0.8])
    probes = pd.DataFrame(
        {"target": ["mean", "warm", "cold"], "features": "faces", "width": 8, "r2": 0.1, "low": 0, "high": 1}
    )
    panel = figures.FIGURES["probes"].draw(FigureInputs(scores=scores, probes=probes), RELIABLE).axes[1]
    assert [line.get_xdata()[0] for line in panel.lines if line.get_label() == ceilings.LABEL] == pytest.approx([0.64])


def test_comparisons_of_experiments_show_the_ceilings(tmp_path: Path) -> None:
    scored = make_scored(RELIABLE, 0.3)
    arrays = {name: [values] for name, values in scored.predictions.items()}
    compared = compare_predictors(arrays, scored.actual, scored.videos, "mean_predictor", RELIABLE, scored.bootstrap)
    rows = ceilings.make_rows(bound_scores(np.array([0.64, 0.25])), ("mean", "warm", "cold"))
    compared = pd.concat([compared, rows], ignore_index=True)
    text = comparison.format_markdown(compared, "mean_predictor", "60 clips", "1 − MAE", 500)
    assert text.count("| ceiling |") == 2
    assert "| ceiling | 0.445 | 0.640 | 0.250 |" in text
    comparison.write(compared, "mean_predictor", "1 − MAE", tmp_path / "out")
    assert "ceiling" not in (tmp_path / "out.tex").read_text()
    assert ceilings.make_rows(bound_scores(np.full(2, np.nan)), ("mean", "warm", "cold")).empty
    scores = score_table(scored)
    all_clips = scores[scores["subset"] == "all"]
    assert "| ceiling | – | 0.445 | 0.650 |" in folds.format_markdown(folds.combine_folds([all_clips]), RELIABLE)
    by_size = curve.make_curve({10: [all_clips], 20: [all_clips]})
    assert "| ceiling | 0.445 | 0.445 |" in curve.format_markdown(by_size, "60 clips", RELIABLE)
    assert curve.draw_panels(by_size, "60 clips", RELIABLE).axes[1].lines[-1].get_label() == ceilings.LABEL
    seeds = score_over_seeds(arrays, scored.actual, scored.videos, RELIABLE, scored.bootstrap)
    bounds = all_clips[all_clips["predictor"] == CEILING].assign(seeds=1, seed_std=np.nan)
    table_of_seeds = pd.concat([seeds, bounds[seeds.columns]], ignore_index=True)
    assert "| ceiling | – | – | – | – | 0.445 | 0.650 |" in spread.format_markdown(table_of_seeds, "60 clips", RELIABLE)
    panels = spread.draw_panels(table_of_seeds, "60 clips", RELIABLE).axes
    assert sum(line.get_label() == ceilings.LABEL for axes in panels for line in axes.lines) == 2


WITHOUT_CEILING = {
    "lib/report/card_header.py": "metadata of a model hub, which has fields for scores only",
    "lib/report/corpora.py": "text on a corpus, which states the ceiling itself",
    "lib/report/folds.py": "has a row for each predictor, and one for the ceiling",
    "lib/report/left_out_corpora.py": "has a row for each predictor, and one for the ceiling",
    "lib/report/score_tables.py": "has a row for each predictor, and one for the ceiling",
    "tools/ablate/__main__.py": "describes tables of other modules",
    "tools/planted/behaviour.py": "planted labels have no raters",
    "tools/planted/image.py": "planted labels have no raters",
    "tools/planted/together.py": "planted labels have no raters",
    "tools/power.py": "prints differences, which have no ceiling",
    "tools/search/__main__.py": "describes tables of other modules",
    "tools/search/trials.py": "reads the rows that tools/search/results.py shows with their ceilings",
}
"""Modules of reports and tools that name R², r or CCC and draw no ceiling, and why."""


def test_each_module_with_r2_r_or_ccc_shows_the_ceiling() -> None:
    paths = sorted(path for folder in ("lib/report", "lib/serving", "tools") for path in (ROOT / folder).rglob("*.py"))
    texts = {path.relative_to(ROOT).as_posix(): path.read_text() for path in paths}
    names = re.compile(r"R²|CCC|\"(?:r2|ccc|pearson)\"")
    without = {path for path, text in texts.items() if names.search(text) and "ceiling" not in text.lower()}
    described = {path for path in WITHOUT_CEILING if names.search(texts[path])}
    assert without - WITHOUT_CEILING.keys() == set()
    assert described == WITHOUT_CEILING.keys()


def test_score_tables_have_a_row_for_the_ceiling() -> None:
    scored = make_scored(RELIABLE, 0.3)
    scores = score_table(scored)
    main, further = score_tables.list_score_tables(scores, comparison_table(scored), RELIABLE, "all")
    assert main["R²"].loc["ceiling"].tolist() == ["0.445", "0.640", "0.250"]
    assert main["CCC"].loc["ceiling"].tolist() == ["0.650", "0.800", "0.500"]
    assert {title for title, table in (main | further).items() if "ceiling" in table.index} == {"R²", "CCC"}


def test_comparison_keeps_its_tables_apart_from_the_explanation() -> None:
    scored = make_scored(RELIABLE, 0.3)
    arrays = {name: [values] for name, values in scored.predictions.items()}
    compared = compare_predictors(arrays, scored.actual, scored.videos, "mean_predictor", RELIABLE, scored.bootstrap)
    rows = ceilings.make_rows(bound_scores(np.array([0.64, 0.25])), ("mean", "warm", "cold"))
    compared = pd.concat([compared, rows], ignore_index=True)
    lines = comparison.format_markdown(compared, "mean_predictor", "60 clips", "1 − MAE", 500).splitlines()
    header = next(number for number, line in enumerate(lines) if line.startswith("| against"))
    assert lines[header + 1].startswith("|---|")
    assert lines[header + 2].startswith("| model |")
    assert ceilings.ABOUT in lines[:header]


@pytest.mark.slow
def test_figures_of_epochs_and_of_predictions_have_ceilings() -> None:
    scored = make_scored(RELIABLE, 0.3)
    scores = score_table(scored).assign(targets="warmth")
    history = pd.DataFrame({"epoch": [1, 2], "training_loss": [2.0, 1.0], "validation_loss": [2.0, 1.0]})
    for score in ("accuracy", "r2", "ccc"):
        for split in ("training", "validation"):
            history[f"{split}_{score}_warmth"] = 0.1
        for column in RELIABLE.columns:
            history[f"validation_{score}_warmth.{column}"] = 0.1
    results = FigureInputs(scores=scores, history=history, targets={"warmth": RELIABLE})
    panels = figures.FIGURES["learning_curve"].draw(results).axes
    drawn = [[line.get_ydata()[0] for line in axes.lines if line.get_label() == ceilings.LABEL] for axes in panels]
    assert drawn == [[], [], [pytest.approx(0.445)], [pytest.approx(0.65)]]
    rows = CLIPS_AND_VIDEOS.assign(
        target="warm", actual=scored.actual[:, 0], predicted=scored.predictions["model"][:, 0]
    )
    one = RELIABLE.model_copy(update={"columns": ["warm"]})
    results = FigureInputs(scores=scores, predictions=rows.assign(video_in_training=scored.video_in_training))
    (text,) = figures.FIGURES["predicted_against_actual"].draw(results, one).axes[0].texts
    assert re.fullmatch(r"R² = −?0\.\d\d \(ceiling 0\.64\)\nr = 0\.\d\d \(ceiling 0\.80\)", text.get_text())


def test_scores_on_single_corpora_show_the_ceiling_of_r() -> None:
    scored = make_scored(RELIABLE, 0.3)
    predictions = {"model": scored.predictions["model"]}
    clips = CorpusClips(["warm", "cold"], scored.actual, scored.videos, predictions, {}, trained=False, span=6.0)
    clips = replace(clips, reliability=np.array([0.64, 0.25]))
    table = score_corpus(clips, scored.bootstrap).assign(targets="warmth", corpus="other", trained=False)
    bounds = table[table["predictor"] == CEILING].set_index("target")["value"]
    assert bounds.to_dict() == pytest.approx({"mean": 0.65, "warm": 0.8, "cold": 0.5})
    text = left_out_corpora.format_markdown(left_out_corpora.combine_seeds({"other": [table]}), RELIABLE)
    assert "| other | 60 | ceiling | other corpora | – | 0.650 | – | – |" in text
    results, module = FigureInputs(corpus_scores=table), figures.FIGURES["across_corpora"]
    panels = module.draw(results, RELIABLE).axes
    drawn = [line.get_xdata()[0] for axes in panels for line in axes.lines if line.get_label() == ceilings.LABEL]
    assert drawn == pytest.approx([0.65, 0.8, 0.5])
    assert figures.make_caption(module, results, RELIABLE).endswith("Dashed: ceiling by reliability.")


def test_table_brings_numbers_and_spread_of_raters(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    path = tmp_path / "annotations/clips.csv"
    path.write_text("clip,warm,cold,warm_n,warm_sd,cold_n\na,3,2,5,0.7,x\nb,,,4,0.1,y\n")
    settings = table.Settings(path="clips.csv", targets={"warm": [1, 7], "cold": [1, 7]})
    rows = table.rows(settings, tmp_path, [])
    assert rows.loc[0, ["warm_n", "warm_sd"]].tolist() == [5, 0.7]
    assert "cold_n" not in rows
    assert table.problem(rows.loc[0].to_dict()) == ""
    assert table.problem(rows.loc[1].to_dict()) == "target: none is known"
    assert list_rating_columns(rows) == ["warm_n", "warm_sd"]
    pd.testing.assert_series_equal(_split._level(rows), _split._level(rows.drop(columns=["warm_n", "warm_sd"])))
    path.write_text("clip,warm,warm_n,warm_sd\na,3,5,-1\n")
    with pytest.raises(InputError, match="row 2, column 'warm_sd': '-1'; allowed: a number from 0 to 6"):
        table.rows(table.Settings(path="clips.csv", targets={"warm": [1, 7]}), tmp_path, [])


def test_reliable_labels_and_targets_weigh_more() -> None:
    labels = np.random.default_rng(0).normal(size=(200, 2))
    errors = np.full((200, 2), np.nan)
    errors[:, 0] = np.tile([0.1, 0.5], 100)
    errors[0] = np.nan
    weights = weigh_by_reliability(labels, errors, np.array([0.7, np.nan]))
    consensus = labels[1:, 0].var(ddof=1) - errors[1:, 0].mean()
    assert weights[2, 0] / weights[1, 0] == pytest.approx((consensus + 0.5) / (consensus + 0.1))
    assert weights[1:, 0].mean() == pytest.approx(1)
    assert (weights[:, 1] == 1).all()
    assert weights[0, 0] == 1
    both = weigh_by_reliability(labels, np.full((200, 2), np.nan), np.array([0.6, 0.2]))
    np.testing.assert_allclose(both, np.tile([1.5, 0.5], (200, 1)))


def make_weighted() -> ScoredClips:
    """Return clips whose labels have different numbers of raters, with weights."""
    rng, scored = np.random.default_rng(3), make_scored(WARMTH, 0.3)
    errors = rng.uniform(0.05, 2, scored.actual.shape)
    return replace(scored, error_variance=errors, weights=results.weigh_labels(scored.actual, errors, WARMTH.columns))


def test_weighted_scores_equal_sklearn_and_weighted_moments() -> None:
    scored = make_weighted()
    table = score_table(scored)
    rows = table[(table["subset"] == "all") & (table["predictor"] == "model")].set_index(["score", "target"])["value"]
    plain = score_table(replace(scored, weights=None)).set_index(["subset", "predictor", "score", "target"])["value"]
    assert scored.weights is not None
    for index, column in enumerate(WARMTH.columns):
        actual, predicted = scored.actual[:, index], scored.predictions["model"][:, index]
        weights = scored.weights[:, index]
        mse = metrics.mean_squared_error(actual, predicted, sample_weight=weights)
        covariance = np.cov(actual, predicted, aweights=weights, ddof=0)
        means = np.average(actual, weights=weights), np.average(predicted, weights=weights)
        expected = {
            "r2": metrics.r2_score(actual, predicted, sample_weight=weights),
            "mae": metrics.mean_absolute_error(actual, predicted, sample_weight=weights),
            "mse": mse,
            "rmse": mse**0.5,
            "pearson": covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1]),
            "ccc": 2 * covariance[0, 1] / (np.trace(covariance) + (means[0] - means[1]) ** 2),
        }
        assert {score: rows[score, column] for score in expected} == pytest.approx(expected)
        assert abs(rows["r2", column] - plain["all", "model", "r2", column]) > 1e-4
    compared = comparison_table(scored).query("subset == 'all' and predictor == 'mean_predictor'").set_index("target")
    errors = [np.abs(scored.predictions[name] - scored.actual) / 6 for name in ("mean_predictor", "model")]
    gain = np.average(errors[0] - errors[1], axis=0, weights=scored.weights)
    assert compared.loc[WARMTH.columns, "difference"].tolist() == pytest.approx(gain.tolist())


def test_weighted_scores_are_named_and_equal_weights_do_nothing() -> None:
    scored = make_weighted()
    scores, comparisons = score_table(scored), comparison_table(scored)
    assert set(scores["weighting"]) == {"reliability", ""}
    assert set(scores.loc[scores["weighting"] == "", "predictor"]) == {CEILING}
    main, further = score_tables.list_score_tables(scores, comparisons, WARMTH, "all")
    assert all(title.endswith(", weighted by reliability") for title in main | further)
    for caption in (latex.tabulate_headline(scores, WARMTH, "test"), latex.tabulate_targets(scores, WARMTH, "test")):
        assert "are weighted by the labels' reliability" in caption
    caption = figures.make_caption(figures.FIGURES["headline"], FigureInputs(scores=scores, targets={}), WARMTH)
    assert "are weighted by the labels' reliability" in caption
    plain = replace(scored, weights=None)
    ones = replace(scored, weights=np.ones_like(scored.actual))
    pd.testing.assert_frame_equal(score_table(plain), score_table(ones).drop(columns="weighting"))
    pd.testing.assert_frame_equal(comparison_table(plain), comparison_table(ones).drop(columns="weighting"))
    main, further = score_tables.list_score_tables(score_table(plain), comparison_table(plain), WARMTH, "all")
    assert not [title for title in main | further if "weighted by" in title]


def test_weights_need_numbers_and_spread_of_raters() -> None:
    with pytest.raises(SettingError, match=r"evaluate\.weighting = reliability, but no scored label of warm, cold has"):
        results.weigh_labels(np.zeros((3, 2)), np.full((3, 2), np.nan), WARMTH.columns)


def test_training_weighs_labels_by_reliability() -> None:
    rng = np.random.default_rng(0)
    clips = rate(draw_ratings(rng, 20, 3, 1.0)[1]).assign(cold=rng.normal(size=20))
    labels = {"warmth": WARMTH.to_unit(clips[["warm", "cold"]].to_numpy())}
    settings = SimpleNamespace(label_weighting="reliability", fairness="none")

    def weigh(table: pd.DataFrame, group: TargetGroup) -> np.ndarray:
        training: Any = SimpleNamespace(table=table, targets=labels)
        data = TrainData(training, training, {"warmth": group}, cast(Any, settings), {})
        return data.weights["warmth"].numpy()

    errors = read_error_variance(clips, ["warm", "cold"])
    expected = weigh_by_reliability(clips[["warm", "cold"]].to_numpy(), errors, np.array([0.5, np.nan]))
    np.testing.assert_allclose(weigh(clips, WARMTH), expected, rtol=1e-5)
    given = WARMTH.model_copy(update={"reliability": {"warm": 0.6, "cold": 0.2}})
    np.testing.assert_allclose(weigh(clips[["warm", "cold"]], given), np.tile([1.5, 0.5], (20, 1)), rtol=1e-6)
    with pytest.raises(
        SettingError, match="the reliability of warm, cold is unknown; allowed: columns NAME_n and NAME_sd"
    ):
        weigh(clips[["warm", "cold"]], WARMTH)
