"""Archives, annotations, verification of clips, and the demo corpus."""

import io
import os
import pickle
import shutil
import stat
import struct
import threading
import zipfile
import zlib
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import pyzipper
from pydantic import ValidationError

from lib.core import pickles, resume
from lib.core.errors import InputError
from lib.core.fetch import fetch
from lib.core.targets import TRAITS
from lib.media.writing import write_video
from lib.sources import _check as check
from lib.sources import base, demo, fiv2, mosei
from lib.sources._archives import Unpacker
from lib.sources._check import Corpus
from lib.sources._cues import read_cues
from lib.sources.demo import corpus
from lib.sources.demo.head import SAMPLE_RATE, Identity, Performance, render
from lib.sources.demo.patterns import draw_pattern
from lib.sources.fiv2 import LATTICE, SCORES
from lib.streams._mel import mel_power
from tests.conftest import REAL, needs_real_clips
from tests.rendered_corpus import copy_corpus
from tests.video_files import write_talking_head


def make_unpacker(target: Path, *keys: str) -> Unpacker:
    target.mkdir(exist_ok=True)
    return Unpacker(target, keys, "set FIV2_KEY_A", partial(fiv2.place, videos=True))


def unpack(target: Path, source: Path, *keys: str) -> list[str]:
    return sorted(path.as_posix() for path in make_unpacker(target, *keys).unpack(source))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "archives"
    folder.mkdir()
    return folder


def make_zip(entries: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def make_encrypted_zip(name: str, content: bytes, key: bytes) -> bytes:
    """Return a zip with one entry in traditional encryption (APPNOTE 6.1), which Python can read but not write."""
    table = []
    for n in range(256):
        value = n
        for _ in range(8):
            value = value >> 1 ^ (0xEDB88320 if value & 1 else 0)
        table.append(value)
    keys = [0x12345678, 0x23456789, 0x34567890]

    def update(byte: int) -> None:
        keys[0] = keys[0] >> 8 ^ table[(keys[0] ^ byte) & 0xFF]
        keys[1] = ((keys[1] + (keys[0] & 0xFF)) * 134775813 + 1) & 0xFFFFFFFF
        keys[2] = keys[2] >> 8 ^ table[(keys[2] ^ keys[1] >> 24) & 0xFF]

    for byte in key:
        update(byte)
    crc, encrypted = zlib.crc32(content), bytearray()
    for byte in bytes(11) + bytes([crc >> 24]) + content:
        mask = (keys[2] | 2) & 0xFFFF
        encrypted.append(byte ^ (mask * (mask ^ 1) >> 8 & 0xFF))
        update(byte)
    common = struct.pack("<HHHHHIIIHH", 20, 1, 0, 0, 33, crc, len(encrypted), len(content), len(name), 0)
    local = b"PK\x03\x04" + common + name.encode() + bytes(encrypted)
    central = b"PK\x01\x02" + struct.pack("<H", 20) + common + struct.pack("<HHHII", 0, 0, 0, 0, 0) + name.encode()
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(central), len(local), 0)
    return local + central + end


def test_unpacker_reads_flat_nested_and_unpacked_archives(source: Path, tmp_path: Path) -> None:
    inner = make_zip({"-abcdefghij.000.mp4": b"one"})
    (source / "train-1.zip").write_bytes(make_zip({"training80_01.zip": inner, "readme.txt": b"x"}))
    (source / "validation80_02").mkdir()
    (source / "validation80_02" / "_bcdefghijk.001.mp4").write_bytes(b"two")
    (source / "all").mkdir()
    (source / "all" / "cdefghijklm.002.mp4").write_bytes(b"three")
    (source / "annotation_training.pkl").write_bytes(b"four")
    paths = unpack(tmp_path / "raw", source)
    flat = next(name for name in paths if name.startswith("clips_"))
    assert paths == [
        "annotations/annotation_training.pkl", flat,
        "training80_01/-abcdefghij.000.mp4", "validation80_02/_bcdefghijk.001.mp4",
    ]  # fmt: skip
    assert (tmp_path / "raw" / flat).read_bytes() == b"three"
    assert (tmp_path / "raw/training80_01/-abcdefghij.000.mp4").read_bytes() == b"one"


