"""Compute the optical flow between a clip's consecutive aligned faces, quantised to one byte per component."""

from collections.abc import Callable

import numpy as np

from lib.core.records import Record

Solve = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Takes images uint8 (B, H, W) and the images that follow them, and returns the flow (B, 2, H, W) in pixels, float32."""

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as in OpenCV
_LEVELS = 127
_BATCH = 512  # pairs; limits memory, because a solver needs tens of floats per pixel and pair


def compute_flow(record: Record, solve: Solve, bound: float) -> Record:
    """Return the optical flow of a clip's faces.

    flow: int8 (T-1, S, S, 2), x and y in units of the attribute `scale` = bound / 127 pixels. times: (T-1,), those of the
    earlier faces. valid: (T-1,), whether both faces of the pair are present with no cut between them; elsewhere the flow is
    0. Components beyond `bound` pixels are clipped. The quantisation error is at most half of `scale`.
    """
    present, faces = record.arrays["found"] > 0, record.arrays["faces"]
    valid = present[:-1] & present[1:] & ~record.arrays["cut"][1:].astype(bool)
    grey = np.concatenate([to_grey(faces[start : start + _BATCH]) for start in range(0, len(faces), _BATCH)])
    pairs = np.flatnonzero(valid)
    scale = bound / _LEVELS
    quantised = np.zeros((len(valid), *grey.shape[1:], 2), np.int8)
    motion = 0.0
    for start in range(0, len(pairs), _BATCH):
        batch = pairs[start : start + _BATCH]
        displacement = solve(grey[batch], grey[batch + 1])
        in_steps = (displacement / np.float32(scale)).round().clip(-_LEVELS, _LEVELS)
        quantised[batch] = in_steps.transpose(0, 2, 3, 1)
        motion += float(np.linalg.norm(displacement, axis=1).mean()) * len(batch)
    attributes = {"scale": scale, "mean_motion": motion / max(len(pairs), 1)}
    times = record.arrays["times"][:-1]
    return Record(record.clip, {"flow": quantised, "valid": valid, "times": times}, attributes)


def to_grey(faces: np.ndarray) -> np.ndarray:
    """Return the luma, uint8 (T, S, S), of RGB images, uint8 (T, S, S, 3)."""
    return (faces.astype(np.float32) @ _LUMA).round().astype(np.uint8)


def read_flow(record: Record, indices: np.ndarray) -> np.ndarray:
    """Return flow as float32 (K, 2, S, S): x and y in pixels."""
    quantised = record.arrays["flow"][()][indices]
    return quantised.transpose(0, 3, 1, 2).astype(np.float32) * np.float32(record.attributes["scale"])
