"""From a clip's aligned faces to the flow between consecutive ones, quantised to a byte a component."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from lib.core.shards import Record
from lib.streams.flow import opencv, tvl1

BACKENDS: dict[str, Callable[..., Tensor]] = {"torch": tvl1.tvl1, "opencv": opencv.tvl1}

_LUMA = torch.tensor([0.299, 0.587, 0.114])  # ITU-R BT.601, as in OpenCV
_LEVELS = 127


def flow(record: Record, backend: str, solver: Mapping[str, float], bound: float, device: torch.device) -> Record:
    """Return of a clip's faces their `flow`, int8 (T-1, S, S, 2): x and y, times the attribute `scale` in pixels.

    `times` (T-1,) are those of the earlier faces. `valid` (T-1,) tells where both faces of the pair are there and no cut is
    between; elsewhere the flow is 0. Components beyond `bound` pixels are clipped; quantisation errs by half of `scale` =
    bound / 127 at most.
    """
    present = record.arrays["found"] > 0
    valid = present[:-1] & present[1:] & ~record.arrays["cut"][1:].astype(bool)
    grey = grey_levels(torch.from_numpy(record.arrays["faces"])).to(device)
    pairs = torch.from_numpy(np.flatnonzero(valid))
    scale = bound / _LEVELS
    quantised = np.zeros((len(valid), *grey.shape[1:], 2), np.int8)
    moved = BACKENDS[backend](grey[pairs], grey[pairs + 1], **solver)
    quantised[pairs] = (moved / scale).round().clamp(-_LEVELS, _LEVELS).to(torch.int8).permute(0, 2, 3, 1).cpu().numpy()
    mean_motion = float(moved.norm(dim=1).mean()) if len(moved) else 0.0
    attributes = {"scale": scale, "mean_motion": mean_motion}
    times = record.arrays["times"][:-1]
    return Record(record.clip, {"flow": quantised, "valid": valid, "times": times}, attributes)


def grey_levels(faces: Tensor) -> Tensor:
    """RGB uint8 (T, S, S, 3) to luma, uint8 (T, S, S)."""
    return (faces.float() @ _LUMA).round().to(torch.uint8)
