"""Annotations, archives, verification and the demo corpus."""

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

from lib.core import imports, pickles, resume
from lib.core.errors import InputError
from lib.core.targets import TRAITS
from lib.media.writing import write_video
from lib.sources import _check as check
from lib.sources import base, demo, fiv2, mosei
from lib.sources._archives import Unpacker
from lib.sources._check import Corpus
from lib.sources._fetch import fetch
from lib.sources.demo import corpus
from lib.sources.demo.head import SAMPLE_RATE, Identity, Performance, render
from lib.sources.fiv2 import LATTICE, SCORES
from tests.conftest import REAL, needs_real_clips


def unpacker(target: Path, *keys: str) -> Unpacker:
    target.mkdir(exist_ok=True)
    return Unpacker(target, keys, "set FIV2_KEY_A", partial(fiv2.place, videos=True))


def unpacked(target: Path, source: Path, *keys: str) -> list[str]:
    return sorted(path.as_posix() for path in unpacker(target, *keys).unpack(source))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "archives"
    folder.mkdir()
    return folder


def zipped(entries: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def zip_crypto(name: str, content: bytes, key: bytes) -> bytes:
    """A zip with one entry under the traditional encryption (APPNOTE 6.1), which Python can read but not write."""
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


def test_flat_nested_and_unpacked_sources(source: Path, tmp_path: Path) -> None:
    inner = zipped({"-abcdefghij.000.mp4": b"one"})
    (source / "train-1.zip").write_bytes(zipped({"training80_01.zip": inner, "readme.txt": b"x"}))
    (source / "validation80_02").mkdir()
    (source / "validation80_02" / "_bcdefghijk.001.mp4").write_bytes(b"two")
    (source / "all").mkdir()
    (source / "all" / "cdefghijklm.002.mp4").write_bytes(b"three")
    (source / "annotation_training.pkl").write_bytes(b"four")
    found = unpacked(tmp_path / "raw", source)
    flat = next(name for name in found if name.startswith("clips_"))
    assert found == [
        "annotations/annotation_training.pkl", flat,
        "training80_01/-abcdefghij.000.mp4", "validation80_02/_bcdefghijk.001.mp4",
    ]  # fmt: skip
    assert (tmp_path / "raw" / flat).read_bytes() == b"three"
    assert (tmp_path / "raw/training80_01/-abcdefghij.000.mp4").read_bytes() == b"one"


def test_what_is_there_is_not_unpacked_again_but_damage_is_mended(source: Path, tmp_path: Path) -> None:
    (source / "training80_01.zip").write_bytes(zipped({"abcdefghijk.000.mp4": b"content"}))
    unpacked(tmp_path / "raw", source)
    clip = tmp_path / "raw/training80_01/abcdefghijk.000.mp4"
    inode = clip.stat().st_ino
    unpacked(tmp_path / "raw", source)
    assert clip.stat().st_ino == inode
    clip.write_bytes(b"damaged")
    unpacked(tmp_path / "raw", source)
    assert clip.read_bytes() == b"content"


def test_two_files_of_one_place_are_refused_unless_they_are_equal(source: Path, tmp_path: Path) -> None:
    (source / "training80_01.zip").write_bytes(zipped({"abcdefghijk.000.mp4": b"content"}))
    (source / "training80_01").mkdir()
    (source / "training80_01" / "abcdefghijk.000.mp4").write_bytes(b"content")
    (source / "old").mkdir()
    (source / "old" / "annotation_training.pkl").write_bytes(b"labels")
    (source / "labels.zip").write_bytes(zipped({"annotation_training.pkl": b"labels"}))
    assert unpacked(tmp_path / "raw", source) == [
        "annotations/annotation_training.pkl", "training80_01/abcdefghijk.000.mp4",
    ]  # fmt: skip
    (source / "old" / "annotation_training.pkl").write_bytes(b"old labels")
    with pytest.raises(
        InputError, match=r"labels\.zip/annotation_training\.pkl and .*old/annotation_training\.pkl are"
    ):
        unpacked(tmp_path / "raw", source)


@pytest.mark.parametrize("kind", ["aes", "zip_crypto"])
def test_both_kinds_of_encryption(source: Path, tmp_path: Path, kind: str) -> None:
    path = source / "test80_01.zip"
    if kind == "zip_crypto":
        path.write_bytes(zip_crypto("abcdefghijk.000.mp4", b"secret clip", b"key A"))
    else:
        with pyzipper.AESZipFile(path, "w", encryption=pyzipper.WZ_AES) as archive:
            archive.setpassword(b"key A")
            archive.writestr("abcdefghijk.000.mp4", b"secret clip")
    for wrong in ((), ("another key",)):
        with pytest.raises(InputError, match=r"test80_01\.zip: abcdefghijk.* encrypted .* set FIV2_KEY_A"):
            unpacked(tmp_path / "raw", source, *wrong)
    unpacked(tmp_path / "raw", source, "another key", "key A")
    assert (tmp_path / "raw/test80_01/abcdefghijk.000.mp4").read_bytes() == b"secret clip"


@pytest.mark.parametrize("name", ["../evil.mp4", "/etc/evil.mp4", "a/../../evil.mp4", "C:\\evil.mp4", "..\\evil.mp4"])
def test_paths_outside_are_refused(source: Path, tmp_path: Path, name: str) -> None:
    (source / "train-1.zip").write_bytes(zipped({name: b"x"}))
    with pytest.raises(InputError, match="outside"):
        unpacked(tmp_path / "raw", source)


def test_links_bombs_and_deep_nests_are_refused(source: Path, tmp_path: Path) -> None:
    link = zipfile.ZipInfo("abcdefghijk.000.mp4")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(source / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(InputError, match="is a link"):
        unpacked(tmp_path / "raw", source)
    (source / "a.zip").write_bytes(zipped({"abcdefghijk.000.mp4": bytes(1 << 24)}, zipfile.ZIP_DEFLATED))
    with pytest.raises(InputError, match="would grow"):
        unpacked(tmp_path / "raw", source)
    nest = zipped({"abcdefghijk.000.mp4": b"x"})
    for _ in range(3):
        nest = zipped({"a.zip": nest})
    (source / "a.zip").write_bytes(nest)
    with pytest.raises(InputError, match="nested more than"):
        unpacked(tmp_path / "raw", source)


def test_a_bomb_that_lies_about_its_size_ends_at_what_it_said(source: Path, tmp_path: Path) -> None:
    honest = zipped({"abcdefghijk.000.mp4": bytes(1 << 24)}, zipfile.ZIP_DEFLATED)
    (source / "a.zip").write_bytes(honest.replace(struct.pack("<I", 1 << 24), struct.pack("<I", 1000)))
    with pytest.raises(InputError, match=r"abcdefghijk\.000\.mp4 is damaged"):
        unpacked(tmp_path / "raw", source)
    assert sum(path.stat().st_size for path in (tmp_path / "raw").rglob("*") if path.is_file()) <= 1000


def test_an_archive_that_does_not_fit_on_the_disk_is_not_begun(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "a.zip").write_bytes(zipped({f"abcdefghijk.00{number}.mp4": bytes(90) for number in range(3)}))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=269))
    with pytest.raises(InputError, match=r"unpacks to 270 bytes, but .* has only 269 bytes free; free some"):
        unpacked(tmp_path / "raw", source)
    assert not list((tmp_path / "raw").rglob("*.mp4"))


