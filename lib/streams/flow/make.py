"""From a clip's aligned faces to the flow between consecutive ones, quantised to a byte a component."""

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
_BATCH = 512  # pairs; the solver takes tens of floats a pixel of each


def compute_flow(record: Record, backend: str, solver: Solver, bound: float, device: torch.device) -> Record:
    """Return of a clip's faces their `flow`, int8 (T-1, S, S, 2): x and y, times the attribute `scale` in pixels.

    `times` (T-1,) are those of the earlier faces. `valid` (T-1,) tells where both faces of the pair are there and no cut is
    between; elsewhere the flow is 0. Components beyond `bound` pixels are clipped; quantisation errs by half of `scale` =
    bound / 127 at most.
    """
    present = record.arrays["found"] > 0
    valid = present[:-1] & present[1:] & ~record.arrays["cut"][1:].astype(bool)
    grey = torch.cat([to_grey(faces) for faces in torch.from_numpy(record.arrays["faces"]).split(_BATCH)])
    pairs = torch.from_numpy(np.flatnonzero(valid))
    scale = bound / _LEVELS
    quantised = np.zeros((len(valid), *grey.shape[1:], 2), np.int8)
    motion = 0.0
    for some in pairs.split(_BATCH):
        moved = BACKENDS[backend](grey[some].to(device), grey[some + 1].to(device), solver)
        in_steps = (moved / scale).round().clamp(-_LEVELS, _LEVELS).to(torch.int8)
        quantised[some] = in_steps.permute(0, 2, 3, 1).cpu().numpy()
        motion += float(moved.norm(dim=1).mean()) * len(some) if len(some) else 0.0
    attributes = {"scale": scale, "mean_motion": motion / max(len(pairs), 1)}
    times = record.arrays["times"][:-1]
    return Record(record.clip, {"flow": quantised, "valid": valid, "times": times}, attributes)


def warm_up(backend: str, solver: Solver, device: torch.device) -> None:
    """Load the solver's compiled code, or compile it at its first use on a machine."""
    blank = torch.zeros(1, 8, 8, device=device)
    BACKENDS[backend](blank, blank, solver)


def to_grey(faces: Tensor) -> Tensor:
    """RGB uint8 (T, S, S, 3) to luma, uint8 (T, S, S)."""
    return (faces.float() @ _LUMA).round().to(torch.uint8)
