"""Frames of HDR videos (PQ and HLG) look as a standard screen would show the same light."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from lib.media.frames import read_frames

TAGS = {"pq": "smpte2084", "hlg": "arib-std-b67"}
GREYS, COLOURS = [20, 90, 128, 215], [[190, 140, 110], [60, 120, 70], [110, 80, 170]]
LEVELS = np.array([*([grey] * 3 for grey in GREYS), *COLOURS])
"""Colours of a standard screen, 0 to 255, all below the levels at which highlights are compressed."""
TO_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])


def pq(nits: np.ndarray) -> np.ndarray:
    """Return the PQ signal of light in cd/m2 (ITU-R BT.2100, inverse EOTF)."""
    y = (nits / 10_000) ** (2610 / 16384)
    return ((3424 / 4096 + 2413 / 128 * y) / (1 + 2392 / 128 * y)) ** (2523 / 32)


def hlg(nits: np.ndarray) -> np.ndarray:
    """Return the HLG signal of light on a display of 1000 cd/m2 (ITU-R BT.2100, inverse OOTF and OETF)."""
    light = np.maximum(nits, 1e-6) / 1000
    scene = light * (light @ [0.2627, 0.6780, 0.0593])[..., None] ** ((1 - 1.2) / 1.2)
    a, b, c = 0.17883277, 1 - 4 * 0.17883277, 0.5 - 0.17883277 * np.log(4 * 0.17883277)
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), a * np.log(np.maximum(12 * scene - b, 1e-9)) + c)


def write_hdr_video(path: Path, signal: np.ndarray, tag: str, full: bool = False, primaries: str = "bt2020") -> Path:
    """Write rows of colours R'G'B' (N, 3), 0 to 1, as a tagged 10-bit HEVC video of 0.5 s with the matrix of BT.2020."""
    luma = signal @ [0.2627, 0.6780, 0.0593]
    chroma = (signal[:, 2] - luma) / 1.8814, (signal[:, 0] - luma) / 1.4746
    low, span, chroma_span = (0, 1023, 1023) if full else (64, 876, 896)
    planes = [np.repeat(low + span * luma, 32)[:, None] * np.ones(64)]
    planes += [np.repeat(512 + chroma_span * chroma_plane, 16)[:, None] * np.ones(32) for chroma_plane in chroma]
    values = np.concatenate([plane.ravel() for plane in planes]).round().astype(np.uint16)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx265", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 32 * len(signal), "yuv420p10le"
        colour = f"colorprim={primaries}:transfer={tag}:colormatrix=bt2020nc:range={'full' if full else 'limited'}"
        stream.options = {"x265-params": f"log-level=none:lossless=1:{colour}"}
        for index in range(5):
            frame = av.VideoFrame.from_ndarray(values.reshape(-1, 64), format="yuv420p10le")
            frame.pts, frame.time_base = index, Fraction(1, 10)
            frame.color_range = 2 if full else 1
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def mean_colours(path: Path, rows: int) -> np.ndarray:
    """Return the mean colour in the middle of each row (N, 3)."""
    image = next(read_frames(path, 5))[1]
    return image.reshape(rows, -1, *image.shape[1:])[:, 10:22, 20:44].mean((1, 2))


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("transfer", ["pq", "hlg"])
def test_hdr_colours_within_the_standard_range_are_kept(tmp_path: Path, transfer: str, full: bool) -> None:
    nits = 203 * (LEVELS / 255) ** 2.4 @ TO_2020.T
    signal = {"pq": pq, "hlg": hlg}[transfer](nits)
    path = write_hdr_video(tmp_path / "a.mp4", signal, TAGS[transfer], full)
    assert mean_colours(path, len(LEVELS)) == pytest.approx(LEVELS, abs=2.5)
    assert abs(255 * signal - LEVELS).mean() > 10  # the unconverted signal looks different


@pytest.mark.parametrize("transfer", ["pq", "hlg"])
def test_hdr_highlights_keep_their_order(tmp_path: Path, transfer: str) -> None:
    nits = np.array([0.0, 100, 203, 400, 1000])[:, None] * np.ones(3)
    levels = mean_colours(
        write_hdr_video(tmp_path / "a.mp4", {"pq": pq, "hlg": hlg}[transfer](nits), TAGS[transfer]), 5
    ).mean(1)
    assert levels[0] == 0
    assert levels[1] == pytest.approx(255 * (100 / 203) ** (1 / 2.4), abs=2)
    assert 240 < levels[2] < levels[3] <= levels[4] == 255


def test_bt709_primaries_and_10_bit_sdr_are_unchanged(tmp_path: Path) -> None:
    nits = 203 * (LEVELS / 255) ** 2.4
    path = write_hdr_video(tmp_path / "a.mp4", pq(nits), TAGS["pq"], primaries="bt709")
    assert mean_colours(path, len(LEVELS)) == pytest.approx(LEVELS, abs=2.5)
    path = write_hdr_video(tmp_path / "b.mp4", LEVELS / 255, "bt709")
    assert mean_colours(path, len(LEVELS)) == pytest.approx(LEVELS, abs=4)
