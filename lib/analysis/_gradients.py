"""Integrated gradients of predictions, summed over regions."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from lib.analysis._regions import Means, Region, mean_inputs
from lib.data.batch import Inputs, Sample, collate
from lib.data.inputs import find_kind, split_reference
from lib.data.loading import to_device
from lib.model.network import Network

_STEPS = 8  # number of steps of the integral
_COPIES = 2  # number of copies of a clip in one batch, limited by memory for gradients

Input = tuple[str, str]
"""An encoder and a reference to one of its streams."""


def integrated_gradients(
    network: Network, samples: Sequence[Sample], regions: Sequence[Region], means: Means, columns: Mapping[str, int]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return by target group the importance (R, K) of each region for each column, and the convergence error (N, K).

    Importance is the absolute integrated gradient (Sundararajan et al. 2017, Axiomatic attribution for deep networks), mean
    over clips. The path goes from the mean input of all streams to the clip's input. columns: the number of columns of each
    target group.
    """
    device = next(network.parameters(), torch.zeros(())).device
    sizes: dict[str, list[np.ndarray]] = {name: [] for name in columns}
    errors: dict[str, list[list[float]]] = {name: [] for name in columns}
    for sample in samples:
        baseline = sample._replace(inputs=mean_inputs(sample.inputs, means))
        batch, start = (to_device(collate([item]), device).inputs for item in (sample, baseline))
        # points are positions in an image: a point between two of them has no meaning
        inputs = [
            (encoder, reference)
            for encoder, read in batch.items()
            for reference in read
            if find_kind(reference) != "points"
        ]
        ends = tuple(tuple(end[encoder][reference].values for encoder, reference in inputs) for end in (start, batch))
        for group, count in columns.items():
            attributions = [
                _attribute(_predictor(network, batch, inputs, group), ends[0], ends[1], column)
                for column in range(count)
            ]
            shares = [[abs(_share(region, inputs, parts)) for region in regions] for parts, _ in attributions]
            sizes[group].append(np.array(shares).T)
            errors[group].append([error for _, error in attributions])
    importance = {name: np.mean(values, 0) for name, values in sizes.items()}
    return importance, {name: np.array(values) for name, values in errors.items()}


def _attribute(
    predict: Callable[..., Tensor], start: tuple[Tensor, ...], end: tuple[Tensor, ...], column: int
) -> tuple[tuple[Tensor, ...], float]:
    """Return the integrated gradient of a column for each input, and the convergence error."""
    from captum.attr import IntegratedGradients  # it takes a second to load

    with torch.backends.cudnn.flags(enabled=False):  # cuDNN's recurrent layers have gradients only in training mode
        parts, error = IntegratedGradients(predict).attribute(
            end, start, column, n_steps=_STEPS, internal_batch_size=_COPIES, return_convergence_delta=True
        )
    return parts, float(error)


def _predictor(network: Network, batch: Inputs, inputs: Sequence[Input], group: str) -> Callable[..., Tensor]:
    """Return a function from values of `inputs` (B, T, ...) to a group's predictions (B, K); other inputs are those of
    `batch`."""

    def predict(*values: Tensor) -> Tensor:
        changed = {
            encoder: {
                reference: type(steps)(*(part.expand(len(values[0]), *part.shape[1:]) for part in steps))
                for reference, steps in read.items()
            }
            for encoder, read in batch.items()
        }
        for (encoder, reference), value in zip(inputs, values, strict=True):
            changed[encoder][reference] = changed[encoder][reference]._replace(values=value)
        unused = sum((0 * value.sum() for value in values), start=torch.zeros(()))  # an encoder may skip the clip
        return network(changed).predicted[group] + unused.to(values[0])

    return predict


def _share(region: Region, inputs: Sequence[Input], parts: Sequence[Tensor]) -> float:
    """Return the sum of the gradients `parts` of a clip over a region."""
    arrays = (
        part[0]
        for (_, reference), part in zip(inputs, parts, strict=True)
        if split_reference(reference)[0] == region.stream
    )
    return sum(float(array[region.slices(array.shape)].sum()) for array in arrays)
