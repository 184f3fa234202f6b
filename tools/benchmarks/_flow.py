"""The measurements of tools.benchmarks.flow."""

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import torch
from skimage.registration import optical_flow_tvl1
from torch import Tensor

from lib.core import shards
from lib.core.device import best_device
from lib.core.errors import InputError
from lib.streams.base import Raw
from lib.streams.flow import make, tvl1
from lib.streams.flow.fields import to_grey
from lib.streams.flow.solver import Solver
from tools.flow_quality import add_noise, deformation, endpoint_error, energy, move_image

SOLVER = Solver(
    lambda_=0.15,
    theta=0.1,
    tau=0.15,
    scales=7,
    scale_step=0.8,
    warps=3,
    iterations=300,
    epsilon=0.01,
    median=True,
)
PEER = replace(SOLVER, scales=5, warps=5)  # defaults of OpenCV's DualTVL1
AMPLITUDES = 0.5, 1, 2, 4, 8
SIZE = 112
NOISE = 4.0  # grey levels
Method = Callable[[Tensor, Tensor], Tensor]


def run(arguments: argparse.Namespace) -> None:
    """Measure, and print the tables."""
    methods = choose_methods()
    if unknown := [name for name in arguments.methods or () if name not in methods]:
        raise InputError(f"--methods {unknown[0]!r}; allowed on this machine: {', '.join(methods)}")
    if arguments.methods:
        methods = {name: solve for name, solve in methods.items() if name in ("cv2 DualTVL1", *arguments.methods)}
    print(f"{torch.get_num_threads()} CPU threads; device: {best_device()}")
    for path in arguments.inputs:
        for name, grey in load_faces(path):
            print_table(name, grey, methods, arguments.runs)


def choose_methods() -> dict[str, Method]:
    """Return the methods that this machine can run. DualTVL1, the reference, comes first."""
    methods: dict[str, Method] = {
        "cv2 DualTVL1": lambda a, b: make.solve_by_opencv(a, b, PEER),
        "ours, CPU": lambda a, b: tvl1.tvl1(a, b, SOLVER),
        "cv2 DIS, medium": one_by_one(
            lambda a, b: cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(a, b, None)  # type: ignore[attr-defined]
        ),
        # skimage's arrays have rows first
        "skimage TV-L1": one_by_one(
            lambda a, b: optical_flow_tvl1(a / np.float32(255), b / np.float32(255))[::-1].transpose(1, 2, 0)
        ),
    }
    if torch.cuda.is_available():
        methods["ours, GPU"] = lambda a, b: tvl1.tvl1(a.cuda(), b.cuda(), SOLVER).cpu()
        methods["RAFT small, random weights, GPU"] = raft()
    if torch.cuda.is_available() and find_spec("cucim"):
        methods["cuCIM TV-L1, GPU"] = cucim()
    return methods


