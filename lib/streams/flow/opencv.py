"""OpenCV's DualTVL1OpticalFlow, pair by pair on the CPU: the reference for this project's TV-L1."""

import cv2
import numpy as np

from lib.streams.flow.solver import Solver


def tvl1(previous: np.ndarray, next: np.ndarray, solver: Solver) -> np.ndarray:
    """Return the flow (B, 2, H, W) in pixels of images (B, H, W), as `lib.streams.flow.tvl1.tvl1` does.

    OpenCV applies a 5 x 5 median ten times within each warp. It uses another algorithm with fixed `theta` = 0.3 and
    `tau` = 0.25, so the solver's values are ignored.
    """
    peer = cv2.optflow.DualTVL1OpticalFlow_create(  # type: ignore[attr-defined]  # not in its stubs
        lambda_=solver.lambda_,
        nscales=solver.scales,
        warps=solver.warps,
        epsilon=solver.epsilon,
        innnerIterations=max(1, solver.iterations // 10),  # OpenCV's spelling
        outerIterations=10,
        scaleStep=solver.scale_step,
        medianFiltering=5 if solver.median else 1,
    )
    flows = [peer.calc(first, second, None).transpose(2, 0, 1) for first, second in zip(previous, next, strict=True)]
    return np.stack(flows) if flows else np.zeros((0, 2, *previous.shape[1:]), np.float32)
