"""Scores compared with reference implementations, their intervals, and the baselines."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

from lib.core.targets import TargetGroup
from lib.scoring import baselines, bootstrap
from lib.scoring.baselines import LEAKING
from lib.scoring.bootstrap import MIN_VIDEOS, Bootstrap, resample, score_with_intervals
from lib.scoring.paired import compare_errors
from lib.scoring.person_groups import score_groups
from lib.scoring.scores import score_columns
from lib.scoring.tables import HEADLINE_SCORES, ScoredClips, headline, score_table, split_table

FIVE = ("a", "b", "c", "d", "e")


def make_group(span: int) -> TargetGroup:
    return TargetGroup(columns=[*FIVE], range=[0, span], head="linear", loss="mse", weight=1)


def test_scores_agree_with_reference_implementations() -> None:
    rng = np.random.default_rng(0)
    actual = rng.uniform(size=(50, 5))
    predicted = 0.5 * actual + rng.normal(0, 0.1, (50, 5))
    scores = score_columns(actual, predicted, FIVE, 1)
    assert list(scores["r2"].values())[1:] == pytest.approx(
        r2_score(actual, predicted, multioutput="raw_values"), abs=1e-6
    )
    assert list(scores["pearson"].values())[1:] == pytest.approx(
        [stats.pearsonr(x, y).statistic for x, y in zip(actual.T, predicted.T, strict=True)], abs=1e-6
    )
    # with population moments, as Lin (1989) defines it
    ccc = [
        2 * np.cov(x, y, bias=True)[0, 1] / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)
        for x, y in zip(actual.T, predicted.T, strict=True)
    ]
    assert list(scores["ccc"].values())[1:] == pytest.approx(ccc, abs=1e-6)
    assert scores["mse"]["mean"] == pytest.approx(mean_squared_error(actual, predicted), abs=1e-6)
    assert scores["accuracy"]["mean"] == pytest.approx(1 - mean_absolute_error(actual, predicted), abs=1e-6)
    assert list(scores["spearman"].values())[1:] == pytest.approx(
        [stats.spearmanr(x, y).statistic for x, y in zip(actual.T, predicted.T, strict=True)], abs=1e-6
    )
    assert scores["rmse"]["e"] == pytest.approx(np.sqrt(scores["mse"]["e"]), abs=1e-6)


def test_constant_prediction_has_no_correlation() -> None:
    actual = np.linspace(0, 1, 20).reshape(4, 5)
    scores = score_columns(actual, np.full((4, 5), 0.5), FIVE, 1)
    assert scores["pearson"]["mean"] is None
    assert scores["ccc"]["e"] == 0


def test_baselines_equal_values_by_hand() -> None:
    training = pd.DataFrame({"video": ["a", "a", "b"], **dict.fromkeys(FIVE, [0.2, 0.4, 0.9])})
    test = pd.DataFrame({"video": ["a", "c"], **dict.fromkeys(FIVE, [0.0, 0.0])})
    predictions = baselines.predict(training, test, test[:0], FIVE, {})
    assert predictions["mean_predictor"][:, 0] == pytest.approx([0.5, 0.5])
    assert predictions["median_predictor"][:, 0] == pytest.approx([0.4, 0.4])
    assert predictions["video_lookup"][:, 0] == pytest.approx([0.3, 0.5])
    assert "shrunk_video_lookup" not in predictions
    assert baselines.is_video_in_training(training, test).tolist() == [True, False]
    # video a has two clips with mean 0.3, all clips have mean 0.5: k = 2 gives 0.4, the smallest k about 0.3
    validation = pd.DataFrame({"video": ["a"], **dict.fromkeys(FIVE, [0.4])})
    assert baselines.predict(training, test, validation, FIVE, {})["shrunk_video_lookup"][:, 4] == pytest.approx(
        [0.4, 0.5]
    )
    validation[list(FIVE)] = 0.2
    shrunk = baselines.predict(training, test, validation, FIVE, {})["shrunk_video_lookup"][:, 4]
    assert shrunk == pytest.approx([(0.6 + 0.125 * 0.5) / 2.125, 0.5])


def test_ridge_learns_from_descriptors() -> None:
    rng = np.random.default_rng(0)
    clips = [f"v{index}.000.mp4" for index in range(300)]
    descriptors = pd.DataFrame(rng.normal(size=(300, 20)), clips)
    labels = descriptors.to_numpy() @ rng.normal(0, 0.05, (20, 5)) + 0.5 + rng.normal(0, 0.01, (300, 5))
    table = pd.DataFrame(labels, columns=list(FIVE)).assign(clip=clips, video=clips)
    parts = table[:200], table[250:], table[200:250]
    predictions = baselines.predict(*parts, FIVE, {"descriptors": descriptors})
    assert np.abs(predictions["ridge_descriptors"] - parts[1][list(FIVE)].to_numpy()).mean() < 0.015
    assert set(predictions) == {*baselines.NAMES, "ridge_descriptors"}
    assert set(baselines.predict(*parts, FIVE, {})) == set(baselines.NAMES)
    # if descriptors have no information, the strongest penalty gives almost the mean
    noise = baselines.predict(*parts, FIVE, {"descriptors": pd.DataFrame(rng.normal(size=(300, 20)), clips)})
    assert np.abs(noise["ridge_descriptors"] - noise["mean_predictor"]).mean() < 0.02


def test_spread_and_bias_equal_values_by_hand() -> None:
    actual = np.random.default_rng(0).uniform(size=(30, 5))
    scores = score_columns(actual, 0.3 * actual + 0.4, FIVE, 1)
    assert scores["std_ratio"]["mean"] == pytest.approx(0.3)
    assert scores["regression_to_mean"]["e"] == pytest.approx(0.7)
    assert scores["bias"]["e"] == pytest.approx(0.4 - 0.7 * actual[:, 4].mean(), abs=1e-6)
    constant = score_columns(actual, np.full((30, 5), 0.5), FIVE, 1)
    assert (constant["std_ratio"]["mean"], constant["regression_to_mean"]["mean"]) == (0, 1)


def test_score_groups_gives_values_differences_and_gap() -> None:
    rng = np.random.default_rng(0)
    groups, videos = np.array(["a", "b", ""] * 100), np.arange(300) // 3
    actual = rng.uniform(size=(300, 5))
    predicted = actual + 0.1 * (groups == "b")[:, None] + rng.normal(0, 0.02, (300, 5))
    table = score_groups(actual, predicted, np.full((300, 5), 0.5), videos, groups, make_group(1), Bootstrap(1000, 0))
    values = table[table["what"] == "value"].set_index(["group", "score", "target"])
    for group in ("a", "b"):
        members = groups == group
        alone = intervals(actual[members], predicted[members], np.full((100, 5), 0.5), videos[members])
        assert values.loc[group]["value"].to_dict() == pytest.approx(alone["value"].to_dict())
        ends = ["low", "high"]
        interval = values.loc[(group, "accuracy", "mean"), ends].to_numpy(float)
        assert interval == pytest.approx(alone.loc[("accuracy", "mean"), ends].to_numpy(float), abs=1e-3)
    differences = table[table["what"] == "difference"].set_index(["group", "score", "target"])
    difference = differences.loc[("b", "bias", "mean")]
    assert difference["low"] < 0.1 < difference["high"]
    assert difference["high"] - difference["low"] < 0.02
    assert differences.loc[("a", "bias", "mean"), "value"] == pytest.approx(-difference["value"])
    gap = table[(table["what"] == "gap") & (table["target"] == "mean")].set_index("score")
    assert gap.loc["bias", "value"] == pytest.approx(difference["value"])
    assert gap.loc["bias", "group"] == "b minus a"
    assert gap.loc["accuracy", "group"] == "a minus b"
    assert gap["low"].isna().all()


def test_group_difference_compares_with_all_others() -> None:
    rng = np.random.default_rng(0)
    groups, videos = np.array(["a"] * 60 + ["b"] * 30 + ["c"]), np.arange(91)
    actual = rng.uniform(size=(91, 5))
    error = rng.normal(0, 0.1, (91, 5))
    table = score_groups(
        actual, actual + error, np.full((91, 5), 0.5), videos, groups, make_group(1), Bootstrap(500, 0)
    )
    values = table[(table["score"] == "bias") & (table["target"] == "mean")].set_index(["what", "group"])
    assert values.loc[("difference", "b"), "value"] == pytest.approx(
        error[60:90].mean() - np.delete(error, slice(60, 90), 0).mean()
    )
    assert values.loc[("value", "c"), "value"] == pytest.approx(error[90].mean())
    assert values.loc[[("value", "c"), ("difference", "c")], ["low", "high"]].isna().all(axis=None)
    assert values.loc[[("value", "b"), ("difference", "b")], ["low", "high"]].notna().all(axis=None)
    assert values.loc["gap"].index.tolist() in (["a minus b"], ["b minus a"])  # c is too small
    alone = score_groups(actual, actual, actual, videos, np.full(91, "a"), make_group(1), Bootstrap(500, 0))
    assert set(alone["what"]) == {"value"}


def test_calibrated_predictor_has_slope_one() -> None:
    rng = np.random.default_rng(0)
    predicted = rng.normal(0.5, 0.1, (20000, 5))
    scores = score_columns(predicted + rng.normal(0, 0.1, (20000, 5)), predicted, FIVE, 1)
    assert scores["calibration_slope"]["mean"] == pytest.approx(1, abs=0.02)
    assert scores["regression_to_mean"]["mean"] == pytest.approx(1 - scores["r2"]["mean"], abs=0.02)


def intervals(*arguments: np.ndarray, resamples: int = 2000) -> pd.DataFrame:
    return score_with_intervals(*arguments, FIVE, 1, Bootstrap(resamples, 0)).set_index(["score", "target"])


def test_intervals_agree_with_scipys_bootstrap() -> None:
    rng = np.random.default_rng(0)
    actual = rng.uniform(size=(80, 5))
    predicted = 0.5 * actual + rng.normal(0, 0.1, (80, 5))
    table = intervals(actual, predicted, np.full((80, 5), 0.5), np.arange(80))
    expected = score_columns(actual, predicted, FIVE, 1)
    for score, values in expected.items():
        assert table.loc[score, "value"].to_dict() == pytest.approx(values, abs=1e-6)
        assert (table.loc[score, "low"] < table.loc[score, "value"]).all()
        assert (table.loc[score, "value"] < table.loc[score, "high"]).all()
    for score, statistic in (
        ("accuracy", lambda x, y: 1 - np.abs(x - y).mean()),
        ("pearson", lambda x, y: np.corrcoef(x, y)[0, 1]),
        ("r2", r2_score),
    ):
        pair = actual[:, 2], predicted[:, 2]
        expected_interval = stats.bootstrap(
            pair, statistic, paired=True, vectorized=False, method="percentile", n_resamples=2000, rng=1
        )
        low, high = expected_interval.confidence_interval
        width = high - low
        assert table.loc[(score, "c"), "low"] == pytest.approx(low, abs=0.15 * width)
        assert table.loc[(score, "c"), "high"] == pytest.approx(high, abs=0.15 * width)


def test_blocks_of_resamples_give_the_same_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    rng, videos = np.random.default_rng(0), np.repeat(np.arange(40), 3)
    sums, gains = rng.normal(size=(40, 5, 3)), rng.normal(size=(2, 120, 5))

    def draw() -> tuple[np.ndarray, dict[str, np.ndarray]]:
        bootstrap = Bootstrap(100, 0)
        return resample(sums, 100, bootstrap.rng()), compare_errors(gains[0], gains[1], videos, bootstrap)

    together = draw()
    monkeypatch.setattr(bootstrap, "_BLOCK", 7 * 40)
    bootstrap._draws.clear()
    assert bootstrap.split_resamples(100, 40) == [7] * 14 + [2]
    totals, compared = draw()
    assert totals == pytest.approx(together[0], rel=1e-12, abs=1e-12)
    for name, values in compared.items():
        assert values == pytest.approx(together[1][name], rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("kept", [0, 2**29])
def test_repeated_draws_are_equal_and_advance_the_generator(monkeypatch: pytest.MonkeyPatch, kept: int) -> None:
    monkeypatch.setattr(bootstrap, "_KEPT", kept)
    monkeypatch.setattr(bootstrap, "_draws", {})
    sums, plain = np.random.default_rng(0).normal(size=(30, 2)), np.random.default_rng(5)
    expected = plain.multinomial(30, np.full(30, 1 / 30), 8) @ sums
    following = plain.random()
    for _ in range(2):
        rng = np.random.default_rng(5)
        assert resample(sums, 8, rng) == pytest.approx(expected, rel=1e-12, abs=1e-12)
        assert rng.random() == following
    assert resample(sums, 8, np.random.default_rng(6)) != pytest.approx(expected)
    assert resample(sums[:20], 8, np.random.default_rng(5)).shape == (8, 2)
    assert len(bootstrap._draws) == bool(kept)


def test_skill_equals_values_by_hand() -> None:
    rng = np.random.default_rng(0)
    videos, actual = np.repeat(np.arange(40), 5), rng.uniform(size=(200, 5))
    mean = np.full((200, 5), 0.5)
    assert (intervals(actual, actual, mean, videos).loc["skill"] == 1).all(axis=None)
    assert (intervals(actual, mean, mean, videos).loc["skill"] == 0).all(axis=None)
    half = (actual + mean) / 2  # halves every error
    assert intervals(actual, half, mean, videos).loc[("skill", "mean"), "value"] == pytest.approx(0.75)


def test_errors_shared_in_a_video_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    videos, mean = np.repeat(np.arange(40), 5), np.full((200, 5), 0.5)
    shared = mean + np.repeat(rng.normal(0, 0.3, (40, 1)), 5, 0)
    shuffled = mean + rng.permutation(shared - mean)
    width = [
        np.ptp(intervals(mean + 0.1, values, mean, videos).loc[("skill", "mean"), ["low", "high"]])
        for values in (shared, shuffled)
    ]
    assert width[0] > 1.5 * width[1]


def test_undefined_scores_have_no_value_and_no_interval() -> None:
    actual = np.random.default_rng(0).uniform(size=(20, 5))
    table = intervals(actual, np.full((20, 5), 0.5), np.full((20, 5), 0.5), np.arange(20))
    assert table.loc["pearson"].isna().all(axis=None)
    assert table.loc["spearman"].isna().all(axis=None)
    assert table.loc["accuracy"].notna().all(axis=None)
    assert set(table.index.get_level_values("target")) == {"mean", *FIVE}


def test_missing_label_changes_only_its_column_of_scores() -> None:
    rng = np.random.default_rng(0)
    videos, mean = np.repeat(np.arange(40), 3), np.full((120, 5), 4.0)
    actual = rng.uniform(1, 7, (120, 5))
    predicted = 0.5 * actual + 2 + rng.normal(0, 0.3, (120, 5))
    incomplete = actual.copy()
    incomplete[17, 1] = np.nan
    complete, table, without_clip = (
        score_with_intervals(
            values[rows], predicted[rows], mean[rows], videos[rows], FIVE, 6, Bootstrap(500, 0)
        ).set_index(["target", "score"])[["value", "low", "high"]]
        for values, rows in ((actual, slice(None)), (incomplete, slice(None)), (actual, np.arange(120) != 17))
    )
    for other in ("a", "c", "d", "e"):
        assert table.loc[other].equals(complete.loc[other])
    assert table.loc["b", "value"].to_dict() == pytest.approx(without_clip.loc["b", "value"].to_dict(), rel=1e-12)
    assert (table.loc["b", "value"] != complete.loc["b", "value"]).all()
    assert table.notna().all(axis=None)
    column_values = [table.loc[(column, "r2"), "value"] for column in FIVE]
    assert table.loc[("mean", "r2"), "value"] == pytest.approx(np.mean(column_values), rel=1e-12)
    groups = np.array(["x", "y"] * 60)
    persons = [
        score_groups(values, predicted, mean, videos, groups, make_group(6), Bootstrap(300, 0))
        for values in (actual, incomplete)
    ]
    is_other = persons[0]["target"].isin(["a", "c", "d", "e"])
    assert persons[0][is_other].equals(persons[1][is_other])


def test_accuracy_is_relative_to_the_range() -> None:
    actual = np.array([[1.0], [4.0], [7.0]])
    scores = score_columns(actual, actual + 1.5, ["warm"], 6)
    assert scores["accuracy"] == {"mean": 0.75, "warm": 0.75}
    assert scores["bias"]["warm"] == scores["mae"]["warm"] == pytest.approx(1.5)
    assert score_columns((actual - 1) / 6, (actual + 0.5) / 6, ["warm"], 1)["r2"] == pytest.approx(
        scores["r2"], abs=1e-6
    )


def test_column_with_few_labelled_videos_has_no_interval() -> None:
    rng = np.random.default_rng(0)
    videos, actual = np.arange(40), rng.uniform(size=(40, 5))
    actual[MIN_VIDEOS - 1 :, 0] = np.nan
    table = intervals(actual, rng.uniform(size=(40, 5)), np.full((40, 5), 0.5), videos)
    assert table.loc[("accuracy", ["a", "mean"]), ["low", "high"]].isna().all(axis=None)
    assert table.loc[("accuracy", ["a", "mean"]), "value"].notna().all()
    assert table.loc[("accuracy", "b"), ["low", "high"]].notna().all()
    groups = np.array(["x", "y"] * 20)
    gap = score_groups(actual, actual, actual, videos, groups, make_group(1), Bootstrap(100, 0)).query(
        "what == 'gap' and score == 'bias'"
    )
    assert gap.set_index("target")["value"].notna().to_dict() == {"mean": False, "a": False} | dict.fromkeys(
        "bcde", True
    )
    actual[:, 0] = np.nan
    table = intervals(actual, rng.uniform(size=(40, 5)), np.full((40, 5), 0.5), videos)
    assert table.loc[("accuracy", ["a", "mean"]), "value"].isna().all()
    assert table.loc[("accuracy", "b"), "value"] > 0


WARM_AND_COLD = TargetGroup(columns=["warm", "cold"], range=[1, 7], head="linear", loss="mse", weight=1)


def test_headline_contains_model_and_best_baseline() -> None:
    rng = np.random.default_rng(0)
    videos = np.repeat([f"v{index}" for index in range(20)], 2)
    actual, is_seen = rng.uniform(1, 7, (40, 2)), np.arange(40) >= 10
    actual[0, 0] = np.nan
    predictions = {"model": np.full((40, 2), 4.0), "mean_predictor": np.full((40, 2), 7.0), "ridge_a": actual + 1}
    predictions |= dict.fromkeys(LEAKING, actual)  # exact, but they use the name of the video
    table = score_table(ScoredClips(actual, predictions, videos, is_seen, WARM_AND_COLD, Bootstrap(100, 0)))
    assert set(table["target"]) == {"mean", "warm", "cold"}
    assert table.groupby("subset")[["clips", "videos"]].first().loc["unseen_videos"].tolist() == [10, 5]
    values = headline(table)
    assert list(values) == ["all", "unseen"]
    by_hand = 1 - np.nanmean(np.abs(actual - 4), 0) / 6
    assert values["all"]["model"]["accuracy"] == round(by_hand.mean(), 4)
    assert values["all"]["model"]["r2"] <= 0
    for subset in values.values():
        assert subset["best_baseline"]["accuracy"] == round(5 / 6, 4)  # ridge_a's
        assert list(subset["model"]) == list(subset["best_baseline"]) == ["accuracy", "r2", "ccc"]
    without_labels = np.where([True, False], np.nan, actual)  # a column without labels: the mean is not defined
    table = score_table(
        ScoredClips(without_labels, predictions, videos, np.ones(40, bool), WARM_AND_COLD, Bootstrap(100, 0))
    )
    assert headline(table) == {"all": {name: dict.fromkeys(HEADLINE_SCORES) for name in ("model", "best_baseline")}}


def test_baselines_ignore_missing_labels() -> None:
    training = pd.DataFrame(
        {"video": ["a", "a", "b", "c"], "warm": [2.0, np.nan, 6.0, np.nan], "cold": [1.0, 3.0, 5.0, 7.0]}
    )
    test = pd.DataFrame({"video": ["a", "c", "d"]})
    validation = pd.DataFrame({"video": ["a", "b"], "warm": [np.nan, 5.0], "cold": [np.nan, np.nan]})
    predictions = baselines.predict(training, test, validation, ["warm", "cold"], {})
    assert predictions["mean_predictor"][0].tolist() == [4, 4]
    assert predictions["video_lookup"].tolist() == [[2, 2], [4, 7], [4, 4]]  # the only clip of video c has no label
    # b's clip has 6, the mean is 4, the validation label 5: k = 1, also for a's only labelled clip
    assert predictions["shrunk_video_lookup"][:, 0] == pytest.approx([3, 4, 4])
    assert predictions["shrunk_video_lookup"][:, 1] == pytest.approx([(4 + 4) / 3, 5.5, 4])


def test_ridge_predicts_the_mean_without_a_vector() -> None:
    rng = np.random.default_rng(0)
    clips = [f"clip{index}" for index in range(300)]
    vectors = pd.DataFrame(rng.normal(size=(300, 10)), clips)
    values = vectors.to_numpy() @ rng.normal(0, 1, (10, 2)) + 4
    table = pd.DataFrame(values, columns=["warm", "cold"]).assign(clip=clips, video=clips)
    parts = [table[:200].copy(), table[250:], table[200:250]]
    columns = ["warm", "cold"]
    complete = baselines.predict(*parts, columns, {"x": vectors})["ridge_x"]
    parts[0].loc[:49, "warm"] = np.nan
    predictions = baselines.predict(*parts, columns, {"x": vectors})["ridge_x"]
    assert predictions[:, 1] == pytest.approx(complete[:, 1], rel=1e-9)
    alone = baselines.predict(parts[0][50:], *parts[1:], ["warm"], {"x": vectors})["ridge_x"]
    assert predictions[:, 0] == pytest.approx(alone[:, 0], rel=1e-9)
    incomplete = baselines.predict(*parts, columns, {"x": vectors.drop(["clip0", "clip260"])})["ridge_x"]
    assert incomplete[10] == pytest.approx(parts[0][columns].mean().to_numpy())
    assert np.abs(incomplete[11] - values[261]).max() < 0.1
    for partial in (vectors[:0], vectors[:200], vectors[200:]):
        assert set(baselines.predict(*parts, columns, {"x": partial})) == set(baselines.NAMES)


def test_split_table_equals_values_by_hand() -> None:
    actual = np.array([[1.0, 3.0], [3.0, np.nan], [np.nan, np.nan], [5.0, 5.0]])
    predicted = np.array([[2.0, 3.0], [3.0, 1.0], [1.0, 1.0], [4.0, 5.0]])
    videos = np.array(["a", "a", "b", "c"])
    without_labels = np.full((1, 2), np.nan), np.ones((1, 2)), np.array(["d"])
    repeated = np.tile(actual, (10, 1)), np.tile(predicted, (10, 1)), np.arange(40)
    group = WARM_AND_COLD.model_copy(update={"range": [1, 5]})
    splits = {"training": repeated, "validation": without_labels, "test": (actual, predicted, videos)}
    table = split_table(splits, group, Bootstrap(100, 0))
    assert list(table) == ["split", "score", "target", "value", "low", "high", "clips", "videos"]
    assert table["split"].unique().tolist() == ["training", "test"]
    cells = table.set_index(["split", "score", "target"]).sort_index()
    for split in ("training", "test"):
        assert cells.loc[(split, "accuracy"), "value"].to_dict() == pytest.approx(
            {"warm": 1 - (2 / 3) / 4, "cold": 1, "mean": 1 - (1 / 3) / 4}
        )
        assert cells.loc[(split, "r2"), "value"].to_dict() == pytest.approx({"warm": 0.75, "cold": 1, "mean": 0.875})
    assert cells.loc["test", ["clips", "videos"]].drop_duplicates().to_numpy().tolist() == [[3, 2]]
    assert cells.loc["test", ["low", "high"]].isna().all(axis=None)
    training_cells = cells.loc["training"]
    assert set(training_cells["videos"]) == {30}
    assert (training_cells["low"] <= training_cells["value"]).all()
    assert (training_cells["value"] <= training_cells["high"]).all()
    assert table.equals(split_table(splits, group, Bootstrap(100, 0)))
