"""Write a video of a clip with the evidence for its prediction next to each frame."""

from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import cv2
import numpy as np

from lib.report.names import MOST, shorten
from lib.serving.moments import Moment
from lib.serving.results import Evidence

_HEIGHT, _LINE = 480, 22  # heights in pixels of the clip and of a line of text below it


class OverlayVideo:
    """A video file that is written moment by moment. The file is created with the first moment."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._container: av.container.OutputContainer | None = None
        self.until = -1.0
        """Time of the last moment."""

    def __enter__(self) -> Self:
        return self

    def add(self, moment: Moment, evidence: Evidence) -> None:
        """Add a moment, with the scores of its window below it."""
        image = _compose(moment, evidence)
        if self._container is None:
            self._container = av.open(str(self._path), "w", format="mp4")
            self._stream = self._container.add_stream("libx264", rate=25)
            self._stream.height, self._stream.width, self._stream.pix_fmt = *image.shape[:2], "yuv420p"
            self._stream.time_base = self._stream.codec_context.time_base = Fraction(1, 1000)
            self._stream.options = {"crf": "23", "preset": "veryfast"}
        frame = av.VideoFrame.from_ndarray(image[: self._stream.height, : self._stream.width], format="rgb24")
        frame.pts = max(round(1000 * moment.time), round(1000 * self.until) + 1)
        self.until = frame.pts / 1000
        frame.time_base = Fraction(1, 1000)
        self._container.mux(self._stream.encode(frame))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._container is not None:
            self._container.mux(self._stream.encode())
            self._container.close()


def _compose(moment: Moment, evidence: Evidence) -> np.ndarray:
    """Return the frame with up to three panels on the right and the scores below, RGB uint8. Sides are even for H.264."""
    height, width = moment.frame.shape[:2]
    frame = cv2.resize(moment.frame, (max(2, round(width * _HEIGHT / height)), _HEIGHT), interpolation=cv2.INTER_AREA)
    side = _HEIGHT // 3
    column = np.full((_HEIGHT, side, 3), 255, np.uint8)
    for row, (title, panel) in enumerate(list(moment.panels.items())[-3:]):
        panel = cv2.resize(panel, (side, side), interpolation=cv2.INTER_LINEAR)
        column[row * side : (row + 1) * side] = _write(panel, title, 14)
    image = np.concatenate([frame, column], axis=1)
    image = np.concatenate([image, _score_lines(moment, evidence, image.shape[1])])
    return np.ascontiguousarray(image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2])


def _score_lines(moment: Moment, evidence: Evidence, width: int) -> np.ndarray:
    """Return an image (h, `width`, 3) with the time of the moment and the scores."""
    scores = [(name, estimate.score) for group in evidence.targets.values() for name, estimate in group.items()]
    scores = [(shorten(name).replace("…", ".."), score) for name, score in scores[:MOST]]  # OpenCV's fonts are ASCII
    cells = [f"{name} {score:.2f}" for name, score in scores]
    longest = max(len(name) for name, _ in scores) + 8
    per_line = max(1, width // (8 * longest))  # constant over time
    lines = ["   ".join(cells[start : start + per_line]) for start in range(0, len(cells), per_line)]
    window_text = f", scores of {evidence.span[0]:.1f} to {evidence.span[1]:.1f} s" if evidence.span else ""
    strip = np.full((_LINE * (len(lines) + 1), width, 3), 255, np.uint8)
    for row, line in enumerate([f"{moment.time:.1f} s{window_text}", *lines]):
        _write(strip, line, _LINE * row + 16, shade=False)
    return strip


def _write(image: np.ndarray, text: str, y: int, shade: bool = True) -> np.ndarray:
    for colour, thickness in (((255, 255, 255), 3), ((0, 0, 0), 1))[not shade :]:
        cv2.putText(
            image, text, (4, y), cv2.FONT_HERSHEY_SIMPLEX, 0.42, colour, thickness=thickness, lineType=cv2.LINE_AA
        )
    return image