def test_damaged_archives_are_named(source: Path, tmp_path: Path) -> None:
    whole = zipped({"abcdefghijk.000.mp4": b"content of the clip"})
    (source / "a.zip").write_bytes(whole[:-30])
    with pytest.raises(InputError, match=r"a\.zip is not a complete zip"):
        unpacked(tmp_path / "raw", source)
    (source / "a.zip").write_bytes(whole.replace(b"content", b"cOntent"))
    with pytest.raises(InputError, match=r"abcdefghijk\.000\.mp4 is damaged"):
        unpacked(tmp_path / "raw", source)


class _RunsCode:
    def __reduce__(self) -> tuple:
        return os.system, ("touch /tmp/pickle-ran-code",)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (pickle.dumps(_RunsCode()), "system"),
        (b"cbuiltins\neval\n(S'1'\ntR.", "builtins.eval"),
        (pickle.dumps(partial(print, "x")), "functools.partial"),
        (b"not a pickle", "no readable pickle"),
        (pickle.dumps({"extraversion": {}}), "lacks agreeableness"),
        (pickle.dumps([1, 2]), "is not a "),
    ],
)
def test_other_pickles_are_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "annotation_training.pkl"
    path.write_bytes(content)
    with pytest.raises(InputError, match=said):
        fiv2.read(path)
    assert not Path("/tmp/pickle-ran-code").exists()


