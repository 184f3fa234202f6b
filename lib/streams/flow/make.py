"""Compute the optical flow between a clip's consecutive aligned faces, quantised to one byte per component."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from lib.core.shards import Record
from lib.streams.flow import opencv, tvl1
from lib.streams.flow.solver import Solver

BACKENDS: dict[str, Callable[[Tensor, Tensor, Solver], Tensor]] = {"torch": tvl1.tvl1, "opencv": opencv.tvl1}

_LUMA = torch.tensor([0.299, 0.587, 0.114])  # ITU-R BT.601, as in OpenCV
_LEVELS = 127
_BATCH = 512  # pairs; limits memory, because the solver needs tens of floats per pixel and pair


def compute_flow(record: Record, backend: str, solver: Solver, bound: float, device: torch.device) -> Record:
    """Return the optical flow of a clip's faces.

    flow: int8 (T-1, S, S, 2), x and y in units of the attribute `scale` = bound / 127 pixels. times: (T-1,), those of the
    earlier faces. valid: (T-1,), whether both faces of the pair are present with no cut between them; elsewhere the flow is
    0. Components beyond `bound` pixels are clipped. The quantisation error is at most half of `scale`.
    """
    present = record.arrays["found"] > 0
    valid = present[:-1] & present[1:] & ~record.arrays["cut"][1:].astype(bool)
    grey = torch.cat([to_grey(faces) for faces in torch.from_numpy(record.arrays["faces"]).split(_BATCH)])
    pairs = torch.from_numpy(np.flatnonzero(valid))
    scale = bound / _LEVELS
    quantised = np.zeros((len(valid), *grey.shape[1:], 2), np.int8)
    motion = 0.0
    for batch in pairs.split(_BATCH):
        displacement = BACKENDS[backend](grey[batch].to(device), grey[batch + 1].to(device), solver)
        in_steps = (displacement / scale).round().clamp(-_LEVELS, _LEVELS).to(torch.int8)
        quantised[batch] = in_steps.permute(0, 2, 3, 1).cpu().numpy()
        motion += float(displacement.norm(dim=1).mean()) * len(batch) if len(batch) else 0.0
    attributes = {"scale": scale, "mean_motion": motion / max(len(pairs), 1)}
    times = record.arrays["times"][:-1]
    return Record(record.clip, {"flow": quantised, "valid": valid, "times": times}, attributes)


def warm_up(backend: str, solver: Solver, device: torch.device) -> None:
    """Load the solver's compiled code. The first call on a machine compiles it."""
    blank = torch.zeros(1, 8, 8, device=device)
    BACKENDS[backend](blank, blank, solver)


def to_grey(faces: Tensor) -> Tensor:
    """Return the luma, uint8 (T, S, S), of RGB images, uint8 (T, S, S, 3)."""
    return (faces.float() @ _LUMA).round().to(torch.uint8)
