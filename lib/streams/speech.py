"""Hidden states of a pretrained speech network over time, such as WavLM, HuBERT or wav2vec 2.0."""

import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
from pydantic import Field

from lib.core import pretrained, pretrained_audio, shards
from lib.core.errors import InputError, prefix_errors
from lib.core.hidden_states import select_states
from lib.core.pretrained import PretrainedSettings
from lib.core.pretrained_audio import AudioInput
from lib.core.shards import Record
from lib.streams.base import RAW, Raw, Stream, StreamSettings

if TYPE_CHECKING:  # not needed to read the stream's shards
    import torch

_CONTEXT = 1.0  # seconds of audio before and after a window that its hidden states may depend on
_SHORTEST_WINDOW = 2.0  # seconds


class Settings(StreamSettings, PretrainedSettings):
    """rate: vectors per second, None for the network's own. window: longest audio in seconds that is computed at once."""

    rate: Annotated[float, Field(gt=0, le=1000)] | None
    window: Annotated[float, Field(ge=_SHORTEST_WINDOW, le=3600)]


class SpeechNetwork(NamedTuple):
    """A network with its feature extractor, on a device. settings: of the stream."""

    network: Any
    processor: Any
    audio: AudioInput
    device: "torch.device"
    settings: Settings


def make_extractor(settings: Settings) -> Callable[[Raw], Record]:
    """Return a function that computes a clip's hidden states. Raises InputError if the network can't be used."""
    from lib.core.device import best_device  # not needed to read the stream's shards

    with prefix_errors("speech."):
        folder = settings.find_folder()
        network: Any = pretrained.load_network(folder, allow_code=settings.allow_code)
        audio = pretrained_audio.describe_audio_input(folder, network.config)
        processor = pretrained.load_audio_processor(folder)
        most = audio.sample_rate / audio.hop
        if settings.rate is not None and settings.rate > most:
            raise InputError(
                f"rate = {settings.rate:g}, but the network has {most:g} hidden states per second; allowed: null, or up to"
                f" {most:g}; lower it"
            )
    device = best_device()
    return partial(extract_speech, SpeechNetwork(network.to(device), processor, audio, device, settings))


def files(settings: Settings) -> list[Path]:
    """Return the files of the network's folder; none if it can't be found, which the extractor reports."""
    try:
        return pretrained.list_files(settings.find_folder())
    except InputError:
        return []


def read_steps(record: Record, indices: np.ndarray) -> np.ndarray:
    """Return vectors (K, D), or (K, L, D) of several layers, float32."""
    return record.arrays["values"][()][indices].astype(np.float32)


def summary(folder: Path) -> dict[str, Any]:
    """Return the number of vectors."""
    return {"vectors": sum(map(len, shards.read_arrays(folder, "times")))}


def extract_speech(speech: SpeechNetwork, raw: Raw) -> Record:
    """Return a clip's `values` (T, D) or (T, L, D), and `times` (T,), the centres of the audio that a vector describes.

    Clips are computed one at a time, also on a GPU: padding to a common length would change the hidden states of networks
    whose first layer normalises over time, such as WavLM-base.

    Audio is read at the sample rate of the network's feature extractor. Vectors of several layers are float16. A clip is
    rejected if it has no audio, or less than the network's convolutions need. Raises InputError if memory runs out even for
    short windows.
    """
    from lib.media.audio import read_audio  # not needed to read the stream's shards
    from lib.media.packets import VideoError

    rate, settings = speech.audio.sample_rate, speech.settings
    try:
        start, samples = read_audio(raw.path, rate, raw.span)
    except VideoError as error:
        return Record(raw.clip, rejected=f"speech: {error}")
    if len(samples) < speech.audio.shortest:
        least = speech.audio.shortest / rate
        return Record(
            raw.clip, rejected=f"speech: {len(samples) / rate:.3f} s of audio, the network needs {least:.3f} s"
        )
    values, window = compute_in_memory(speech, samples, settings.window)
    times = start + (np.arange(len(values)) * speech.audio.hop + speech.audio.shortest / 2) / rate
    if settings.rate is not None:
        values, times = pool_to_rate(values, times, settings.rate)
    if not np.isfinite(values).all():
        return Record(raw.clip, rejected="speech: the network's hidden states are not finite")
    attributes = {} if window == settings.window else {"window": window}
    return Record(raw.clip, {"values": values, "times": times}, attributes)


