"""Stacked ridge: it combines vectors, does not use test labels, and its folds share no video."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lib.regression import ridge as ridge_regression
from lib.regression import stacking
from lib.report import words
from lib.scoring import baselines, stacked_baselines

COLUMNS = ["warm", "cold"]


def make_corpus(offset: float = 0.0) -> tuple[list[pd.DataFrame], dict[str, pd.DataFrame], pd.DataFrame]:
    """600 clips of 200 videos: 400 for training and 200 for test, from the same videos.

    Each of two vectors carries one half of both targets. Neither carries the offset of a video.
    """
    rng = np.random.default_rng(0)
    clips = [f"clip{index}" for index in range(600)]
    first, second = (pd.DataFrame(rng.normal(size=(600, 30)), clips) for _ in range(2))
    values = 4 + first.to_numpy() @ rng.normal(0, 0.1, (30, 2)) + second.to_numpy() @ rng.normal(0, 0.1, (30, 2))
    videos = np.arange(600) % 200
    values += offset * rng.normal(size=(200, 1))[videos] + rng.normal(0, 0.1, (600, 2))
    table = pd.DataFrame(values, columns=COLUMNS).assign(clip=clips, video=[f"v{video}" for video in videos])
    return [table[:400].copy(), table[400:].copy(), table[:0]], {"one": first, "other": second}, table


def mean_errors(parts: list[pd.DataFrame], predictions: dict[str, np.ndarray]) -> dict[str, float]:
    return {
        name: float(np.abs(predicted - parts[1][COLUMNS].to_numpy()).mean()) for name, predicted in predictions.items()
    }


def test_stack_of_two_vectors_beats_each() -> None:
    parts, vectors, _ = make_corpus()
    training, validation = parts[0][:300], parts[0][300:]
    errors = mean_errors(parts, baselines.predict(training, parts[1], validation, COLUMNS, vectors))
    assert errors["stacked_ridge"] < 0.6 * min(errors["ridge_one"], errors["ridge_other"])
    vectors["both"] = pd.concat(vectors.values(), axis=1, ignore_index=True)
    with_both = mean_errors(parts, baselines.predict(training, parts[1], validation, COLUMNS, vectors))
    assert with_both["stacked_ridge"] < 1.05 * with_both["ridge_both"]
    assert errors["ridge_one"] == with_both["ridge_one"]  # does not depend on the other vectors


@pytest.mark.slow
def test_regressions_read_vectors_with_missing_numbers() -> None:
    parts, vectors, _ = make_corpus()
    training, validation = parts[0][:300], parts[0][300:]
    complete = mean_errors(parts, baselines.predict(training, parts[1], validation, COLUMNS, vectors, trees=True))
    missing = {name: table.mask(np.random.default_rng(1).random(table.shape) < 0.03) for name, table in vectors.items()}
    missing["one"][0] = np.nan  # never known
    errors = mean_errors(parts, baselines.predict(training, parts[1], validation, COLUMNS, missing, trees=True))
    assert errors.keys() == complete.keys()
    for name in ("ridge_one", "ridge_other", "stacked_ridge", "boosted_trees"):
        assert errors[name] < 0.9 * errors["mean_predictor"]


def test_stack_weights_are_non_negative_and_shrunk() -> None:
    rng = np.random.default_rng(0)
    target = rng.normal(size=(60, 1))
    best, other = target + rng.normal(0, 0.5, (60, 1)), target + rng.normal(0, 0.6, (60, 1))
    against = -target + rng.normal(0, 0.5, (60, 1))
    parts = np.stack([other, best, against])
    unit = np.eye(3)[:, :, None]  # the predictions for these are the intercept plus one weight
    weights = [stacking.fit_weights(np.tile(parts, (1, times, 1)), np.tile(target, (times, 1))) for times in (1, 1000)]
    few, many = (fitted.combine(unit)[:, 0] - fitted.combine(unit * 0)[0, 0] for fitted in weights)
    assert few[2] == many[2] == pytest.approx(0, abs=1e-9)
    assert 0 < few[0] < many[0]
    assert few[1] > many[1]


def test_stack_is_robust_to_a_noise_vector() -> None:
    parts, vectors, _ = make_corpus()
    rng = np.random.default_rng(1)
    noise = pd.DataFrame(rng.normal(size=(600, 300)), vectors["one"].index)
    without = mean_errors(parts, baselines.predict(*parts, COLUMNS, vectors))["stacked_ridge"]
    assert (
        mean_errors(parts, baselines.predict(*parts, COLUMNS, vectors | {"noise": noise}))["stacked_ridge"]
        < 1.1 * without
    )
    noise_only = {"a": noise, "b": noise.sample(frac=1, random_state=0).set_axis(noise.index)}
    errors = mean_errors(parts, baselines.predict(*parts, COLUMNS, noise_only))
    assert errors["stacked_ridge"] < 1.03 * errors["mean_predictor"]


def test_stacked_lookup_helps_on_seen_videos_only() -> None:
    parts, vectors, _ = make_corpus(offset=0.5)
    predictions = baselines.predict(*parts, COLUMNS, vectors)
    errors = mean_errors(parts, predictions)
    assert errors["stacked_ridge_and_video_lookup"] < 0.75 * min(errors["stacked_ridge"], errors["video_lookup"])
    parts[1]["video"] = "never seen"
    unseen = baselines.predict(*parts, COLUMNS, vectors)
    np.testing.assert_array_equal(unseen["stacked_ridge_and_video_lookup"], unseen["stacked_ridge"])
    np.testing.assert_array_equal(unseen["stacked_ridge"], predictions["stacked_ridge"])


def test_stacked_lookup_adds_the_videos_mean_residual() -> None:
    parts, vectors, _ = make_corpus(offset=3.0)
    predictions = baselines.predict(*parts, COLUMNS, vectors)
    shift = predictions["stacked_ridge_and_video_lookup"] - predictions["stacked_ridge"]
    video_means = parts[0].groupby("video")[COLUMNS].mean().loc[parts[1]["video"]]
    assert np.corrcoef(shift[:, 0], video_means["warm"])[0, 1] > 0.9
    assert shift.std() == pytest.approx(video_means["warm"].std(), rel=0.15)


def test_stack_does_not_use_test_labels() -> None:
    parts, vectors, _ = make_corpus()
    predictions = baselines.predict(*parts, COLUMNS, vectors)
    parts[1][COLUMNS] = np.nan
    for name in (stacked_baselines.STACKED_RIDGE, stacked_baselines.STACKED_RIDGE_LOOKUP):
        np.testing.assert_array_equal(baselines.predict(*parts, COLUMNS, vectors)[name], predictions[name])


def test_folds_share_no_video_and_ignore_own_labels() -> None:
    parts, vectors, _ = make_corpus()
    videos = parts[0]["video"].to_numpy()
    folds = ridge_regression.assign_folds(videos)
    assert pd.Series(folds).groupby(videos).nunique().max() == 1
    assert sorted(set(folds)) == list(range(ridge_regression.FOLDS))
    assert np.bincount(folds).min() > 70
    inputs = vectors["one"].to_numpy()[:400]
    targets = parts[0][COLUMNS].to_numpy().copy()
    before = ridge_regression.predict_out_of_fold(inputs, targets, folds)
    assert before.shape == (len(ridge_regression.PENALTIES), 400, 2)
    targets[folds == 2] += 100
    after = ridge_regression.predict_out_of_fold(inputs, targets, folds)
    np.testing.assert_array_equal(after[:, folds == 2], before[:, folds == 2])
    assert (after[:, folds == 1] != before[:, folds == 1]).all()


def test_stacking_ridge_equals_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    for rows, numbers in ((50, 20), (20, 50)):
        inputs, targets = rng.normal(3, 2, (rows, numbers)), rng.normal(size=(rows, 2))
        inputs[:, 4] = 0.1  # constant
        ridges = ridge_regression.predict_ridges(inputs, targets, inputs[:5], limit=np.inf)
        for penalty, predicted in zip(ridge_regression.PENALTIES, ridges, strict=True):
            model = make_pipeline(StandardScaler(), Ridge(penalty)).fit(inputs, targets)
            np.testing.assert_allclose(predicted, model.predict(inputs[:5]), atol=1e-8)


def test_ridge_of_a_target_uses_its_labelled_clips_only() -> None:
    rng = np.random.default_rng(0)
    for numbers in (20, 80):
        inputs, targets = rng.normal(3, 2, (60, numbers)), rng.normal(size=(60, 4))
        inputs[0, 0], inputs[59, 1] = 400.0, -300.0  # are clipped
        targets[:25, 1] = np.nan
        targets[40:, 2:] = np.nan
        new = rng.normal(3, 2, (5, numbers))
        predicted = ridge_regression.predict_ridges(inputs, targets, new, np.array([10.0]))[0]
        for target, values in zip(targets.T, predicted.T, strict=True):
            rows = np.isfinite(target)
            mean, deviation = inputs[rows].mean(0), ridge_regression.LIMIT * inputs[rows].std(0)
            x, z = (array.clip(mean - deviation, mean + deviation) for array in (inputs[rows], new))
            model = make_pipeline(StandardScaler(), Ridge(10.0)).fit(x, target[rows])
            np.testing.assert_allclose(values, model.predict(z), atol=1e-8)
    fitted = ridge_regression.fit_ridges(inputs, targets, np.array([10.0]))
    assert sorted(ridge.columns.tolist() for ridge in fitted) == [
        [False, False, True, True], [False, True, False, False], [True, False, False, False]
    ]  # fmt: skip


def test_deployed_ridge_predicts_as_that_of_the_folds() -> None:
    rng = np.random.default_rng(0)
    inputs, targets = rng.normal(3, 2, (100, 8)), rng.normal(size=(100, 3))
    targets += inputs[:, :3]
    inputs[::9], inputs[5, 2] = np.nan, 90.0
    targets[:40, 1] = np.nan
    targets[30:, 2] = np.nan
    folds = ridge_regression.assign_folds(np.arange(100) // 2)
    expected, penalty = ridge_regression.choose_penalty(inputs, targets, folds)
    for fold in range(ridge_regression.FOLDS):
        rest, held_out = folds != fold, folds == fold
        present = rest & ridge_regression.has_numbers(inputs)
        fitted = ridge_regression.fit_ridges(inputs[present], targets[present], np.array([penalty]))
        parts = stacking.Parts([fitted], [], np.nanmean(targets[rest], 0), np.zeros((1, 0, 3)))
        np.testing.assert_allclose(parts.predict([inputs[held_out]])[0], expected[held_out], atol=1e-12)
    parts = stacking.fit_parts([inputs], targets, folds)
    np.testing.assert_array_equal(parts.out_of_fold[0], expected)
    np.testing.assert_allclose(parts.predict([inputs[::9]])[0], np.tile(np.nanmean(targets, 0), (12, 1)))


def test_ridge_clips_far_inputs_and_keeps_two_values() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(200, 3))
    targets = inputs @ [[1.0], [0.5], [0.0]]
    limits = inputs.mean(0) + ridge_regression.LIMIT * inputs.std(0)
    new = np.array([[45.0, 0, 0], [limits[0], 0, 0]])
    far, at_limit = np.moveaxis(ridge_regression.predict_ridges(inputs, targets, new), 1, 0)
    np.testing.assert_array_equal(far, at_limit)
    unclipped = ridge_regression.predict_ridges(inputs, targets, new[:1], limit=np.inf)[0, 0, 0]
    assert abs(unclipped) > 10 * abs(far[0, 0])
    rare = np.zeros((200, 2))
    rare[[3, 50], [0, 1]] = 1  # words that one clip in 200 has
    kept = ridge_regression.predict_ridges(rare, targets, rare[:5])
    np.testing.assert_allclose(kept, ridge_regression.predict_ridges(rare, targets, rare[:5], limit=np.inf), atol=1e-8)


def test_clipped_predictions_are_marked() -> None:
    predicted = {"a": np.array([[-4.16, 1.0], [3.0, 9.5]]), "b": np.full((2, 2), 2.0)}
    clipped, outside = baselines.clip_predictions(predicted, [1, 7])
    np.testing.assert_array_equal(clipped["a"], [[1, 1], [3, 7]])
    np.testing.assert_array_equal(outside["a"], [[True, False], [False, True]])
    np.testing.assert_array_equal(clipped["b"], predicted["b"])
    assert not outside["b"].any()


def test_stack_allows_missing_labels_and_vectors() -> None:
    parts, vectors, _ = make_corpus()
    parts[0].loc[:149, "warm"] = np.nan
    parts[0].loc[150:199, COLUMNS] = np.nan
    incomplete = vectors | {"other": vectors["other"].drop(["clip0", "clip399", "clip400"])}
    predictions = baselines.predict(*parts, COLUMNS, incomplete)
    assert np.isfinite(predictions["stacked_ridge"]).all()
    assert mean_errors(parts, predictions)["stacked_ridge"] < 0.27


@pytest.mark.parametrize("names", [(), ("one",), ("one", "nowhere")])
def test_single_vector_is_not_stacked(names: tuple[str, ...]) -> None:
    parts, vectors, _ = make_corpus()
    vectors["nowhere"] = vectors["one"][400:]
    assert not set(baselines.JOINT) & set(baselines.predict(*parts, COLUMNS, {name: vectors[name] for name in names}))
    parts[0]["video"] = "v"
    assert not set(baselines.JOINT) & set(baselines.predict(*parts, COLUMNS, vectors))


@pytest.mark.slow
def test_boosted_trees_fit_nonlinear_signals() -> None:
    parts, vectors, table = make_corpus()
    is_far = vectors["one"][0].abs() > 0.67
    for part in parts:
        part["warm"] = table["warm"].loc[part.index] + 2.0 * is_far[part["clip"]].to_numpy()
    predictions = baselines.predict(*parts, COLUMNS, vectors, trees=True)
    assert list(predictions)[-3:] == ["boosted_trees", "stacked_ridge", "stacked_ridge_and_video_lookup"]
    warm = {
        name: np.abs(predicted[:, 0] - parts[1]["warm"].to_numpy()).mean() for name, predicted in predictions.items()
    }
    linear = baselines.predict(*parts, COLUMNS, vectors)["stacked_ridge"][:, 0]
    assert warm["boosted_trees"] < 0.85 * warm["mean_predictor"]
    assert warm["stacked_ridge"] < 0.85 * np.abs(linear - parts[1]["warm"].to_numpy()).mean()
    parts[1][COLUMNS] = np.nan
    again = baselines.predict(*parts, COLUMNS, vectors, trees=True)
    for name in baselines.JOINT:
        np.testing.assert_array_equal(again[name], predictions[name])
    parts[0].loc[:, "cold"] = np.nan  # no clip has this label
    assert np.isfinite(baselines.predict(*parts, COLUMNS, vectors, trees=True)["boosted_trees"][:, 0]).all()
    single_vector = baselines.predict(*parts, COLUMNS, {"one": vectors["one"]}, trees=True)
    assert {"boosted_trees", "stacked_ridge"} <= set(single_vector)  # ridge and trees use the same vector


def test_stack_learns_from_validation_except_unseen_videos() -> None:
    parts, vectors, _ = make_corpus()
    training, test = parts[0][:200], parts[1]
    validation = parts[0][200:].assign(video="own")
    joined = pd.concat([training, validation], ignore_index=True)
    predictions = baselines.predict(training, test, validation, COLUMNS, vectors)
    from_joined = baselines.predict(joined, test, validation[:0], COLUMNS, vectors)
    np.testing.assert_array_equal(predictions["stacked_ridge"], from_joined["stacked_ridge"])
    shared = validation.assign(video="only tested")
    test = test.assign(video="only tested")
    predictions = baselines.predict(training, test, shared, COLUMNS, vectors)
    without = baselines.predict(training, test, shared[:0], COLUMNS, vectors)
    np.testing.assert_array_equal(predictions["stacked_ridge"], without["stacked_ridge"])


def test_stack_uses_parts_in_place_of_joined_vectors() -> None:
    parts, vectors, _ = make_corpus()
    joined = pd.concat(vectors.values(), axis=1, ignore_index=True)
    with_parts = {"x": joined, "x.one": vectors["one"], "x.other": vectors["other"]}
    predictions = baselines.predict(*parts, COLUMNS, with_parts)
    for name in (stacked_baselines.STACKED_RIDGE, stacked_baselines.STACKED_RIDGE_LOOKUP):
        np.testing.assert_array_equal(predictions[name], baselines.predict(*parts, COLUMNS, vectors)[name])
        assert baselines.is_baseline(name)
        assert "stacked" in words.name_predictor(name)
    assert "leak" in words.describe_predictor("stacked_ridge_and_video_lookup")
