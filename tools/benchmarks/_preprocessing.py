"""The measurements of tools.benchmarks.preprocessing."""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any
from unittest import mock

import av
import cv2
import numpy as np
import torch
from av.video.reformatter import VideoReformatter
from facenet_pytorch import MTCNN

from lib.core import parameters, resume, shards
from lib.core.device import best_device
from lib.core.errors import InputError
from lib.core.parallel import Parallel
from lib.core.shards import Record
from lib.streams import base, frames
from lib.streams._shards import write_shards
from lib.streams.base import Raw, Stream, StreamSettings
from lib.streams.faces.align import Aligner, describe_faces, take_landmarks, warp
from lib.streams.faces.detect import BATCH, Detector, Faces
from lib.streams.faces.follow import follow
from lib.streams.faces.frame import Frame
from lib.streams.faces.mtcnn import load_networks
from lib.streams.flow import fields, make
from tools.benchmarks._flow import PEER, SIZE, SOLVER
from tools.benchmarks._preprocessing_tables import compare, compare_tracking

FPS, MAX_SIDE, QUALITY, MIN_FACE, KEY_SECONDS, BOUND = 5.0, 640, 90, 40, 1.0, 16.0
MTCNN_MIN_FACE = 20  # facenet-pytorch's default
CLIPS_A_SHARD = 2
MANY, WORKERS = (8, 16, 32, 64), (1, 2)
EARLIER = "earlier version"
_STAGES: dict[str, dict[str, Any]] = {
    "frames": {"enabled": True, "fps": FPS, "max_side": MAX_SIDE, "quality": QUALITY},
    "faces": {
        "enabled": True,
        "side": SIZE,
        "min_face": MIN_FACE,
        "min_found": 0.5,
        "max_gap": 1.0,
        "key_seconds": KEY_SECONDS,
        "detector": "mtcnn",
        "identity": "none",
        "weights": None,
    },
    "flow": {
        "enabled": True,
        "backend": "torch",
        "bound": BOUND,
        **{key.rstrip("_"): of for key, of in asdict(SOLVER).items()},
    },
}


def run(arguments: argparse.Namespace) -> None:
    """Measure, and print the tables."""
    print(f"{torch.get_num_threads()} CPU threads; device: {best_device()}\n")
    print("| clip | way | frames s | faces s | flow s | sum s | times as fast |")
    print("|---|---|---|---|---|---|---|")
    compared, tracked = zip(*(print_times(path, arguments.runs) for path in arguments.clips), strict=True)
    print("\n| clip | frames | every frame detected | tracked | apart: median | 95 % | most | as they come |")
    print("|---|---|---|---|---|---|---|---|")
    print("\n".join(tracked))
    print("\n| clip | faces: both | only ours | only theirs | points apart | flow energy | as stored |")
    print("|---|---|---|---|---|---|---|")
    print("\n".join(compared))
    print("\n| workers | clips | seconds | seconds a clip | peak MiB of a worker: frames | faces | flow |")
    print("|---|---|---|---|---|---|---|")
    for workers in WORKERS:
        for count in MANY:
            print_many(list(islice(cycle(arguments.clips), count)), workers)


class Facenet(Detector):
    """facenet-pytorch's MTCNN without changes."""

    def __init__(self, min_face: int) -> None:
        super().__init__(min_face, load_networks(best_device()))
        self._theirs = MTCNN(keep_all=True, min_face_size=min_face, device=best_device())

    def __call__(self, frames: Sequence[np.ndarray]) -> list[Faces]:
        faces = []
        for start in range(0, len(frames), BATCH):
            batch = np.stack(frames[start : start + BATCH])
            for boxes, scores, points in zip(*self._theirs.detect(batch, landmarks=True), strict=True):
                is_empty = boxes is None
                arrays = (np.empty((0, 4)), np.empty(0), np.empty((0, 5, 2))) if is_empty else (boxes, scores, points)
                faces.append(Faces(*(np.asarray(values, float) for values in arrays)))
        return faces


class EveryFrame(Aligner):
    """Our stage with facenet-pytorch's MTCNN on every frame."""

    def __init__(self) -> None:
        super().__init__(SIZE, Facenet(MIN_FACE), 0.5, 1.0, 0.0)


class ScalerAFrame:
    """Scales each frame with a new scaler."""

    @staticmethod
    def reformat(frame: av.VideoFrame, *size: Any, **how: Any) -> av.VideoFrame:
        return VideoReformatter().reformat(frame, *size, **how)


@contextmanager
def decoding(way: str) -> Iterator[None]:
    """In the variant EARLIER, the stage frames decodes all frames, with a new scaler for each."""
    if way == EARLIER:
        with (
            mock.patch("lib.media.frames._plan_frames", return_value=[]),
            mock.patch("lib.media.packets.VideoReformatter", ScalerAFrame),
        ):
            yield
    else:
        yield


def clock() -> float:
    return time.perf_counter() if best_device().type == "cuda" else time.process_time()


