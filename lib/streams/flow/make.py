"""Choose the solver of the optical flow by its name and device."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from lib.core.shards import Record
from lib.streams.flow import fields, opencv, tvl1
from lib.streams.flow.solver import Solver


def solve_by_opencv(previous: Tensor, next: Tensor, solver: Solver) -> Tensor:
    """Return the flow (B, 2, H, W) of OpenCV's TV-L1."""
    return torch.from_numpy(opencv.tvl1(previous.cpu().numpy(), next.cpu().numpy(), solver))


BACKENDS: dict[str, Callable[[Tensor, Tensor, Solver], Tensor]] = {"torch": tvl1.tvl1, "opencv": solve_by_opencv}


def compute_flow(record: Record, backend: str, solver: Solver, bound: float, device: torch.device) -> Record:
    """Return the optical flow of a clip's faces (`lib.streams.flow.fields.compute_flow`), computed on a device."""

    def solve(previous: np.ndarray, next: np.ndarray) -> np.ndarray:
        first, second = (torch.from_numpy(values).to(device) for values in (previous, next))
        return BACKENDS[backend](first, second, solver).cpu().numpy()

    return fields.compute_flow(record, solve, bound)


def warm_up(backend: str, solver: Solver, device: torch.device) -> None:
    """Load the solver's compiled code. The first call on a machine compiles it."""
    blank = torch.zeros(1, 8, 8, device=device)
    BACKENDS[backend](blank, blank, solver)
