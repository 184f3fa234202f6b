"""Find every face and its five points in a batch of frames with MTCNN, or refine faces near known positions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from lib.streams.faces.frame import Frame

BATCH = 32  # frames
_INTEGRALS = 8  # number of frames whose integral images are in memory together
_FACTOR = 0.709  # ratio of the sizes of consecutive pyramid levels
_WINDOW = 12  # side in pixels of the first network's windows, and the smallest size of a pyramid level
_STRIDE = 2  # pixels between windows of the first network
_SECOND_WINDOW, _LAST_WINDOW = 24, 48  # sides in pixels of the second and the last network's inputs
_MIN_SCORES = 0.6, 0.7, 0.7  # lowest accepted score of each network
_INPUT_RATIO = 0.93  # side of the last network's input square relative to the side of its box (mean over real clips)
_SAME_LEVEL = 0.5  # boxes of one pyramid level with a larger intersection over union are one face
_SAME_FACE = 0.7  # same for boxes of different levels, and finally for the intersection over the smaller box
_INSIDE = 0.5  # lowest fraction of a box that must lie in the frame
_GRID = 32  # positions of tracked faces are rounded to this part of a pixel (`_snap`)
_CROP_OFFSET = 1.5  # pixels by which MTCNN's crops, cut at integer pixels, start before its squares (mean)


Network = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""One of MTCNN's networks: takes images (n, H, W, 3) with levels from 0 to 255, returns scores (n, ...) and shifts
(n, C, ...) (`lib.streams.faces.mtcnn.Network`)."""


@dataclass(frozen=True)
class Faces:
    """The n faces of a frame, in pixels of the frame: boxes (n, 4) as x0, y0, x1, y1; scores (n,); points (n, 5, 2)."""

    boxes: np.ndarray
    scores: np.ndarray
    points: np.ndarray


