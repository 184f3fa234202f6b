"""Features that are read where they are: references of shards, changed files, and what the stages copy and print."""

import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from dvc.utils.serialize import load_yaml

from lib.core import parameters, references, resume, shards
from lib.core.errors import InputError
from lib.core.references import Joined
from lib.core.shards import Record
from lib.data import pooled, shard_cache
from lib.data.dataset import ClipDataset
from lib.data.inputs import EncoderSettings
from lib.sources import download, listing, settings
from lib.sources._archives import Unpacker, annotation_place
from lib.streams import base, build, features
from lib.streams.base import Raw, StreamInfo
from tests.conftest import ROOT
from tools.benchmarks import in_place

ANNOTATIONS = Path("data/raw/table/annotations")
ARCHIVES = Path("data/archives")
VALUES = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float16)
TIMES = np.arange(5.0)


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty project."""
    monkeypatch.chdir(tmp_path)
    for folder in (ARCHIVES / "sub", ANNOTATIONS, Path("data/.work"), Path("data/features")):
        folder.mkdir(parents=True)
    return tmp_path


def write_hdf5(name: str, values: np.ndarray = VALUES, **options: Any) -> None:
    with h5py.File(ARCHIVES / name, "w") as file:
        file.create_dataset("c/values", data=values, **options)
        file["c/times"] = TIMES


def write_npz(name: str, save: Callable[..., None] = np.savez, values: np.ndarray = VALUES) -> None:
    save(ARCHIVES / name, **{"c": values, "c:times": TIMES})


def look_up(*patterns: str, in_place: bool = True, clip: str = "c.mp4", missing: Any = "drop") -> Record:
    return features.look_up(Raw(clip, None, ANNOTATIONS), list(patterns), missing, in_place)


def write_shard(*records: Record) -> Path:
    path = Path("data/features/one.h5")
    with h5py.File(path, "w") as file:
        for record in records:
            shards.write_record(file, record)
    Path("data/features", base.ABOUT).write_text("{}")
    return path


def read_values(path: Path, clip: str = "c.mp4") -> list[Any]:
    """Return the values of a clip as each function reads them."""
    with h5py.File(path) as file:
        lazy = shards.read_group(file[clip]).arrays["values"][()]
    in_memory = next(record for record in shards.read_records(path) if record.clip == clip).arrays["values"]
    return [lazy, in_memory, shards.read_all(path)[clip].arrays["values"][()]]


def write_all_kinds() -> None:
    write_hdf5("plain.h5")
    write_hdf5("sub/packed.hdf5", compression="gzip")
    write_npz("wide.npz", values=VALUES.astype(float))
    write_npz("packed.npz", np.savez_compressed)
    padded = torch.from_numpy(np.pad(VALUES, ((0, 2), (0, 0))))
    torch.save({"emb": padded, "length": 5, "times": torch.arange(7.0)}, ARCHIVES / "sub/c.pt")


@pytest.mark.parametrize("pattern", ["plain.h5", "packed.hdf5", "wide.npz", "sub/*.pt"])
def test_array_files_are_referred_to_and_read_equal(pattern: str) -> None:
    write_all_kinds()
    record, copied = look_up(pattern), look_up(pattern, in_place=False)
    assert record.arrays["values"].nbytes == 0
    assert record.arrays["values"].referenced_bytes == VALUES.nbytes * (4 if "wide" in pattern else 1)
    expected = copied.arrays["values"]
    for values in read_values(write_shard(record)):
        np.testing.assert_array_equal(values, expected)
        assert values.dtype == (np.float16 if pattern == "sub/*.pt" else expected.dtype)
    for rows in ([4, 1], [3], []):  # several rows are read together, few rows one by one
        read = features.read_steps(record, np.array(rows, int))
        np.testing.assert_array_equal(read, expected[rows].astype(np.float32).reshape(-1, 3))


def test_patterns_of_all_kinds_are_joined_in_order() -> None:
    write_all_kinds()
    pd.DataFrame({"clip": "c", "seconds": TIMES, "x": TIMES}).to_csv(ANNOTATIONS / "x.csv", index=False)
    patterns = ["plain.h5", "x.csv", "packed.npz", "sub/*.pt"]
    record, expected = look_up(*patterns), look_up(*patterns, in_place=False).arrays["values"]
    assert record.arrays["values"].nbytes == 5 * 4 + VALUES.nbytes  # the table and the compressed array are copied
    for values in read_values(write_shard(record)):
        np.testing.assert_array_equal(values, expected)


def test_arrays_that_are_not_stored_in_sequence_are_read_by_key() -> None:
    write_hdf5("big.h5", VALUES.astype(">f4"))
    np.savez(ARCHIVES / "fortran.npz", **{"c": np.asfortranarray(VALUES), "c:times": TIMES})
    for pattern in ("big.h5", "fortran.npz"):
        for values in read_values(write_shard(look_up(pattern))):
            np.testing.assert_array_equal(values, look_up(pattern, in_place=False).arrays["values"])
    assert isinstance(look_up("fortran.npz").arrays["values"], np.ndarray)


def test_absolute_path_and_link_are_read_in_place(project: Path) -> None:
    write_hdf5("plain.h5")
    (ARCHIVES / "plain.h5").rename("elsewhere.h5")
    (ARCHIVES / "linked.h5").symlink_to(project / "elsewhere.h5")
    for pattern in (f"{project}/else*.h5", "linked.h5"):
        for values in read_values(write_shard(look_up(pattern))):
            np.testing.assert_array_equal(values, VALUES)
    assert features._names([f"{project}/liwc_*.csv", "b.h5"]) == ["liwc", "b"]


def test_missing_or_changed_file_is_named_with_the_way_out() -> None:
    write_hdf5("plain.h5")
    path = write_shard(look_up("plain.h5"))
    os.utime(ARCHIVES / "plain.h5")  # the content is the same
    np.testing.assert_array_equal(read_values(path)[0], VALUES)
    (ARCHIVES / "plain.h5").rename("hidden.h5")
    forget()
    with pytest.raises(InputError, match=r"data/archives/plain\.h5 is missing, .* put it back or link it there"):
        read_values(path)
    write_hdf5("plain.h5", VALUES + np.float16(1))
    forget()
    with pytest.raises(
        InputError, match=r"data/archives/plain\.h5 has changed since .* run `python -m tools\.archives`"
    ):
        read_values(path)


def forget() -> None:
    """Do as a new process, which has checked no file."""
    references._verify.cache_clear()


def test_queued_experiment_finds_files_of_its_project(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_hdf5("plain.h5")
    path = write_shard(look_up("plain.h5")).absolute()
    (project / ".dvc/tmp/exps/one").mkdir(parents=True)
    monkeypatch.chdir(project / ".dvc/tmp/exps/one")
    np.testing.assert_array_equal(read_values(path)[0], VALUES)


def test_two_files_of_one_name_must_be_equal() -> None:
    write_hdf5("a.h5")
    (ARCHIVES / "sub/a.h5").write_bytes((ARCHIVES / "a.h5").read_bytes())
    assert not look_up("a.h5").rejected
    write_hdf5("sub/b.h5")
    write_hdf5("b.h5", VALUES + np.float16(1))
    with pytest.raises(InputError, match=r"archives/b\.h5 and .*sub/b\.h5 are different files of one name; rename"):
        look_up("b.h5")


def test_download_leaves_array_files_where_they_are() -> None:
    write_all_kinds()
    Path(ARCHIVES, "labels.csv").write_text("clip\n")
    with zipfile.ZipFile(ARCHIVES / "packed.zip", "w") as archive:
        archive.write(ARCHIVES / "plain.h5", "inside.h5")
    target = Path("work")
    (target / "annotations").mkdir(parents=True)
    (target / "annotations/plain.h5").write_text("a copy by an earlier version")
    files = {*Unpacker(target, (), "", annotation_place).unpack(ARCHIVES)}
    assert files == {Path("annotations/labels.csv"), Path("annotations/inside.h5")}
    assert not (target / "annotations/plain.h5").exists()


def test_fingerprint_of_a_shard_covers_files_in_place() -> None:
    settings = features.Settings(enabled=True, files=["plain.h5"])
    rows = {"one": pd.DataFrame({"clip": ["c.mp4"], "sha256": [""], "start": [np.nan], "corpus": ["table"]})}
    fingerprints = []
    for offset in (0, 0, 1):
        write_hdf5("plain.h5", VALUES + np.float16(offset))
        fingerprints.append(str(build._shard_inputs(base.load("features"), settings, rows)))
    assert fingerprints[0] == fingerprints[1] != fingerprints[2]


def test_checksums_are_computed_for_changed_files_only(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a").write_text("one")
    first = resume.hash_unchanged(Path("a"))
    monkeypatch.setattr(resume, "hash_file", lambda path: "new")
    resume._load_checksums.cache_clear()
    with (resume.ROOT / resume.CHECKSUMS).open("a") as file:
        file.write('["an incomplete li')
    assert resume.hash_unchanged(Path("a")) == first
    os.utime("a")
    assert resume.hash_unchanged(Path("a")) == "new"


def test_data_set_reads_in_place_with_and_without_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    write_hdf5("plain.h5")
    write_shard(look_up("plain.h5"))
    table = pd.DataFrame({"clip": ["c.mp4"], "shard": ["one"]})
    inputs = {"features": EncoderSettings(kind="", reads=["features"], take="all", steps=1)}
    for limit in (1e9, 0.0):
        monkeypatch.setattr(shard_cache, "_limit", [limit])
        monkeypatch.setattr(shard_cache, "_records", {})
        (steps,) = (
            ClipDataset(table, Path("data"), inputs, {"features": StreamInfo({}, {"": [3]})}, {})[0]
            .inputs["features"]
            .values()
        )
        np.testing.assert_array_equal(steps.values, VALUES.astype(np.float32))
        assert steps.times.tolist() == TIMES.tolist()


@pytest.mark.parametrize(
    ("free", "verdict"),
    [(1e9, r"1\.0 GB are free, so the disk is read once"), (0.0, r"each epoch reads 0\.1 MB or more from the disk")],
)
def test_memory_line_says_whether_all_clips_fit(free: float, verdict: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write_hdf5("plain.h5")
    write_shard(look_up("plain.h5"))
    monkeypatch.setattr(shard_cache, "read_available_memory", lambda: free)
    monkeypatch.setattr(shard_cache, "_limit", [1e9])
    (line,) = shard_cache.describe_memory(Path("data"), ["features", "faces"], {"c.mp4": "one"})
    assert line.startswith("features: 1 clips; 0.1 MB of 0.1 MB of shards are in memory, and 0.1 MB are read in place.")
    assert re.search(verdict, line)


def test_pattern_without_the_clip_is_nan_next_to_a_reference() -> None:
    write_hdf5("plain.h5")
    pd.DataFrame({"clip": ["other"], "x": [1.0], "y": [2.0]}).to_csv(ANNOTATIONS / "y.csv", index=False)
    path = write_shard(look_up("plain.h5", "y.csv", missing="keep"))
    for values in read_values(path):
        np.testing.assert_array_equal(values[:, :3], VALUES.astype(np.float32))
        assert np.isnan(values[:, 3:]).all()
        assert values.shape == (5, 5)
    joined = shards.read_all(path)["c.mp4"].arrays["values"]
    assert isinstance(joined, Joined)
    assert joined.nbytes == 0


def test_baselines_pool_features_in_place() -> None:
    write_hdf5("plain.h5", VALUES.astype(np.float32))
    write_shard(look_up("plain.h5"))
    vectors = pooled.pool_vectors(Path("data"))["features"].loc["c.mp4"].to_numpy()
    assert vectors == pytest.approx(np.concatenate([VALUES.mean(0, float), VALUES.std(0, dtype=float)]), rel=1e-4)


def test_in_place_benchmark_counts_disk_without_the_users_files() -> None:
    in_place.make_vectors(ARCHIVES, 3, 4, 2)
    with h5py.File(ARCHIVES / in_place.FILE) as file:
        assert file["v2.000.mp4"].shape == (4, 2)
        assert file["v2.000.mp4"].dtype == np.float16
        assert file["v2.000.mp4:times"].shape == (4,)
    Path("data/one").write_bytes(b"12345")
    os.link("data/one", "data/features/one")
    assert in_place.measure_disk(Path("data")) == 5


def test_changed_array_file_changes_the_raw_folder() -> None:
    Path(ARCHIVES, "clips.csv").write_text("clip,split,warm\nc,training,1\n")
    values = load_yaml(ROOT / "params.yaml")["download"]
    values |= {"sources": ["table"], "videos": False, "table": {"path": "clips.csv", "targets": {"warm": [0, 1]}}}
    contents = []
    for offset in (0, 0, 1):
        write_hdf5("plain.h5", VALUES + np.float16(offset))
        listing.write_list(ARCHIVES, listing.LISTING, resume.ROOT / resume.CHECKSUMS)
        download.download(parameters.check({"download": values}, settings.Parameters).download)
        files = [path for path in sorted(Path("data/raw").rglob("*")) if path.is_file()]
        contents.append({path: path.read_bytes() for path in files})
    assert {path.name for path in contents[0]} == {"clips.csv", "made_of.json"}
    assert contents[0] == contents[1] != contents[2]  # DVC runs the stage features again if data/raw changes