def one_by_one(solve: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Method:
    def method(previous: Tensor, next: Tensor) -> Tensor:
        flows = [solve(a.numpy(), b.numpy()) for a, b in zip(previous, next, strict=True)]
        return torch.from_numpy(np.stack(flows)).permute(0, 3, 1, 2).float()

    return method


def cucim() -> Method:
    import cupy
    from cucim.skimage.registration import optical_flow_tvl1 as solve

    return one_by_one(
        lambda a, b: cupy.asnumpy(solve(cupy.asarray(a / np.float32(255)), cupy.asarray(b / np.float32(255))))[
            ::-1
        ].transpose(1, 2, 0)
    )


def raft() -> Method:
    from torchvision.models.optical_flow import raft_small

    network = raft_small().cuda().eval()

    @torch.no_grad()
    def method(previous: Tensor, next: Tensor) -> Tensor:
        a, b = (image.cuda().float()[:, None].expand(-1, 3, -1, -1) / 127.5 - 1 for image in (previous, next))
        a, b = (torch.nn.functional.interpolate(image, (128, 128)) for image in (a, b))  # smallest input of RAFT
        return torch.nn.functional.interpolate(network(a, b)[-1], previous.shape[1:]).cpu()

    return method


def load_faces(path: Path) -> list[tuple[str, Tensor]]:
    """Return (name, grey faces (T, S, S) uint8) for the clip of a video file or for each clip of a shard."""
    if path.suffix == ".h5":
        records = list(shards.read_records(path))
    else:
        from lib.streams import frames  # imported here, because shards do not need PyAV and facenet-pytorch
        from lib.streams.faces.align import Aligner
        from lib.streams.faces.detect import Detector
        from lib.streams.faces.mtcnn import load_networks

        sampled = frames.sample_frames(Raw(path.name, path, None), 5, 640, 90)
        records = [
            sampled
            if sampled.rejected
            else Aligner(SIZE, Detector(40, load_networks(best_device())), 0.5, 1.0, 1.0)(sampled)
        ]
    for record in records:
        if record.rejected:
            raise InputError(f"{path}: {record.rejected}")
    return [
        (record.clip, torch.from_numpy(to_grey(record.arrays["faces"][record.arrays["found"] > 0])))
        for record in records
    ]


def print_table(name: str, grey: Tensor, methods: dict[str, Method], runs: int) -> None:
    previous, next = grey[:-1], grey[1:]
    face = grey[len(grey) // 2]
    motions = [deformation(face.shape[-1], amplitude) for amplitude in AMPLITUDES]
    seconds: dict[str, list[float]] = {method: [] for method in methods}
    flows: dict[str, Tensor] = {}
    for solve in methods.values():  # warm up: compile, allocate
        solve(previous[:2], next[:2])
    for _ in range(runs):
        for method, solve in methods.items():
            started = time.perf_counter()
            flows[method] = solve(previous, next)
            seconds[method].append(time.perf_counter() - started)
    ms_per_pair = {method: 1000 * statistics.median(taken) / len(previous) for method, taken in seconds.items()}
    peer = flows["cv2 DualTVL1"]
    bounds = energy(previous, next, peer)
    print(f"\n{name}: {len(previous)} pairs of {grey.shape[-1]} x {grey.shape[-2]}\n")
    print(
        "| method | ms/pair | times as fast | energy | pairs ≤ 1.01 | median difference px | endpoint error px |"
        " in noise px | peak MiB |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for method, solve in methods.items():
        energies = energy(previous, next, flows[method])
        difference = (flows[method] - peer).norm(dim=1).median()
        error, in_noise = (
            statistics.mean(
                endpoint_error(
                    solve(add_noise(move_image(face.numpy(), motion), noise), add_noise(face[None], noise, seed=1))[0],
                    motion,
                )
                for motion in motions
            )
            for noise in (0.0, NOISE)
        )
        print(
            f"| {method} | {ms_per_pair[method]:.2f} | {ms_per_pair['cv2 DualTVL1'] / ms_per_pair[method]:.1f} |"
            f" {energies.mean() / bounds.mean():.3f} | {(energies <= 1.01 * bounds).float().mean():.0%} | {difference:.3f} |"
            f" {error:.3f} | {in_noise:.3f} | {peak_memory(method, previous, next)} |"
        )


def peak_memory(method: str, previous: Tensor, next: Tensor) -> str:
    """Return a method's peak memory in MiB, without its input, in a separate process; after a +, its peak memory on the GPU,
    with its input."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        taken = process.submit(_peak_memory, method, previous.numpy(), next.numpy()).result()
    return " + ".join(f"{value / 2**20:.0f}" for value in taken)


def _peak_memory(method: str, previous: np.ndarray, next: np.ndarray) -> list[int]:
    solve, pictures = choose_methods()[method], (torch.from_numpy(previous), torch.from_numpy(next))
    solve(pictures[0][:2], pictures[1][:2])
    Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets VmHWM
    before = _status("VmRSS")
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    solve(*pictures)
    peak = [_status("VmHWM") - before]
    return [*peak, torch.cuda.max_memory_allocated()] if torch.cuda.is_available() else peak


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))