def test_unpacker_skips_unpacked_files_and_repairs_damage(source: Path, tmp_path: Path) -> None:
    (source / "training80_01.zip").write_bytes(make_zip({"abcdefghijk.000.mp4": b"content"}))
    unpack(tmp_path / "raw", source)
    clip = tmp_path / "raw/training80_01/abcdefghijk.000.mp4"
    inode = clip.stat().st_ino
    unpack(tmp_path / "raw", source)
    assert clip.stat().st_ino == inode
    clip.write_bytes(b"damaged")
    unpack(tmp_path / "raw", source)
    assert clip.read_bytes() == b"content"


def test_unpacker_replaces_files_of_changed_encrypted_archives(source: Path, tmp_path: Path) -> None:
    def write(content: bytes) -> None:
        with pyzipper.AESZipFile(source / "test80_01.zip", "w", encryption=pyzipper.WZ_AES) as archive:
            archive.setpassword(b"key")
            archive.writestr("abcdefghijk.000.mp4", content)
        with pyzipper.AESZipFile(source / "test80_01.zip") as archive:
            assert archive.infolist()[0].CRC == 0  # contents of the same size do not differ

    clip = tmp_path / "raw/test80_01/abcdefghijk.000.mp4"
    write(b"one seed")
    unpack(tmp_path / "raw", source, "key")
    inode = clip.stat().st_ino
    unpack(tmp_path / "raw", source, "key")
    assert clip.stat().st_ino == inode
    write(b"two seed")
    unpack(tmp_path / "raw", source, "key")
    assert clip.read_bytes() == b"two seed"


def test_unpacker_rejects_different_files_of_one_place(source: Path, tmp_path: Path) -> None:
    (source / "training80_01.zip").write_bytes(make_zip({"abcdefghijk.000.mp4": b"content"}))
    (source / "training80_01").mkdir()
    (source / "training80_01" / "abcdefghijk.000.mp4").write_bytes(b"content")
    (source / "old").mkdir()
    (source / "old" / "annotation_training.pkl").write_bytes(b"labels")
    (source / "labels.zip").write_bytes(make_zip({"annotation_training.pkl": b"labels"}))
    assert unpack(tmp_path / "raw", source) == [
        "annotations/annotation_training.pkl", "training80_01/abcdefghijk.000.mp4",
    ]  # fmt: skip
    (source / "old" / "annotation_training.pkl").write_bytes(b"old labels")
    with pytest.raises(
        InputError, match=r"labels\.zip/annotation_training\.pkl and .*old/annotation_training\.pkl are"
    ):
        unpack(tmp_path / "raw", source)


@pytest.mark.parametrize("kind", ["aes", "zip_crypto"])
def test_unpacker_decrypts_both_kinds_of_encryption(source: Path, tmp_path: Path, kind: str) -> None:
    path = source / "test80_01.zip"
    if kind == "zip_crypto":
        path.write_bytes(make_encrypted_zip("abcdefghijk.000.mp4", b"secret clip", b"key A"))
    else:
        with pyzipper.AESZipFile(path, "w", encryption=pyzipper.WZ_AES) as archive:
            archive.setpassword(b"key A")
            archive.writestr("abcdefghijk.000.mp4", b"secret clip")
    for wrong_keys in ((), ("another key",)):
        with pytest.raises(InputError, match=r"test80_01\.zip: abcdefghijk.* encrypted .* set FIV2_KEY_A"):
            unpack(tmp_path / "raw", source, *wrong_keys)
    unpack(tmp_path / "raw", source, "another key", "key A")
    assert (tmp_path / "raw/test80_01/abcdefghijk.000.mp4").read_bytes() == b"secret clip"


@pytest.mark.parametrize("name", ["../evil.mp4", "/etc/evil.mp4", "a/../../evil.mp4", "C:\\evil.mp4", "..\\evil.mp4"])
def test_unpacker_rejects_paths_outside_the_target(source: Path, tmp_path: Path, name: str) -> None:
    (source / "train-1.zip").write_bytes(make_zip({name: b"x"}))
    with pytest.raises(InputError, match="outside"):
        unpack(tmp_path / "raw", source)


