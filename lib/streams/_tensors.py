"""Read feature files of PyTorch with one clip each, as the published EmoNeXt code writes them."""

import math
import pickle
from functools import partial
from pathlib import Path

import numpy as np

from lib.media.packets import VideoError, measure_duration
from lib.streams import _places
from lib.streams._feature_files import Vectors
from lib.streams.base import Raw

_SECONDS = 15.0  # length of an FIV2 clip, for a clip without video


def read_vectors(path: Path, raw: Raw) -> Vectors | str:
    """Return the vectors of a clip's file, or the reason why it can't be used.

    The file is a dictionary: `emb` has the vectors, a row per step, or one vector (D,); `length` says how many of its first
    rows count, without it all; `times` has their times in seconds. The published files have no times. Their code takes
    evenly spaced frames from the first to the last one, so the times are evenly spaced from 0 to the clip's duration. A
    clip without video is taken to last 15 s.
    """
    import torch  # not needed to read the stream's shards

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        return "the file is damaged, or contains code, which was not run"
    except (RuntimeError, EOFError, ValueError, OSError):
        return "the file is damaged"
    vectors = content.get("emb") if isinstance(content, dict) else None
    if not isinstance(vectors, torch.Tensor) or vectors.ndim not in (1, 2, 3) or vectors.is_complex():
        return "the file has no tensor `emb` of one, two or three dimensions"
    values = np.atleast_2d(vectors.float().numpy())
    length = content.get("length", len(values))
    length = length.item() if isinstance(length, torch.Tensor) and length.numel() == 1 else length
    if not isinstance(length, int) or not 1 <= length <= len(values):
        return f"its length is {length}; allowed: 1 to {len(values)}, its number of vectors"
    locate = partial(_places.find_tensor, path, vectors[:length] if vectors.ndim > 1 else vectors)
    times = content.get("times")
    if times is None:
        try:
            seconds = np.linspace(0, _measure(raw) if length > 1 else 0.0, length)
            return Vectors(seconds, values[:length], locate)
        except VideoError as error:
            return f"the duration of its video is unknown: it {error}"
    if not isinstance(times, torch.Tensor) or times.shape != (len(values),):
        return "its times are not a tensor with one number per vector"
    return Vectors(times[:length].double().numpy(), values[:length], locate)


def _measure(raw: Raw) -> float:
    """Return a clip's duration in seconds; 15 without a video or without time stamps. Raises VideoError."""
    if raw.span:
        return raw.span[1] - raw.span[0]
    seconds = measure_duration(raw.path) if raw.path else math.inf
    return seconds if math.isfinite(seconds) else _SECONDS
