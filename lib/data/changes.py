"""The random draws of a batch that the settings of augmentation determine."""

import math
from dataclasses import dataclass, fields, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from lib.data.settings import Augment

_ERASED_AREA, _ERASED_RATIO = (0.02, 1 / 3), (0.3, 1 / 0.3)
"""Range of the erased area, a fraction of the image, and of its height / width (Zhong et al. 2020, Random erasing; timm)."""


@dataclass(frozen=True)
class ClipChanges:
    """The random draws for B clips, of all changes that are off by default.

    angle: (B,) in radians, clockwise. zoom: (B,) magnification. saturation: (B,) factor. hue: (B,) shift in turns of the
    colour wheel. box: (B, 4) erased top, left, height and width; height 0 if nothing is erased. span: (B, 2) begin and end
    of the masked time. band: (B, 2) begin and end of the masked frequencies. All of box, span and band are fractions of
    the image, the clip's steps and the bands. seed: (B,) for noise and dropped words. noise, word_dropout: as in `Augment`.
    """

    angle: Tensor
    zoom: Tensor
    saturation: Tensor
    hue: Tensor
    box: Tensor
    span: Tensor
    band: Tensor
    seed: Tensor
    noise: float
    word_dropout: float

    def select(self, members: slice) -> "ClipChanges":
        """Return the draws for a slice of the clips."""
        of_clips = [field.name for field in fields(self) if isinstance(getattr(self, field.name), Tensor)]
        return replace(self, **{name: getattr(self, name)[members] for name in of_clips})


def draw_changes(count: int, settings: Augment, rng: np.random.Generator) -> ClipChanges | None:
    """Return the draws for `count` clips, or None if all changes are off.

    The numbers that are drawn do not depend on the settings, so switching one change on leaves the others as they are.
    """
    even = rng.random((count, 14))
    seed = rng.integers(2**62, size=count)
    if not set(settings.active) - {"mirror", "shift", "brightness", "contrast", "jitter", "mixup", "cutmix"}:
        return None
    symmetric = 2 * even[:, :4] - 1
    length = np.stack([settings.time_mask * even[:, 4], settings.frequency_mask * even[:, 5]], 1)
    begin = even[:, 6:8] * (1 - length)
    values = {
        "angle": math.radians(settings.rotation) * symmetric[:, 0],
        "zoom": 1 + settings.scale * symmetric[:, 1],
        "saturation": 1 + settings.saturation * symmetric[:, 2],
        "hue": settings.hue * symmetric[:, 3],
        "box": _draw_boxes(even[:, 8:13], settings.erasing),
        "span": np.stack([begin[:, 0], begin[:, 0] + length[:, 0]], 1),
        "band": np.stack([begin[:, 1], begin[:, 1] + length[:, 1]], 1),
    }
    tensors = {name: torch.from_numpy(array).float() for name, array in values.items()}
    return ClipChanges(**tensors, seed=torch.from_numpy(seed), noise=settings.noise, word_dropout=settings.word_dropout)


def _draw_boxes(even: np.ndarray, probability: float) -> np.ndarray:
    """Return boxes (B, 4) from numbers (B, 5) that are uniform in [0, 1)."""
    low, high = _ERASED_AREA
    area = low + (high - low) * even[:, 1]
    low, high = np.log(_ERASED_RATIO)
    ratio = np.exp(low + (high - low) * even[:, 2])
    height, width = (np.minimum(1, np.sqrt(part)) for part in (area * ratio, area / ratio))
    height = np.where(even[:, 0] < probability, height, 0)
    return np.stack([even[:, 3] * (1 - height), even[:, 4] * (1 - width), height, width], 1)


@dataclass(frozen=True)
class Mixture:
    """How the clips of a batch are mixed with others.

    kind: mixup adds the inputs of two clips; cutmix replaces a box of the images and a part of the other inputs' time.
    own: fraction that each clip keeps. box: top, left, bottom, right; span: begin, end; all as fractions.
    """

    kind: Literal["mixup", "cutmix"]
    own: float
    box: tuple[float, float, float, float]
    span: tuple[float, float]


def draw_mixture(settings: Augment, rng: np.random.Generator) -> Mixture | None:
    """Return how a batch is mixed, or None if it is not. Mixup: Zhang et al. 2018; CutMix: Yun et al. 2019."""
    even = rng.random(5)
    if not (settings.mixup or settings.cutmix) or even[0] >= settings.mixed_batches:
        return None
    cut = bool(settings.cutmix) and (not settings.mixup or even[1] < settings.cutmix_batches)
    alpha = settings.cutmix if cut else settings.mixup
    own = float(rng.beta(alpha, alpha))
    half, half_time = math.sqrt(1 - own) / 2, (1 - own) / 2
    low, high = np.clip(even[2:4] - half, 0, 1), np.clip(even[2:4] + half, 0, 1)
    span = np.clip([even[4] - half_time, even[4] + half_time], 0, 1)
    box = (float(low[0]), float(low[1]), float(high[0]), float(high[1]))
    return Mixture("cutmix" if cut else "mixup", own, box, (float(span[0]), float(span[1])))