def compute_in_memory(speech: SpeechNetwork, samples: np.ndarray, window: float) -> tuple[np.ndarray, float]:
    """Return `compute_hidden_states` with the longest window that fits into memory, and its length in seconds.

    The window is halved each time that memory runs out. Raises InputError if a short window does not fit either.
    """
    from lib.core.device import ran_out_of_memory  # not needed to read the stream's shards

    while True:
        try:
            return compute_hidden_states(speech, samples, window), window
        except Exception as error:
            if not ran_out_of_memory(error):
                raise
        if window / 2 < _SHORTEST_WINDOW:
            raise InputError(
                f"speech: memory of {speech.device.type} does not suffice for {window:g} s of audio; lower parallel.workers,"
                " or set speech.network to a smaller network"
            )
        window /= 2
        logging.getLogger("speech").warning("memory ran out: windows of %g s are used for this clip", window)


def compute_hidden_states(speech: SpeechNetwork, samples: np.ndarray, window: float) -> np.ndarray:
    """Return the chosen hidden states (T, D) or (T, L, D) of audio samples (N,).

    Audio longer than `window` seconds is computed in parts, each with a second of audio before and after it.
    """
    import torch

    audio = speech.audio
    inputs = speech.processor(samples, sampling_rate=audio.sample_rate, return_tensors="pt")["input_values"]
    with torch.inference_mode():
        parts = [
            _run(speech, inputs[:, begin:end])[first : first + count]
            for begin, end, first, count in divide_into_windows(inputs.shape[1], audio, window)
        ]
    return np.concatenate(parts)


def divide_into_windows(length: int, audio: AudioInput, window: float) -> Iterator[tuple[int, int, int, int]]:
    """Yield begin and end of each part of `length` samples, with the first and the number of its hidden states to keep.

    Together the parts have the same hidden states at the same times as a single part.
    """
    total = (length - audio.shortest) // audio.hop + 1
    core = max(1, round(window * audio.sample_rate / audio.hop))
    around = max(1, round(_CONTEXT * audio.sample_rate / audio.hop))
    if length <= core * audio.hop:
        yield 0, length, 0, total
        return
    for start in range(0, total, core):
        first = max(0, start - around)
        last = min(total, start + core + around)
        end = length if last == total else (last - 1) * audio.hop + audio.shortest
        yield first * audio.hop, end, start - first, min(core, total - start)


def pool_to_rate(values: np.ndarray, times: np.ndarray, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the means of values (T, ...) and of times (T,) over intervals of 1 / rate seconds; empty intervals are left
    out."""
    intervals = np.floor((times - times[0]) * rate + 1e-6).astype(int)
    starts = np.flatnonzero(np.diff(intervals, prepend=-1))
    counts = np.diff(starts, append=len(times))
    means = np.add.reduceat(values, starts, axis=0, dtype=np.float32) / counts.reshape(-1, *[1] * (values.ndim - 1))
    return means.astype(values.dtype), np.add.reduceat(times, starts) / counts


def _run(speech: SpeechNetwork, inputs: "torch.Tensor") -> np.ndarray:
    """Return the chosen hidden states (T, D) or (T, L, D) of samples (1, N)."""
    layers, audio = speech.settings.layers, speech.audio
    output = speech.network(inputs.to(speech.device), output_hidden_states=layers != "last")
    with prefix_errors("speech."):
        states = select_states(output, layers)
        expected = (inputs.shape[1] - audio.shortest) // audio.hop + 1
        if states.shape[1] != expected:
            raise InputError(
                f"network = {speech.settings.network!r} returns {states.shape[1]} hidden states for {inputs.shape[1]}"
                f" samples, its convolutions {expected}; allowed: networks without an adapter; name another network"
            )
    return states[0].cpu().numpy().astype(np.float16 if states.dim() == 4 else np.float32)


STREAM = Stream(
    inputs=(RAW,),
    kind="vectors",
    settings=Settings,
    make_extractor=make_extractor,
    read_steps=read_steps,
    on_gpu=True,
    costly=True,
    files=files,
    summary=summary,
)
