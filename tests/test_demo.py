"""The demo corpora: plan, planted causes, and rendered heads and voices."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from lib.core import pickles, resume
from lib.core.errors import InputError
from lib.core.targets import TRAITS
from lib.sources import demo, fiv2, mosei
from lib.sources._cues import read_cues
from lib.sources.demo import corpus
from lib.sources.demo.head import SAMPLE_RATE, Identity, Performance, render
from lib.sources.demo.patterns import draw_pattern
from lib.sources.fiv2 import SCORES
from lib.streams._mel import mel_power
from tests.rendered_corpus import copy_corpus
from tests.test_unpacker import unpack
from tests.video_files import write_talking_head


@pytest.mark.slow
def test_rendered_heads_are_reproducible(tmp_path: Path) -> None:
    written = set()
    for _ in range(4):
        path = write_talking_head(tmp_path / "a.mp4", 3, Performance(0.0, 1.2, 0.5, 1), 2.0, corpus.FRAME_RATE)
        written.add(path.read_bytes())
    assert len(written) == 1
    path = write_talking_head(tmp_path / "a.mp4", 3, Performance(0.0, 1.2, 0.5, 2), 2.0, corpus.FRAME_RATE)
    assert path.read_bytes() not in written


def test_demo_plan_has_the_documented_properties() -> None:
    plan = corpus.plan(2000, 0.84, seed=1)
    assert plan.equals(corpus.plan(2000, 0.84, seed=1))
    assert not plan.equals(corpus.plan(2000, 0.84, seed=2))
    assert plan["split"].value_counts().to_dict() == {"training": 1200, "validation": 400, "test": 400}
    training = plan[plan["split"] == "training"]
    test = plan[plan["split"] == "test"]
    assert test["video"].isin(training["video"]).mean() == pytest.approx(0.84)
    assert training["video"].nunique() / len(training) == pytest.approx(2624 / 6000, abs=0.01)
    assert plan["video"].value_counts().max() <= 6
    assert {name[0] for name in plan.index[:2]} == {"-", "_"}
    r2 = plan[[*TRAITS, "appearance", "motion", "audio", "noise"]].corr() ** 2
    for trait, carrier in {
        "extraversion": "motion", "conscientiousness": "appearance", "neuroticism": "audio", "openness": "noise",
    }.items():  # fmt: skip
        assert r2.loc[trait, carrier] > 0.75
        assert r2.loc[trait, ["appearance", "motion", "audio", "noise"]].drop(carrier).max() < 0.02
    assert 0.3 < r2.loc["agreeableness", "appearance"] < 0.55
    assert 0.3 < r2.loc["agreeableness", "motion"] < 0.55
    assert not any(fiv2.problem(row) for row in plan.reset_index().to_dict("records"))


def test_planted_emotions_share_at_most_one_cause_with_traits() -> None:
    plan, without = corpus.plan(2000, 0.84, seed=1, emotions=0.2), corpus.plan(2000, 0.84, seed=1)
    assert plan[without.columns].equals(without)
    is_labelled = plan[list(mosei.EMOTIONS)].notna().all(axis=1)
    training = plan["split"] == "training"
    assert is_labelled[~training].all()
    assert is_labelled[training].mean() == pytest.approx(0.2, abs=0.03)
    assert plan.loc[~is_labelled, list(mosei.EMOTIONS)].isna().all(axis=None)
    labelled = plan[is_labelled]
    assert (labelled["happiness"] > 0).equals(labelled["appearance"] > 0.5)
    assert (labelled["anger"] > 0).equals(labelled["flush"] > 0.5)
    assert (labelled["surprise"] > 0).equals(labelled["turn"] > 0.5)
    assert labelled[list(mosei.EMOTIONS)].max().between(2.5, 3).all()
    assert not ((labelled[list(mosei.EMOTIONS)] * 3) % 1).any(axis=None)
    r2 = labelled[[*TRAITS, *mosei.EMOTIONS]].corr().loc[list(TRAITS), list(mosei.EMOTIONS)] ** 2
    assert r2.loc["conscientiousness", "happiness"] > 0.6
    assert r2.drop(columns="happiness").max(axis=None) < 0.02


def test_planted_turn_changes_only_temporal_order() -> None:
    def measure_pinkness(flush: float, turn: float) -> np.ndarray:
        frames, _ = render(Identity(3), Performance(0.0, 1.0, 0.5, 5, flush, turn), 4.0, 5)
        return (frames @ [0.5, -1, 0.5]).mean((1, 2))

    without_flush = measure_pinkness(0.0, 0.6)
    courses = {
        (flush, turn): measure_pinkness(flush, turn) - without_flush for flush in (-0.4, 0.4) for turn in (-0.6, 0.6)
    }
    tolerance = {"atol": 0.1 * max(np.abs(course).max() for course in courses.values())}
    for flush in (-0.4, 0.4):
        late, early = courses[flush, 0.6], courses[flush, -0.6]
        signs = np.repeat(np.sign(flush) * np.array([1, 1, 1, -1]), 5)
        assert (np.sign(late) == signs).all()
        np.testing.assert_allclose(np.sort(late), np.sort(early), **tolerance)  # the same values in another order
    for turn in (-0.6, 0.6):  # over both signs of flush, the values at each time do not depend on turn
        moments = np.sort([courses[flush, turn] for flush in (-0.4, 0.4)], axis=0)
        np.testing.assert_allclose(
            moments, np.sort([courses[flush, -turn] for flush in (-0.4, 0.4)], axis=0), **tolerance
        )


def test_planted_appearance_does_not_change_luma() -> None:
    def grey(warmth: float) -> np.ndarray:
        frames, _ = render(Identity(3), Performance(warmth, 1.0, 0.5, 5), 2.0, 5)
        return frames @ [0.299, 0.587, 0.114]

    assert np.abs(grey(-0.7) - grey(0.7)).mean() < 1.0


@pytest.mark.slow
def test_demo_archives_are_unpacked_completely(tmp_path: Path) -> None:
    copy_corpus(tmp_path / "demo")
    paths = unpack(tmp_path / "raw", tmp_path / "demo", corpus.KEY_A, corpus.KEY_B)
    plan = corpus.plan(20, 0.84, 0)
    assert {Path(name).name for name in paths if name.endswith(".mp4")} == set(plan.index)
    annotations = fiv2.read_annotations(tmp_path / "raw" / "annotations")
    pd.testing.assert_frame_equal(annotations.loc[plan.index, list(SCORES)], plan[list(SCORES)], check_names=False)
    for split, rows in plan.groupby("split"):
        texts = pickles.load_pickle(tmp_path / f"raw/annotations/transcription_{split}.pkl")
        assert texts == {clip: corpus.transcript(row) for clip, row in rows.iterrows()}
    with pytest.raises(InputError, match="FIV2_KEY_A"):
        unpack(tmp_path / "raw2", tmp_path / "demo", corpus.KEY_A)


@pytest.mark.slow
def test_demo_emotions_are_missing_for_some_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "ROOT", tmp_path / "work")
    settings = demo.Settings(clips=30, seconds=2.0, shared=0.0, seed=0, emotions=0.5, cues=True)
    files = list(demo.bring(settings, tmp_path, tmp_path / "raw", videos=True))
    marks = read_cues(
        [tmp_path / "raw" / file for file in files], [file.name for file in files], demo.columns(settings)
    )
    assert marks.groupby("clip").size().tolist() == [3] * 30  # mouth and two brows
    rows = demo.rows(settings, tmp_path / "raw", files).set_index("clip")
    plan = corpus.plan(30, 0.0, 0, 0.5).loc[rows.index]
    is_unlabelled = plan["anger"].isna()
    assert 0 < is_unlabelled.sum() < 18
    assert rows.loc[is_unlabelled, ["neutral", *mosei.EMOTIONS]].isna().all(axis=None)
    np.testing.assert_allclose(rows.loc[~is_unlabelled, ["neutral", *mosei.EMOTIONS]].sum(axis=1), 1)
    assert ((rows["surprise_present"] == 1) == (plan["turn"] > 0.5))[~is_unlabelled].all()


@pytest.mark.slow
def test_planted_glides_differ_only_in_temporal_order() -> None:
    def measure_spectrum(glide: float, rate: float = 1.0) -> np.ndarray:
        _, voice = render(Identity(3), Performance(0.0, rate, glide, 5), 4.0, 5)
        return 10 * np.log10(mel_power(voice, SAMPLE_RATE, length=1024, hop=256, mels=64) + 1e-6)

    fall, rise, level = measure_spectrum(-0.9), measure_spectrum(0.9), measure_spectrum(0.0)
    for pool in (np.mean, np.std):
        difference = np.abs(pool(rise, 1) - pool(fall, 1)).mean()
        assert difference < 0.35 * np.abs(pool(rise, 1) - pool(level, 1)).mean()
    half = rise.shape[1] // 2
    lowest = slice(0, 8)  # the rising first harmonic leaves these bands
    assert (rise[lowest, :half].mean() - rise[lowest, half:].mean()) > 3
    assert (fall[lowest, half:].mean() - fall[lowest, :half].mean()) > 3
    assert np.array_equal(
        measure_spectrum(0.3, rate=0.5), measure_spectrum(0.3, rate=1.8)
    )  # the rate of the mouth does not affect the audio


def test_planted_targets_leave_all_other_columns_as_they_are() -> None:
    plain, plan = corpus.plan(2000, 0.84, seed=1), corpus.plan(2000, 0.84, 1, 0.0, ["speaking", "nods", "together"])
    columns = ["nodding", "speaking", "together"]
    assert plan.drop(columns=columns).equals(plain)
    assert plan["nodding"].equals(corpus.plan(2000, 0.84, 1, 0.0, ["nods"])["nodding"])
    assert set(plan["together"]) == {0.0, 1.0}
    r2 = plan.drop(columns=["split", "video"]).corr()[columns] ** 2
    assert r2[r2 < 1].max(axis=None) < 0.01
    with pytest.raises(ValidationError, match=r"planted = \['nods', 'nods'\]; allowed: each name once"):
        demo.Settings(clips=30, seconds=2.0, shared=0.0, seed=0, emotions=0.0, planted=["nods", "nods"])


def test_planted_patterns_carry_nothing_alone_or_shifted() -> None:
    rng = np.random.default_rng(0)
    drawn = np.array([draw_pattern(80, rng) for _ in range(500)])
    assert not drawn.sum(1).any()
    assert not (drawn * np.roll(drawn, 40, 1)).sum(1).any()
    assert np.abs(drawn.mean(0)).max() < 0.2  # both states at all times


@pytest.mark.slow
def test_planted_pattern_puts_pink_and_fast_together() -> None:
    seconds, fps = 6.0, 15
    for together in (-1, 1):
        correlations = []
        for seed in range(3):
            frames, _ = render(Identity(3), Performance(0.0, 1.0, 0.0, seed, together=together), seconds, fps)
            pink = (frames @ [0.5, -1, 0.5]).mean((1, 2))
            grey = frames @ [0.299, 0.587, 0.114]
            change = np.abs(np.diff(grey, axis=0))[:, 140:190, 130:190].mean((1, 2))  # the mouth
            speed = np.convolve(change, np.ones(6) / 6, "same")
            correlations.append(np.corrcoef(pink[1:] > np.median(pink), speed)[0, 1])
        assert np.mean(correlations) * together > 0.3


def measure_loudness(speaking: float | None, seed: int) -> np.ndarray:
    _, voice = render(Identity(3), Performance(0.0, 1.0, 0.5, seed, speaking=speaking), 4.0, 5)
    return np.sqrt((voice.reshape(-1, 160) ** 2).mean(1))


def test_planted_turns_fill_the_fraction_of_the_time() -> None:
    for seed, fraction in enumerate((0.2, 0.4, 0.6, 0.8)):
        assert (measure_loudness(fraction, seed) > 0.015).mean() == pytest.approx(fraction, abs=0.02)
    assert (measure_loudness(None, 0) > 0.015).all()
