"""Mixup and CutMix: the clips of a batch, and their targets, mixed with those of other clips of the batch."""

from collections.abc import Mapping

import torch
from torch import Tensor

from lib.data.augment import find_image_size
from lib.data.batch import Sample
from lib.data.changes import Mixture
from lib.data.masking import find_positions, to_pixels
from lib.streams.base import Kind, Steps


def find_partners(batch: Sample) -> Tensor:
    """Return the index (B,) of the clip that each clip is mixed with.

    Partners know the same targets and have the same streams, so that a mixed clip has them, too. Among such clips the first
    is mixed with the last, as in timm. A clip without a partner has its own index.
    """
    known = [values.isfinite() for values in batch.targets.values()]
    complete = [steps.present.any(1, keepdim=True) for read in batch.inputs.values() for steps in read.values()]
    device = complete[0].device
    patterns = torch.cat([part.to(device) for part in (*known, *complete)], 1)
    _, groups = patterns.unique(dim=0, return_inverse=True)
    partners = torch.arange(len(patterns), device=device)
    for group in groups.unique():
        members = (groups == group).nonzero()[:, 0]
        partners[members] = members.flip(0)
    return partners


def mix_clips(
    batch: Sample, weights: Mapping[str, Tensor], mixture: Mixture, kinds: Mapping[str, Kind]
) -> tuple[Sample, dict[str, Tensor]]:
    """Return a batch and the weights (B, K) of its targets, mixed.

    Each stream of the partner is stretched to the clip's number of steps. Targets and weights are mixed by the fraction of
    its inputs that a clip keeps: with mixup `mixture.own`, with CutMix the fraction of pixels, or of steps for streams
    without images, averaged over the streams. With CutMix, streams of one step are added as in mixup.
    """
    partners, kept, inputs = find_partners(batch), list[Tensor](), dict[str, dict[str, Steps]]()
    is_alone = partners == torch.arange(len(partners), device=partners.device)
    for encoder, read in batch.inputs.items():
        size, inputs[encoder] = find_image_size(read, kinds), {}
        for name, steps in read.items():
            other = stretch_partners(steps, partners)
            if kinds[name] == "points" and size is not None:
                values = _mix_points(steps.values, other, mixture, size)
            else:
                own = _find_own(steps, mixture, kinds[name])
                values = own * steps.values + (1 - own) * other
                kept.append(torch.where(is_alone, 1.0, _average(own, steps.present)))
            values = torch.where(is_alone.view(-1, *[1] * (values.ndim - 1)), steps.values, values)
            inputs[encoder][name] = steps._replace(values=values)
    fraction = torch.stack(kept).nanmean(0)[:, None]  # (B, 1)
    targets = {name: _mix(values, fraction, partners) for name, values in batch.targets.items()}
    mixed_weights = {name: _mix(values, fraction, partners) for name, values in weights.items()}
    return batch._replace(inputs=inputs, targets=targets), mixed_weights


def stretch_partners(steps: Steps, partners: Tensor) -> Tensor:
    """Return the values (B, T, ...) of each clip's partner at the clip's own relative times."""
    own, others = steps.present.sum(1, keepdim=True), steps.present.sum(1)[partners, None]
    places = 2 * torch.arange(steps.present.shape[1], device=partners.device) + 1
    indices = places * others // (2 * own).clamp(min=1)
    return steps.values[partners[:, None], indices.minimum((others - 1).clamp(min=0))]


def _find_own(steps: Steps, mixture: Mixture, kind: Kind) -> Tensor:
    """Return the fraction that each clip keeps of each of its values, in a shape that broadcasts to the values."""
    values, shape = steps.values, (*steps.present.shape, *[1] * (steps.values.ndim - 2))
    if mixture.kind == "mixup":
        return values.new_full((len(values), *[1] * (values.ndim - 1)), mixture.own)
    if kind in ("pictures", "flow"):
        top, left, bottom, right = to_pixels(mixture.box, *values.shape[-2:])
        own = values.new_ones(len(values), 1, 1, *values.shape[-2:])
        own[..., top:bottom, left:right] = 0
        return own
    positions, (begin, end) = find_positions(steps.present), mixture.span
    own = ((positions < begin) | (positions >= end)).to(values)
    return torch.where(steps.present.sum(1, keepdim=True) == 1, mixture.own, own).view(shape)


def _mix_points(points: Tensor, other: Tensor, mixture: Mixture, size: tuple[int, int]) -> Tensor:
    """Return mixed points (B, T, P, 2), in pixels of images of `size`.

    Mixup averages them. CutMix takes the partner's points in the box, and the clip's own points outside it; others are NaN.
    """
    if mixture.kind == "mixup":
        return mixture.own * points + (1 - mixture.own) * other
    top, left, bottom, right = to_pixels(mixture.box, *size)
    low, high = points.new_tensor([left, top]), points.new_tensor([right, bottom])
    is_inside, is_pasted = (((part >= low) & (part < high)).all(-1, keepdim=True) for part in (points, other))
    return torch.where(is_pasted, other, torch.where(is_inside, torch.nan, points))


def _average(own: Tensor, present: Tensor) -> Tensor:
    """Return the mean (B,) over the present steps and over all values of a step; NaN for a clip without steps."""
    of_steps = own.flatten(2).mean(2).expand(present.shape) if own.ndim > 2 else own.expand(present.shape)
    return (of_steps * present).sum(1) / present.sum(1)


def _mix(values: Tensor, fraction: Tensor, partners: Tensor) -> Tensor:
    """Return values (B, K) mixed with those of the partners; a clip keeps the fraction (B, 1)."""
    fraction, partners = fraction.to(values), partners.to(values.device)
    return torch.where(fraction == 1, values, fraction * values + (1 - fraction) * values[partners])