@needs_real_clips
def test_the_real_annotations() -> None:
    table = fiv2.read(REAL / "annotation_training.pkl")
    assert len(table) == 6000
    assert not any(fiv2.problem(row) for row in table.rename_axis("clip").reset_index().to_dict("records"))
    assert table["extraversion"].mean() == pytest.approx(0.4761, abs=5e-5)


def test_scores_off_the_lattice_are_found() -> None:
    right: dict[str, object] = {name: 40 / LATTICE[name] for name in SCORES} | {"clip": "-AmMDnVl4s8.003.mp4"}
    assert fiv2.problem(right) == ""
    assert "not a multiple of 1/90" in fiv2.problem(right | {"openness": 40 / 107})
    assert "outside" in fiv2.problem(right | {"openness": 1.1})
    assert "no score" in fiv2.problem(right | {"openness": float("nan")})
    assert fiv2.problem(right | {"clip": "holiday.mp4"}).startswith(
        "name: clip name 'holiday.mp4' does not have the form"
    )


def test_video_of_a_clip() -> None:
    assert fiv2.video_of("-AmMDnVl4s8.003.mp4") == "-AmMDnVl4s8"
    assert fiv2.video_of("a.b.c.003.mp4") == "a.b.c"
    with pytest.raises(InputError, match="holiday"):
        fiv2.video_of("holiday.mp4")


