"""The functional that TV-L1 flow minimises, to measure a flow by."""

import torch
from torch import Tensor
from torch.nn import functional


def energy(previous: Tensor, next: Tensor, flow: Tensor, lambda_: float = 0.15, border: int = 8) -> Tensor:
    """Return (B,) the mean of lambda |next(x + u) - previous(x)| + |grad u1| + |grad u2| over the pixels that lie
    `border` from the edge; images (B, H, W) in grey levels from 0 to 255, flow (B, 2, H, W) in pixels."""
    height, width = previous.shape[1:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    grid = torch.stack([(x + flow[:, 0]) * 2 / (width - 1) - 1, (y + flow[:, 1]) * 2 / (height - 1) - 1], -1)
    warped = functional.grid_sample(next[:, None].float(), grid, "bicubic", "border", align_corners=True)[:, 0]
    across = functional.pad(flow.diff(dim=3), (0, 1))
    down = functional.pad(flow.diff(dim=2), (0, 0, 0, 1))
    density = lambda_ * (warped - previous.float()).abs() + (across.square() + down.square()).sqrt().sum(1)
    return density[:, border:-border, border:-border].mean((1, 2))
