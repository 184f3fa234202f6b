"""The video-disjoint split."""

import numpy as np
import pandas as pd
import pytest

from lib.core import clips
from lib.core.clips import SPLITS
from lib.core.targets import TRAITS
from lib.sources import fiv2, split
from tests.conftest import REAL, needs_real_clips


def made(videos: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    video = np.sort(rng.integers(0, videos, 4 * videos))
    level = rng.uniform(0.2, 0.8, videos)[video]
    scores = {trait: level + rng.normal(0, 0.05, len(video)) for trait in TRAITS}
    of_clip = rng.choice(SPLITS, len(video), p=[0.6, 0.2, 0.2])
    return pd.DataFrame({"video": [f"v{number}" for number in video], "split": of_clip, **scores})


def assert_disjoint_and_alike(table: pd.DataFrame, new: pd.Series) -> None:
    assert new.groupby(table["video"]).nunique().max() == 1
    before, after = (values.value_counts(normalize=True) for values in (table["split"], new))
    assert [after[name] for name in SPLITS] == pytest.approx([before[name] for name in SPLITS], abs=0.01)
    means = table.groupby(new)[list(TRAITS)].mean()
    assert np.ptp(means.to_numpy(), axis=0).max() < 0.25 * table[list(TRAITS)].std().min()


def test_no_video_is_shared_and_labels_are_alike() -> None:
    table = made(400, 0)
    assert table.groupby("video")["split"].nunique().max() == 3
    new = split.disjoint(table, 0)
    assert_disjoint_and_alike(table, new)
    assert new.equals(split.disjoint(table, 0))
    assert not new.equals(split.disjoint(table, 1))


def test_a_split_that_is_not_there_stays_away() -> None:
    table = made(100, 1)
    new = split.disjoint(table[table["split"] != "test"], 0)
    assert set(new) == {"training", "validation"}


@needs_real_clips
def test_the_real_annotations_are_split_by_video() -> None:
    names = ("training", "validation")
    tables = [fiv2.read(REAL / f"annotation_{name}.pkl").assign(split=name) for name in names]
    table = pd.concat(tables)
    table["video"] = [clips.video_of(clip) for clip in table.index]
    new = split.disjoint(table, 0)
    assert not set(table["video"][new == "training"]) & set(table["video"][new == "validation"])
    assert new.value_counts().to_dict() == pytest.approx({"training": 6000, "validation": 2000}, abs=6)