def test_every_kind_of_refusal_has_its_reason(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    def clip(name: str, frames: int) -> None:
        pictures = rng.integers(0, 255, (frames, 48, 64, 3), np.uint8)
        write_video(tmp_path / "raw" / name, pictures, 15, np.zeros(SAMPLE_RATE, np.float32), SAMPLE_RATE)

    (tmp_path / "raw").mkdir()
    clip("aaaaaaaaaaa.000.mp4", 45)
    clip("short______.000.mp4", 15)
    clip("long_______.000.mp4", 90)
    clip("nolabel____.000.mp4", 45)
    clip("badscore___.000.mp4", 45)
    clip("cutoff_____.000.mp4", 45)
    cut = tmp_path / "raw/cutoff_____.000.mp4"
    cut.write_bytes(cut.read_bytes()[:5000])
    (tmp_path / "raw/duplicate__.000.mp4").write_bytes((tmp_path / "raw/aaaaaaaaaaa.000.mp4").read_bytes())
    (tmp_path / "raw/text_______.000.mp4").write_text("no video")
    names = sorted(path.name for path in (tmp_path / "raw").iterdir())
    labelled = [name for name in names if not name.startswith("nolabel")] + ["missing____.000.mp4"]
    rows = pd.DataFrame({"clip": labelled, "video": "", "split": "training", "shard": "raw"})
    rows = rows.assign(**{name: 40 / LATTICE[name] for name in SCORES})
    rows["file"] = [f"raw/{name}" if name in names else "" for name in labelled]
    rows.loc[rows["clip"] == "badscore___.000.mp4", "openness"] = 0.4444
    made = Corpus("mine", base.load("fiv2"), tmp_path, [Path("raw", name) for name in names], rows)
    table = check.build_clip_table([made], True, 2.0, 10, 5.0).set_index("clip")
    reasons = {name[:7]: reason for name, reason in table["reason"].items()}
    assert reasons.pop("aaaaaaa") == ""
    assert {name: reason.split(":")[0] for name, reason in reasons.items()} == {
        "short__": "too short", "long___": "too long", "nolabel": "no annotation", "badscor": "score", "cutoff_": "file",
        "duplica": "duplicate", "text___": "file", "missing": "no file in data/archives",
    }  # fmt: skip
    summary = check.summary(table.reset_index())
    assert (summary["annotated"], summary["files"], summary["usable"]) == (8, 8, 1)
    assert summary["corpora"]["mine"]["refused"] == summary["refused"]
    without = check.build_clip_table([made], False, 2.0, 10)
    assert without["reason"].map(lambda reason: reason.split(":")[0]).value_counts().to_dict() == {"": 7, "score": 1}


def test_the_same_head_is_the_same_bytes(tmp_path: Path) -> None:
    written = set()
    for _ in range(4):
        pictures, voice = render(Identity(3), Performance(0.0, 1.2, 0.5, 1), 2.0, corpus.FRAME_RATE)
        write_video(tmp_path / "a.mp4", pictures, corpus.FRAME_RATE, voice, SAMPLE_RATE)
        written.add((tmp_path / "a.mp4").read_bytes())
    assert len(written) == 1
    pictures, voice = render(Identity(3), Performance(0.0, 1.2, 0.5, 2), 2.0, corpus.FRAME_RATE)
    write_video(tmp_path / "a.mp4", pictures, corpus.FRAME_RATE, voice, SAMPLE_RATE)
    assert (tmp_path / "a.mp4").read_bytes() not in written


def test_the_plan_holds_what_data_readme_promises() -> None:
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


def test_planted_emotions_share_a_cause_with_one_trait_or_with_none() -> None:
    plan, without = corpus.plan(2000, 0.84, seed=1, emotions=0.2), corpus.plan(2000, 0.84, seed=1)
    assert plan[without.columns].equals(without)
    known = plan[list(mosei.EMOTIONS)].notna().all(axis=1)
    training = plan["split"] == "training"
    assert known[~training].all()
    assert known[training].mean() == pytest.approx(0.2, abs=0.03)
    assert plan.loc[~known, list(mosei.EMOTIONS)].isna().all(axis=None)
    some = plan[known]
    assert (some["happiness"] > 0).equals(some["appearance"] > 0.5)
    assert (some["anger"] > 0).equals(some["flush"] > 0.5)
    assert (some["surprise"] > 0).equals(some["turn"] > 0.5)
    assert some[list(mosei.EMOTIONS)].max().between(2.5, 3).all()
    assert not ((some[list(mosei.EMOTIONS)] * 3) % 1).any(axis=None)
    r2 = some[[*TRAITS, *mosei.EMOTIONS]].corr().loc[list(TRAITS), list(mosei.EMOTIONS)] ** 2
    assert r2.loc["conscientiousness", "happiness"] > 0.6
    assert r2.drop(columns="happiness").max(axis=None) < 0.02


def test_order_alone_tells_a_turn() -> None:
    def pinkness(flush: float, turn: float) -> np.ndarray:
        frames, _ = render(Identity(3), Performance(0.0, 1.0, 0.5, 5, flush, turn), 4.0, 5)
        return (frames @ [0.5, -1, 0.5]).mean((1, 2))

    still = pinkness(0.0, 0.6)
    courses = {(flush, turn): pinkness(flush, turn) - still for flush in (-0.4, 0.4) for turn in (-0.6, 0.6)}
    near = {"atol": 0.1 * max(np.abs(one).max() for one in courses.values())}
    for flush in (-0.4, 0.4):
        late, soon = courses[flush, 0.6], courses[flush, -0.6]
        signs = np.repeat(np.sign(flush) * np.array([1, 1, 1, -1]), 5)
        assert (np.sign(late) == signs).all()
        np.testing.assert_allclose(np.sort(late), np.sort(soon), **near)  # the same moments in another order
    for turn in (-0.6, 0.6):  # either flush is as likely: at each moment the two courses are those of the other turn
        moments = np.sort([courses[flush, turn] for flush in (-0.4, 0.4)], axis=0)
        np.testing.assert_allclose(moments, np.sort([courses[flush, -turn] for flush in (-0.4, 0.4)], axis=0), **near)


def test_appearance_leaves_luma_and_motion_alone() -> None:
    def grey(warmth: float) -> np.ndarray:
        frames, _ = render(Identity(3), Performance(warmth, 1.0, 0.5, 5), 2.0, 5)
        return frames @ [0.299, 0.587, 0.114]

    assert np.abs(grey(-0.7) - grey(0.7)).mean() < 1.0


def test_demo_archives_come_out_as_they_went_in(tmp_path: Path) -> None:
    corpus.write(tmp_path / "demo", clips=20, seconds=2.0, shared=0.84, seed=0)
    found = unpacked(tmp_path / "raw", tmp_path / "demo", corpus.KEY_A, corpus.KEY_B)
    plan = corpus.plan(20, 0.84, 0)
    assert {Path(name).name for name in found if name.endswith(".mp4")} == set(plan.index)
    read = fiv2.read_annotations(tmp_path / "raw" / "annotations")
    pd.testing.assert_frame_equal(read.loc[plan.index, list(SCORES)], plan[list(SCORES)], check_names=False)
    for split, rows in plan.groupby("split"):
        texts = pickles.load_pickle(tmp_path / f"raw/annotations/transcription_{split}.pkl")
        assert texts == {clip: corpus.transcript(row) for clip, row in rows.iterrows()}
    with pytest.raises(InputError, match="FIV2_KEY_A"):
        unpacked(tmp_path / "raw2", tmp_path / "demo", corpus.KEY_A)


def test_the_demos_emotions_are_targets_where_they_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "ROOT", tmp_path / "work")
    settings = demo.Settings(clips=30, seconds=2.0, shared=0.0, seed=0, emotions=0.5)
    files = list(demo.bring(settings, tmp_path, tmp_path / "raw", videos=True))
    rows = demo.rows(settings, tmp_path / "raw", files).set_index("clip")
    plan = corpus.plan(30, 0.0, 0, 0.5).loc[rows.index]
    unknown = plan["anger"].isna()
    assert 0 < unknown.sum() < 18
    assert rows.loc[unknown, ["neutral", *mosei.EMOTIONS]].isna().all(axis=None)
    np.testing.assert_allclose(rows.loc[~unknown, ["neutral", *mosei.EMOTIONS]].sum(axis=1), 1)
    assert ((rows["surprise_present"] == 1) == (plan["turn"] > 0.5))[~unknown].all()


