"""The unpacker of archives: what it reads, repairs and rejects."""

import io
import shutil
import stat
import struct
import zipfile
import zlib
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import pyzipper

from lib.core.errors import InputError
from lib.sources import fiv2
from lib.sources._archives import Unpacker


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
