"""The measurements of tools.benchmarks.training."""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pandas as pd
import torch
from lightning_fabric import Fabric
from torch.utils.flop_counter import FlopCounterMode

from lib.core import parameters, shards
from lib.core.device import best_device, describe_device
from lib.core.errors import InputError
from lib.core.shards import Record
from lib.data.batch import Inputs, collate
from lib.data.dataset import ClipDataset
from lib.data.inputs import list_streams
from lib.data.loading import to_device
from lib.model.network import Network
from lib.model.settings import Settings
from lib.streams import base
from lib.training import run as training_run
from lib.training.data import TrainData
from lib.training.settings import Parameters
from tools.ablate.plan import ParameterChanges, check_choices, plan_variants
from tools.parameters import merge_parameters, plain

SECONDS, FRAMES, FPS = 15.3, 77, 5  # of each random clip
TRAINING_CLIPS = 6000


def run(arguments: argparse.Namespace) -> None:
    """Measure, and print the tables."""
    values = load_untrained(arguments.params)
    train, model = values["train"], values["model"]
    print(f"params/{arguments.params}.yaml on {describe_device(best_device())}; {FRAMES} frames per clip\n")
    columns = ["variant", "parameters M", "trained M", "GFLOP a clip", "kept MiB a clip", "read clips/s"]
    columns += ["clips/s", "waiting", "peak GiB", f"hours, {train['epochs']} epochs"]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    with tempfile.TemporaryDirectory() as folder:
        streams = list_streams(parameters.check(model, Settings).settings_by_encoder())
        clips = write_shards(Path(folder), train["batch_size"] * arguments.batches, values, streams)
        changes_by_name: dict[str, ParameterChanges] = plan_variants(model) | {"asis": {}}
        check_choices("--variants", arguments.variants or (), changes_by_name)
        for name in arguments.variants or plan_variants(model):
            changed = model | {key.removeprefix("model."): value for key, value in changes_by_name[name].items()}
            sections = {"model": changed, "targets": values["targets"], "train": train}
            settings = parameters.check(sections, Parameters)
            print_row(name, settings, clips, Path(folder), not arguments.no_training)


def load_untrained(params: str) -> dict[str, Any]:
    """Return the values of params/`params`.yaml without pretrained weights, which do not change the speed."""
    values: dict[str, Any] = plain(merge_parameters(params, []))
    for encoder in values["model"]["encoders"].values():
        if "weights" in encoder:
            encoder["weights"] = None
    return values


def write_shards(folder: Path, count: int, values: dict[str, Any], streams: list[str]) -> pd.DataFrame:
    """Write one random shard of each stream with the settings in `values` (params.yaml), and return the clip table."""
    rng = np.random.default_rng(0)
    names = [f"{index:06d}.mp4" for index in range(count)]
    for stream in streams:
        (folder / stream).mkdir()
        with h5py.File(folder / stream / "made.h5", "w") as file:
            for name in names:
                record, shapes = random_record(stream, name, values, rng)
                shards.write_record(file, record)
        (folder / stream / base.ABOUT).write_text(json.dumps({"settings": {}, "shapes": shapes}))
    scores = dict.fromkeys(COLUMNS, rng.uniform(size=count))
    return pd.DataFrame({"clip": names, "shard": "made", "corpus": "made", **scores})


