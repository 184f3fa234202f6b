"""Augmentation: the inputs of a training clip, as they are and after each random change that the training uses."""

from collections.abc import Iterator, Mapping

import numpy as np
import torch

from lib.analysis._context import Context, create_file, write_array
from lib.core.artifacts import AUGMENTED, DATA
from lib.core.records import choose_evenly
from lib.data.augment import augment, draw
from lib.data.batch import Sample, collate
from lib.data.changes import draw_changes, draw_mixture
from lib.data.dataset import ClipDataset
from lib.data.images import colour_flow
from lib.data.inputs import find_kind, find_vectors
from lib.data.mixing import mix_clips
from lib.data.settings import Augment
from lib.streams.base import Steps

OUTPUTS = (AUGMENTED,)

ORIGINAL = "original"
_IMAGES = 3  # number of evenly spaced images of a clip
_TRIES = 20  # a random change may leave a clip unchanged
_CERTAIN = ("erasing", "mixed_batches")
"""Fractions of the clips or batches that are changed, for the figure: all."""

Arrays = dict[str, tuple[np.ndarray, np.ndarray, float | None]]
"""By name below a group: values, times, and for flow the displacement of a saturated colour."""


def run(context: Context) -> None:
    with create_file(AUGMENTED) as file:
        clips, settings = context.evaluation.clips["training"], context.augment
        table = clips.table.iloc[choose_evenly(np.arange(len(clips)), 2)].reset_index(drop=True)
        trained = context.evaluation.trained

        def read(jitter: int) -> Sample:
            settings_by_encoder = context.network.settings_by_encoder
            data = ClipDataset(table, DATA, settings_by_encoder, trained.streams, {}, seed=context.seed, jitter=jitter)
            return collate([data[index] for index in range(len(data))])

        for name, arrays in list_changes(read(0), read(settings.jitter), settings, context.seed):
            group = file.create_group(name, track_order=True)
            for key, (values, times, full) in arrays.items():
                write_array(group, f"{key}/values", values)
                write_array(group, f"{key}/times", times)
                group[key].attrs["read"] = True
                if full is not None:
                    group[key].attrs["full"] = full


def list_changes(batch: Sample, jittered: Sample, settings: Augment, seed: int) -> Iterator[tuple[str, Arrays]]:
    """Yield the name of each change with its setting, and the first clip's arrays after this change alone.

    batch: two clips; the second is the partner in mixup and CutMix. jittered: the same with steps moved in time.
    The first name is ORIGINAL. A change without effect on images and audio is left out.
    """
    original = list_arrays(batch, {})
    full = {key: part for key, (_, _, part) in original.items() if part is not None}
    yield ORIGINAL, original
    for name in settings.active:
        value = getattr(settings, name)
        alone = settings.select(name)
        alone = alone.model_copy(update={key: 1.0 for key in _CERTAIN if getattr(alone, key)})
        for attempt in range(_TRIES):
            changed = jittered if name == "jitter" else change_batch(batch, alone, seed + attempt)
            arrays = list_arrays(changed, full)
            if any(not np.array_equal(arrays[key][0], values) for key, (values, _, _) in original.items()):
                yield name if value is True else f"{name} {value:g}", arrays
                break


def change_batch(batch: Sample, settings: Augment, seed: int) -> Sample:
    """Return a batch after the random changes of a training step, with draws from `seed`."""
    kinds = {reference: find_kind(reference) for read in batch.inputs.values() for reference in read}
    count, rng = len(batch.index), np.random.default_rng(seed)
    draws = draw(count, settings, torch.Generator().manual_seed(seed), draw_changes(count, settings, rng))
    mixture, changed = draw_mixture(settings, rng), augment(batch, draws, kinds)
    return changed if mixture is None else mix_clips(changed, {}, mixture, kinds)[0]


def list_arrays(batch: Sample, full: Mapping[str, float]) -> Arrays:
    """Return the arrays of the first clip: a few images, coloured flow, bands of audio and words.

    full: of flow, the displacement of a saturated colour in the original clip.
    """
    arrays: Arrays = {}
    for encoder, read in batch.inputs.items():
        for reference, steps in read.items():
            kind = find_kind(reference)
            values, times = _first_clip(steps)
            chosen = choose_evenly(np.arange(len(times)), _IMAGES).tolist()
            if not chosen:
                continue
            if kind == "pictures":
                images = (255 * values[chosen]).round().astype(np.uint8).transpose(0, 2, 3, 1)
                arrays[f"pictures/{encoder}"] = images, times[chosen], None
            elif kind == "flow":
                key = f"pictures/{encoder}"
                coloured, scale = colour_flow(values[chosen], full.get(key))
                arrays[key] = coloured.transpose(0, 2, 3, 1), times[chosen], scale
            elif kind == "vectors" and find_vectors(reference) != "numbers" and len(times) > 1:
                arrays[f"sound/{encoder}"] = values.reshape(len(values), -1), times, None
    return arrays


def _first_clip(steps: Steps) -> tuple[np.ndarray, np.ndarray]:
    present = steps.present[0]
    return steps.values[0][present].numpy(), steps.times[0][present].numpy()
