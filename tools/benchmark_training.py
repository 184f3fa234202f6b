"""Measure parameters, FLOPs, speed, waiting and memory of training each fusion, on made-up shards of FIV2's shape."""

import argparse
import resource
import tempfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import torch
import yaml
from lightning_fabric import Fabric
from torch.utils.flop_counter import FlopCounterMode

from lib.core import command
from lib.core.targets import SCORES
from lib.data.dataset import Clips, collate
from lib.model.fusions import FUSIONS
from lib.model.network import Network
from lib.training import loop

FRAMES = 77  # of a clip of 15.3 s at 5 a second
TRAINING_CLIPS = 6000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--params", type=Path, default=Path("params/fiv2.yaml"), help="a file like params.yaml (%(default)s)"
    )
    parser.add_argument("--fusions", nargs="+", choices=FUSIONS, default=list(FUSIONS), help="default: all")
    parser.add_argument("--batches", type=int, default=8, help="batches an epoch; the second of two epochs counts")
    parser.add_argument("--no-training", action="store_true", help="only parameters and FLOPs, which need no GPU")
    arguments = parser.parse_args()
    settings = yaml.safe_load(arguments.params.read_text())
    settings["model"]["static"]["weights"] = settings["model"]["dynamic"]["weights"] = None  # speed is the same
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    hours = f"hours, {settings['train']['epochs']} epochs"
    print(f"{arguments.params} on {device}; a clip: {FRAMES} frames of {settings['faces']['size']} pixels\n")
    print(
        f"| fusion | parameters M | trained M | GFLOP a clip | kept MiB a clip | clips/s | waiting | peak GiB | {hours} |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        clips = write_shards(
            Path(folder), settings["train"]["batch_size"] * arguments.batches, settings["faces"]["size"]
        )
        for fusion in arguments.fusions:
            print_row(fusion, settings, clips, Path(folder), not arguments.no_training)


def write_shards(folder: Path, count: int, size: int) -> pd.DataFrame:
    """Write one shard of faces and one of flow, of chance, and return their clip table."""
    rng = np.random.default_rng(0)
    names = [f"{index:06d}.mp4" for index in range(count)]
    for stream, shape, low in (("faces", (FRAMES, size, size, 3), 0), ("flow", (FRAMES - 1, size, size, 2), -127)):
        (folder / stream).mkdir()
        with h5py.File(folder / stream / "made.h5", "w") as file:
            for name in names:
                group = file.create_group(name)
                smooth = rng.integers(low, low + 255, (shape[0], size // 8, size // 8, shape[3]))
                array = smooth.repeat(8, 1).repeat(8, 2).astype(np.uint8 if stream == "faces" else np.int8)
                group.create_dataset(stream, data=array, chunks=(1, *shape[1:]), compression="gzip")
                group["times"], group["found"] = np.arange(FRAMES) / 5, np.full(FRAMES, 2, np.uint8)
                group.attrs["scale"] = 16 / 127
    return pd.DataFrame({"clip": names, "shard": "made", **dict.fromkeys(SCORES, rng.uniform(size=count))})


def print_row(fusion: str, settings: dict[str, Any], table: pd.DataFrame, folder: Path, with_training: bool) -> None:
    train, frames = settings["train"], settings["model"]["static"]["frames"]
    network = Network(**(settings["model"] | {"fusion": fusion}))
    parameters = sum(one.numel() for one in network.parameters()) / 1e6
    trained = sum(one.numel() for one in network.parameters() if one.requires_grad) / 1e6
    data = Clips(table, folder / "faces", folder / "flow", frames, seed=0)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(collate([data[0]]))
    row = f"| {fusion} | {parameters:.1f} | {trained:.1f} | {counter.get_total_flops() / 1e9:.1f} |"
    row += f" {kept_for_backward(network, collate([data[0], data[1]])) / 2 / 2**20:.0f} |"
    if with_training:
        fabric = Fabric(devices=1, precision=train["precision"])
        work = folder / fusion
        work.mkdir()
        _, history = loop.fit(
            fabric, network, data, Clips(table.head(2), folder / "faces", folder / "flow", frames), work,
            augmentation=train["augment"], **{key: train[key] for key in FITTED}, epochs=2,
        )  # fmt: skip
        on_gpu = fabric.device.type == "cuda"
        peak = (
            torch.cuda.max_memory_allocated() if on_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        )
        speed = history[-1]["clips_per_second"]
        row += f" {speed:.1f} | {history[-1]['waiting']:.0%} | {peak / 2**30:.1f} |"
        row += f" {train['epochs'] * TRAINING_CLIPS / speed / 3600:.1f} |"
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
    print(row, flush=True)


def kept_for_backward(network: Network, batch: dict[str, torch.Tensor]) -> int:
    """Return the bytes of activations, in float32, that a forward pass keeps for the backward pass."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network.train()(batch)
    return sum(storage.nbytes() for pointer, storage in kept.items() if pointer not in weights)


FITTED = (
    "seed", "batch_size", "accumulate", "loss", "label_weighting", "learning_rate", "weight_decay", "schedule",
    "warmup", "patience", "clip_norm", "workers",
)  # fmt: skip


if __name__ == "__main__":
    command.run(main)