def random_record(
    stream: str, clip: str, values: dict[str, Any], rng: np.random.Generator
) -> tuple[Record, dict[str, list[int]]]:
    """Return a random record of a stream, and the shapes of one step of its arrays."""
    side, audio, times = values["faces"]["side"], values["audio"], np.arange(FRAMES) / FPS

    def smooth(steps: int, height: int, width: int, channels: int, low: int, dtype: type) -> np.ndarray:
        coarse = rng.integers(low, low + 255, (steps, -(-height // 8), -(-width // 8), channels))
        return coarse.repeat(8, 1).repeat(8, 2)[:, :height, :width].astype(dtype)

    if stream == "faces":
        arrays = {"faces": smooth(FRAMES, side, side, 3, 0, np.uint8), "found": np.full(FRAMES, 2, np.uint8)}
        return Record(clip, arrays | {"times": times}), {"": [3, side, side]}
    if stream == "flow":
        arrays = {"flow": smooth(FRAMES - 1, side, side, 2, -127, np.int8), "times": times[:-1]}
        return Record(clip, arrays, {"scale": 16 / 127}), {"": [2, side, side]}
    if stream == "landmarks":
        arrays = {"points": rng.uniform(0, side, (FRAMES, 5, 2)).astype(np.float32)}
        return Record(clip, arrays | {"found": np.full(FRAMES, 2, np.uint8), "times": times}), {"": [5, 2]}
    if stream == "frames":
        width = values["frames"]["max_side"]
        height = round(width * 9 / 16)
        pictures = smooth(FRAMES, height, width, 3, 0, np.uint8)
        jpeg = [
            cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, values["frames"]["quality"]])[1]
            for image in pictures
        ]
        arrays = {"times": times, "jpeg": np.concatenate(jpeg), "offsets": np.cumsum([0, *map(len, jpeg)])}
        return Record(clip, arrays), {"": [3, height, width]}
    if stream == "audio":
        windows, bands, coefficients = int(SECONDS / audio["step"]), audio["mels"], audio["mfcc"]
        arrays = {
            "log_mel": rng.normal(size=(windows, bands)).astype(np.float32),
            "mfcc": rng.normal(size=(windows, coefficients)).astype(np.float32),
            "times": np.arange(windows) * audio["step"],
        }
        return Record(clip, arrays), {"log_mel": [bands], "mfcc": [coefficients]}
    raise InputError(f"stream {stream}; allowed: models that read faces, flow, landmarks, frames or audio")


COLUMNS = ("extraversion", "agreeableness", "conscientiousness", "neuroticism", "openness")


def print_row(variant: str, sections: Parameters, table: pd.DataFrame, folder: Path, with_training: bool) -> None:
    train, settings_by_encoder, targets = (
        sections.train,
        sections.model.settings_by_encoder(),
        sections.model.select_targets(sections.targets),
    )
    streams = load_infos(folder, list_streams(settings_by_encoder))
    network, device = Network.from_settings(sections.model, targets, streams).to(best_device()), best_device()
    millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    trained = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad) / 1e6
    data = ClipDataset(table, folder, settings_by_encoder, streams, targets, seed=0)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(to_device(collate([data[0]]), device).inputs)
    row = f"| {variant} | {millions:.1f} | {trained:.1f} | {counter.get_total_flops() / 1e9:.1f} |"
    row += f" {measure_activations(network, to_device(collate([data[0], data[1]]), device).inputs) / 2 / 2**20:.0f} |"
    started = time.process_time()
    collate([data[index] for index in range(train.batch_size)])
    row += f" {train.batch_size / (time.process_time() - started):.0f} |"
    if with_training:
        fabric = Fabric(devices=1, precision=train.precision)
        work = folder / f"work-{variant}"
        work.mkdir()
        settings = train.model_copy(update={"epochs": 2})
        validation = ClipDataset(table.head(2), folder, settings_by_encoder, streams, targets)
        on_gpu = fabric.device.type == "cuda"
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        _, history = training_run.train(
            fabric, network, TrainData(data, validation, targets, settings, settings_by_encoder), work
        )
        peak = (
            torch.cuda.max_memory_allocated() if on_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        )
        speed = history[-1]["clips_per_second"]
        row += f" {speed:.1f} | {history[-1]['waiting']:.0%} | {peak / 2**30:.1f} |"
        row += f" {train.epochs * TRAINING_CLIPS / speed / 3600:.1f} |"
    print(row, flush=True)


def load_infos(folder: Path, names: list[str]) -> dict[str, base.StreamInfo]:
    """Return the contents of stream.json of the random streams, without their inputs, which do not exist."""
    return {name: base.StreamInfo(**json.loads((folder / name / base.ABOUT).read_text())) for name in names}


def measure_activations(network: Network, inputs: Inputs) -> int:
    """Return the bytes of activations, in float32, that a forward pass keeps for the backward pass."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    storages: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network.train()(inputs)
    return sum(storage.nbytes() for pointer, storage in storages.items() if pointer not in weights)
