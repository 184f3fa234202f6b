"""A batch: clips of different lengths stacked, what is beyond a clip's end marked as not there."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lib.core.errors import InputError
from lib.streams.base import Steps

Inputs = dict[str, dict[str, Steps]]
"""Of each encoder, what it reads: by reference to the stream (`faces`, `audio.mfcc`), in order."""


class Sample(NamedTuple):
    """A clip (its steps numpy arrays, pictures uint8), or a batch (its steps tensors (B, T, ...), pictures in [0, 1])."""

    inputs: Inputs
    targets: dict[str, Any]  # of each target group (K,) or (B, K), in units of its range, NaN where unknown
    index: Any  # of the clip in its table


def collate(samples: Sequence[Sample]) -> Sample:
    """Stack samples to a batch."""
    first = samples[0]
    return Sample(
        {
            encoder: {name: stack(name, [one.inputs[encoder][name] for one in samples]) for name in read}
            for encoder, read in first.inputs.items()
        },
        {group: torch.from_numpy(np.stack([one.targets[group] for one in samples])) for group in first.targets},
        torch.tensor([one.index for one in samples]),
    )


def stack(name: str, clips: Sequence[Steps]) -> Steps:
    """Stack the clips' steps of one stream, padded at the end to the longest; a clip may have none."""
    shapes = {one.values.shape[1:] for one in clips}
    if len(shapes) > 1:
        raise InputError(f"steps of {name} differ in shape from clip to clip: {', '.join(map(str, sorted(shapes)))}")
    longest = max(1, *(len(one.times) for one in clips))
    values, times, present = (
        torch.stack([_padded(_tensor(part), longest) for part in parts]) for parts in zip(*clips, strict=True)
    )
    return Steps(values.float() / 255 if values.dtype == torch.uint8 else values, times, present)


def _tensor(part: np.ndarray) -> Tensor:
    """Pictures stay as they are stored, channels last, which a CPU's convolutions are quicker with; all else in order."""
    return torch.from_numpy(part if part.dtype == np.uint8 else np.ascontiguousarray(part))


def _padded(steps: Tensor, length: int) -> Tensor:
    if len(steps) == length:
        return steps
    return torch.cat([steps, steps.new_zeros(length - len(steps), *steps.shape[1:])])
