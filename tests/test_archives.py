"""data/archives.csv: what it lists, and what a colleague, a queue and an owner without archives can run by it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from lib.core.errors import InputError
from lib.sources import listing
from lib.sources.demo import corpus
from tests.project_copy import Project, stages_run

HEADER, DATE = "path,bytes,sha256,modified\n", ",2020-01-02T03:04:05+00:00\n"
HELLO = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"


def test_the_list_holds_path_size_and_checksum_and_reads_only_what_changed(tmp_path: Path) -> None:
    folder, path, known = tmp_path / "archives", tmp_path / "archives.csv", tmp_path / "known.json"
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "linked.zip").write_bytes(b"hello")
    (folder / "sub").mkdir(parents=True)
    for name in ("README.md", ".hidden", "b.zip", "sub/a, b.csv"):
        (folder / name).write_bytes(b"hello")
    for file in (folder / "b.zip", folder / "sub/a, b.csv", tmp_path / "elsewhere" / "linked.zip"):
        os.utime(file, (1577934245, 1577934245))
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    (folder / "sub" / "loop").symlink_to(folder)
    assert listing.write(folder, path, known) == 3
    assert (
        path.read_text()
        == f'{HEADER}b.zip,5,{HELLO}{DATE}link/linked.zip,5,{HELLO}{DATE}"sub/a, b.csv",5,{HELLO}{DATE}'
    )
    assert listing.write(folder, path, known) == 0
    os.utime(folder / "b.zip")  # a copy of it: the list keeps its date
    assert listing.write(folder, path, known) == 1
    assert path.read_text().count(DATE) == 3
    (folder / "b.zip").write_bytes(b"")
    assert listing.write(folder, path, known) == 1
    assert listing.read(path)["b.zip"].bytes == 0
    assert listing.read(path)["b.zip"].modified > "2026"
    assert listing.missing(folder, listing.read(path), ()) == []
    (folder / "gone").symlink_to("nowhere")
    with pytest.raises(InputError, match="gone is a link to nowhere, which does not exist"):
        listing.write(folder, path, known)


def test_what_differs_from_the_list_is_named_with_the_command(tmp_path: Path) -> None:
    folder, path = tmp_path / "archives", tmp_path / "archives.csv"
    folder.mkdir()
    (folder / "a.zip").write_bytes(b"hello")
    (folder / "b.zip.part").write_bytes(b"half")
    with pytest.raises(InputError, match=r"archives/a\.zip is not listed in .*: python -m tools\.archives"):
        listing.missing(folder, {}, ["b.zip"])
    assert listing.missing(folder, {}, ["a.zip", "b.zip"]) == []
    listed = {"a.zip": listing.File(5, HELLO), "c.zip": listing.File(5, HELLO)}
    assert listing.missing(folder, listed, ["b.zip"]) == ["c.zip"]
    with pytest.raises(InputError, match=r"a\.zip has 5 bytes, .* says 6; .*python -m tools\.archives"):
        listing.missing(folder, {"a.zip": listing.File(6, HELLO)}, ["b.zip"])
    path.write_text("name,size\na.zip,5\n")
    with pytest.raises(InputError, match=r"archives\.csv is not a list of archives"):
        listing.read(path)


def clone(project: Project, folder: Path) -> Project:
    """A colleague's clone of the project."""
    subprocess.run(["git", "clone", "-q", str(project.folder), str(folder)], check=True)
    copy = Project.__new__(Project)
    copy.folder, copy.environment = folder, project.environment
    return copy


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Has a corpus in FIV2's layout, ran download and frames, and pushed both."""
    project = Project(tmp_path_factory.mktemp("owner"))
    project.environment |= {"FIV2_KEY_A": corpus.KEY_A, "FIV2_KEY_B": corpus.KEY_B}
    corpus.write(project.folder / "data/archives/fiv2", clips=20, seconds=2.0, shared=0.84, seed=0)
    project.edit({"sources: [demo]": "sources: [fiv2]"})
    unlisted = project.run("dvc", "repro", "download")
    assert unlisted.returncode != 0
    assert "is not listed in data/archives.csv; list it: python -m tools.archives" in unlisted.stdout
    listed = project.run(sys.executable, "-m", "tools.archives")
    assert "data/archives.csv lists 10 files" in listed.stdout
    assert stages_run(project.dvc("repro", "frames")) == ["download", "frames"]
    project.dvc("remote", "add", "-d", "store", str(tmp_path_factory.mktemp("remote")))
    project.commit("corpus")
    project.dvc("push")
    return project


