"""Clips of different videos and splits that show one person are found by their embeddings and reported."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lib.core.clips import SPLITS
from lib.report.verdict import describe_same_persons
from lib.scoring import same_person
from lib.scoring.results import compare_clips
from lib.scoring.same_person import COLUMNS, PROBABLE, find_same_persons

SFACE = {"embeddings": {"enabled": True, "network": "sface"}}
DATA = {"clips": {"training": 80, "validation": 20, "test": 20}}


def make_corpus(seed: int, persons: int, clips: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return embeddings, and clips of random persons and splits. A video shows one person; two clips share a video."""
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(persons, same_person.SIZE))
    names = [f"c{index:03d}" for index in range(clips)]
    videos = np.arange(clips) // 2
    person = rng.integers(0, persons, clips)[videos]
    spread = rng.normal(0, 0.4, (clips, same_person.SIZE))
    lengths = rng.uniform(1, 20, (clips, 1))
    means = (directions[person] + spread) * lengths
    deviations = rng.normal(size=means.shape)  # pooled vectors have them after the means
    table = pd.DataFrame({"clip": names, "video": videos.astype(str), "split": rng.choice(SPLITS, clips)})
    return pd.DataFrame(np.hstack([means, deviations]), index=names), table.assign(person=person)


def list_true_pairs(clips: pd.DataFrame) -> set[tuple[str, str]]:
    rows = list(clips.itertuples())
    return {
        (first.clip, other.clip)
        for first in rows
        for other in rows
        if SPLITS.index(first.split) > SPLITS.index(other.split)
        and first.person == other.person
        and first.video != other.video
    }


def test_pairs_are_those_of_the_known_persons(monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings, clips = make_corpus(0, 9, 60)
    complete = find_same_persons(embeddings, clips)
    monkeypatch.setattr(same_person, "_ROWS", 7)
    monkeypatch.setattr(same_person, "_COLUMNS", 4)
    pairs = find_same_persons(embeddings, clips)
    pd.testing.assert_frame_equal(pairs, complete)
    monkeypatch.setattr(same_person, "MAX_PAIRS", 5)
    pd.testing.assert_frame_equal(find_same_persons(embeddings, clips), complete[:5])
    assert tuple(pairs) == COLUMNS
    expected = list_true_pairs(clips)
    assert len(expected) > 50
    assert set(zip(pairs["clip"], pairs["other_clip"], strict=True)) == expected
    assert (pairs["video"] != pairs["other_video"]).all()
    assert pairs["cosine"].is_monotonic_decreasing
    splits = clips.set_index("clip")["split"]
    assert pairs["split"].tolist() == splits[pairs["clip"]].tolist()
    assert pairs["other_split"].tolist() == splits[pairs["other_clip"]].tolist()


def test_pairs_leave_out_clips_without_embedding_or_split(monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings, clips = make_corpus(1, 3, 20)
    clips.loc[0, "split"] = ""
    pairs = find_same_persons(embeddings.drop("c001"), clips)
    assert len(pairs)
    assert not {"c000", "c001"} & {*pairs["clip"], *pairs["other_clip"]}
    monkeypatch.setattr(same_person, "MAX_PAIRS", 4)
    assert find_same_persons(embeddings.drop("c001"), clips).equals(pairs[:4])


def test_persons_are_compared_only_by_sface_embeddings(tmp_path: Path) -> None:
    embeddings, clips = make_corpus(2, 3, 20)
    assert compare_clips(tmp_path, {}, clips).empty
    (tmp_path / "embeddings").mkdir()
    for network, count in (("resnet18", 0), ("sface", len(find_same_persons(embeddings, clips)))):
        about = {"settings": {"network": network}, "shapes": {"": [128]}}
        (tmp_path / "embeddings/stream.json").write_text(json.dumps(about))
        pairs = compare_clips(tmp_path, {"embeddings": embeddings}, clips)
        assert (len(pairs), tuple(pairs)) == (count, COLUMNS)
    assert compare_clips(tmp_path, {"embeddings": pd.DataFrame()}, clips).empty


def make_pairs(*rows: tuple[str, str, str, str, float]) -> pd.DataFrame:
    columns = ["clip", "split", "other_clip", "other_split", "cosine"]
    return pd.DataFrame(rows, columns=columns).assign(video="v", other_video="w")


@pytest.mark.parametrize(
    "section",
    [{}, {"embeddings": {"enabled": False, "network": "sface"}}, {"embeddings": {"enabled": True, "network": "x"}}],
)
def test_report_is_silent_if_persons_were_not_compared(section: dict[str, Any]) -> None:
    assert describe_same_persons(make_pairs(("a", "test", "b", "training", 0.9)), section, DATA, "test") == ""


def test_report_counts_scored_clips_with_a_person_of_training() -> None:
    pairs = make_pairs(
        ("a", "test", "b", "training", 0.91),
        ("a", "test", "c", "training", 0.8),
        ("a", "test", "d", "validation", 0.79),
        ("e", "validation", "f", "training", PROBABLE),
        ("g", "test", "f", "training", 0.7),
    )
    text = describe_same_persons(pairs, SFACE, DATA, "test")
    assert "4 pairs of clips of different videos and splits have a cosine similarity of 0.744 or more" in text
    assert "1 of the 20 test clips are in such a pair with a training clip" in text
    assert "Most similar: a and b (0.91). Look at the pairs in data/same_person.csv." in text
    none = describe_same_persons(pairs[-1:], SFACE, DATA, "test")
    assert none.startswith("No pair of clips of different videos and splits has a cosine similarity of 0.744 or more")
