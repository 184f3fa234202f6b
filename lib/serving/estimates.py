"""Turn the network's output into estimates in the labels' units, with intervals and percentiles."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from lib.core.targets import TargetGroup
from lib.model.checkpoint import Reference, TrainedModel
from lib.model.heads import Prediction, find_head
from lib.serving.results import Estimate


def estimate(
    model: TrainedModel, values: Mapping[str, Prediction], interval: bool = True
) -> dict[str, dict[str, Estimate]]:
    """Return the estimates by target group and column; `values` (K,) of each group are in units of its range.

    interval: whether the intervals, calibrated on single clips as long as the training clips, hold for these values.
    """
    found = {
        name: estimate_group(model.targets[name], model.training.references.get(name), of_group)
        for name, of_group in values.items()
    }
    if interval:
        return found
    return {
        name: {column: replace(one, low=None, high=None) for column, one in of_group.items()}
        for name, of_group in found.items()
    }


def estimate_group(group: TargetGroup, reference: Reference | None, values: Prediction) -> dict[str, Estimate]:
    """Return a group's estimates by column, from its values (K,) in units of its range."""
    scores, scale, _ = values.from_unit(group)
    scales = [None] * len(scores) if scale is None else scale.tolist()
    if reference is None:
        alone = (Estimate(float(score), None, None, None, scale) for score, scale in zip(scores, scales, strict=True))
        return dict(zip(group.columns, alone, strict=True))
    estimates = {}
    widths, quantiles = reference.half_widths.numpy(), reference.quantiles.numpy().T
    if scale is not None:
        widths = widths * scale
    for column, score, scale, width, known in zip(group.columns, scores, scales, widths, quantiles, strict=True):
        low, high = score - width, score + width
        if find_head(group).bounded:  # the label is within the range, too
            low, high = max(low, group.range[0]), min(high, group.range[1])
        finite = bool(np.isfinite(width))
        low, high = (float(low), float(high)) if finite else (None, None)
        estimates[column] = Estimate(float(score), low, high, percentile(score, known), scale)
    return estimates


def percentile(score: float, quantiles: np.ndarray) -> float | None:
    """Return the percentage of training labels below a score, from their quantiles (101,); None where none is known."""
    if not np.isfinite(quantiles).all():
        return None
    return float(np.interp(score, quantiles, np.linspace(0, 100, len(quantiles))))
