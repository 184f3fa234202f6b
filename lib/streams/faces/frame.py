"""A frame of a clip, with scaled versions that are computed once."""

from functools import cached_property

import cv2
import numpy as np

_THUMBNAIL = 32, 18  # pixels
_STEP = 4  # every fourth pixel is used


class Frame:
    """A frame's pixels, RGB uint8 (H, W, 3)."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels = pixels
        self._halved = [pixels]

    @cached_property
    def thumbnail(self) -> np.ndarray:
        """Return a very small grey version of the frame."""
        sampled = np.ascontiguousarray(self.pixels[::_STEP, ::_STEP])
        return cv2.resize(sampled, _THUMBNAIL, interpolation=cv2.INTER_AREA).mean(-1)

    def resampled(self, matrix: np.ndarray, side: int) -> np.ndarray:
        """Return the image (side, side, 3) of the frame under a similarity transform (2, 3); edge pixels are repeated."""
        scale, level = float(np.hypot(*matrix[:, 0])), 0
        while scale * 2**level < 0.5:  # bilinear sampling alone would skip pixels
            level += 1
            if level == len(self._halved):
                self._halved.append(cv2.pyrDown(self._halved[-1]))
        return cv2.warpAffine(
            self._halved[level],
            matrix * [2.0**level, 2.0**level, 1],
            (side, side),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
