"""Integrated gradients of predictions, added up over regions."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from captum.attr import IntegratedGradients
from torch import Tensor

from lib.analysis._regions import Means, Region, mean_inputs
from lib.data.batch import Inputs, Sample, collate
from lib.data.dataset import find_kind, split_reference
from lib.data.loading import to_device
from lib.model.network import Network

_STEPS = 8  # of the integral
_COPIES = 2  # of a clip in one batch, with gradients

Input = tuple[str, str]
"""An encoder and a reference to one of its streams."""


def integrated_gradients(
    network: Network, samples: Sequence[Sample], regions: Sequence[Region], means: Means, columns: Mapping[str, int]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return by target group the importance (R, K) of each region for each column, mean over clips, and the convergence
    error (N, K) (Sundararajan et al. 2017, Axiomatic attribution for deep networks).

    The path goes from the mean input, all streams at once, to the clip's input; importance is without sign. columns: the
    number of columns of each target group.
    """
    device = next(network.parameters(), torch.zeros(())).device
    sizes: dict[str, list[np.ndarray]] = {name: [] for name in columns}
    errors: dict[str, list[list[float]]] = {name: [] for name in columns}
    for sample in samples:
        both = (sample._replace(inputs=inputs) for inputs in (sample.inputs, mean_inputs(sample.inputs, means)))
        batch, start = (to_device(collate([one]), device).inputs for one in both)
        # points are places in an image: halfway between two of them there is nothing
        inputs = [(encoder, of) for encoder, read in batch.items() for of in read if find_kind(of) != "points"]
        ends = tuple(tuple(one[encoder][of].values for encoder, of in inputs) for one in (start, batch))
        for group, count in columns.items():
            found = [
                _attribute(_predictor(network, batch, inputs, group), ends[0], ends[1], column)
                for column in range(count)
            ]
            shares = [[abs(_share(region, inputs, parts)) for region in regions] for parts, _ in found]
            sizes[group].append(np.array(shares).T)
            errors[group].append([error for _, error in found])
    return {name: np.mean(of, 0) for name, of in sizes.items()}, {name: np.array(of) for name, of in errors.items()}


def _attribute(
    predict: Callable[..., Tensor], start: tuple[Tensor, ...], end: tuple[Tensor, ...], column: int
) -> tuple[tuple[Tensor, ...], float]:
    with torch.backends.cudnn.flags(enabled=False):  # its recurrent layers have gradients only in training mode
        parts, error = IntegratedGradients(predict).attribute(
            end, start, column, n_steps=_STEPS, internal_batch_size=_COPIES, return_convergence_delta=True
        )
    return parts, float(error)


def _predictor(network: Network, batch: Inputs, inputs: Sequence[Input], group: str) -> Callable[..., Tensor]:
    """Return a function from values of `inputs` (B, T, ...) to the predictions (B, K) of a group; all else as in `batch`."""

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
    of_stream = (
        part[0] for (_, of), part in zip(inputs, parts, strict=True) if split_reference(of)[0] == region.stream
    )
    return sum(float(part[region.slices(part.shape)].sum()) for part in of_stream)
