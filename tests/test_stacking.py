"""Stacked ridge: it joins what vectors tell apart, knows nothing of the test clips, and its folds share no video."""

import numpy as np
import pandas as pd
import pytest

from lib.report import words
from lib.scoring import baselines, stacking

COLUMNS = ["warm", "cold"]


def corpus(offset: float = 0.0) -> tuple[list[pd.DataFrame], dict[str, pd.DataFrame], pd.DataFrame]:
    """600 clips of 200 videos, 400 to learn from and 200 to score, of the same videos; each of two vectors carries a half of
    both targets, and neither a video's offset."""
    rng = np.random.default_rng(0)
    clips = [f"clip{index}" for index in range(600)]
    one, other = (pd.DataFrame(rng.normal(size=(600, 30)), clips) for _ in range(2))
    values = 4 + one.to_numpy() @ rng.normal(0, 0.1, (30, 2)) + other.to_numpy() @ rng.normal(0, 0.1, (30, 2))
    videos = np.arange(600) % 200
    values += offset * rng.normal(size=(200, 1))[videos] + rng.normal(0, 0.1, (600, 2))
    table = pd.DataFrame(values, columns=COLUMNS).assign(clip=clips, video=[f"v{video}" for video in videos])
    return [table[:400].copy(), table[400:].copy(), table[:0]], {"one": one, "other": other}, table


def errors(parts: list[pd.DataFrame], found: dict[str, np.ndarray]) -> dict[str, float]:
    return {name: float(np.abs(one - parts[1][COLUMNS].to_numpy()).mean()) for name, one in found.items()}


def test_stack_of_two_halves_beats_each() -> None:
    parts, vectors, _ = corpus()
    learnt, validation = parts[0][:300], parts[0][300:]
    found = errors(parts, baselines.predict(learnt, parts[1], validation, COLUMNS, vectors))
    assert found["stacked_ridge"] < 0.6 * min(found["ridge_one"], found["ridge_other"])
    vectors["both"] = pd.concat(vectors.values(), axis=1, ignore_index=True)
    of_three = errors(parts, baselines.predict(learnt, parts[1], validation, COLUMNS, vectors))
    assert of_three["stacked_ridge"] < 1.05 * of_three["ridge_both"]
    assert found["ridge_one"] == of_three["ridge_one"]  # alone, as it would be without the others


def test_a_vector_of_noise_does_little_harm() -> None:
    parts, vectors, _ = corpus()
    rng = np.random.default_rng(1)
    noise = pd.DataFrame(rng.normal(size=(600, 300)), vectors["one"].index)
    without = errors(parts, baselines.predict(*parts, COLUMNS, vectors))["stacked_ridge"]
    assert (
        errors(parts, baselines.predict(*parts, COLUMNS, vectors | {"noise": noise}))["stacked_ridge"] < 1.1 * without
    )
    only = {"a": noise, "b": noise.sample(frac=1, random_state=0).set_axis(noise.index)}
    found = errors(parts, baselines.predict(*parts, COLUMNS, only))
    assert found["stacked_ridge"] < 1.03 * found["mean_predictor"]


def test_look_up_adds_the_residual_of_known_videos() -> None:
    parts, vectors, _ = corpus(offset=0.5)
    found = baselines.predict(*parts, COLUMNS, vectors)
    of = errors(parts, found)
    assert of["stacked_ridge_and_video_lookup"] < 0.75 * min(of["stacked_ridge"], of["video_lookup"])
    parts[1]["video"] = "never seen"
    unseen = baselines.predict(*parts, COLUMNS, vectors)
    np.testing.assert_array_equal(unseen["stacked_ridge_and_video_lookup"], unseen["stacked_ridge"])
    np.testing.assert_array_equal(unseen["stacked_ridge"], found["stacked_ridge"])


def test_the_look_up_is_the_videos_mean_residual() -> None:
    parts, vectors, _ = corpus(offset=3.0)
    found = baselines.predict(*parts, COLUMNS, vectors)
    shift = found["stacked_ridge_and_video_lookup"] - found["stacked_ridge"]
    of_video = parts[0].groupby("video")[COLUMNS].mean().loc[parts[1]["video"]]
    assert np.corrcoef(shift[:, 0], of_video["warm"])[0, 1] > 0.9
    assert shift.std() == pytest.approx(of_video["warm"].std(), rel=0.15)


def test_nothing_is_known_of_the_test_clips_targets() -> None:
    parts, vectors, _ = corpus()
    found = baselines.predict(*parts, COLUMNS, vectors)
    parts[1][COLUMNS] = np.nan
    for name in (stacking.STACKED, stacking.STACKED_LOOKUP):
        np.testing.assert_array_equal(baselines.predict(*parts, COLUMNS, vectors)[name], found[name])


def test_folds_share_no_video_and_ignore_a_clips_own_label() -> None:
    parts, vectors, _ = corpus()
    videos = parts[0]["video"].to_numpy()
    folds = stacking.assign_folds(videos)
    assert pd.Series(folds).groupby(videos).nunique().max() == 1
    assert sorted(set(folds)) == list(range(stacking.FOLDS))
    assert np.bincount(folds).min() > 70
    inputs, there = vectors["one"].to_numpy()[:400], np.ones(400, bool)
    targets = parts[0][COLUMNS].to_numpy().copy()
    before = stacking.predict_out_of_fold(inputs, there, targets, folds)
    assert before.shape == (len(stacking.PENALTIES), 400, 2)
    targets[folds == 2] += 100
    after = stacking.predict_out_of_fold(inputs, there, targets, folds)
    np.testing.assert_array_equal(after[:, folds == 2], before[:, folds == 2])
    assert (after[:, folds == 1] != before[:, folds == 1]).all()


