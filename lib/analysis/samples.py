"""Samples: images, audio and points of the clips with the lowest, the median and the highest error."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from lib.analysis._context import Context, create_file, write_array
from lib.core.artifacts import DATA, SAMPLES
from lib.core.records import choose_evenly
from lib.data.dataset import ClipDataset
from lib.data.images import colour_flow
from lib.data.inputs import EncoderSettings, split_reference
from lib.streams import base
from lib.streams._mel import mel_frequencies
from lib.streams.base import Steps, StreamInfo

OUTPUTS = (SAMPLES,)

_CLIPS = 3
_IMAGES = 4  # number of evenly spaced images of a clip
_SIDE = 224  # largest side of an image in pixels
_AUDIO_STEPS = 2000  # largest number of audio steps, from the middle of the clip


def run(context: Context) -> None:
    order = context.clips_by_error
    chosen = (
        context.clips.table.set_index("clip").loc[order[choose_evenly(np.arange(len(order)), _CLIPS)]].reset_index()
    )
    write_samples(SAMPLES, chosen, DATA, context.network.settings_by_encoder, context.evaluation.trained.streams)


def write_samples(
    path: Path,
    table: pd.DataFrame,
    data: Path,
    settings_by_encoder: Mapping[str, EncoderSettings],
    streams: Mapping[str, StreamInfo],
) -> None:
    """Write a group for each clip of `table`, by name and in its order, with arrays of the network's `streams`.

    pictures/STREAM: `values` uint8 (t, H, W, 3), a few of the images that encoders read, or else of the images from which
    their inputs were computed; for flow the output of `colour_flow`, with the attribute `full`. sound/ARRAY, if the
    stream audio is among them: `values` (T, mels) of log_mel in dB, with the bands' centres `frequencies` (mels,) in Hz;
    (T, mfcc) of mfcc. Each has `times` in seconds and the attribute `read`: whether an encoder reads it. Images for which a
    stream has points have them as `points` (t, P, 2), in pixels.
    """
    read = {
        split_reference(reference)
        for encoder_settings in settings_by_encoder.values()
        for reference in encoder_settings.reads
    }
    clips = ClipDataset(table, data, _select_streams(read, streams), streams, {})
    motions = [motion for index in range(len(table)) for motion in _measure_motion(clips[index].inputs)]
    full = max([*motions, 1e-3])  # one scale for all clips
    with create_file(path) as file:
        for index, clip in enumerate(table["clip"]):
            group = file.create_group(clip, track_order=True)
            for name, inputs in clips[index].inputs.items():
                reference, steps = next(iter(inputs.items()))
                if not len(steps.times):  # this clip is missing the stream
                    continue
                arrays = _arrays(name, inputs, streams, full)
                for key, values in arrays.items():
                    write_array(group, f"{name}/{key}", values)
                group[name].attrs["read"] = split_reference(reference) in read
                if _is_flow(reference):
                    group[name].attrs["full"] = full


def _select_streams(read: set[tuple[str, str]], streams: Mapping[str, StreamInfo]) -> dict[str, EncoderSettings]:
    """Return the streams that are shown of a clip, by the name of their group in the file."""
    by_kind = {
        kind: [name for name in streams if base.load(name).kind == kind] for kind in ("pictures", "points", "flow")
    }
    images = [name for name in by_kind["pictures"] if split_reference(name) in read] or by_kind["pictures"][-1:]
    settings = {}
    for name in by_kind["flow"]:
        settings[f"pictures/{name}"] = EncoderSettings(kind="", reads=[name], take="parts", steps=_IMAGES - 1)
    for name in images:
        reads = [name, *(points for points in by_kind["points"] if base.load(points).inputs == (name,))]
        reads += [f"{name}.{array}" for array in base.load(name).kinds if streams[name].shapes[array] != [0]]
        settings[f"pictures/{name}"] = EncoderSettings(kind="", reads=reads, take="parts", steps=_IMAGES)
    for array in base.load("audio").arrays if "audio" in streams else ():
        settings[f"sound/{array}"] = EncoderSettings(
            kind="", reads=[f"audio.{array}"], take="window", steps=_AUDIO_STEPS
        )
    return settings


def _is_flow(reference: str) -> bool:
    return base.load(split_reference(reference)[0]).kind == "flow"


def _measure_motion(inputs: Mapping[str, Mapping[str, Steps]]) -> Iterator[float]:
    """Yield the 99th percentile of the motion in each flow of a clip, in pixels per step."""
    for streams in inputs.values():
        reference, steps = next(iter(streams.items()))
        if _is_flow(reference) and len(steps.times):
            yield float(np.percentile(np.linalg.norm(steps.values, axis=1), 99))


def _arrays(
    name: str, inputs: Mapping[str, Steps], streams: Mapping[str, StreamInfo], full: float
) -> dict[str, np.ndarray]:
    """Return the arrays of one group of `_select_streams`; a full colour of flow means `full` pixels."""
    (reference, (values, times, _)), *others = inputs.items()
    arrays: dict[str, np.ndarray] = {}
    if _is_flow(reference):
        values, _ = colour_flow(values, full)
    if name.startswith("pictures/"):
        scale = min(1.0, _SIDE / max(values.shape[2:]))
        values = np.stack([_scaled(image, scale) for image in values])
        for _, points in others:
            arrays["points"] = (scale * points.values).astype(np.float32)
    arrays |= {"values": values, "times": times}
    if name == "sound/log_mel":
        arrays["frequencies"] = _centres(**streams["audio"].settings)
    return arrays


def _scaled(image: np.ndarray, scale: float) -> np.ndarray:
    """Return an image (3, H, W) as a scaled image (h, w, 3)."""
    height, width = image.shape[1:]
    shape = (max(1, round(scale * width)), max(1, round(scale * height)))
    return cv2.resize(np.ascontiguousarray(image.transpose(1, 2, 0)), shape, interpolation=cv2.INTER_AREA)


def _centres(sample_rate: int, mels: int, filter_rate: int | None = None, **_: Any) -> np.ndarray:
    """Return the centres in Hz of a log-mel spectrogram's bands; filters for another rate are rescaled."""
    rate = filter_rate or sample_rate
    return mel_frequencies(mels + 2, rate / 2)[1:-1] * (sample_rate / rate)
