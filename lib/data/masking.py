"""Augmentation that removes or disturbs parts of a clip: erased boxes, masked times and bands, noise, dropped words."""

from collections.abc import Mapping

import torch
from torch import Tensor

from lib.core.weights import IMAGENET_MEAN, IMAGENET_STD
from lib.streams.base import Kind, Steps


def erase_boxes(values: Tensor, boxes: Tensor, seeds: Tensor, kind: Kind) -> Tensor:
    """Return images or flow (B, T, C, H, W) with a box erased, the same one at all times (Zhong et al. 2020).

    Images get random pixels, with the mean and standard deviation of ImageNet's; flow becomes 0. boxes: (B, 4) top, left,
    height and width as fractions; height 0 erases nothing.
    """
    values = values.clone()
    height, width = values.shape[-2:]
    mean, std = (torch.tensor(moments).view(3, 1, 1) for moments in (IMAGENET_MEAN, IMAGENET_STD))
    for clip, box, seed in zip(values, boxes.tolist(), seeds.tolist(), strict=True):
        top, left, bottom, right = to_pixels((box[0], box[1], box[0] + box[2], box[1] + box[3]), height, width)
        if not box[2] or bottom <= top or right <= left:
            continue
        fill = torch.zeros(())
        if kind == "pictures":
            pixels = torch.randn(3, bottom - top, right - left, generator=torch.Generator().manual_seed(seed))
            fill = (mean + std * pixels).clamp(0, 1)
        clip[..., top:bottom, left:right] = fill.to(values)
    return values


def to_pixels(box: tuple[float, float, float, float], height: int, width: int) -> tuple[int, int, int, int]:
    """Return a box of fractions (top, left, bottom, right) in pixels of an image."""
    top, left, bottom, right = box
    return round(top * height), round(left * width), round(bottom * height), round(right * width)


def find_positions(present: Tensor) -> Tensor:
    """Return the position (B, T) of each step in its clip: (k + 0.5) / n for step k of n present steps."""
    return (torch.arange(present.shape[1], device=present.device) + 0.5) / present.sum(1, keepdim=True).clamp(min=1)


def mask_times(steps: Steps, spans: Tensor) -> Steps:
    """Return steps with a part of the time masked: each value becomes the clip's mean over the other steps.

    spans: (B, 2) begin and end, as fractions of the clip's steps. At least one step stays. (Park et al. 2019, SpecAugment.)
    """
    positions = find_positions(steps.present)
    masked = steps.present & (positions >= spans[:, :1]) & (positions < spans[:, 1:])
    masked &= ~(masked == steps.present).all(1, keepdim=True)  # a clip stays as it is if nothing would be left
    others = _expand(steps.present & ~masked, steps.values)
    mean = torch.where(others, steps.values, torch.nan).nanmean(1, keepdim=True)
    return steps._replace(values=torch.where(_expand(masked, steps.values), mean, steps.values))


def mask_bands(steps: Steps, bands: Tensor) -> Steps:
    """Return steps (B, T, D) with some bands masked: each becomes its mean over the clip's steps.

    bands: (B, 2) begin and end, as fractions of the D bands (Park et al. 2019, SpecAugment).
    """
    width = steps.values.shape[-1]
    positions = (torch.arange(width, device=steps.values.device) + 0.5) / width
    masked = (positions >= bands[:, :1]) & (positions < bands[:, 1:])
    mean = torch.where(_expand(steps.present, steps.values), steps.values, torch.nan).nanmean(1, keepdim=True)
    return steps._replace(values=torch.where(masked[:, None] & steps.present[..., None], mean, steps.values))


def add_noise(steps: Steps, seeds: Tensor, noise: float, kind: Kind) -> Steps:
    """Return steps with Gaussian noise, whose standard deviation is `noise` times that of the clip.

    The clip's standard deviation is over time for each band of vectors, and over all samples for waveforms.
    """
    values = steps.values.clone()
    for clip, present, seed in zip(values, steps.present, seeds.tolist(), strict=True):
        count = int(present.sum())  # noise must not depend on how far the batch is padded
        if count:
            level = clip[:count].std(None if kind == "waveform" else 0, correction=0)
            drawn = torch.randn((count, *clip.shape[1:]), generator=torch.Generator().manual_seed(seed))
            clip[:count] += noise * level * drawn.to(clip)
    return steps._replace(values=values)


def drop_words(read: Mapping[str, Steps], seeds: Tensor, probability: float) -> dict[str, Steps]:
    """Return an encoder's inputs without some words, each removed with this probability; at least one word stays.

    All streams of the encoder lose the same steps. The others keep their order and times (Iyyer et al. 2015, Deep unordered
    composition rivals syntactic methods).
    """
    present = next(iter(read.values())).present
    keep = torch.zeros_like(present)
    for row, seed in enumerate(seeds.tolist()):
        count = int(present[row].sum())
        if count:
            drawn = torch.rand(count, generator=torch.Generator().manual_seed(seed)).to(present.device)
            keep[row, :count] = (drawn >= probability) | (drawn == drawn.max())
    order = (~keep).int().argsort(dim=1, stable=True)  # kept steps first: absent steps are at the end, as padding is
    rows = torch.arange(len(keep), device=keep.device)[:, None]
    return {
        name: Steps(steps.values[rows, order], steps.times[rows, order], keep[rows, order])
        for name, steps in read.items()
    }


def _expand(mask: Tensor, values: Tensor) -> Tensor:
    """Return a mask (B, T) with as many dimensions as values."""
    return mask.view(*mask.shape, *[1] * (values.ndim - 2))
