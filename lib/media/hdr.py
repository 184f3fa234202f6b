"""Convert high dynamic range images (PQ and HLG) to standard dynamic range."""

from functools import cache
from typing import Literal

import numpy as np

Transfer = Literal["pq", "hlg"]

_WHITE = 203.0  # cd/m2 of reference white (ITU-R BT.2408)
_PEAK, _SYSTEM_GAMMA = 1000.0, 1.2  # cd/m2 of HLG's nominal display, and the exponent of its OOTF (ITU-R BT.2100)
_GAMMA = 2.4  # gamma of a standard screen (ITU-R BT.1886)
_KNEE = 0.9  # levels of the standard signal up to this one are unchanged, higher levels are compressed to below 1
_LUMINANCE = np.array([0.2627, 0.6780, 0.0593], np.float32)  # luminance of BT.2020's primaries
_TO_709 = np.array(  # BT.2020's primaries to BT.709's (ITU-R BT.2087)
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)


def to_sdr(image: np.ndarray, transfer: Transfer, wide: bool) -> np.ndarray:
    """Return an RGB uint8 image (H, W, 3), given an RGB uint16 image (H, W, 3) of a PQ or HLG signal with maximum 65535.

    The light, in units of reference white, is converted to the signal with which a standard screen shows the same light.
    Levels above 0.9 are compressed exponentially, so that highlights keep their order. wide: whether the primaries are those
    of BT.2020 (else BT.709).
    """
    light = _light(transfer)[image]
    if transfer == "hlg":
        scene = light @ _LUMINANCE
        light *= _PEAK / _WHITE * np.maximum(scene, 1e-9)[..., None] ** (_SYSTEM_GAMMA - 1)
    if wide:
        light = light @ _TO_709.T
    signal = np.maximum(light, 0) ** (1 / _GAMMA)
    rolled = 1 - (1 - _KNEE) * np.exp((_KNEE - np.maximum(signal, _KNEE)) / (1 - _KNEE))
    return np.round(255 * np.minimum(signal, rolled)).astype(np.uint8)


@cache
def _light(transfer: Transfer) -> np.ndarray:
    """Return the light (65536,), float32, for each value of a signal (ITU-R BT.2100).

    For PQ it is the displayed light in units of reference white, for HLG the light of the scene from 0 to 1.
    """
    signal = np.arange(65536) / 65535
    if transfer == "pq":
        root = signal ** (1 / 78.84375)
        relative_to_peak = (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (1 / 0.1593017578125)
        return (relative_to_peak * 10_000 / _WHITE).astype(np.float32)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12).astype(np.float32)
