"""Find a clip's transcript in tables, pickles, subtitles and text files."""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from lib.core import pickles
from lib.core.errors import InputError, SettingError
from lib.streams.base import Raw

_SUBTITLES = (".srt", ".vtt")
CLIP_TEXTS = (*_SUBTITLES, ".txt")
_TABLES = (".csv", ".parquet")
_CLIP = ("clip", "file", "id", "videoname")
_TIME = r"(?:(\d+):)?(\d\d):(\d\d)[.,](\d{3})"
_CUE = re.compile(rf"\s*{_TIME}\s+-->\s+{_TIME}")
_TAG = re.compile(r"<[^>]*>|\{[^}]*\}")


class Cue(NamedTuple):
    """The text of a subtitle, with its begin and end in seconds of the clip."""

    text: str
    begin: float
    end: float


class Transcript(NamedTuple):
    """A clip's text, its duration in seconds (0 if unknown), and its parts with times (none if unknown).

    recognised: the text comes from speech recognition, and each part is a word.
    """

    text: str
    seconds: float = 0.0
    cues: tuple[Cue, ...] = ()
    recognised: bool = False


def look_up(raw: Raw, patterns: list[str], column: str) -> Transcript | None:
    """Return a clip's transcript, or None if it has none.

    It comes from the files of `patterns`, else from a text file of the clip's name. A clip outside a corpus has this file in
    its own folder. For a clip that is a part of a video, the subtitles of the video are used last.
    """
    for path in (path for pattern in patterns if raw.annotations for path in find_files(pattern, raw.annotations)):
        texts = read_texts(path, column)
        name = next((candidate for candidate in (raw.clip, raw.clip.rpartition(".")[0]) if candidate in texts), None)
        if name is not None:
            return Transcript(texts[name])
    folder = raw.annotations or (raw.path.parent if raw.path else None)
    clip_stem, video_stem = raw.clip.rpartition(".")[0] or raw.clip, raw.path.stem if raw.path and raw.span else ""
    for stem in dict.fromkeys([clip_stem, video_stem] if video_stem else [clip_stem]) if folder else ():
        for suffix in CLIP_TEXTS if stem == clip_stem else _SUBTITLES:
            path = Path(folder or "", f"{stem}{suffix}")
            if path.is_file():
                text = _read(path)
                return (
                    read_subtitles(text, raw.span if stem == video_stem else None)
                    if suffix in _SUBTITLES
                    else Transcript(text)
                )
    return None


def read_subtitles(text: str, span: tuple[float, float] | None = None) -> Transcript:
    """Return the text of SubRip or WebVTT subtitles without times, tags and notes, and the seconds from first to last.

    With a `span` (begin and end in seconds), only subtitles whose middle lies in it are used, and times count from its
    begin.
    """
    spoken: list[str] = []
    ends: list[float] = []
    cues: list[Cue] = []
    shift = span[0] if span else 0.0
    for block in re.split(r"\n[ \t]*\n", text.replace("\r\n", "\n").replace("\r", "\n")):
        lines = block.split("\n")
        number = next((index for index, line in enumerate(lines) if _CUE.match(line)), None)
        if number is not None and (match := _CUE.match(lines[number])):
            begin, end = (
                int(match[i] or 0) * 3600 + int(match[i + 1]) * 60 + int(match[i + 2]) + int(match[i + 3]) / 1000
                for i in (1, 5)
            )
            if span is None or span[0] <= (begin + end) / 2 < span[1]:
                ends += [begin, end]
                spoken += lines[number + 1 :]
                text = _TAG.sub("", " ".join(lines[number + 1 :])).strip()
                cues += [Cue(text, begin - shift, end - shift)] if text else []
    return Transcript(_TAG.sub("", " ".join(spoken)).strip(), max(ends) - min(ends) if ends else 0.0, tuple(cues))


def find_files(pattern: str, annotations: Path) -> list[Path]:
    """Return the transcript files that match a pattern. Raises InputError if no file matches, or one has another type."""
    paths = sorted(annotations.glob(pattern))
    if not paths:
        raise SettingError(
            f"text.files has {pattern!r}, which matches no file below data/archives/; files there:"
            f" {', '.join(path.name for path in sorted(annotations.glob('*'))) or 'none'}. Use [] for subtitles only"
        )
    for path in paths:
        if path.suffix not in (".pkl", *_TABLES):
            raise SettingError(f"text.files matches {path.name}; allowed: files that end in .pkl, .csv or .parquet")
    return paths


@cache
def read_texts(path: Path, column: str) -> Mapping[str, str]:
    """Return the texts of a pickle or table by clip. Raises InputError if the file has another structure."""
    import pandas as pd  # slow; a disabled stream does not need it

    if path.suffix == ".pkl":
        content = pickles.load_pickle(path)
        if not isinstance(content, dict) or not all(isinstance(text, str | bytes | None) for text in content.values()):
            raise InputError(f"{path} is not a {{clip: text}} dictionary; correct the file or text.files")
        return {clip: _text(text) for clip, text in pickles.name_keys(path, content).items()}
    if path.suffix == ".csv":
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    else:
        table = pd.read_parquet(path)
    clip = next((name for name in table if str(name).lower() in _CLIP), None)
    if clip is None or column not in table:
        raise InputError(
            f"{path.name} has the columns {', '.join(map(str, table))}; required: {column!r} (text.column)"
            f" and a column of clips, called {', '.join(_CLIP[:-1])} or {_CLIP[-1]}"
        )
    names = table[clip].astype(str).str.replace("\\", "/").str.strip("/").str.replace("/", "_")
    if names.duplicated().any():
        raise InputError(f"{path.name} has clip {names[names.duplicated()].iloc[0]} twice; allowed: each once")
    texts = table[column].astype(object).where(table[column].notna(), "")
    return {name: _text(text) for name, text in zip(names, texts, strict=True)}


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else "" if value is None else str(value)


def _read(path: Path) -> str:
    raw = path.read_bytes()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("latin-1")
