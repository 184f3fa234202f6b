"""Find every face and its five points in a batch of frames with MTCNN, or near where it was."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import torch

from lib.streams.faces.frame import Frame
from lib.streams.faces.mtcnn import first_network, last_network, second_network

# MTCNN's batches differ in size from frame to frame; oneDNN would keep code for 1024 sizes, which takes gigabytes
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "32")

BATCH = 32  # frames
_AT_ONCE = 8  # frames whose integral images are held
_FACTOR = 0.709  # of a pyramid's level, of the one before
_WINDOW = 12  # pixels a side that MTCNN's first network looks at; it can't make a pyramid of less ...
_STRIDE = 2  # ... from a window to the next ...
_SECOND_WINDOW, _LAST_WINDOW = 24, 48  # ... and that its second and last network look at
_SURE = 0.6, 0.7, 0.7  # the networks' least scores
_GIVEN = 0.93  # side of the squares that it is given by the network before it, of its own boxes' (mean over real clips)
_SAME_LEVEL = 0.5  # overlap of two boxes of one level of the pyramid from which on MTCNN takes them for one face ...
_SAME_FACE = 0.7  # ... and of others, at last of the smaller of them
_INSIDE = 0.5  # least share of a box that lies in the frame
_EARLIER = 1.5  # pixels by which MTCNN's crops, cut at whole pixels, begin before its squares, on average


@dataclass(frozen=True)
class Faces:
    """The n faces of a frame, in its pixels: boxes (n, 4) as x0, y0, x1, y1; scores (n,); points (n, 5, 2)."""

    boxes: np.ndarray
    scores: np.ndarray
    points: np.ndarray


class Detector:
    """MTCNN: three networks in a cascade; each checks the results of the one before more closely.

    `min_face` is the smallest face's side in pixels; time grows with its inverse square.
    """

    def __init__(self, min_face: int, device: torch.device) -> None:
        self._min_face = min_face
        self._networks = first_network(device), second_network(device), last_network(device)

    def __call__(self, frames: Sequence[np.ndarray]) -> list[Faces]:
        """Return each frame's faces, the largest first; frames are RGB uint8 (T of (H, W, 3)). Pictures smaller than
        `min_face` hold none."""
        return [
            faces
            for start in range(0, len(frames), _AT_ONCE)
            for faces in self._cascade(frames[start : start + _AT_ONCE])
        ]

    def refine(self, frames: Sequence[Frame], near: Sequence[Faces], runs: int) -> list[Faces | None]:
        """Return the faces of each of the frames (T) that lie near those of another, `near` (T), by MTCNN's last network
        alone, run on the box that is known, on the box that this gives, and so on. The points are the mean of the last two
        of these `runs`, 2 or more.

        It sees crops that are resampled at the square's place and not, as in MTCNN, cut at whole pixels, so that a few runs
        come to the same box whatever the first one.

        None, where not all of them are found again: one's score is below MTCNN's threshold, one has left the frame, two
        have become one, or there was none.
        """
        of_frame = np.repeat(np.arange(len(frames)), [len(faces.boxes) for faces in near])
        boxes = np.concatenate([np.empty((0, 4)), *(faces.boxes for faces in near)])
        valid, scores, points = np.ones(len(boxes), bool), np.zeros(len(boxes)), np.zeros((runs, len(boxes), 5, 2))
        for run in range(runs):
            if len(frames):
                height, width = frames[0].pixels.shape[:2]
                valid[valid] = _inside(boxes[valid], width, height) >= _INSIDE
            squares = _given(boxes[valid])
            crops = _resampled([frames[index] for index in of_frame[valid]], squares)
            boxes[valid], scores[valid], points[run, valid] = self._last_network(squares, crops)
            valid &= scores > _SURE[2]
        refined: list[Faces | None] = []
        for frame in range(len(frames)):
            mine = np.flatnonzero(of_frame == frame)
            complete = len(mine) and valid[mine].all() and len(_distinct(boxes[mine], scores[mine])) == len(mine)
            refined.append(Faces(boxes[mine], scores[mine], points[-2:, mine].mean(0)) if complete else None)
        return refined

    def _cascade(self, frames: Sequence[np.ndarray]) -> list[Faces]:
        """Return the faces of frames, as facenet-pytorch's `detect_face` does (v2.5.3)."""
        sums = [cv2.integral(frame_pixels) for frame_pixels in frames]
        squares, of_frame = self._first_network(sums)
        squares, of_frame = self._second_network(sums, of_frame, squares)
        boxes, scores, points = self._last_network(squares, _crops(sums, of_frame, squares, _LAST_WINDOW))
        sure = scores > _SURE[2]
        of_frame, boxes, scores, points = of_frame[sure], boxes[sure], scores[sure], points[sure]
        results = []
        for frame in range(len(frames)):
            mine = np.flatnonzero(of_frame == frame)
            mine = mine[_distinct(boxes[mine], scores[mine])]
            mine = mine[np.argsort(-np.prod(boxes[mine, 2:] - boxes[mine, :2], axis=1))]
            results.append(Faces(boxes[mine], scores[mine], points[mine]))
        return results

    def _first_network(self, sums: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Return squares (n, 4) in which there may be faces, and their frames (n,), from a pyramid of each frame; `sums` are
        the frames' integral images (H + 1, W + 1, 3)."""
        height, width = len(sums[0]) - 1, sums[0].shape[1] - 1
        scale = _WINDOW / self._min_face
        levels = [
            (np.empty((0, 4), np.float32), np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, int))
        ]
        while min(height, width) * scale >= _WINDOW:
            level = np.stack([_scaled(integral, int(height * scale + 1), int(width * scale + 1)) for integral in sums])
            scores, shift = self._networks[0](level)
            frame, y, x = hits = np.nonzero(scores >= _SURE[0])
            corner = _STRIDE * np.stack([x, y], axis=1).astype(np.float32)
            boxes = np.floor(np.hstack([corner + 1, corner + _WINDOW]) / np.float32(scale))
            best = _unlike(boxes, scores[hits], frame, _SAME_LEVEL)
            levels.append((boxes[best], shift[frame, :, y, x][best], scores[hits][best], frame[best]))
            scale *= _FACTOR
        boxes, shift, scores, of_frame = map(np.concatenate, zip(*levels, strict=True))
        best = _unlike(boxes, scores, of_frame, _SAME_FACE)
        boxes, shift = boxes[best], shift[best]
        return _square(boxes + shift * np.tile(boxes[:, 2:] - boxes[:, :2], 2)), of_frame[best]

    def _second_network(
        self, sums: Sequence[np.ndarray], of_frame: np.ndarray, squares: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return which of the squares (n, 4) go on to the last network, moved to where they fit better, and their frames."""
        if not len(squares):
            return squares, of_frame
        scores, shift = self._networks[1](_crops(sums, of_frame, squares, _SECOND_WINDOW))
        sure = np.flatnonzero(scores > _SURE[1])
        sure = sure[_unlike(squares[sure], scores[sure], of_frame[sure], _SAME_FACE)]
        return _square(_moved(squares[sure], shift[sure])), of_frame[sure]

    def _last_network(self, squares: np.ndarray, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return boxes (n, 4), scores (n,) and points (n, 5, 2) of the faces near squares (n, 4), by MTCNN's last network;
        `crops` (n, 48, 48, 3), 0 to 255, show what lies in the squares."""
        if not len(squares):
            return np.empty((0, 4)), np.empty(0), np.empty((0, 5, 2))
        scores, rest = self._networks[2](crops)
        sides = (squares[:, 2:] - squares[:, :2] + 1)[:, None]
        points = rest[:, 4:].reshape(-1, 2, 5).transpose(0, 2, 1) * sides + squares[:, None, :2] - 1
        return _moved(squares, rest[:, :4]).astype(float), scores.astype(float), points.astype(float)


def _crops(sums: Sequence[np.ndarray], of_frame: np.ndarray, squares: np.ndarray, side: int) -> np.ndarray:
    """Return what lies in squares (n, 4) of the frames `of_frame` (n,), scaled to (n, side, side, 3); 0 to 255. `sums` are
    the frames' integral images (H + 1, W + 1, 3)."""
    height, width = len(sums[0]) - 1, sums[0].shape[1] - 1
    crops = np.empty((len(squares), side, side, 3), np.float32)
    for index, (frame, (x0, y0, x1, y1)) in enumerate(zip(of_frame, squares.astype(int).tolist(), strict=True)):
        # a square beyond the frame has its nearest pixels
        y_start, x_start = min(max(y0, 1), height) - 1, min(max(x0, 1), width) - 1
        y_end, x_end = max(min(y1, height), y_start + 1), max(min(x1, width), x_start + 1)
        crops[index] = _scaled(sums[frame][y_start : y_end + 1, x_start : x_end + 1], side, side)
    return crops


def _resampled(frames: Sequence[Frame], squares: np.ndarray) -> np.ndarray:
    """Return what lies in squares (n, 4), in parts of a pixel, of the frames (n), for MTCNN's last network (n, 48, 48, 3);
    0 to 255. Beyond the frame the nearest pixels are repeated."""
    crops = np.empty((len(squares), _LAST_WINDOW, _LAST_WINDOW, 3), np.uint8)
    for index, (frame, (x_start, y_start, x_end, _)) in enumerate(zip(frames, squares.tolist(), strict=True)):
        scale = _LAST_WINDOW / (x_end - x_start + 1)
        x, y = x_start - _EARLIER, y_start - _EARLIER  # where the crop begins, between pixels
        crops[index] = frame.resampled(
            np.array([[scale, 0, scale * (0.5 - x) - 0.5], [0, scale, scale * (0.5 - y) - 0.5]]), _LAST_WINDOW
        )
    return crops


def _scaled(sums: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return a picture scaled to float32 (height, width, 3) from its integral image int32 (H + 1, W + 1, 3).

    Each pixel is the mean over a box of pixels, the same as adaptive average pooling's, in an eighth of its time. (The sums
    of large pictures go round at 2^32; their differences don't mind.)
    """
    (y_starts, y_ends), (x_starts, x_ends) = _edges(len(sums) - 1, height), _edges(sums.shape[1] - 1, width)
    rows = sums[y_ends] - sums[y_starts]
    pixels = ((y_ends - y_starts)[:, None] * (x_ends - x_starts))[:, :, None]
    return (rows.take(x_ends, axis=1) - rows.take(x_starts, axis=1)) / pixels.astype(np.float32)


@lru_cache(4096)
def _edges(length: int, parts: int) -> tuple[np.ndarray, np.ndarray]:
    """Return where each of `parts` of a length begins and ends, in whole pixels. Neighbours may share one."""
    indices = np.arange(parts)
    return indices * length // parts, -(-(indices + 1) * length // parts)


def _inside(boxes: np.ndarray, width: int, height: int) -> np.ndarray:
    """Return the share (n,) of each box (n, 4) that lies in the frame; 0 for a box without area."""
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    seen = np.minimum(boxes[:, 2:], [width, height]) - np.maximum(boxes[:, :2], 0)
    return np.prod(np.maximum(seen, 0), axis=1) / np.maximum(np.prod(sides, axis=1), 1e-9)


def _square(boxes: np.ndarray) -> np.ndarray:
    """Return squares (n, 4) about the middles of boxes (n, 4), of their longer sides."""
    sides = boxes[:, 2:] - boxes[:, :2]
    side = sides.max(1, keepdims=True, initial=0)
    corner = boxes[:, :2] + (sides - side) / 2
    return np.hstack([corner, corner + side])


def _moved(squares: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Return boxes (n, 4) whose edges are shifted from the squares' (n, 4) by these parts of their sides (n, 4)."""
    return squares + shift * np.tile(squares[:, 2:] - squares[:, :2] + 1, 2)


def _given(boxes: np.ndarray) -> np.ndarray:
    """Return squares (n, 4) as the last network gets them from the one before it, where its own boxes are these (n, 4)."""
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    side = (boxes[:, 2:] - boxes[:, :2]).max(1, keepdims=True, initial=0) * _GIVEN
    return np.hstack([middles - side / 2, middles + side / 2]).astype(np.float32)


def _unlike(boxes: np.ndarray, scores: np.ndarray, of_frame: np.ndarray, most: float) -> np.ndarray:
    """Return the indices of the boxes (n, 4) that no better one of the same frame overlaps with by more than `most` of the
    union of both, the best first."""
    corners, sides = boxes[:, :2].astype(float), (boxes[:, 2:] - boxes[:, :2]).astype(float)
    lists = np.hstack([corners, sides]).tolist(), scores.tolist(), of_frame.tolist()
    return np.asarray(cv2.dnn.NMSBoxesBatched(*lists, 0.0, most), int)


def _distinct(boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return the indices of the boxes (n, 4) of a frame that are of different faces, the best first: by MTCNN's last
    non-maximum suppression, which goes by the part of the smaller box that the other covers."""
    areas, chosen = np.prod(boxes[:, 2:] - boxes[:, :2] + 1, axis=1), list[int]()
    for index in np.argsort(-scores, kind="stable").tolist():
        sides = np.minimum(boxes[index, 2:], boxes[chosen, 2:]) - np.maximum(boxes[index, :2], boxes[chosen, :2]) + 1
        covered = np.prod(np.maximum(sides, 0), axis=1) / np.minimum(areas[index], areas[chosen])
        if (covered <= _SAME_FACE).all():
            chosen.append(index)
    return np.array(chosen, int)
