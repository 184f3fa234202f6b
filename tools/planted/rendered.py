"""The demo's rendered clips with the target `together`, as tokens of appearance and motion."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from lib.core import shards
from lib.core.artifacts import CLIPS, DATA
from lib.core.clips import read_clip_table
from lib.core.errors import InputError
from lib.streams import base
from tools.experiments import run_dvc
from tools.planted.parameters import planted_targets, use_parameters
from tools.planted.together import NAMES, Clips

SETTINGS = [
    "download.demo.clips=240", "download.demo.seconds=6.0", "download.demo.shared=0.0", "download.demo.seed=0",
    "download.demo.planted=[together]", *planted_targets("together"), "model.use=[faces, flow]", "audio.enabled=false",
    "landmarks.enabled=true", "behaviour.enabled=true",
]  # fmt: skip
"""The changes to params/demo.yaml."""

MEASURES = ("upper_face_motion", "lower_face_motion", "head_motion", "frame_motion")
"""The measures of a frame that are its motion. Others, such as the pose, depend on where the detector sees the face, and
so on its colour too."""

CELLS = 3
"""Cells along each side of the aligned face, whose mean colours are its appearance."""


def read_clips(changes: Sequence[str]) -> tuple[Clips, Clips]:
    """Render the clips, run the pipeline up to `behaviour`, and return the training clips and all others.

    Numbers have mean 0 and deviation 1 over the training clips; a missing number is 0.
    """
    with use_parameters("demo", [*SETTINGS, *changes]):
        if status := run_dvc(["repro", "behaviour"]):
            raise InputError(f"`dvc repro behaviour` ended with {status}; correct the cause and run this command again")
    return read_shards()


def read_shards() -> tuple[Clips, Clips]:
    """Return the training clips and all others from the shards in data/."""
    table = read_clip_table(CLIPS).set_index("clip")
    tokens: dict[str, dict[str, np.ndarray]] = {name: {} for name in NAMES}
    times = np.zeros(2)
    for path in sorted((DATA / "faces").glob("*.h5")):
        for record in shards.read_records(path):
            tokens["appearance"][record.clip] = average_colours(record.arrays["faces"][()])
            times = record.arrays["times"][()]
    for path in sorted((DATA / "behaviour").glob("*.h5")):
        for record in shards.read_records(path):
            names = base.read_names(record)["steps"]
            tokens["motion"][record.clip] = record.arrays["steps"][()][:, [names.index(name) for name in MEASURES]]
    shortest = min(len(values) for stream in tokens.values() for values in stream.values())
    table = table.loc[[clip for clip in table.index if all(clip in stream for stream in tokens.values())]]
    streams = {name: np.stack([stream[clip][:shortest] for clip in table.index]) for name, stream in tokens.items()}
    is_training = (table["split"] == "training").to_numpy()
    standardised = {name: standardise(values, is_training) for name, values in streams.items()}
    seconds = float(np.median(np.diff(times)))
    training, others = (select(table, standardised, mask, seconds) for mask in (is_training, ~is_training))
    return training, others


def average_colours(images: np.ndarray) -> np.ndarray:
    """Return the mean colours (T, CELLS x CELLS x 3) of the middle three quarters of images (T, S, S, 3)."""
    border = images.shape[1] // 8
    inner = images[:, border : images.shape[1] - border, border : images.shape[1] - border]
    rows = [part.mean((1, 2)) for strip in np.array_split(inner, CELLS, 1) for part in np.array_split(strip, CELLS, 2)]
    return np.concatenate(rows, 1)


def standardise(values: np.ndarray, is_training: np.ndarray) -> np.ndarray:
    """Return values (N, T, D) with mean 0 and deviation 1 over the training clips, 0 where missing."""
    of_training = values[is_training]
    mean, std = np.nanmean(of_training, (0, 1)), np.nanstd(of_training, (0, 1))
    return np.nan_to_num((values - mean) / np.maximum(std, 1e-6))


def select(table: pd.DataFrame, streams: dict[str, np.ndarray], mask: np.ndarray, seconds: float) -> Clips:
    """Return the clips of `mask` (N,)."""
    tensors = {name: torch.tensor(values[mask]).float() for name, values in streams.items()}
    rows = table[mask]
    return Clips(tensors, torch.tensor(rows["together"].to_numpy()).float(), seconds, rows["video"].to_numpy())
