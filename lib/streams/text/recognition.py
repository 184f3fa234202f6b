"""Recognise the words of a clip's audio with their times, by a Whisper network (Radford et al. 2022) in faster-whisper."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from lib.core import pretrained
from lib.core.errors import SettingError, prefix_errors
from lib.core.parameters import Section
from lib.streams.base import Raw
from lib.streams.text.transcripts import Cue, Transcript

RATE = 16_000
"""Sample rate of Whisper's input in Hz."""

RECOGNISED, RECOGNISED_TIMES = "recognised", "recognised.times"
"""The arrays with recognised words (W,), UTF-8, and their begins and ends (W, 2) in seconds of the clip."""

_FILES = ("model.bin", "config.json", "tokenizer.json")
_ALLOWED = (
    "allowed: the folder of a Whisper network for CTranslate2, or its name on the hub, such as"
    " Systran/faster-whisper-small"
)


class RecognitionSettings(Section):
    """The keys for clips without a transcript.

    asr: the package that recognises words, None for none. asr_network: a folder, or a name on the hub. asr_language: code of
    the language, None to detect it for each clip. asr_beam_size: number of hypotheses of the beam search. asr_device,
    asr_compute_type: as in CTranslate2.
    """

    asr: Literal["faster-whisper"] | None = None
    asr_network: str | None = None
    asr_language: str | None = None
    asr_beam_size: Annotated[int, Field(ge=1, le=100)] = 5
    asr_device: Literal["auto", "cpu", "cuda"] = "auto"
    asr_compute_type: Literal[
        "default",
        "auto",
        "int8",
        "int8_float32",
        "int8_float16",
        "int8_bfloat16",
        "int16",
        "float16",
        "bfloat16",
        "float32",
    ] = "default"


def find_network_folder(settings: RecognitionSettings, download: bool) -> Path:
    """Return the folder of the network. Raises SettingError if faster-whisper or a file of the network is missing."""
    if settings.asr_network is None:
        raise SettingError(
            f"text.asr = {settings.asr!r}, but text.asr_network = null; {_ALLOWED}; set it, or set text.asr to null"
        )
    _import_package(settings)
    with prefix_errors("text."):
        folder = pretrained.find_folder(settings.asr_network, revision=None, download=download, setting="asr_network")
    if missing := [name for name in _FILES if not (folder / name).is_file()]:
        raise SettingError(
            f"text.asr_network = {settings.asr_network!r} has no {missing[0]}; {_ALLOWED}; name another folder, or convert"
            " the network with ct2-transformers-converter and copy its tokenizer.json"
        )
    return folder


def make_recogniser(settings: RecognitionSettings, download: bool) -> Callable[[Raw], Transcript | str]:
    """Return a function from a clip to its words, or to the reason why it has none.

    Raises SettingError if the package or the network is missing, or can't be used with the settings.
    """
    model = load_model(settings, find_network_folder(settings, download))
    languages = list(model.supported_languages)
    if settings.asr_language not in (None, *languages):
        raise SettingError(
            f"text.asr_language = {settings.asr_language!r}; allowed: null, or one of {', '.join(languages)}, the languages"
            f" of {settings.asr_network}; correct it"
        )

    def recognise(raw: Raw) -> Transcript | str:
        from lib.media.audio import read_audio  # not needed to read the stream's shards
        from lib.media.packets import VideoError

        try:
            start, samples = read_audio(raw.path, RATE, raw.span)
        except VideoError as error:
            return str(error)
        return recognise_words(model, samples, settings, start)

    return recognise


def load_model(settings: RecognitionSettings, folder: Path) -> Any:
    """Return faster-whisper's model of a folder. Raises SettingError if it can't be loaded."""
    package = _import_package(settings)
    try:
        return package.WhisperModel(
            str(folder), device=settings.asr_device, compute_type=settings.asr_compute_type, local_files_only=True
        )
    except (RuntimeError, ValueError) as error:
        raise SettingError(
            f"text.asr_network = {settings.asr_network!r} can't be loaded with asr_device = {settings.asr_device!r} and"
            f" asr_compute_type = {settings.asr_compute_type!r} ({' '.join(str(error).split())}); {_ALLOWED}; try cpu and"
            " default, or get the files again"
        ) from None


def recognise_words(model: Any, samples: np.ndarray, settings: RecognitionSettings, start: float = 0.0) -> Transcript:
    """Return the words of audio samples (N,) at RATE Hz. Each word is a cue; its begin and end are later by `start` seconds.

    Without temperatures, decoding has no random draws. Stretches without speech (silero-vad, part of faster-whisper) are
    left out, because Whisper invents words for them.
    """
    segments, _ = model.transcribe(
        samples, language=settings.asr_language, beam_size=settings.asr_beam_size, word_timestamps=True, temperature=0.0,
        vad_filter=True, condition_on_previous_text=False,
    )  # fmt: skip
    words = [word for segment in segments for word in segment.words or ()]
    cues = tuple(
        Cue(word.word.strip(), start + float(word.start), start + float(word.end))
        for word in words
        if word.word.strip()
    )
    seconds = cues[-1].end - cues[0].begin if cues else 0.0
    return Transcript("".join(word.word for word in words).strip(), seconds, cues, True)


def store_words(transcript: Transcript) -> dict[str, np.ndarray]:
    """Return the arrays RECOGNISED and RECOGNISED_TIMES of recognised words."""
    words = np.array([cue.text.encode(errors="replace") for cue in transcript.cues], dtype=bytes)
    return {RECOGNISED: words, RECOGNISED_TIMES: np.array([cue[1:] for cue in transcript.cues], np.float32)}


def _import_package(settings: RecognitionSettings) -> Any:
    import importlib

    try:
        return importlib.import_module("faster_whisper")
    except ImportError:
        raise SettingError(
            f"text.asr = {settings.asr!r}, but the package faster-whisper is not installed; allowed: null, or an installed"
            " package; run `pip install -r requirements-asr.txt`, or set text.asr to null"
        ) from None
