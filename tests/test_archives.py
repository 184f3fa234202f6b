"""data/archives.csv: its contents, and runs of a colleague, a queue and an owner without archives."""

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
from tests.rendered_corpus import copy_corpus

HEADER, DATE = "path,bytes,sha256,modified\n", ",2020-01-02T03:04:05+00:00\n"
HELLO = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"


def test_listing_has_path_size_checksum_and_rereads_changes(tmp_path: Path) -> None:
    folder, path, cache_path = tmp_path / "archives", tmp_path / "archives.csv", tmp_path / "known.json"
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "linked.zip").write_bytes(b"hello")
    (folder / "sub").mkdir(parents=True)
    for name in ("README.md", ".hidden", "b.zip", "sub/a, b.csv"):
        (folder / name).write_bytes(b"hello")
    for file in (folder / "b.zip", folder / "sub/a, b.csv", tmp_path / "elsewhere" / "linked.zip"):
        os.utime(file, (1577934245, 1577934245))
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    (folder / "sub" / "loop").symlink_to(folder)
    assert listing.write_list(folder, path, cache_path) == 3
    assert (
        path.read_text()
        == f'{HEADER}b.zip,5,{HELLO}{DATE}link/linked.zip,5,{HELLO}{DATE}"sub/a, b.csv",5,{HELLO}{DATE}'
    )
    assert listing.write_list(folder, path, cache_path) == 0
    os.utime(folder / "b.zip")  # a copy with another date: the list keeps the first date
    assert listing.write_list(folder, path, cache_path) == 1
    assert path.read_text().count(DATE) == 3
    (folder / "b.zip").write_bytes(b"")
    assert listing.write_list(folder, path, cache_path) == 1
    assert listing.read_list(path)["b.zip"].bytes == 0
    assert listing.read_list(path)["b.zip"].modified > "2026"
    assert listing.find_missing(folder, listing.read_list(path), ()) == []
    (folder / "gone").symlink_to("nowhere")
    with pytest.raises(InputError, match="gone is a link to nowhere, which does not exist"):
        listing.write_list(folder, path, cache_path)


def test_listing_names_differences_and_the_command(tmp_path: Path) -> None:
    folder, path = tmp_path / "archives", tmp_path / "archives.csv"
    folder.mkdir()
    (folder / "a.zip").write_bytes(b"hello")
    (folder / "b.zip.part").write_bytes(b"half")
    with pytest.raises(InputError, match=r"archives/a\.zip is not listed in .*: python -m tools\.archives"):
        listing.find_missing(folder, {}, ["b.zip"])
    assert listing.find_missing(folder, {}, ["a.zip", "b.zip"]) == []
    listed = {"a.zip": listing.File(5, HELLO), "c.zip": listing.File(5, HELLO)}
    assert listing.find_missing(folder, listed, ["b.zip"]) == ["c.zip"]
    with pytest.raises(InputError, match=r"a\.zip has 5 bytes, .* lists 6; .*python -m tools\.archives"):
        listing.find_missing(folder, {"a.zip": listing.File(6, HELLO)}, ["b.zip"])
    path.write_text("name,size\na.zip,5\n")
    with pytest.raises(InputError, match=r"archives\.csv is not a list of archives"):
        listing.read_list(path)


def clone(project: Project, folder: Path) -> Project:
    """Return a clone of the project, as a colleague has it."""
    subprocess.run(["git", "clone", "-q", str(project.folder), str(folder)], check=True)
    copy = Project.__new__(Project)
    copy.folder, copy.environment = folder, project.environment
    return copy


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The owner's project with a corpus in FIV2's layout, after `download` and `frames` ran and were pushed."""
    project = Project(tmp_path_factory.mktemp("owner"))
    project.environment |= {"FIV2_KEY_A": corpus.KEY_A, "FIV2_KEY_B": corpus.KEY_B}
    copy_corpus(project.folder / "data/archives/fiv2")
    project.edit({"sources: [demo]": "sources: [fiv2]"})
    unlisted = project.run("dvc", "repro", "download")
    assert unlisted.returncode != 0
    assert "is not listed in data/archives.csv; add it: python -m tools.archives" in unlisted.stdout
    listed = project.run(sys.executable, "-m", "tools.archives")
    assert "data/archives.csv lists 10 files" in listed.stdout
    assert stages_run(project.dvc("repro", "frames")) == ["download", "frames"]
    project.dvc("remote", "add", "-d", "store", str(tmp_path_factory.mktemp("remote")))
    project.commit("corpus")
    project.dvc("push")
    return project


@pytest.fixture(scope="module")
def colleague(owner: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A colleague's project after `git clone` and `dvc pull`, without archives."""
    project = clone(owner, tmp_path_factory.mktemp("colleague") / "project")
    project.dvc("pull", "--with-deps", "frames")
    return project


def test_pulled_clone_runs_no_stage(colleague: Project) -> None:
    assert stages_run(colleague.dvc("repro", "frames")) == []
    assert not list((colleague.folder / "data/archives").glob("*/"))


def test_experiments_of_a_clone_run_only_changed_stages(colleague: Project) -> None:
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


def test_changed_download_settings_use_pulled_files(colleague: Project) -> None:
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


def test_missing_archives_and_data_delete_nothing(colleague: Project) -> None:
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


def test_owner_can_remove_the_archives(owner: Project) -> None:
    shutil.rmtree(owner.folder / "data/archives/fiv2")
    assert stages_run(owner.dvc("repro", "frames")) == []
    assert stages_run(owner.dvc("exp", "run", "--temp", "-S", "frames.quality=80", "frames")) == ["frames"]
    assert stages_run(owner.dvc("exp", "run", "-S", "download.split_seed=1", "frames")) == ["download"]