def test_unpacker_rejects_links_bombs_and_deep_nesting(source: Path, tmp_path: Path) -> None:
    link = zipfile.ZipInfo("abcdefghijk.000.mp4")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(source / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(InputError, match="is a link"):
        unpack(tmp_path / "raw", source)
    (source / "a.zip").write_bytes(make_zip({"abcdefghijk.000.mp4": bytes(1 << 24)}, zipfile.ZIP_DEFLATED))
    with pytest.raises(InputError, match="would grow"):
        unpack(tmp_path / "raw", source)
    nest = make_zip({"abcdefghijk.000.mp4": b"x"})
    for _ in range(3):
        nest = make_zip({"a.zip": nest})
    (source / "a.zip").write_bytes(nest)
    with pytest.raises(InputError, match="nested more than"):
        unpack(tmp_path / "raw", source)


def test_unpacker_stops_at_the_declared_size_of_a_bomb(source: Path, tmp_path: Path) -> None:
    honest = make_zip({"abcdefghijk.000.mp4": bytes(1 << 24)}, zipfile.ZIP_DEFLATED)
    (source / "a.zip").write_bytes(honest.replace(struct.pack("<I", 1 << 24), struct.pack("<I", 1000)))
    with pytest.raises(InputError, match=r"abcdefghijk\.000\.mp4 is damaged"):
        unpack(tmp_path / "raw", source)
    assert sum(path.stat().st_size for path in (tmp_path / "raw").rglob("*") if path.is_file()) <= 1000


def test_unpacker_rejects_archives_larger_than_the_disk(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "a.zip").write_bytes(make_zip({f"abcdefghijk.00{number}.mp4": bytes(90) for number in range(3)}))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=269))
    with pytest.raises(InputError, match=r"unpacks to 270 bytes, but .* has only 269 bytes free; free some"):
        unpack(tmp_path / "raw", source)
    assert not list((tmp_path / "raw").rglob("*.mp4"))


def test_unpacker_rejects_damaged_archives(source: Path, tmp_path: Path) -> None:
    complete = make_zip({"abcdefghijk.000.mp4": b"content of the clip"})
    (source / "a.zip").write_bytes(complete[:-30])
    with pytest.raises(InputError, match=r"a\.zip is not a complete zip"):
        unpack(tmp_path / "raw", source)
    (source / "a.zip").write_bytes(complete.replace(b"content", b"cOntent"))
    with pytest.raises(InputError, match=r"abcdefghijk\.000\.mp4 is damaged"):
        unpack(tmp_path / "raw", source)


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


class RangeServer(BaseHTTPRequestHandler):
    content = bytes(range(256)) * 1000
    ranges: list[str | None] = []  # noqa: RUF012

    def do_GET(self) -> None:
        requested = self.headers["Range"]
        self.ranges.append(requested)
        start = int(requested.removeprefix("bytes=").removesuffix("-"))
        if start >= len(self.content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(self.content)}")
            self.end_headers()
            return
        self.send_response(206)
        self.send_header("Content-Length", str(len(self.content) - start))
        self.end_headers()
        self.wfile.write(self.content[start:])

    def log_message(self, *_: object) -> None:
        pass


def test_fetch_resumes_and_checks_the_sha256(tmp_path: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), RangeServer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/a.zip"
    (tmp_path / "a.zip.part").write_bytes(RangeServer.content[:1234])
    fetch(url, tmp_path / "a.zip", None, "correct it")
    assert RangeServer.ranges == ["bytes=1234-"]
    assert (tmp_path / "a.zip").read_bytes() == RangeServer.content
    with pytest.raises(InputError, match="sha256 is"):
        fetch(url, tmp_path / "b.zip", "0" * 64, "correct it")
    assert not (tmp_path / "b.zip").exists()
    server.shutdown()
    server.server_close()
    with pytest.raises(InputError, match="run again"):
        fetch(url, tmp_path / "c.zip", None, "correct it")


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
