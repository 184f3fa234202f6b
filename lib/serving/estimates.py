"""Turn the network's output into estimates in the labels' units, with intervals and percentiles."""

from collections.abc import Mapping
from dataclasses import replace

from lib.core.estimates import find_interval, percentile
from lib.core.targets import INTERVAL_LEVEL, TargetGroup
from lib.model.checkpoint import LabelQuantiles, TrainedModel
from lib.model.heads import HeadOutput, find_head
from lib.serving.scores import Estimate, Labels

_SHOWN = [5, 25, 50, 75, 95]
"""Percentages of the quantiles of training labels in figures."""


def estimate(
    model: TrainedModel, values: Mapping[str, HeadOutput], interval: bool = True
) -> dict[str, dict[str, Estimate]]:
    """Return the estimates by target group and column, given the values (K,) of each group in units of its range.

    interval: whether to include intervals, which are calibrated only for clips as long as the training clips.
    """
    estimates = {
        name: estimate_group(model.targets[name], model.training.references.get(name), values_of_group, model.interval)
        for name, values_of_group in values.items()
    }
    if interval:
        return estimates
    return {
        name: {column: replace(estimate, low=None, high=None) for column, estimate in by_column.items()}
        for name, by_column in estimates.items()
    }


def estimate_group(
    group: TargetGroup, reference: LabelQuantiles | None, values: HeadOutput, level: float = INTERVAL_LEVEL
) -> dict[str, Estimate]:
    """Return a group's estimates by column, given its values (K,) in units of its range, and the intervals' level."""
    scores, standard_deviation, _ = values.from_unit(group)
    scales = [None] * len(scores) if standard_deviation is None else standard_deviation.tolist()
    if reference is None:
        without_reference = (
            Estimate(float(score), None, None, None, deviation) for score, deviation in zip(scores, scales, strict=True)
        )
        return dict(zip(group.columns, without_reference, strict=True))
    estimates = {}
    widths, quantiles = reference.half_widths.numpy(), reference.quantiles.numpy().T
    if standard_deviation is not None:
        widths = widths * standard_deviation
    for column, score, deviation, width, known_quantiles in zip(
        group.columns, scores, scales, widths, quantiles, strict=True
    ):
        low, high = find_interval(score, width, find_bounds(group))
        estimates[column] = Estimate(float(score), low, high, percentile(score, known_quantiles), deviation, level)
    return estimates


def summarise_labels(model: TrainedModel) -> dict[str, Labels]:
    """Return the range and the quantiles of the training labels of each target group."""
    labels = {}
    for name, group in model.targets.items():
        reference = model.training.references.get(name)
        quantiles = {} if reference is None else dict(zip(group.columns, reference.quantiles.T, strict=True))
        labelled = {column: values for column, values in quantiles.items() if bool(values.isfinite().all())}
        low, high = group.range
        labels[name] = Labels((low, high), {column: values[_SHOWN].tolist() for column, values in labelled.items()})
    return labels


def find_bounds(group: TargetGroup) -> list[float] | None:
    """Return the range if predictions stay within it: so do labels, and so does an interval. None for other heads."""
    return group.range if find_head(group).bounded else None
