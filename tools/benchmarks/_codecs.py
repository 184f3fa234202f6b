"""The measurements of tools.benchmarks.codecs."""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np

from lib.streams.flow import tvl1
from tools.benchmarks._flow import SOLVER, load_faces

BOUND = 16.0  # pixels, like flow.bound
JPEG_BOUND = 20.0  # pixels, as in two-stream networks (Wang et al. 2016, Temporal segment networks)

Filters = Mapping[str, Any]
Pack = Callable[[np.ndarray], np.ndarray]
VALUES: dict[str, tuple[Pack, Pack]] = {
    "float32": (lambda flow: flow, lambda stored: stored),
    "float16": (lambda flow: flow.astype(np.float16), lambda stored: stored.astype(np.float32)),
    "int16": (lambda flow: steps(flow, 32767).astype(np.int16), lambda stored: stored * np.float32(BOUND / 32767)),
    "int8": (lambda flow: steps(flow, 127).astype(np.int8), lambda stored: stored * np.float32(BOUND / 127)),
}
"""Format -> functions from a flow (T, H, W, 2) in pixels to the stored array, and back."""


def run(arguments: argparse.Namespace) -> None:
    """Measure, and print the tables."""
    flows = [
        tvl1.tvl1(grey[:-1], grey[1:], SOLVER).permute(0, 2, 3, 1).contiguous().numpy()
        for path in arguments.inputs
        for _, grey in load_faces(path)
    ]
    print(
        f"clips: {len(flows)}; flows per clip: {np.mean([len(flow) for flow in flows]):.0f}; size:"
        f" {flows[0].shape[1:3]}"
    )
    print("\n| values | codec | kB/clip | largest error px | mean error px | write ms/clip | read ms/clip |")
    print("|---|---|---|---|---|---|---|")
    for values, (pack, unpack) in VALUES.items():
        for codec, filters in codecs().items():
            print_row(f"{values} | {codec}", flows, arguments.runs, pack, unpack, filters)
    print_row("uint8 | JPEG, quality 95", flows, arguments.runs, to_jpeg, from_jpeg, {})


def codecs() -> dict[str, Filters]:
    """Return the filters of h5py, and those of hdf5plugin if it is installed, by name."""
    filters: dict[str, Filters] = {
        "none": {},
        "lzf, shuffled": {"compression": "lzf", "shuffle": True},
        "gzip 4, shuffled": {"compression": "gzip", "compression_opts": 4, "shuffle": True},
    }
    if find_spec("hdf5plugin"):
        import hdf5plugin

        filters["zstd 3, shuffled"] = {**hdf5plugin.Zstd(clevel=3), "shuffle": True}
        filters["blosc2 zstd 3, bits shuffled"] = hdf5plugin.Blosc2(cname="zstd", clevel=3, filters=2)
    return filters


def print_row(name: str, flows: list[np.ndarray], runs: int, pack: Pack, unpack: Pack, filters: Filters) -> None:
    written, read, size = [], [], 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "shard.h5")
        for _ in range(runs):
            started = time.perf_counter()
            with h5py.File(path, "w", libver="latest") as file:
                for clip, flow in enumerate(flows):
                    stored = pack(flow)
                    chunks = (1, *stored.shape[1:])
                    file.create_dataset(str(clip), data=stored, chunks=chunks, **filters)
            written.append(time.perf_counter() - started)
            started = time.perf_counter()
            with h5py.File(path) as file:
                back = [unpack(file[str(clip)][()]) for clip in range(len(flows))]
            read.append(time.perf_counter() - started)
        size = path.stat().st_size
    error = np.concatenate([np.abs(a - b).ravel() for a, b in zip(flows, back, strict=True)])
    write_ms, read_ms = (1000 * statistics.median(seconds) / len(flows) for seconds in (written, read))
    print(
        f"| {name} | {size / 1000 / len(flows):.0f} | {error.max():.4f} | {error.mean():.4f} |"
        f" {write_ms:.1f} | {read_ms:.1f} |"
    )


def steps(flow: np.ndarray, levels: int) -> np.ndarray:
    return np.round(flow * (levels / BOUND)).clip(-levels, levels)


def to_jpeg(flow: np.ndarray) -> np.ndarray:
    """Return flow (T, H, W, 2) as T JPEG images, with both components side by side."""
    grey = np.round((flow.clip(-JPEG_BOUND, JPEG_BOUND) / JPEG_BOUND + 1) * 127.5).astype(np.uint8)
    encoded = [cv2.imencode(".jpg", np.hstack([image[..., 0], image[..., 1]]))[1] for image in grey]
    stored = np.empty(len(encoded), h5py.vlen_dtype(np.uint8))
    stored[:] = encoded
    return stored


def from_jpeg(stored: np.ndarray) -> np.ndarray:
    grey = np.stack([np.asarray(cv2.imdecode(picture, cv2.IMREAD_GRAYSCALE)) for picture in stored])
    return np.stack(np.split(grey, 2, axis=2), -1) * np.float32(JPEG_BOUND / 127.5) - np.float32(JPEG_BOUND)
