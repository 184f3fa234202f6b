"""Time frames, faces and flow of video clips against the straightforward way, and hold the results against each other.

The straightforward way decodes with cv2.VideoCapture, runs facenet-pytorch's MTCNN as it comes (faces from 20 pixels on)
on one full-size frame after the other, and OpenCV's DualTVL1 on one pair after the other. Between it and ours: our stages
as they were, with all frames decoded, a scaler made for each and facenet-pytorch's MTCNN on every frame, in batches; and
ours on every frame (faces.key_seconds: 0). Seconds are the process' on the CPU, of all its threads; with a GPU those that
pass.
"""

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

from lib.core import command, parameters, resume, shards
from lib.core.device import best_device
from lib.core.errors import InputError
from lib.core.parallel import Parallel
from lib.core.shards import Record
from lib.streams import base, build, frames
from lib.streams.base import Raw, Stream, StreamSettings
from lib.streams.faces.align import Aligner, choose_person, take_landmarks, warp
from lib.streams.faces.detect import BATCH, Detector, Faces
from lib.streams.faces.frame import Frame
from lib.streams.faces.words import DETECTED
from lib.streams.flow import make, opencv, tvl1
from tools.benchmarks.flow import PEER, SIZE, SOLVER
from tools.flow_quality import energy

FPS, MAX_SIDE, QUALITY, MIN_FACE, KEY_SECONDS, BOUND = 5.0, 640, 90, 40, 1.0, 16.0
MTCNN_MIN_FACE = 20  # facenet-pytorch's default
CLIPS_A_SHARD = 2
MANY, WORKERS = (8, 16, 32, 64), (1, 2)
AS_IT_WAS = "as it was"
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
        "weights": None,
    },
    "flow": {
        "enabled": True,
        "backend": "torch",
        "bound": BOUND,
        **{key.rstrip("_"): of for key, of in asdict(SOLVER).items()},
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", nargs="+", type=Path, metavar="CLIP", help="a video file")
    parser.add_argument("--runs", type=int, default=3, help="runs of ours; medians are printed (%(default)s)")
    arguments = parser.parse_args()
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
    """facenet-pytorch's MTCNN as it comes."""

    def __init__(self, min_face: int) -> None:
        super().__init__(min_face, best_device())
        self._theirs = MTCNN(keep_all=True, min_face_size=min_face, device=best_device())

    def __call__(self, frames: Sequence[np.ndarray]) -> list[Faces]:
        faces = []
        for start in range(0, len(frames), BATCH):
            batch = np.stack(frames[start : start + BATCH])
            for boxes, scores, points in zip(*self._theirs.detect(batch, landmarks=True), strict=True):
                none = boxes is None
                of_frame = (np.empty((0, 4)), np.empty(0), np.empty((0, 5, 2))) if none else (boxes, scores, points)
                faces.append(Faces(*(np.asarray(one, float) for one in of_frame)))
        return faces


class EveryFrame(Aligner):
    """Our stage, with facenet-pytorch's MTCNN on every frame."""

    def __init__(self) -> None:
        super().__init__(SIZE, Facenet(MIN_FACE), 0.5, 1.0, 0.0)


class ScalerAFrame:
    """Scales each frame with a scaler of its own."""

    @staticmethod
    def reformat(frame: av.VideoFrame, *size: Any, **how: Any) -> av.VideoFrame:
        return VideoReformatter().reformat(frame, *size, **how)


@contextmanager
def decoding(way: str) -> Iterator[None]:
    """Let `frames` decode all frames, and make a scaler for each, in the way that was."""
    if way == AS_IT_WAS:
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
    """Print a clip's rows of times; return its rows of the tables that compare results and tracking."""
    aligners = {AS_IT_WAS: EveryFrame(), "every frame": new_aligner(0.0), "ours": new_aligner()}
    (seen, face_of, side), their_seconds = straightforward(path)
    of_runs: list[dict[str, tuple[tuple[Record, Record], list[float]]]] = [{} for _ in range(runs)]
    for run in of_runs:
        for way, aligner in aligners.items():
            with decoding(way):
                run[way] = ours(path, aligner)
    all_seconds = {"straightforward": [their_seconds], **{way: [run[way][1] for run in of_runs] for way in aligners}}
    for way, of_way in all_seconds.items():
        seconds = [statistics.median(one) for one in zip(*of_way, strict=True)]
        times = " | ".join(f"{one:.2f}" for one in (*seconds, sum(seconds)))
        print(f"| {path.name} | {way} | {times} | {sum(their_seconds) / sum(seconds):.1f} |", flush=True)
    record, flow = of_runs[-1]["ours"][0]
    refined = usable(path, new_aligner(1 / (2 * FPS))(sampled(path)))
    tracked = compare_tracking(path.name, of_runs[-1]["every frame"][0][0], refined, record)
    return compare(path.name, seen, face_of, max(1, side / MAX_SIDE), record, flow), tracked


def ours(path: Path, aligner: Aligner) -> tuple[tuple[Record, Record], list[float]]:
    """Return the aligned faces and the flow as the stages make them, and the seconds of frames, faces and flow."""
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
    """Return the record. Raises InputError if the clip is refused."""
    if record.refused:
        raise InputError(f"{path}: {record.refused}")
    return record


def new_aligner(key_seconds: float = KEY_SECONDS) -> Aligner:
    return Aligner(SIZE, Detector(MIN_FACE, best_device()), 0.5, 1.0, key_seconds)


def straightforward(path: Path) -> tuple[tuple[list[Faces], np.ndarray, int], list[float]]:
    """Return each sampled frame's faces, which of them is followed, and the frames' longer side; and the seconds of
    decoding, faces (alignment too) and flow."""
    moments = [clock()]
    pictures = _read(path)
    moments.append(clock())
    detect = Facenet(MTCNN_MIN_FACE)
    seen = [detect([picture])[0] for picture in pictures]
    shown = list(map(Frame, pictures))
    face_of = choose_person(seen, [shown], np.arange(len(pictures)) / FPS).faces
    landmarks, found = take_landmarks(seen, face_of)
    crops = np.stack([warp(shown[at], landmarks[at], SIZE) for at in np.flatnonzero(found)])
    moments.append(clock())
    grey = make.to_grey(torch.from_numpy(crops))
    opencv.tvl1(grey[:-1], grey[1:], PEER)
    moments.append(clock())
    return (seen, face_of, max(pictures[0].shape)), np.diff(moments).tolist()


def _read(path: Path) -> list[np.ndarray]:
    """Decode all frames; keep the one on show at each k / FPS seconds."""
    capture, last = cv2.VideoCapture(str(path)), None
    kept: list[np.ndarray] = []
    while True:
        there, picture = capture.read()
        now = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if not there:
            break
        while last is not None and len(kept) / FPS < now - 1e-6:
            kept.append(last)
        last = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
    return kept if last is None else [*kept, last]


def compare_tracking(name: str, every: Record, refined: Record, tracked: Record) -> str:
    """Return a row: frames; those with a face where every frame is detected and refined, and where faces are tracked; how
    far the five points are then apart, of the face's width: twice the distance of the eyes; and at the median how far
    tracked ones are from those that are detected in every frame and not refined."""
    apart = [_apart(of, tracked) for of in (refined, every)]
    figures = " | ".join(
        f"{one:.2%}" for one in (*np.percentile(apart[0], [50, 95]), apart[0].max(), np.median(apart[1]))
    )
    there = [(record.arrays["found"] == DETECTED).sum() for record in (refined, tracked)]
    return f"| {name} | {len(tracked.arrays['found'])} | {there[0]} | {there[1]} | {figures} |"


def _apart(one: Record, other: Record) -> np.ndarray:
    both = (one.arrays["found"] == DETECTED) & (other.arrays["found"] == DETECTED)
    points, others = (record.arrays["landmarks"][both] for record in (one, other))
    widths = 2 * np.linalg.norm(points[:, 0] - points[:, 1], axis=1)
    return np.linalg.norm(points - others, axis=2).mean(1) / widths


def compare(name: str, seen: list[Faces], face_of: np.ndarray, scale: float, faces: Record, flow: Record) -> str:
    """Return a row: how many frames have a face either way; how far the five points are apart at the median, of the face's
    width; and our flow's energy over DualTVL1's on the same crops, as computed and as stored.

    seen, face_of: the straightforward way's faces, and which of each frame's is followed. scale: its pixels over ours.
    """
    steps = min(len(face_of), len(faces.arrays["found"]))
    detected, theirs = faces.arrays["found"][:steps] == DETECTED, face_of[:steps] >= 0
    apart = []
    for step in np.flatnonzero(detected & theirs):
        face = face_of[step]
        width = np.ptp(seen[step].boxes[face, [0, 2]])
        points = seen[step].points[face] - scale * faces.arrays["landmarks"][step]
        apart.append(float(np.linalg.norm(points, axis=1).mean() / width))
    grey = make.to_grey(torch.from_numpy(faces.arrays["faces"]))
    pairs = torch.from_numpy(np.flatnonzero(flow.arrays["valid"]))
    previous, following = grey[pairs], grey[pairs + 1]
    stored = torch.from_numpy(flow.arrays["flow"])[pairs].permute(0, 3, 1, 2) * float(flow.attributes["scale"])
    bound = energy(previous, following, opencv.tvl1(previous, following, PEER)).mean()
    exact = energy(previous, following, tvl1.tvl1(previous, following, SOLVER)).mean()
    return (
        f"| {name} | {(detected & theirs).sum()} | {(detected & ~theirs).sum()} | {(~detected & theirs).sum()} |"
        f" {statistics.median(apart):.1%} | {exact / bound:.3f} |"
        f" {energy(previous, following, stored).mean() / bound:.3f} |"
    )


def print_many(paths: list[Path], workers: int) -> None:
    """Print a row: each stage's seconds and its workers' peak memory (Linux) for so many clips, in shards of CLIPS_A_SHARD,
    by so many worker processes."""
    names = {f"{start:05d}": paths[start : start + CLIPS_A_SHARD] for start in range(0, len(paths), CLIPS_A_SHARD)}
    parallel, taken, peaks = Parallel(engine="loky", workers=workers), 0.0, []
    with tempfile.TemporaryDirectory() as folder:
        resume.ROOT = Path(folder, "work")
        for name, of in _STAGES.items():
            stream = base.load(name)
            settings, memory = parameters.check(of, stream.settings), Path(folder, "memory", name)
            memory.mkdir(parents=True)

            def make_shard(shard: str, stream: Stream, settings: StreamSettings, memory: Path) -> Iterator[Record]:
                if stream.inputs == (base.RAW,):
                    given: Iterable[Any] = [Raw(f"{at}", path, None) for at, path in enumerate(names[shard])]
                else:
                    given = shards.read_records(Path(folder, stream.inputs[0], f"{shard}.h5"))
                yield from map(stream.make_extractor(settings), given)
                # getrusage's ru_maxrss counts what the process had that this one was forked from
                status = Path("/proc/self/status").read_text()
                (memory / str(os.getpid())).write_text(status.partition("VmHWM:")[2].split()[0])

            make = partial(make_shard, stream=stream, settings=settings, memory=memory)
            seconds, _ = build.build(
                stream, settings, Path(folder, name), dict.fromkeys(names), make, clips=len(paths), options=parallel
            )
            taken += seconds
            peaks.append(max(int(path.read_text()) for path in memory.iterdir()) / 1024)
    of_stages = " | ".join(f"{one:.0f}" for one in peaks)
    print(f"| {workers} | {len(paths)} | {taken:.1f} | {taken / len(paths):.2f} | {of_stages} |", flush=True)


if __name__ == "__main__":
    command.run(main)
