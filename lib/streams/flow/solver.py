"""The settings of a TV-L1 solver, common to all backends."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Solver:
    """Settings of TV-L1 optical flow.

    lambda_: weight of the data term.
    theta: looseness of the coupling of data and smoothness term. A smaller value is nearer to TV-L1 itself, and takes
        more of the images' noise for motion.
    tau: step of the primal descent; the dual ascent's step is 1 / (8 tau). Any value converges.
    scales, scale_step: number of pyramid levels, the finest included, and the ratio of their sizes, in (0, 1).
    warps: number of linearisations a level.
    iterations, epsilon: the iterations of a warp end after this number, or for a pair once the root mean square of u's
        change over its pixels is below `epsilon` pixels, whatever the other pairs of the batch do.
    median: filter the flow by a 3 x 3 median before each warp, as Wedel et al. (2009) advise.
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