def test_its_ridge_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    for rows, numbers in ((50, 20), (20, 50)):
        inputs, targets = rng.normal(3, 2, (rows, numbers)), rng.normal(size=(rows, 2))
        inputs[:, 4] = 0.1  # constant
        found = stacking._ridges(inputs, targets, inputs[:5])
        for penalty, one in zip(stacking.PENALTIES, found, strict=True):
            models = baselines._fit(pd.DataFrame(inputs), pd.DataFrame(targets), penalty)
            np.testing.assert_allclose(one, baselines._apply(models, inputs[:5], 2), atol=1e-8)


def test_what_is_unknown_or_lacks_a_vector_is_left_to_the_others() -> None:
    parts, vectors, _ = corpus()
    parts[0].loc[:149, "warm"] = np.nan
    parts[0].loc[150:199, COLUMNS] = np.nan
    lacking = vectors | {"other": vectors["other"].drop(["clip0", "clip399", "clip400"])}
    found = baselines.predict(*parts, COLUMNS, lacking)
    assert np.isfinite(found["stacked_ridge"]).all()
    assert errors(parts, found)["stacked_ridge"] < 0.25


@pytest.mark.parametrize("names", [(), ("one",), ("one", "nowhere")])
def test_one_vector_is_no_stack(names: tuple[str, ...]) -> None:
    parts, vectors, _ = corpus()
    vectors["nowhere"] = vectors["one"][400:]
    assert not set(baselines.JOINT) & set(baselines.predict(*parts, COLUMNS, {name: vectors[name] for name in names}))
    parts[0]["video"] = "v"
    assert not set(baselines.JOINT) & set(baselines.predict(*parts, COLUMNS, vectors))


def test_trees_fit_what_ridge_cannot_without_test_labels() -> None:
    parts, vectors, table = corpus()
    far = vectors["one"][0].abs() > 0.67
    for part in parts:
        part["warm"] = table["warm"].loc[part.index] + 2.0 * far[part["clip"]].to_numpy()
    found = baselines.predict(*parts, COLUMNS, vectors, trees=True)
    assert list(found)[-3:] == ["boosted_trees", "stacked_ridge", "stacked_ridge_and_video_lookup"]
    warm = {name: np.abs(one[:, 0] - parts[1]["warm"].to_numpy()).mean() for name, one in found.items()}
    linear = baselines.predict(*parts, COLUMNS, vectors)["stacked_ridge"][:, 0]
    assert warm["boosted_trees"] < 0.85 * warm["mean_predictor"]
    assert warm["stacked_ridge"] < 0.85 * np.abs(linear - parts[1]["warm"].to_numpy()).mean()
    parts[1][COLUMNS] = np.nan
    again = baselines.predict(*parts, COLUMNS, vectors, trees=True)
    for name in baselines.JOINT:
        np.testing.assert_array_equal(again[name], found[name])
    parts[0].loc[:, "cold"] = np.nan  # no clip knows it
    assert np.isfinite(baselines.predict(*parts, COLUMNS, vectors, trees=True)["boosted_trees"][:, 0]).all()
    alone = baselines.predict(*parts, COLUMNS, {"one": vectors["one"]}, trees=True)
    assert {"boosted_trees", "stacked_ridge"} <= set(alone)  # two readings of one vector


def test_stack_learns_from_validation_except_unseen_videos() -> None:
    parts, vectors, _ = corpus()
    training, test = parts[0][:200], parts[1]
    validation = parts[0][200:].assign(video="own")
    whole = pd.concat([training, validation], ignore_index=True)
    found = baselines.predict(training, test, validation, COLUMNS, vectors)
    of_whole = baselines.predict(whole, test, validation[:0], COLUMNS, vectors)
    np.testing.assert_array_equal(found["stacked_ridge"], of_whole["stacked_ridge"])
    shared = validation.assign(video="only tested")
    test = test.assign(video="only tested")
    found = baselines.predict(training, test, shared, COLUMNS, vectors)
    without = baselines.predict(training, test, shared[:0], COLUMNS, vectors)
    np.testing.assert_array_equal(found["stacked_ridge"], without["stacked_ridge"])


def test_parts_are_stacked_in_place_of_their_whole() -> None:
    parts, vectors, _ = corpus()
    whole = pd.concat(vectors.values(), axis=1, ignore_index=True)
    of_parts = {"x": whole, "x.one": vectors["one"], "x.other": vectors["other"]}
    found = baselines.predict(*parts, COLUMNS, of_parts)
    for name in (stacking.STACKED, stacking.STACKED_LOOKUP):
        np.testing.assert_array_equal(found[name], baselines.predict(*parts, COLUMNS, vectors)[name])
        assert baselines.is_baseline(name)
        assert "stacked" in words.name_predictor(name)
    assert "leak" in words.describe_predictor("stacked_ridge_and_video_lookup")
