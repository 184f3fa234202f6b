"""Measure parameters, FLOPs, speed, waiting and memory of training each variant, on made-up shards of FIV2's shape."""

import argparse
import json
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
from lib.core.shards import Record
from lib.data.batch import Inputs, collate
from lib.data.dataset import Clips, streams_of
from lib.model.network import Network
from lib.streams import base
from lib.training import loop
from stages.train import Parameters
from tools.ablate import variants
from tools.parameters import merged, plain

FRAMES, FPS, WINDOWS = 77, 5, 1528  # of a clip of 15.3 s
TRAINING_CLIPS = 6000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--params", default="fiv2", help="a file of params/, without ending (%(default)s)")
    parser.add_argument("--variants", nargs="+", metavar="VARIANT", help="those of tools.ablate (all)")
    parser.add_argument("--batches", type=int, default=8, help="batches an epoch; the second of two epochs counts")
    parser.add_argument("--no-training", action="store_true", help="only parameters and FLOPs, which need no GPU")
    arguments = parser.parse_args()
    values = plain(merged(arguments.params, []))
    for encoder in values["model"]["encoders"].values():
        if "weights" in encoder:
            encoder["weights"] = None  # speed is the same
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    side, train = values["faces"]["side"], values["train"]
    print(f"params/{arguments.params}.yaml on {device}; a clip: {FRAMES} frames of {side} pixels\n")
    hours = f"hours, {train['epochs']} epochs"
    print(
        f"| variant | parameters M | trained M | GFLOP a clip | kept MiB a clip | clips/s | waiting | peak GiB | {hours} |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        clips = write_shards(Path(folder), train["batch_size"] * arguments.batches, side)
        for name, changes in variants(values["model"]).items():
            if name in (arguments.variants or [name]):
                model = values["model"] | {key.removeprefix("model."): value for key, value in changes.items()}
                sections = {"model": model, "targets": values["targets"], "train": train}
                given = parameters.check(sections, Parameters)
                print_row(name, given, clips, Path(folder), not arguments.no_training)


def write_shards(folder: Path, count: int, side: int) -> pd.DataFrame:
    """Write one shard each of faces, flow and audio, of chance, and return their clip table."""
    rng = np.random.default_rng(0)
    names = [f"{index:06d}.mp4" for index in range(count)]

    def smooth(steps: int, channels: int, low: int, of: type) -> np.ndarray:
        coarse = rng.integers(low, low + 255, (steps, side // 8, side // 8, channels))
        return coarse.repeat(8, 1).repeat(8, 2).astype(of)

    for stream in ("faces", "flow", "audio"):
        (folder / stream).mkdir()
        with h5py.File(folder / stream / "made.h5", "w") as file:
            for name in names:
                times = np.arange(FRAMES) / FPS
                if stream == "faces":
                    found = np.full(FRAMES, 2, np.uint8)
                    record = Record(name, {"faces": smooth(FRAMES, 3, 0, np.uint8), "found": found, "times": times})
                elif stream == "flow":
                    arrays = {"flow": smooth(FRAMES - 1, 2, -127, np.int8), "times": times[:-1]}
                    record = Record(name, arrays, {"scale": 16 / 127})
                else:
                    sound = rng.normal(size=(WINDOWS, 64)).astype(np.float32)
                    arrays = {"log_mel": sound, "mfcc": sound[:, :24], "times": np.arange(WINDOWS) / 100}
                    record = Record(name, arrays)
                shards.write(file, record)
        shapes = {
            "faces": {"": [3, side, side]},
            "flow": {"": [2, side, side]},
            "audio": {"log_mel": [64], "mfcc": [24]},
        }
        (folder / stream / base.ABOUT).write_text(json.dumps({"settings": {}, "shapes": shapes[stream]}))
    scores = dict.fromkeys(COLUMNS, rng.uniform(size=count))
    return pd.DataFrame({"clip": names, "shard": "made", "corpus": "made", **scores})


COLUMNS = ("extraversion", "agreeableness", "conscientiousness", "neuroticism", "openness")


def print_row(variant: str, given: Parameters, table: pd.DataFrame, folder: Path, with_training: bool) -> None:
    train, readings, targets = given.train, given.model.readings(), given.model.chosen(given.targets)
    streams = made(folder, streams_of(readings))
    network = Network(given.model, targets, streams)
    parameters_ = sum(one.numel() for one in network.parameters()) / 1e6
    trained = sum(one.numel() for one in network.parameters() if one.requires_grad) / 1e6
    data = Clips(table, folder, readings, streams, targets, seed=0)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(collate([data[0]]).inputs)
    row = f"| {variant} | {parameters_:.1f} | {trained:.1f} | {counter.get_total_flops() / 1e9:.1f} |"
    row += f" {kept_for_backward(network, collate([data[0], data[1]]).inputs) / 2 / 2**20:.0f} |"
    if with_training:
        fabric = Fabric(devices=1, precision=train.precision)
        work = folder / f"work-{variant}"
        work.mkdir()
        settings = train.model_dump(exclude={"augment", "shuffle_labels", "init", "devices", "loggers", "precision"})
        validation = Clips(table.head(2), folder, readings, streams, targets)
        _, history = loop.fit(
            fabric, network, data, validation, targets, work,
            augmentation=train.augment.model_dump(), **(settings | {"epochs": 2}),
        )  # fmt: skip
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


def made(folder: Path, names: list[str]) -> dict[str, base.Made]:
    """Return what stream.json says of the made-up streams, which are made of no others."""
    return {name: base.Made(**json.loads((folder / name / base.ABOUT).read_text())) for name in names}


def kept_for_backward(network: Network, inputs: Inputs) -> int:
    """Return the bytes of activations, in float32, that a forward pass keeps for the backward pass."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network.train()(inputs)
    return sum(storage.nbytes() for pointer, storage in kept.items() if pointer not in weights)


if __name__ == "__main__":
    command.run(main)