class _Server(BaseHTTPRequestHandler):
    content = bytes(range(256)) * 1000
    ranges: list[str | None] = []  # noqa: RUF012

    def do_GET(self) -> None:
        asked = self.headers["Range"]
        self.ranges.append(asked)
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
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


def test_fetch_goes_on_and_checks(tmp_path: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/a.zip"
    (tmp_path / "a.zip.part").write_bytes(_Server.content[:1234])
    fetch(url, tmp_path / "a.zip", None)
    assert _Server.ranges == ["bytes=1234-"]
    assert (tmp_path / "a.zip").read_bytes() == _Server.content
    with pytest.raises(InputError, match="sha256 is"):
        fetch(url, tmp_path / "b.zip", "0" * 64)
    assert not (tmp_path / "b.zip").exists()
    server.shutdown()
    server.server_close()
    with pytest.raises(InputError, match="run again"):
        fetch(url, tmp_path / "c.zip", None)


def test_a_fall_and_an_equal_rise_of_the_voice_differ_in_order_alone() -> None:
    def heard(glide: float, rate: float = 1.0) -> np.ndarray:
        _, voice = render(Identity(3), Performance(0.0, rate, glide, 5), 4.0, 5)
        power = imports.import_librosa().feature.melspectrogram(
            y=voice, sr=SAMPLE_RATE, n_fft=1024, hop_length=256, n_mels=64
        )
        return 10 * np.log10(power + 1e-6)

    fall, rise, level = heard(-0.9), heard(0.9), heard(0.0)
    for pool in (np.mean, np.std):
        difference = np.abs(pool(rise, 1) - pool(fall, 1)).mean()
        assert difference < 0.35 * np.abs(pool(rise, 1) - pool(level, 1)).mean()
    half = rise.shape[1] // 2
    lowest = slice(0, 8)  # the first harmonic leaves these bands as it rises
    assert (rise[lowest, :half].mean() - rise[lowest, half:].mean()) > 3
    assert (fall[lowest, half:].mean() - fall[lowest, :half].mean()) > 3
    assert np.array_equal(heard(0.3, rate=0.5), heard(0.3, rate=1.8))  # the mouth's rate is not to be heard
