"""Batches: clips of different lengths, padded to equal length, with absent steps marked."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lib.core.errors import InputError
from lib.streams.base import Steps

Inputs = dict[str, dict[str, Steps]]
"""Encoder -> reference to a stream (`faces`, `audio.mfcc`) -> steps, in the order of `reads`."""


class Sample(NamedTuple):
    """A clip or a batch.

    inputs: arrays (T, ...) with images as uint8 for a clip, or tensors (B, T, ...) with images in [0, 1] for a batch.
    targets: by target group, (K,) or (B, K) in units of its range, NaN where unknown. index: of the clip in its table.
    """

    inputs: Inputs
    targets: dict[str, Any]
    index: Any


def collate(samples: Sequence[Sample] | Sample) -> Sample:
    """Stack samples to a batch. A batch is returned without change."""
    if isinstance(samples, Sample):
        return samples
    first = samples[0]
    return Sample(
        {
            encoder: {name: stack(name, [sample.inputs[encoder][name] for sample in samples]) for name in streams}
            for encoder, streams in first.inputs.items()
        },
        {group: torch.from_numpy(np.stack([sample.targets[group] for sample in samples])) for group in first.targets},
        torch.tensor([sample.index for sample in samples]),
    )


def concatenate(batches: Sequence[Sample]) -> Sample:
    """Return the clips of several batches as one batch. The batches have equal numbers of steps."""
    first = batches[0]
    return Sample(
        {
            encoder: {
                name: Steps(*map(torch.cat, zip(*(batch.inputs[encoder][name] for batch in batches), strict=True)))
                for name in streams
            }
            for encoder, streams in first.inputs.items()
        },
        {group: torch.cat([batch.targets[group] for batch in batches]) for group in first.targets},
        torch.cat([batch.index for batch in batches]),
    )


def stack(name: str, clips: Sequence[Steps]) -> Steps:
    """Stack the steps of one stream, padded at the end to the longest clip. A clip without steps is allowed."""
    shapes = {clip.values.shape[1:] for clip in clips}
    if len(shapes) > 1:
        raise InputError(
            f"steps of {name} have different shapes: {', '.join(map(str, sorted(shapes)))}; allowed: one shape for all clips"
        )
    longest = max(1, *(len(clip.times) for clip in clips))
    values, times, present = (
        torch.stack([_padded(_tensor(part), longest) for part in parts]) for parts in zip(*clips, strict=True)
    )
    return Steps(values.float() / 255 if values.dtype == torch.uint8 else values, times, present)


def _tensor(part: np.ndarray) -> Tensor:
    """Return a tensor. Images keep their stored layout (channels last), which makes convolutions on a CPU faster."""
    return torch.from_numpy(part if part.dtype == np.uint8 else np.ascontiguousarray(part))


def _padded(steps: Tensor, length: int) -> Tensor:
    if len(steps) == length:
        return steps
    return torch.cat([steps, steps.new_zeros(length - len(steps), *steps.shape[1:])])
