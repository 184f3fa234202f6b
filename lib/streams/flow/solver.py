"""The settings of a TV-L1 solver, common to all backends."""

from dataclasses import dataclass

SMALLEST_LEVEL = 8
"""Smallest side in pixels of a pyramid level; smaller ones carry no information."""


@dataclass(frozen=True)
class Solver:
    """Settings of TV-L1 optical flow.

    lambda_: weight of the data term.
    theta: looseness of the coupling between data term and smoothness term. A smaller value is closer to TV-L1 itself, but
        more sensitive to image noise.
    tau: step size of the primal descent; the step size of the dual ascent is 1 / (8 tau). Every value converges.
    scales, scale_step: number of pyramid levels, including the finest, and the ratio of consecutive sizes, in (0, 1).
    warps: number of linearisations per level.
    iterations, epsilon: maximum number of iterations per warp; a pair stops earlier once the root mean square change of u
        over its pixels is below `epsilon` pixels.
    median: whether to filter the flow by a 3 x 3 median before each warp (Wedel et al. 2009).
    """

    lambda_: float
    theta: float
    tau: float
    scales: int
    scale_step: float
    warps: int
    iterations: int
    epsilon: float
    median: bool