class Detector:
    """MTCNN: a cascade of three networks; the second and the third check the candidates of the previous network.

    min_face: side of the smallest face in pixels. Time is proportional to its inverse square. networks: the three networks
    (`lib.streams.faces.mtcnn.load_networks`).
    """

    def __init__(self, min_face: int, networks: Sequence[Network]) -> None:
        self._min_face, self._networks = min_face, networks

    def __call__(self, frames: Sequence[np.ndarray]) -> list[Faces]:
        """Return each frame's faces, the largest first. Frames are RGB uint8 (T of (H, W, 3)); in frames smaller than
        `min_face` no face is found."""
        return [
            faces
            for start in range(0, len(frames), _INTEGRALS)
            for faces in self._cascade(frames[start : start + _INTEGRALS])
        ]

    def refine(self, frames: Sequence[Frame], near: Sequence[Faces], runs: int) -> list[Faces | None]:
        """Return for each frame (T) the faces near the known faces `near` (T), or None if not all of them are found again.

        Only MTCNN's last network is used: first on the known box, then `runs` - 1 times (`runs` is at least 2) on the box
        of the previous run. The points are the mean of the last two runs. Crops are resampled at subpixel positions, not
        cut at integer pixels as in MTCNN, so that a few runs converge to the same box from any starting box.

        The result is None if a score is below MTCNN's threshold, a face has left the frame, two faces have become one, or
        `near` has no face.
        """
        frame_index = np.repeat(np.arange(len(frames)), [len(faces.boxes) for faces in near])
        boxes = np.concatenate([np.empty((0, 4)), *(faces.boxes for faces in near)])
        valid, scores, points = np.ones(len(boxes), bool), np.zeros(len(boxes)), np.zeros((runs, len(boxes), 5, 2))
        for run in range(runs):
            if len(frames):
                height, width = frames[0].pixels.shape[:2]
                valid[valid] = _measure_visible_fractions(boxes[valid], width, height) >= _INSIDE
            squares = _snap(_input_squares(boxes[valid]))
            crops = _resample_crops([frames[index] for index in frame_index[valid]], squares)
            boxes[valid], scores[valid], points[run, valid] = self._last_network(squares, crops)
            valid &= scores > _MIN_SCORES[2]
        refined: list[Faces | None] = []
        for frame in range(len(frames)):
            in_frame = np.flatnonzero(frame_index == frame)
            complete = (
                len(in_frame)
                and valid[in_frame].all()
                and len(_suppress_contained(boxes[in_frame], scores[in_frame])) == len(in_frame)
            )
            refined.append(
                Faces(boxes[in_frame], scores[in_frame], _snap(points[-2:, in_frame].mean(0))) if complete else None
            )
        return refined

    def _cascade(self, frames: Sequence[np.ndarray]) -> list[Faces]:
        """Return the faces of frames by the algorithm of facenet-pytorch's `detect_face` (v2.5.3)."""
        sums = [cv2.integral(frame_pixels) for frame_pixels in frames]
        squares, frame_index = self._first_network(sums)
        squares, frame_index = self._second_network(sums, frame_index, squares)
        boxes, scores, points = self._last_network(squares, _cut_crops(sums, frame_index, squares, _LAST_WINDOW))
        accepted = scores > _MIN_SCORES[2]
        frame_index, boxes, scores, points = frame_index[accepted], boxes[accepted], scores[accepted], points[accepted]
        results = []
        for frame in range(len(frames)):
            in_frame = np.flatnonzero(frame_index == frame)
            in_frame = in_frame[_suppress_contained(boxes[in_frame], scores[in_frame])]
            in_frame = in_frame[np.argsort(-np.prod(boxes[in_frame, 2:] - boxes[in_frame, :2], axis=1))]
            results.append(Faces(boxes[in_frame], scores[in_frame], points[in_frame]))
        return results

    def _first_network(self, sums: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Return candidate squares (n, 4) and their frames' indices (n,), from a pyramid of each frame.

        sums: the frames' integral images (H + 1, W + 1, 3).
        """
        height, width = len(sums[0]) - 1, sums[0].shape[1] - 1
        scale = _WINDOW / self._min_face
        levels = [
            (np.empty((0, 4), np.float32), np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, int))
        ]
        while min(height, width) * scale >= _WINDOW:
            level = np.stack([_scale(integral, int(height * scale + 1), int(width * scale + 1)) for integral in sums])
            scores, shift = self._networks[0](level)
            frame, y, x = hits = np.nonzero(scores >= _MIN_SCORES[0])
            corner = _STRIDE * np.stack([x, y], axis=1).astype(np.float32)
            boxes = np.floor(np.hstack([corner + 1, corner + _WINDOW]) / np.float32(scale))
            best = _suppress_overlaps(boxes, scores[hits], frame, _SAME_LEVEL)
            levels.append((boxes[best], shift[frame, :, y, x][best], scores[hits][best], frame[best]))
            scale *= _FACTOR
        boxes, shift, scores, frame_index = map(np.concatenate, zip(*levels, strict=True))
        best = _suppress_overlaps(boxes, scores, frame_index, _SAME_FACE)
        boxes, shift = boxes[best], shift[best]
        return _make_squares(boxes + shift * np.tile(boxes[:, 2:] - boxes[:, :2], 2)), frame_index[best]

    def _second_network(
        self, sums: Sequence[np.ndarray], frame_index: np.ndarray, squares: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the accepted candidates of the squares (n, 4), moved to fit better, and their frames' indices."""
        if not len(squares):
            return squares, frame_index
        scores, shift = self._networks[1](_cut_crops(sums, frame_index, squares, _SECOND_WINDOW))
        accepted = np.flatnonzero(scores > _MIN_SCORES[1])
        accepted = accepted[_suppress_overlaps(squares[accepted], scores[accepted], frame_index[accepted], _SAME_FACE)]
        return _make_squares(_shift_edges(squares[accepted], shift[accepted])), frame_index[accepted]

    def _last_network(self, squares: np.ndarray, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return boxes (n, 4), scores (n,) and points (n, 5, 2) of the faces in squares (n, 4), by MTCNN's last network.

        crops: the contents of the squares (n, 48, 48, 3), from 0 to 255.
        """
        if not len(squares):
            return np.empty((0, 4)), np.empty(0), np.empty((0, 5, 2))
        scores, rest = self._networks[2](crops)
        sides = (squares[:, 2:] - squares[:, :2] + 1)[:, None]
        points = rest[:, 4:].reshape(-1, 2, 5).transpose(0, 2, 1) * sides + squares[:, None, :2] - 1
        return _shift_edges(squares, rest[:, :4]).astype(float), scores.astype(float), points.astype(float)


def _cut_crops(sums: Sequence[np.ndarray], frame_index: np.ndarray, squares: np.ndarray, side: int) -> np.ndarray:
    """Return the contents (n, side, side, 3), 0 to 255, of squares (n, 4) in the frames with indices `frame_index` (n,).

    sums: the frames' integral images (H + 1, W + 1, 3).
    """
    height, width = len(sums[0]) - 1, sums[0].shape[1] - 1
    crops = np.empty((len(squares), side, side, 3), np.float32)
    for index, (frame, (x0, y0, x1, y1)) in enumerate(zip(frame_index, squares.astype(int).tolist(), strict=True)):
        # a square outside the frame gets the frame's nearest pixels
        y_start, x_start = min(max(y0, 1), height) - 1, min(max(x0, 1), width) - 1
        y_end, x_end = max(min(y1, height), y_start + 1), max(min(x1, width), x_start + 1)
        crops[index] = _scale(sums[frame][y_start : y_end + 1, x_start : x_end + 1], side, side)
    return crops


def _resample_crops(frames: Sequence[Frame], squares: np.ndarray) -> np.ndarray:
    """Return the contents (n, 48, 48, 3), 0 to 255, of squares (n, 4) at subpixel positions in the frames (n).

    They are the input of MTCNN's last network. Outside the frame, the nearest pixels are repeated.
    """
    crops = np.empty((len(squares), _LAST_WINDOW, _LAST_WINDOW, 3), np.uint8)
    for index, (frame, (x_start, y_start, x_end, _)) in enumerate(zip(frames, squares.tolist(), strict=True)):
        scale = _LAST_WINDOW / (x_end - x_start + 1)
        x, y = x_start - _CROP_OFFSET, y_start - _CROP_OFFSET  # start of the crop, between pixels
        crops[index] = frame.resampled(
            np.array([[scale, 0, scale * (0.5 - x) - 0.5], [0, scale, scale * (0.5 - y) - 0.5]]), _LAST_WINDOW
        )
    return crops


def _scale(sums: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return an image scaled to float32 (height, width, 3), given its integral image int32 (H + 1, W + 1, 3).

    Each pixel is the mean over a box of pixels, as in adaptive average pooling, which takes eight times longer. The sums of
    large images overflow at 2^32, but their differences are still correct.
    """
    (y_starts, y_ends), (x_starts, x_ends) = (
        _split_length(len(sums) - 1, height),
        _split_length(sums.shape[1] - 1, width),
    )
    rows = sums[y_ends] - sums[y_starts]
    pixels = ((y_ends - y_starts)[:, None] * (x_ends - x_starts))[:, :, None]
    return (rows.take(x_ends, axis=1) - rows.take(x_starts, axis=1)) / pixels.astype(np.float32)


@lru_cache(4096)
def _split_length(length: int, parts: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and the last + 1 pixel of each of `parts` equal parts of a length. Neighbours can share a pixel."""
    indices = np.arange(parts)
    return indices * length // parts, -(-(indices + 1) * length // parts)


def _measure_visible_fractions(boxes: np.ndarray, width: int, height: int) -> np.ndarray:
    """Return the fraction (n,) of each box (n, 4) that lies in the frame; 0 for a box without area."""
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    visible = np.minimum(boxes[:, 2:], [width, height]) - np.maximum(boxes[:, :2], 0)
    return np.prod(np.maximum(visible, 0), axis=1) / np.maximum(np.prod(sides, axis=1), 1e-9)


def _make_squares(boxes: np.ndarray) -> np.ndarray:
    """Return squares (n, 4) with the centres and the longer sides of boxes (n, 4)."""
    sides = boxes[:, 2:] - boxes[:, :2]
    side = sides.max(1, keepdims=True, initial=0)
    corner = boxes[:, :2] + (sides - side) / 2
    return np.hstack([corner, corner + side])


def _shift_edges(squares: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Return boxes (n, 4): squares (n, 4) whose edges are shifted by `shift` (n, 4), in units of the squares' sides."""
    return squares + shift * np.tile(squares[:, 2:] - squares[:, :2] + 1, 2)


def _input_squares(boxes: np.ndarray) -> np.ndarray:
    """Return the input squares (n, 4) with which the last network typically yields the boxes (n, 4)."""
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    side = (boxes[:, 2:] - boxes[:, :2]).max(1, keepdims=True, initial=0) * _INPUT_RATIO
    return np.hstack([middles - side / 2, middles + side / 2]).astype(np.float32)


def _snap(positions: np.ndarray) -> np.ndarray:
    """Return positions rounded to 1 / _GRID pixels.

    Without it, a rounding error can change the pixels of the next crop, and so grow to tenths of a pixel: other processors
    and ONNX Runtime would not find the same points.
    """
    return np.round(positions * _GRID) / _GRID


def _suppress_overlaps(
    boxes: np.ndarray, scores: np.ndarray, frame_index: np.ndarray, max_overlap: float
) -> np.ndarray:
    """Return the indices of the boxes (n, 4) that remain after non-maximum suppression in each frame, the best first.

    A box is suppressed if its intersection over union with a better box of the same frame is above `max_overlap`.
    """
    corners, sides = boxes[:, :2].astype(float), (boxes[:, 2:] - boxes[:, :2]).astype(float)
    lists = np.hstack([corners, sides]).tolist(), scores.tolist(), frame_index.tolist()
    return np.asarray(cv2.dnn.NMSBoxesBatched(*lists, 0.0, max_overlap), int)


def _suppress_contained(boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return the indices of the boxes (n, 4) of different faces in a frame, the best first.

    This is MTCNN's last non-maximum suppression, by the intersection divided by the area of the smaller box.
    """
    areas, selected = np.prod(boxes[:, 2:] - boxes[:, :2] + 1, axis=1), list[int]()
    for index in np.argsort(-scores, kind="stable").tolist():
        sides = (
            np.minimum(boxes[index, 2:], boxes[selected, 2:]) - np.maximum(boxes[index, :2], boxes[selected, :2]) + 1
        )
        covered = np.prod(np.maximum(sides, 0), axis=1) / np.minimum(areas[index], areas[selected])
        if (covered <= _SAME_FACE).all():
            selected.append(index)
    return np.array(selected, int)
