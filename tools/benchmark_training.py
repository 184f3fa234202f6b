"""Measure parameters, FLOPs, speed, waiting and memory of training each fusion, on made-up shards of FIV2's shape."""

import argparse
import resource
import tempfile
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import torch
from lightning_fabric import Fabric
from torch.utils.flop_counter import FlopCounterMode

from lib.core import command, parameters, shards
from lib.core.errors import InputError
from lib.core.shards import Record
from lib.data.batch import Sample, collate
from lib.data.dataset import Clips, streams_of
from lib.model.fusions import FUSIONS
from lib.model.network import Network
from lib.streams.base import Made
from lib.training import loop
from stages.train import Parameters
from tools.parameters import FOLDER, merged, plain

SECONDS, FRAMES = 15.3, 77  # of a clip of FIV2, at 5 frames a second
TRAINING_CLIPS = 6000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--params", default="fiv2", metavar="NAME", help=f"of {FOLDER}/NAME.yaml (%(default)s)")
    parser.add_argument("--use", nargs="+", metavar="ENCODER", help="default: the parameters' model.use")
    parser.add_argument("--fusions", nargs="+", choices=FUSIONS, default=list(FUSIONS), help="default: all")
    parser.add_argument("--batches", type=int, default=8, help="batches an epoch; the second of two epochs counts")
    parser.add_argument("--no-training", action="store_true", help="only parameters and FLOPs, which need no GPU")
    arguments = parser.parse_args()
    values = plain(merged(arguments.params, []))
    side, audio = values["faces"]["side"], values["audio"]
    for encoder in values["model"]["encoders"].values():
        if "weights" in encoder:
            encoder["weights"] = None  # speed is the same
    model = values["model"]
    model["use"], model["queries"], model["missing"] = arguments.use or model["use"], [], "drop"
    given = parameters.check({name: values[name] for name in Parameters.model_fields}, Parameters)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    print(f"params/{arguments.params}.yaml on {device}; a clip: {FRAMES} frames of {side} pixels\n")
    print(
        "| encoders | fusion | parameters M | trained M | GFLOP a clip | kept MiB a clip | clips/s | waiting | peak GiB |"
        f" hours, {given.train.epochs} epochs |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        count = given.train.batch_size * arguments.batches
        names = streams_of(given.model.readings())
        streams = {name: write_shard(Path(folder), name, count, side, audio) for name in names}
        groups = given.model.chosen(given.targets).values()
        middle = {column: sum(group.range) / 2 for group in groups for column in group.columns}
        table = pd.DataFrame({"clip": clip_names(count), "corpus": "made up", "shard": "made"}).assign(**middle)
        for fusion in arguments.fusions:
            print_row(fusion, given, table, streams, Path(folder), not arguments.no_training)


def clip_names(count: int) -> list[str]:
    return [f"{index:06d}.mp4" for index in range(count)]


def write_shard(folder: Path, stream: str, count: int, side: int, audio: dict[str, float]) -> Made:
    """Write a shard of a stream, of chance, and return what its stream.json would say.

    Raises InputError for a stream that is not made up here.
    """
    rng = np.random.default_rng(0)
    if stream == "audio":
        windows = round(SECONDS / audio["step"])
        sizes = {"log_mel": int(audio["mels"]), "mfcc": int(audio["mfcc"])}
        times, shapes = np.arange(windows) * audio["step"], {name: [size] for name, size in sizes.items()}
    elif stream in ("faces", "flow"):
        steps, channels = (FRAMES, 3) if stream == "faces" else (FRAMES - 1, 2)
        times, shapes = np.arange(steps) / 5, {"": [channels, side, side]}
    else:
        raise InputError(f"--use: an encoder reads {stream}; shards are made up of faces, flow and audio alone")
    (folder / stream).mkdir()
    with h5py.File(folder / stream / "made.h5", "w", libver="latest") as file:
        for name in clip_names(count):
            if stream == "audio":
                arrays = {of: rng.normal(size=(windows, size)).astype(np.float32) for of, size in sizes.items()}
            else:
                low, kind = (0, np.uint8) if stream == "faces" else (-127, np.int8)
                smooth = rng.integers(low, low + 255, (steps, side // 8, side // 8, channels))
                arrays = {stream: smooth.repeat(8, 1).repeat(8, 2).astype(kind), "found": np.full(steps, 2, np.uint8)}
            shards.write(file, Record(name, arrays | {"times": times}, {"scale": 16 / 127}))
    return Made({}, shapes)


def print_row(
    fusion: str, given: Parameters, table: pd.DataFrame, streams: dict[str, Made], folder: Path, with_training: bool
) -> None:
    model, train = given.model.model_copy(update={"fusion": fusion}), given.train
    readings, targets = model.readings(), model.chosen(given.targets)
    network = Network(model, targets, streams)
    every = sum(one.numel() for one in network.parameters()) / 1e6
    trained = sum(one.numel() for one in network.parameters() if one.requires_grad) / 1e6
    data = Clips(table, folder, readings, streams, targets, seed=0)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(collate([data[0]]).inputs)
    row = f"| {', '.join(model.use)} | {fusion} | {every:.1f} | {trained:.1f} |"
    row += f" {counter.get_total_flops() / 1e9:.1f} |"
    row += f" {kept_for_backward(network, collate([data[0], data[1]])) / 2 / 2**20:.0f} |"
    if with_training:
        fabric = Fabric(devices=1, precision=train.precision)
        work = folder / fusion
        work.mkdir()
        settings = train.model_dump(include=FITTED) | {"mix": {}, "epochs": 2}
        few = Clips(table.head(2), folder, readings, streams, targets)
        _, history = loop.fit(
            fabric, network, data, few, targets, work, augmentation=train.augment.model_dump(), **settings
        )
        on_gpu = fabric.device.type == "cuda"
        peak = (
            torch.cuda.max_memory_allocated() if on_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        )
        speed = history[-1]["clips_per_second"]
        row += f" {speed:.1f} | {history[-1]['waiting']:.0%} | {peak / 2**30:.1f} |"
        row += f" {train.epochs * TRAINING_CLIPS / speed / 3600:.1f} |"
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
    print(row, flush=True)


def kept_for_backward(network: Network, batch: Sample) -> int:
    """Return the bytes of activations, in float32, that a forward pass keeps for the backward pass."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network.train()(batch.inputs)
    return sum(storage.nbytes() for pointer, storage in kept.items() if pointer not in weights)


FITTED = {
    "seed", "batch_size", "accumulate", "label_weighting", "learning_rate", "weight_decay", "schedule", "warmup",
    "patience", "clip_norm", "workers",
}  # fmt: skip


if __name__ == "__main__":
    command.run(main)
