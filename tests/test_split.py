"""Methods that split clips into training, validation and test."""

import numpy as np
import pandas as pd
import pytest

from lib.core.clips import SPLITS
from lib.core.errors import InputError
from lib.core.targets import TRAITS
from lib.sources import _split as split
from lib.sources import fiv2
from lib.sources._split import SPLITTERS, SplitSettings
from tests.conftest import REAL, needs_real_clips

GROUPS = {f"c{number}": "left" if number // 8 % 3 else "right" for number in range(2000)}
SETTINGS = SplitSettings(seed=0, folds=5, fold=0, groups=GROUPS, tested="right")


def make_table(videos: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    video = np.sort(rng.integers(0, videos, 4 * videos))
    level = rng.uniform(0.2, 0.8, videos)[video]
    scores = {trait: level + rng.normal(0, 0.05, len(video)) for trait in TRAITS}
    splits = rng.choice(SPLITS, len(video), p=[0.6, 0.2, 0.2])
    names = {"clip": [f"c{number}" for number in range(len(video))], "video": [f"v{number}" for number in video]}
    return pd.DataFrame({**names, "split": splits, **scores})


def assert_disjoint_and_similar(table: pd.DataFrame, new: pd.Series) -> None:
    assert new.groupby(table["video"]).nunique().max() == 1
    before, after = (values.value_counts(normalize=True) for values in (table["split"], new))
    assert [after[name] for name in SPLITS] == pytest.approx([before[name] for name in SPLITS], abs=0.01)
    means = table.groupby(new)[list(TRAITS)].mean()
    assert np.ptp(means.to_numpy(), axis=0).max() < 0.25 * table[list(TRAITS)].std().min()


def test_disjoint_split_keeps_videos_together() -> None:
    table = make_table(400, 0)
    assert table.groupby("video")["split"].nunique().max() == 3
    new = split.disjoint(table, SETTINGS)
    assert_disjoint_and_similar(table, new)
    assert new.equals(split.disjoint(table, SETTINGS))
    assert not new.equals(split.disjoint(table, SplitSettings(1, 5, 0)))


def test_disjoint_split_does_not_add_a_missing_part() -> None:
    table = make_table(100, 1)
    new = split.disjoint(table[table["split"] != "test"], SETTINGS)
    assert set(new) == {"training", "validation"}


@pytest.mark.parametrize("shape", ["official", "without", "partly", "small", "other targets", "unknown targets"])
@pytest.mark.parametrize("name", SPLITTERS)
def test_each_splitter_handles_each_table(name: str, shape: str) -> None:
    table = make_table(100, 2)
    if shape == "without":
        table["split"] = ""
    elif shape == "partly":
        table.loc[:9, "split"] = ""
    elif shape == "small":
        table = table.groupby("video").head(1).head(6).assign(split=[*SPLITS, *SPLITS])
    elif shape == "other targets":
        table = table.drop(columns=list(TRAITS)).assign(warm=table["openness"] * 6 + 1, cold=1.0, duration=4.0)
    elif shape == "unknown targets":
        table[list(TRAITS)] = table[list(TRAITS)].mask(np.random.default_rng(0).random((len(table), 5)) < 0.3)
    if shape in {"official": ("without", "partly"), "validation_as_test": ("without",)}.get(name, ()):
        with pytest.raises(InputError, match=f"^download.split = {name}"):
            SPLITTERS[name](table, SETTINGS)
        return
    new = SPLITTERS[name](table, SETTINGS)
    assert new.index.equals(table.index)
    assert set(new) - {""} == set(SPLITS)
    assert new.equals(SPLITTERS[name](table, SETTINGS))
    assert ("" in set(new)) == (name == "validation_as_test") or name == "group_out"
    if name in ("disjoint", "folds"):
        assert new.groupby(table["video"]).nunique().max() == 1
    if shape == "without" and name in ("disjoint", "random"):
        assert new.value_counts(normalize=True).to_dict() == pytest.approx(split.SHARES, abs=0.01)


def test_group_out_tests_one_group_on_unseen_videos() -> None:
    table = make_table(200, 5)
    groups_of_clips = {clip: group for clip, group in GROUPS.items() if clip not in ("c3", "c30")}
    new = split.group_out(table, SETTINGS._replace(groups=groups_of_clips))
    groups = table["clip"].map(groups_of_clips)
    assert (new == "test").equals(groups == "right")
    assert set(new[groups.isna()]) == {""}
    assert not set(table["video"][new == "test"]) & set(table["video"][new.isin(["training", "validation"])])
    assert (new == "training").sum() / new.isin(["training", "validation"]).sum() == pytest.approx(0.75, abs=0.02)
    videos = table[new != "test"].groupby("video")["video"].count().index
    assert new[table["video"].isin(videos)].groupby(table["video"]).nunique().max() <= 2


def test_random_split_keeps_fractions_and_shares_videos() -> None:
    table = make_table(400, 0)
    new = split.random(table, SETTINGS)
    before, after = (values.value_counts(normalize=True) for values in (table["split"], new))
    assert after[list(SPLITS)].tolist() == pytest.approx(before[list(SPLITS)].tolist(), abs=0.01)
    assert new.groupby(table["video"]).nunique().max() == 3


@pytest.mark.parametrize("name", ["disjoint", "random"])
def test_split_fractions_are_kept_and_null_is_the_default(name: str) -> None:
    table, fractions = make_table(400, 0), (0.5, 0.2, 0.3)
    new = SPLITTERS[name](table, SplitSettings(0, 5, 0, fractions))
    assert new.value_counts(normalize=True)[list(SPLITS)].tolist() == pytest.approx(fractions, abs=0.01)
    assert (new.groupby(table["video"]).nunique().max() == 1) == (name == "disjoint")
    assert SPLITTERS[name](table, SplitSettings(0, 5, 0, None)).equals(SPLITTERS[name](table, SETTINGS))
    with pytest.raises(InputError, match=r"split_fractions = \[0\.6, 0\.2, 0\.3\]; allowed: null, or .* add up to 1$"):
        SPLITTERS[name](table, SplitSettings(0, 5, 0, (0.6, 0.2, 0.3)))


def test_each_clip_is_in_one_test_fold() -> None:
    table = make_table(100, 3)
    rounds = pd.DataFrame({fold: split.folds(table, SplitSettings(0, 5, fold)) for fold in range(5)})
    assert (rounds == "test").sum(axis=1).eq(1).all()
    assert (rounds == "validation").sum(axis=1).eq(1).all()
    assert (rounds == "test").mean().tolist() == pytest.approx([0.2] * 5, abs=0.01)
    with pytest.raises(InputError, match=r"download\.fold = 5; allowed: 0 to 4"):
        split.folds(table, SplitSettings(0, 5, 5))


def test_inner_folds_validate_each_clip_once_and_spare_the_test() -> None:
    table = make_table(200, 0)
    outer = SPLITTERS["disjoint"](table, SETTINGS)
    validated = []
    for fold in range(4):
        inner = split.hold_out_inner_fold(table, outer, SETTINGS._replace(inner_folds=4, inner_fold=fold))
        assert (inner[outer == "test"] == "test").all()
        assert set(inner) == set(SPLITS)
        assert inner.groupby(table["video"]).nunique().max() == 1
        validated += list(table["clip"][inner == "validation"])
    assert sorted(validated) == sorted(table["clip"][outer != "test"])
    for folds, fold in ((1, 0), (4, 4)):
        with pytest.raises(InputError, match=rf"inner_folds = {folds} with download\.inner_fold = {fold}; allowed"):
            split.hold_out_inner_fold(table, outer, SETTINGS._replace(inner_folds=folds, inner_fold=fold))


def test_validation_as_test_holds_out_training_videos() -> None:
    table = make_table(400, 4)
    new = split.validation_as_test(table, SETTINGS)
    assert (new == "test").equals(table["split"] == "validation")
    assert (new == "").equals(table["split"] == "test")
    videos = {name: set(table["video"][new == name]) for name in SPLITS}
    assert not videos["validation"] & videos["training"]
    assert len(videos["validation"]) == pytest.approx(
        table["video"][table["split"] == "training"].nunique() / 10, abs=1
    )


def test_disjoint_split_rejects_too_few_videos() -> None:
    table = pd.DataFrame({"clip": list("abc"), "video": list("abc"), "split": "", "warm": [1.0, 2.0, 3.0]})
    assert sorted(split.disjoint(table, SETTINGS)) == sorted(SPLITS)
    with pytest.raises(InputError, match="needs videos for 3 parts, but only 2"):
        split.disjoint(table[:2], SETTINGS)


@needs_real_clips
def test_real_annotations_are_split_by_video() -> None:
    names = ("training", "validation")
    tables = [fiv2.read(REAL / f"annotation_{name}.pkl").assign(split=name) for name in names]
    table = pd.concat(tables)
    table["video"] = [fiv2.video_of(clip) for clip in table.index]
    new = split.disjoint(table, SETTINGS)
    assert not set(table["video"][new == "training"]) & set(table["video"][new == "validation"])
    assert new.value_counts().to_dict() == pytest.approx({"training": 6000, "validation": 2000}, abs=6)
