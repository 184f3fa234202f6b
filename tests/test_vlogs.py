"""The source vlogs: a small made corpus in the distribution's format, and the real one if it is there."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lib.core.errors import InputError
from lib.sources import vlogs
from lib.streams import features
from lib.streams.base import Raw
from lib.streams.text.transcripts import look_up
from tests.conftest import ROOT
from tests.test_download import RunDownload, run_download
from tools import parameters as written

__all__ = ["run_download"]

SHARED = ROOT.parent / "shared/vlogs"
needs_real_vlogs = pytest.mark.skipif(not SHARED.exists(), reason="no ../shared/vlogs")
SETTINGS = written.plain(written.merge_parameters("vlogs", []))["download"]


def write_corpus(folder: Path, vlogs_count: int = 30) -> None:
    """Write the distribution's files for vlogs VLOG1, VLOG2, ..., with made numbers."""
    rng = np.random.default_rng(0)
    names = [f"VLOG{number}" for number in range(1, vlogs_count + 1)]
    scores = pd.DataFrame(rng.uniform(1, 7, (vlogs_count, 5)).round(1), columns=["Extr", "Agr", "Cons", "Emot", "Open"])
    measured = pd.DataFrame(rng.normal(size=(vlogs_count, 3)), columns=["mean.pitch", "voice.rate", "hogv.entropy"])
    gender = pd.DataFrame({"gender": ["Male", "Female"] * (vlogs_count // 2)})
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in ((vlogs.SCORES, scores), (vlogs.FEATURES, measured), (vlogs.GENDER, gender)):
        table.insert(0, "vlogId", names)
        table.to_csv(folder / name, sep=" ", index=False)
    (folder / "transcripts").mkdir(exist_ok=True)
    for name in names:
        text = f"Hello XXXX, this is {name}"
        (folder / "transcripts" / f"{name}.txt").write_text(text, "utf-8-sig" if name.endswith("2") else "utf-8")


def test_distribution_is_read_with_features_words_and_gender(run_download: RunDownload) -> None:
    write_corpus(Path("data/archives/YouTube-Personality"))
    table = run_download(**SETTINGS)
    assert len(table) == 30
    assert (table["reason"] == "").all()
    assert (table["video"] == table["clip"]).all()
    assert set(table["split"]) == {"training", "validation", "test"}
    scores = pd.read_csv(Path("data/archives/YouTube-Personality", vlogs.SCORES), sep=" ").set_index("vlogId")
    first = table.set_index("clip").loc["VLOG1"]
    assert first["neuroticism"] == scores.loc["VLOG1", "Emot"]  # emotional stability
    assert first["openness"] == scores.loc["VLOG1", "Open"]
    groups = pd.read_csv("data/groups.csv").set_index("clip")
    assert groups.loc["VLOG1", "gender"] == "male"
    assert json.loads(Path("metrics/data.json").read_text())["groups"] == {"gender": {"female": 15, "male": 15}}
    raw = Raw("VLOG2", None, Path("data/raw/vlogs/annotations").absolute())
    record = features.look_up(raw, ["audiovisual.csv", "gender.csv"])
    assert record.arrays["values"].shape == (1, 4)
    assert record.arrays["values"][0, 3] == 1
    transcript = look_up(raw, [], "text")
    assert transcript is not None
    assert transcript.text == "Hello XXXX, this is VLOG2"
    again = run_download(**SETTINGS | {"fold": 3})
    assert set(again.loc[again["split"] == "test", "clip"]).isdisjoint(table.loc[table["split"] == "test", "clip"])


def replace_text(name: str, old: str, new: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text((folder / name).read_text().replace(old, new, 1)) and None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / vlogs.SCORES).unlink(), "impression_scores.csv is missing; put the distributed file"),
        (replace_text(vlogs.SCORES, "vlogId Extr", "vlogId,Extr"), "has the header 'vlogId,Extr Agr Cons Emot Open'"),
        (replace_text(vlogs.SCORES, "Agr", "Agree"), "has no column Agr; its columns are vlogId, Extr, Agree"),
        (replace_text(vlogs.SCORES, "VLOG2 ", "VLOG2 8.5 "), r"row 3 has 7 values; allowed: 6, like the header"),
        (replace_text(vlogs.SCORES, "VLOG2 ", "VLOG1 "), "has vlogId VLOG1 twice; allowed: each vlog once"),
        (replace_text(vlogs.GENDER, "Male", "m"), "has the gender 'm'; allowed: Male and Female"),
    ],
)
def test_mistakes_in_the_files_are_reported(
    run_download: RunDownload, change: Callable[[Path], None], message: str
) -> None:
    write_corpus(Path("data/archives"))
    change(Path("data/archives"))
    with pytest.raises(InputError, match=message):
        run_download(**SETTINGS)


def test_score_outside_the_scale_is_reported(run_download: RunDownload) -> None:
    write_corpus(Path("data/archives"))
    path = Path("data/archives", vlogs.SCORES)
    table = pd.read_csv(path, sep=" ", dtype=str)
    table.loc[1, "Emot"] = "NA"
    table.to_csv(path, sep=" ", index=False)
    assert run_download(**SETTINGS)["neuroticism"].isna().sum() == 1
    table.loc[2, "Cons"] = "7.4"
    table.to_csv(path, sep=" ", index=False)
    with pytest.raises(InputError, match=r"row 4, column Cons: '7.4'; allowed: a number from 1 to 7, or NA"):
        run_download(**SETTINGS)


def test_videos_are_not_available(run_download: RunDownload) -> None:
    write_corpus(Path("data/archives"))
    with pytest.raises(InputError, match="videos = true, but the source vlogs has no videos; allowed: false"):
        run_download(**SETTINGS | {"videos": True})


@needs_real_vlogs
def test_real_vlogs_are_read_as_distributed(run_download: RunDownload) -> None:
    Path("data/archives/vlogs").symlink_to(SHARED)
    table = run_download(**SETTINGS)
    assert len(table) == 322
    assert (table["reason"] == "").all()
    assert table["extraversion"].mean() == pytest.approx(4.63, abs=0.005)
    assert table["neuroticism"].mean() == pytest.approx(4.77, abs=0.005)
    annotations = Path("data/raw/vlogs/annotations").absolute()
    assert len(list(annotations.glob("VLOG*.txt"))) == 322
    assert features.look_up(Raw("VLOG1", None, annotations), ["audiovisual.csv"]).arrays["values"].shape == (
        1,
        25,
    )
