"""Changes to the inputs of a clip: another clip's stream, shuffled steps, zeros."""

from collections.abc import Mapping

import numpy as np

from lib.data.batch import Inputs
from lib.data.inputs import split_reference
from lib.streams.base import Steps


def swap_stream(inputs: Inputs, other: Inputs, stream: str) -> Inputs:
    """Return a clip's inputs with another clip's stream.

    For an encoder that reads several streams, the other clip's steps are taken at the same relative times. If either clip is
    missing the stream, the inputs stay unchanged.
    """
    changed = copy_inputs(inputs)
    for encoder, reference, steps in select_steps(inputs, stream):
        new_steps, count = other[encoder][reference], len(steps.times)
        if not count or not len(new_steps.times):
            continue
        if len(inputs[encoder]) > 1:
            indices = np.arange(count) * len(new_steps.times) // count
            new_steps = steps._replace(values=new_steps.values[indices])
        changed[encoder][reference] = new_steps
    return changed


def swap_columns(inputs: Inputs, other: Inputs, columns: Mapping[str, np.ndarray]) -> Inputs:
    """Return a clip's inputs with some numbers of another clip.

    columns: reference -> the columns of its vectors to replace. The other clip's steps are taken at the same relative times.
    If either clip is missing the stream, the inputs stay unchanged.
    """
    changed = copy_inputs(inputs)
    for encoder, read in inputs.items():
        for reference in columns.keys() & read.keys():
            steps, new_steps = read[reference], other[encoder][reference]
            if len(steps.times) and len(new_steps.times):
                values = steps.values.copy()
                indices = np.arange(len(values)) * len(new_steps.times) // len(values)
                values[:, columns[reference]] = new_steps.values[indices][:, columns[reference]]
                changed[encoder][reference] = steps._replace(values=values)
    return changed


def choose_others(count: int, rng: np.random.Generator) -> np.ndarray:
    """Return for each of `count` clips the index of another one, at random; each clip is chosen once."""
    order = rng.permutation(count)
    others = np.empty_like(order)
    others[order] = np.roll(order, 1)
    return others


def shuffle_steps(inputs: Inputs, stream: str, rng: np.random.Generator) -> Inputs:
    """Return a clip's inputs with a stream's steps in random order.

    The order is the same for all encoders that read the same number of steps.
    """
    changed, seed = copy_inputs(inputs), int(rng.integers(2**32))
    for encoder, reference, steps in select_steps(inputs, stream):
        order = np.random.default_rng(seed).permutation(len(steps.times))
        changed[encoder][reference] = steps._replace(values=steps.values[order])
    return changed


def zero_stream(inputs: Inputs, stream: str) -> Inputs:
    """Return a clip's inputs with a stream set to zero."""
    changed = copy_inputs(inputs)
    for encoder, reference, steps in select_steps(inputs, stream):
        changed[encoder][reference] = steps._replace(values=np.zeros_like(steps.values))
    return changed


def select_steps(inputs: Inputs, stream: str) -> list[tuple[str, str, Steps]]:
    """Return encoder, reference and steps for every input that comes from a stream."""
    return [
        (encoder, reference, steps)
        for encoder, read in inputs.items()
        for reference, steps in read.items()
        if split_reference(reference)[0] == stream
    ]


def copy_inputs(inputs: Mapping[str, Mapping[str, Steps]]) -> Inputs:
    """Return the same steps in new dictionaries."""
    return {encoder: dict(read) for encoder, read in inputs.items()}
