"""Import a corpus: unpack its archives below data/.work/, and read its labels."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from lib.core import resume
from lib.core.artifacts import ARCHIVES, RAW
from lib.core.clips import VIDEO_SUFFIXES
from lib.core.errors import InputError, SettingError
from lib.core.fetch import fetch
from lib.sources import _across, base, listing
from lib.sources._check import Corpus
from lib.sources.settings import Download, Url

SOURCES_FILE = "made_of.json"
"""File below data/raw/CORPUS/ that lists the archives and settings behind the folder's content."""


def import_corpus(name: str, settings: Download) -> Corpus:
    """Return a source's files and labels, after unpacking its archives.

    If archives are missing and data/raw/ was built from exactly these archives, its files are used instead.
    """
    source, own_settings = base.load(name), getattr(settings, name)
    folder = resume.ROOT / f"download-{name}"
    origin: dict[str, Any] = {"settings": own_settings.model_dump(), "videos": settings.videos}
    if settings.folders:
        origin["folders"] = settings.folders
    if source.ARCHIVES:
        listed = listing.read_list(listing.LISTING)
        origin |= {
            "archives": {path: file.sha256 for path, file in sorted(listed.items())},
            "urls": sorted(settings.urls),
        }
        gone = listing.find_missing(ARCHIVES, listed, settings.urls)
        gone += [url for url in settings.urls if not (ARCHIVES / url).exists() and url not in gone]
        if gone and is_built_from(RAW / name, origin):
            print(
                f"{len(gone)} files are missing in {ARCHIVES}/ ({gone[0]}, ...); using {RAW / name}/, built from them"
            )
            folder = RAW / name
        else:
            fetch_missing_archives(settings.urls, listed, gone)
    if folder != RAW / name:
        folder.mkdir(parents=True, exist_ok=True)
        unpacked = source.bring(own_settings, ARCHIVES, folder, settings.videos)
        files = sorted(set(tqdm(unpacked, desc=f"unpack {name}", unit="file", disable=None)))
        if source.ARCHIVES:
            write_file(folder / SOURCES_FILE, json.dumps(origin, indent=2) + "\n")
            files.append(Path(SOURCES_FILE))
    else:
        files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    rows = source.rows(own_settings, folder, files)
    if settings.scale == _across.UNIT:
        rows = _across.to_unit(rows, source.columns(own_settings))
    return Corpus(name, source, folder, *select_folders(rows, files, settings.folders))


def select_folders(rows: pd.DataFrame, files: list[Path], folders: list[str]) -> tuple[list[Path], pd.DataFrame]:
    """Return the files and annotated clips in some sub-folders or splits of a corpus; all of them if `folders` is empty.

    Raises SettingError if a folder has no clip.
    """
    if not folders:
        return files, rows
    has_file = rows["file"] != ""
    with_files = rows[has_file] if has_file.any() else rows  # without videos, clips have no file
    allowed = sorted({*with_files["shard"], *with_files["split"]} - {""})
    if unknown := [folder for folder in folders if folder not in allowed]:
        raise SettingError(
            f"download.folders has {unknown[0]!r}; allowed: sub-folders and splits with clips: {', '.join(allowed[:20])}"
        )
    chosen = with_files[with_files["shard"].isin(folders) | with_files["split"].isin(folders)]
    others = {*with_files["file"]} - {*chosen["file"]}
    files_of_chosen = [
        file
        for file in files
        if file.suffix.lower() not in VIDEO_SUFFIXES
        or file.as_posix() in {*chosen["file"]}
        or (file.as_posix() not in others and file.parts[0] in folders)
    ]
    return files_of_chosen, chosen.reset_index(drop=True)


def is_built_from(folder: Path, wanted: dict[str, Any]) -> bool:
    """Return whether `folder` was built from these archives and settings."""
    path = folder / SOURCES_FILE
    return path.exists() and json.loads(path.read_text()) == wanted


def fetch_missing_archives(urls: dict[str, Url], listed: dict[str, listing.File], gone: list[str]) -> None:
    """Download the missing archives that have a URL in `urls`.

    Raises InputError if a missing archive has no URL, or if no archive is listed at all.
    """
    for name in gone:
        if name in urls:
            if Path(name).name != name:
                raise SettingError(f"download.urls has the key {name!r}; allowed: a file name without folders")
            fetch(urls[name].url, ARCHIVES / name, urls[name].sha256, "correct download.urls")
    if unavailable := [name for name in gone if name not in urls]:
        raise InputError(
            f"{len(unavailable)} files that {listing.LISTING} lists are missing in {ARCHIVES}/"
            f" ({', '.join(unavailable[:3])}), and {RAW}/ was not built from them; put them back, or restore {RAW}/ with"
            f" `dvc pull`, or list the files again: {listing.COMMAND}. Nothing was changed"
        )
    if not listed and not urls:
        raise InputError(
            f"download.sources needs archives, and {ARCHIVES}/ is empty; put or link your archives or unpacked folders"
            f" there ({ARCHIVES}/README.md lists them) and run {listing.COMMAND}, or enter their URLs under"
            " download.urls"
        )


def write_file(path: Path, text: str) -> None:
    """Write a new file. The old one is removed first, because it may be a link into DVC's cache."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_text(text)
