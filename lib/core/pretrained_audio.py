"""Audio networks of `transformers` that read samples, such as wav2vec 2.0, HuBERT and WavLM: their input and rate."""

from pathlib import Path
from typing import Any, NamedTuple

from lib.core.errors import InputError
from lib.core.pretrained import load_audio_processor

_ALLOWED = "allowed: a network that reads audio samples, such as wav2vec 2.0, HuBERT, WavLM or data2vec-audio"


class AudioInput(NamedTuple):
    """The input of an audio network.

    sample_rate: in Hz. normalise: whether the samples of a clip are scaled to mean 0 and variance 1. hop: number of samples
    between two hidden states. shortest: number of samples that a hidden state is computed from.
    """

    sample_rate: int
    normalise: bool
    hop: int
    shortest: int


def describe_audio_input(folder: Path, config: Any) -> AudioInput:
    """Return the input of the network in a folder, given its configuration.

    Raises InputError if the network does not read audio samples, or the folder has no feature extractor for them.
    """
    kernels, strides = (list(getattr(config, name, None) or []) for name in ("conv_kernel", "conv_stride"))
    if not kernels:
        raise InputError(
            f"network = {str(folder)!r} is of the type {config.model_type}; {_ALLOWED}; name another network"
        )
    processor = load_audio_processor(folder)
    names = list(getattr(processor, "model_input_names", []))
    if "input_values" not in names or not hasattr(processor, "do_normalize"):
        raise InputError(
            f"network = {str(folder)!r} has a feature extractor that returns {', '.join(names)}; {_ALLOWED}; name another"
            " network"
        )
    shortest, hop = 1, 1
    for kernel, stride in zip(kernels, strides, strict=True):
        shortest, hop = shortest + (kernel - 1) * hop, hop * stride
    return AudioInput(int(processor.sampling_rate), bool(processor.do_normalize), hop, shortest)
