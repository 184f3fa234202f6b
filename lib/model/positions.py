"""Where in time and in the picture a token is, as sines and cosines."""

import torch
from torch import Tensor


def position_encoding(times: Tensor, height: int, width: int, channels: int) -> Tensor:
    """Sines and cosines (Vaswani et al. 2017) of time and place, the same for all encoders: (B, t h w, channels).

    A third of the channels each for seconds, and for rows and columns as fractions of the face; tokens are in the
    order time, row, column.
    """
    batch, steps = times.shape
    count = channels // 6
    periods = torch.logspace(0, 1, count, 30, device=times.device)  # 1 to 30, of seconds or of a tenth of the face

    def encode(value: Tensor) -> Tensor:
        angle = 2 * torch.pi * value.unsqueeze(-1) / periods
        return torch.cat([angle.sin(), angle.cos()], -1)

    rows = torch.arange(height, device=times.device) * (10 / height)
    columns = torch.arange(width, device=times.device) * (10 / width)
    shape = (batch, steps, height, width, 2 * count)
    parts = [
        encode(times)[:, :, None, None].expand(shape),
        encode(rows)[None, None, :, None].expand(shape),
        encode(columns)[None, None, None].expand(shape),
    ]
    return torch.cat(parts, -1).flatten(1, 3)
