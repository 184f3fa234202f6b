"""What a network predicts when a part of its input is taken from it: another clip's stream, steps in another order, no
motion."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from lightning_fabric import Fabric

from lib.data.batch import Inputs, Sample
from lib.data.dataset import Clips, stream_of, streams_of
from lib.model import infer
from lib.model.network import Network
from lib.streams import base

INTACT = "intact"


def predict(
    fabric: Fabric, network: Network, clips: Clips, chosen: Sequence[int], batch_size: int, repeats: int, seed: int
) -> dict[str, dict[str, list[np.ndarray]]]:
    """Return the predictions (N, K) of the N `chosen` clips, by what was done to their input and target group, in units of
    its range: INTACT; "another clip's STREAM", dealt out anew between the clips (permutation importance: Breiman 2001,
    Random forests, section 10); "STREAM in another order", of the steps in time, which stay where they are in the others;
    "no motion", flow of zero. What is drawn by chance is drawn `repeats` times."""
    samples = [clips[index]._replace(index=place) for place, index in enumerate(chosen)]
    found: dict[str, dict[str, list[np.ndarray]]] = {}
    for name, changed in _changes(samples, streams_of(network.readings), repeats, seed):
        for group, values in infer.predict(fabric, network, changed, batch_size, 0).items():
            found.setdefault(name, {}).setdefault(group, []).append(values)
    return found


def _changes(
    samples: list[Sample], streams: Sequence[str], repeats: int, seed: int
) -> Iterator[tuple[str, list[Sample]]]:
    yield INTACT, samples
    for stream in streams:
        rng = np.random.default_rng(seed)
        for _ in range(repeats if len(samples) > 1 else 0):
            order = rng.permutation(len(samples))
            other = np.empty_like(order)
            other[order] = np.roll(order, 1)  # nobody's is its own
            pairs = zip(samples, other, strict=True)
            yield (
                f"another clip's {stream}",
                [one._replace(inputs=swapped(one.inputs, samples[of].inputs, stream)) for one, of in pairs],
            )
        if base.load(stream).kind == "flow":
            yield "no motion", [one._replace(inputs=still(one.inputs, stream)) for one in samples]
        if any(len(steps.times) > 1 for one in samples for _, _, steps in steps_of(one.inputs, stream)):
            for _ in range(repeats):
                yield (
                    f"{stream} in another order",
                    [one._replace(inputs=shuffled(one.inputs, stream, rng)) for one in samples],
                )


def swapped(inputs: Inputs, other: Inputs, stream: str) -> Inputs:
    """Return what encoders read of a clip with another clip's stream, at the same part of the way through it where an
    encoder reads other streams beside it; where either clip lacks the stream it is left as it is."""
    found = copied(inputs)
    for encoder, reference, own in steps_of(inputs, stream):
        steps = other[encoder][reference]
        if not len(own.times) or not len(steps.times):
            continue
        if len(inputs[encoder]) > 1:
            steps = own._replace(values=steps.values[np.arange(len(own.times)) * len(steps.times) // len(own.times)])
        found[encoder][reference] = steps
    return found


def shuffled(inputs: Inputs, stream: str, rng: np.random.Generator) -> Inputs:
    """Return what encoders read of a clip with a stream's steps in an order drawn by chance, the same for all encoders that
    read as many of them."""
    found, seed = copied(inputs), int(rng.integers(2**32))
    for encoder, reference, own in steps_of(inputs, stream):
        order = np.random.default_rng(seed).permutation(len(own.times))
        found[encoder][reference] = own._replace(values=own.values[order])
    return found


def still(inputs: Inputs, stream: str) -> Inputs:
    """Return what encoders read of a clip with a stream of zeros."""
    found = copied(inputs)
    for encoder, reference, own in steps_of(inputs, stream):
        found[encoder][reference] = own._replace(values=np.zeros_like(own.values))
    return found


def steps_of(inputs: Inputs, stream: str) -> list[tuple[str, str, base.Steps]]:
    """Return encoder, reference and steps of all that encoders read of a stream."""
    return [
        (encoder, reference, steps)
        for encoder, read in inputs.items()
        for reference, steps in read.items()
        if stream_of(reference)[0] == stream
    ]


def copied(inputs: Mapping[str, Mapping[str, base.Steps]]) -> Inputs:
    """Return the same steps in dictionaries of their own."""
    return {encoder: dict(read) for encoder, read in inputs.items()}
