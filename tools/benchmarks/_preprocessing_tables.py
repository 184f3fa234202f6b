"""Rows of the tables of tools.benchmarks.preprocessing that compare two ways."""

import statistics

import numpy as np
import torch

from lib.core.records import Record
from lib.streams.faces.constants import DETECTED
from lib.streams.faces.detect import Faces
from lib.streams.flow import fields, make, tvl1
from tools.benchmarks._flow import PEER, SOLVER
from tools.flow_quality import energy


def compare_tracking(name: str, every_frame: Record, refined: Record, tracked: Record) -> str:
    """Return a row of the table of tracking.

    Its values: number of frames; number of frames with a face if every frame is detected and refined, and if faces are
    tracked; median, 95th percentile and maximum of the distance between the five points of these two, relative to the face's
    width (twice the distance of the eyes); and the median distance of tracked points from unrefined detections.
    """
    distances = [_apart(detected_everywhere, tracked) for detected_everywhere in (refined, every_frame)]
    figures = " | ".join(
        f"{value:.2%}"
        for value in (*np.percentile(distances[0], [50, 95]), distances[0].max(), np.median(distances[1]))
    )
    counts = [(record.arrays["found"] == DETECTED).sum() for record in (refined, tracked)]
    return f"| {name} | {len(tracked.arrays['found'])} | {counts[0]} | {counts[1]} | {figures} |"


def _apart(first: Record, second: Record) -> np.ndarray:
    in_both = (first.arrays["found"] == DETECTED) & (second.arrays["found"] == DETECTED)
    points, others = (record.arrays["landmarks"][in_both] for record in (first, second))
    widths = 2 * np.linalg.norm(points[:, 0] - points[:, 1], axis=1)
    return np.linalg.norm(points - others, axis=2).mean(1) / widths


def compare(
    name: str, faces_by_frame: list[Faces], face_of: np.ndarray, scale: float, faces: Record, flow: Record
) -> str:
    """Return a row of the table of results.

    Its values: numbers of frames in which both, only ours, and only the straightforward implementation find a face; median
    distance of the five points, relative to the face's width; and the energy of our flow relative to DualTVL1's on the same
    crops, as computed and as stored. faces_by_frame, face_of: the straightforward implementation's faces, and the index of
    the tracked face. scale: the size of its frames relative to ours.
    """
    steps = min(len(face_of), len(faces.arrays["found"]))
    detected, theirs = faces.arrays["found"][:steps] == DETECTED, face_of[:steps] >= 0
    distances = []
    for step in np.flatnonzero(detected & theirs):
        face = face_of[step]
        width = np.ptp(faces_by_frame[step].boxes[face, [0, 2]])
        points = faces_by_frame[step].points[face] - scale * faces.arrays["landmarks"][step]
        distances.append(float(np.linalg.norm(points, axis=1).mean() / width))
    grey = torch.from_numpy(fields.to_grey(faces.arrays["faces"]))
    pairs = torch.from_numpy(np.flatnonzero(flow.arrays["valid"]))
    previous, following = grey[pairs], grey[pairs + 1]
    stored = torch.from_numpy(flow.arrays["flow"])[pairs].permute(0, 3, 1, 2) * float(flow.attributes["scale"])
    bound = energy(previous, following, make.solve_by_opencv(previous, following, PEER)).mean()
    exact = energy(previous, following, tvl1.tvl1(previous, following, SOLVER)).mean()
    return (
        f"| {name} | {(detected & theirs).sum()} | {(detected & ~theirs).sum()} | {(~detected & theirs).sum()} |"
        f" {statistics.median(distances):.1%} | {exact / bound:.3f} |"
        f" {energy(previous, following, stored).mean() / bound:.3f} |"
    )