def print_times(path: Path, runs: int) -> tuple[str, str]:
    """Print the rows of a clip's times; return its rows for the tables of results and of tracking."""
    aligners = {EARLIER: EveryFrame(), "every frame": new_aligner(0.0), "ours": new_aligner()}
    (faces_by_frame, face_of, side), their_seconds = straightforward(path)
    runs_by_way: list[dict[str, tuple[tuple[Record, Record], list[float]]]] = [{} for _ in range(runs)]
    for run in runs_by_way:
        for way, aligner in aligners.items():
            with decoding(way):
                run[way] = ours(path, aligner)
    all_seconds = {
        "straightforward": [their_seconds],
        **{way: [run[way][1] for run in runs_by_way] for way in aligners},
    }
    for way, runs_of_way in all_seconds.items():
        seconds = [statistics.median(times_of_stage) for times_of_stage in zip(*runs_of_way, strict=True)]
        times = " | ".join(f"{value:.2f}" for value in (*seconds, sum(seconds)))
        print(f"| {path.name} | {way} | {times} | {sum(their_seconds) / sum(seconds):.1f} |", flush=True)
    record, flow = runs_by_way[-1]["ours"][0]
    refined = usable(path, new_aligner(1 / (2 * FPS))(sampled(path)))
    tracked = compare_tracking(path.name, runs_by_way[-1]["every frame"][0][0], refined, record)
    return compare(path.name, faces_by_frame, face_of, max(1, side / MAX_SIDE), record, flow), tracked


def ours(path: Path, aligner: Aligner) -> tuple[tuple[Record, Record], list[float]]:
    """Return the stages' aligned faces and flow, and the seconds of frames, faces and flow."""
    moments = [clock()]
    record = sampled(path)
    moments.append(clock())
    faces = usable(path, aligner(record))
    moments.append(clock())
    flow = make.compute_flow(faces, "torch", SOLVER, BOUND, best_device())
    moments.append(clock())
    return (faces, flow), np.diff(moments).tolist()


def sampled(path: Path) -> Record:
    return usable(path, frames.sample_frames(Raw(path.name, path, None), FPS, MAX_SIDE, QUALITY))


def usable(path: Path, record: Record) -> Record:
    """Return the record. Raises InputError if the clip is rejected."""
    if record.rejected:
        raise InputError(f"{path}: {record.rejected}")
    return record


def new_aligner(key_seconds: float = KEY_SECONDS) -> Aligner:
    return Aligner(SIZE, Detector(MIN_FACE, load_networks(best_device())), 0.5, 1.0, key_seconds)


def straightforward(path: Path) -> tuple[tuple[list[Faces], np.ndarray, int], list[float]]:
    """Return the faces of each sampled frame, the index of the tracked face, and the frames' longer side; and the seconds of
    decoding, faces (including alignment) and flow."""
    moments = [clock()]
    pictures = _read(path)
    moments.append(clock())
    detect = Facenet(MTCNN_MIN_FACE)
    faces_by_frame = [detect([picture])[0] for picture in pictures]
    frames_of_clip = list(map(Frame, pictures))
    thumbnails, cut = describe_faces(faces_by_frame, [frames_of_clip])
    face_of = follow(faces_by_frame, thumbnails, cut, np.arange(len(pictures)) / FPS).faces
    landmarks, visible = take_landmarks(faces_by_frame, face_of)
    crops = np.stack([warp(frames_of_clip[index], landmarks[index], SIZE) for index in np.flatnonzero(visible)])
    moments.append(clock())
    grey = torch.from_numpy(fields.to_grey(crops))
    make.solve_by_opencv(grey[:-1], grey[1:], PEER)
    moments.append(clock())
    return (faces_by_frame, face_of, max(pictures[0].shape)), np.diff(moments).tolist()


def _read(path: Path) -> list[np.ndarray]:
    """Decode all frames, and return those that are visible at k / FPS seconds."""
    capture, last = cv2.VideoCapture(str(path)), None
    sampled_frames: list[np.ndarray] = []
    while True:
        is_read, picture = capture.read()
        now = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if not is_read:
            break
        while last is not None and len(sampled_frames) / FPS < now - 1e-6:
            sampled_frames.append(last)
        last = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
    return sampled_frames if last is None else [*sampled_frames, last]


def print_many(paths: list[Path], workers: int) -> None:
    """Print a row with the seconds of all stages and the peak memory of each stage's workers (Linux).

    The clips are in shards of CLIPS_A_SHARD, for `workers` worker processes.
    """
    names = {f"{start:05d}": paths[start : start + CLIPS_A_SHARD] for start in range(0, len(paths), CLIPS_A_SHARD)}
    parallel, total, peaks = Parallel(engine="loky", workers=workers), 0.0, []
    with tempfile.TemporaryDirectory() as folder:
        resume.ROOT = Path(folder, "work")
        for name, section in _STAGES.items():
            stream = base.load(name)
            settings, memory = parameters.check(section, stream.settings), Path(folder, "memory", name)
            memory.mkdir(parents=True)

            def make_shard(shard: str, stream: Stream, settings: StreamSettings, memory: Path) -> Iterator[Record]:
                if stream.inputs == (base.RAW,):
                    inputs: Iterable[Any] = [Raw(f"{number}", path, None) for number, path in enumerate(names[shard])]
                else:
                    inputs = shards.read_records(Path(folder, stream.inputs[0], f"{shard}.h5"))
                yield from map(stream.make_extractor(settings), inputs)
                # not getrusage's ru_maxrss, which includes the memory of the process that this one was forked from
                status = Path("/proc/self/status").read_text()
                (memory / str(os.getpid())).write_text(status.partition("VmHWM:")[2].split()[0])

            make = partial(make_shard, stream=stream, settings=settings, memory=memory)
            seconds, _ = write_shards(
                stream, settings, Path(folder, name), dict.fromkeys(names), make, clips=len(paths), options=parallel
            )
            total += seconds
            peaks.append(max(int(path.read_text()) for path in memory.iterdir()) / 1024)
    peak_columns = " | ".join(f"{peak:.0f}" for peak in peaks)
    print(
        f"| {workers} | {len(paths)} | {total:.1f} | {total / len(paths):.2f} | {peak_columns} |",
        flush=True,
    )