@pytest.fixture(scope="module")
def colleague(owner: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Has cloned and pulled, and has no archives."""
    project = clone(owner, tmp_path_factory.mktemp("colleague") / "project")
    project.dvc("pull", "--with-deps", "frames")
    return project


def test_a_clone_that_pulled_runs_nothing(colleague: Project) -> None:
    assert stages_run(colleague.dvc("repro", "frames")) == []
    assert not list((colleague.folder / "data/archives").glob("*/"))


def test_experiments_run_only_what_changed(colleague: Project) -> None:
    assert stages_run(colleague.dvc("exp", "run", "--temp", "-S", "frames.quality=80", "frames")) == ["frames"]
    colleague.dvc("exp", "run", "--queue", "--name", "queued", "-S", "frames.quality=70", "frames")
    colleague.dvc("queue", "start")
    for _ in range(60):
        status = colleague.dvc("queue", "status")
        if "Success" in status or "Failed" in status:
            break
        assert colleague.run("sleep", "2").returncode == 0
    assert stages_run(colleague.dvc("queue", "logs", "queued")) == ["frames"]
    assert stages_run(colleague.dvc("repro", "frames")) == []


def test_other_settings_of_download_take_what_was_pulled(colleague: Project) -> None:
    before = pd.read_csv(colleague.folder / "data/clips.csv")
    raw = sorted(path.relative_to(colleague.folder) for path in (colleague.folder / "data/raw").rglob("*"))
    done = colleague.dvc("exp", "run", "-S", "download.split=folds", "frames")
    assert (
        "10 files are missing in data/archives/ (fiv2/demo_truth.csv, ...); using data/raw/fiv2/, built from them"
        in done
    )
    assert stages_run(done) == ["download", "frames"]
    after = pd.read_csv(colleague.folder / "data/clips.csv")
    assert after.drop(columns="split").equals(before.drop(columns="split"))
    assert not after["split"].equals(before["split"])
    assert sorted(path.relative_to(colleague.folder) for path in (colleague.folder / "data/raw").rglob("*")) == raw
    assert stages_run(colleague.dvc("exp", "run", "--temp", "-S", "download.fold=1", "frames")) == [
        "download",
        "frames",
    ]
    summary = json.loads((colleague.folder / "metrics/data.json").read_text())
    assert summary["split"] == "folds"


def test_without_archives_and_without_data_nothing_is_deleted(colleague: Project) -> None:
    raw = colleague.folder / "data/raw"
    colleague.edit({"videos: true": "videos: false"})
    failed = colleague.run("dvc", "repro", "download")
    assert failed.returncode != 0
    assert "10 files that data/archives.csv lists are missing in data/archives/ (fiv2/demo_truth.csv" in failed.stdout
    assert "restore data/raw/ with `dvc pull`" in failed.stdout
    assert "Nothing was changed" in failed.stdout
    assert len(list(raw.rglob("*.mp4"))) == 20
    colleague.edit({"videos: false": "videos: true"})
    assert stages_run(colleague.dvc("repro", "frames")) == []
    shutil.rmtree(raw)
    failed = colleague.run("dvc", "repro", "download")
    assert "restore data/raw/ with `dvc pull`" in failed.stdout
    colleague.dvc("pull", "--with-deps", "frames")
    assert stages_run(colleague.dvc("repro", "frames")) == []


def test_the_owner_may_remove_the_archives(owner: Project) -> None:
    shutil.rmtree(owner.folder / "data/archives/fiv2")
    assert stages_run(owner.dvc("repro", "frames")) == []
    assert stages_run(owner.dvc("exp", "run", "--temp", "-S", "frames.quality=80", "frames")) == ["frames"]
    assert stages_run(owner.dvc("exp", "run", "-S", "download.split_seed=1", "frames")) == ["download"]
