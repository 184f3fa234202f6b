"""Archives, annotations, verification of clips, and the demo corpus."""

import os
import pickle
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lib.core.errors import InputError
from lib.media.writing import write_video
from lib.sources import _check as check
from lib.sources import base, fiv2
from lib.sources._check import Corpus
from lib.sources.demo.head import SAMPLE_RATE
from lib.sources.fiv2 import LATTICE, SCORES
from tests.conftest import REAL, needs_real_clips


class CodeInPickle:
    def __reduce__(self) -> tuple:
        return os.system, ("touch /tmp/pickle-ran-code",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps(CodeInPickle()), "system"),
        (b"cbuiltins\neval\n(S'1'\ntR.", "builtins.eval"),
        (pickle.dumps(partial(print, "x")), "functools.partial"),
        (b"not a pickle", "not a readable pickle"),
        (pickle.dumps({"extraversion": {}}), "has no agreeableness"),
        (pickle.dumps([1, 2]), "is not a "),
    ],
)
def test_read_rejects_unsafe_and_other_pickles(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "annotation_training.pkl"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        fiv2.read(path)
    assert not Path("/tmp/pickle-ran-code").exists()


@needs_real_clips
def test_real_annotations_are_complete() -> None:
    table = fiv2.read(REAL / "annotation_training.pkl")
    assert len(table) == 6000
    assert not any(fiv2.problem(row) for row in table.rename_axis("clip").reset_index().to_dict("records"))
    assert table["extraversion"].mean() == pytest.approx(0.4761, abs=5e-5)


def test_problem_finds_scores_off_the_lattice() -> None:
    valid: dict[str, object] = {name: 40 / LATTICE[name] for name in SCORES} | {"clip": "-AmMDnVl4s8.003.mp4"}
    assert fiv2.problem(valid) == ""
    assert "not a multiple of 1/90" in fiv2.problem(valid | {"openness": 40 / 107})
    assert "outside" in fiv2.problem(valid | {"openness": 1.1})
    assert "no score" in fiv2.problem(valid | {"openness": float("nan")})
    assert fiv2.problem(valid | {"clip": "holiday.mp4"}).startswith(
        "name: clip name 'holiday.mp4' does not have the form"
    )


def test_video_of_is_the_clip_name_without_number() -> None:
    assert fiv2.video_of("-AmMDnVl4s8.003.mp4") == "-AmMDnVl4s8"
    assert fiv2.video_of("a.b.c.003.mp4") == "a.b.c"
    with pytest.raises(InputError, match="holiday"):
        fiv2.video_of("holiday.mp4")


@pytest.mark.slow
def test_build_clip_table_gives_a_reason_for_each_rejection(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    def write_clip(name: str, frames: int) -> None:
        pictures = rng.integers(0, 255, (frames, 48, 64, 3), np.uint8)
        write_video(tmp_path / "raw" / name, pictures, 15, np.zeros(SAMPLE_RATE, np.float32), SAMPLE_RATE)

    (tmp_path / "raw").mkdir()
    write_clip("aaaaaaaaaaa.000.mp4", 45)
    write_clip("short______.000.mp4", 15)
    write_clip("long_______.000.mp4", 90)
    write_clip("nolabel____.000.mp4", 45)
    write_clip("badscore___.000.mp4", 45)
    write_clip("cutoff_____.000.mp4", 45)
    truncated = tmp_path / "raw/cutoff_____.000.mp4"
    truncated.write_bytes(truncated.read_bytes()[:5000])
    (tmp_path / "raw/duplicate__.000.mp4").write_bytes((tmp_path / "raw/aaaaaaaaaaa.000.mp4").read_bytes())
    (tmp_path / "raw/text_______.000.mp4").write_text("no video")
    names = sorted(path.name for path in (tmp_path / "raw").iterdir())
    labelled = [name for name in names if not name.startswith("nolabel")] + ["missing____.000.mp4"]
    rows = pd.DataFrame({"clip": labelled, "video": "", "split": "training", "shard": "raw"})
    rows = rows.assign(**{name: 40 / LATTICE[name] for name in SCORES})
    rows["file"] = [f"raw/{name}" if name in names else "" for name in labelled]
    rows.loc[rows["clip"] == "badscore___.000.mp4", "openness"] = 0.4444
    corpus_of_clips = Corpus("mine", base.load("fiv2"), tmp_path, [Path("raw", name) for name in names], rows)
    table = check.build_clip_table([corpus_of_clips], True, 2.0, 10, 5.0).set_index("clip")
    reasons = {name[:7]: reason for name, reason in table["reason"].items()}
    assert reasons.pop("aaaaaaa") == ""
    assert {name: reason.split(":")[0] for name, reason in reasons.items()} == {
        "short__": "too short", "long___": "too long", "nolabel": "no annotation", "badscor": "score", "cutoff_": "file",
        "duplica": "duplicate", "text___": "file", "missing": "no file in data/archives",
    }  # fmt: skip
    summary = check.summary(table.reset_index(), pd.Series("training", range(len(table))))
    assert (summary["annotated"], summary["files"], summary["usable"]) == (8, 8, 1)
    assert summary["corpora"]["mine"]["rejected"] == summary["rejected"]
    assert summary["origins"] == {"training": {"mine": {"training": 1}}}
    without = check.build_clip_table([corpus_of_clips], False, 2.0, 10)
    assert without["reason"].map(lambda reason: reason.split(":")[0]).value_counts().to_dict() == {"": 7, "score": 1}
