"""Find every face and its five points in a batch of frames with MTCNN, or near where it was."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from facenet_pytorch import MTCNN
from facenet_pytorch.models.utils import detect_face as mtcnn
from torch import Tensor
from torchvision.ops import batched_nms

BATCH = 32  # frames
_WINDOW = 12  # pixels a side that MTCNN looks at; it can't make a pyramid of less
_SECOND_WINDOW, _LAST_WINDOW = 24, 48  # ... and its second and last network
_GIVEN = 0.93  # side of the squares that it is given by the network before it, of its own boxes' (mean over real clips)
_SAME_FACE = 0.7  # overlap of two boxes from which on MTCNN takes them for one face, at last of the smaller of them
_INSIDE = 0.5  # least share of a box that lies in the frame
_EARLIER = 1.5  # pixels by which MTCNN's crops, cut at whole pixels, begin before its squares, on average


@dataclass(frozen=True)
class Faces:
    """The n faces of a frame, in its pixels: boxes (n, 4) as x0, y0, x1, y1; scores (n,); points (n, 5, 2)."""

    boxes: np.ndarray
    scores: np.ndarray
    points: np.ndarray


class Detector:
    """MTCNN (Zhang et al. 2016, Joint face detection and alignment using multi-task cascaded convolutional networks).

    `min_face` is the smallest face's side in pixels; time grows with its inverse square.
    """

    def __init__(self, min_face: int, device: torch.device) -> None:
        # MTCNN's batches differ in size from frame to frame; oneDNN would keep code for 1024 sizes, which takes gigabytes
        os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "32")
        self._network = MTCNN(keep_all=True, min_face_size=min_face, device=device)
        if device.type == "cpu":  # the same numbers up to rounding, pooled in a third of the time
            self._network.to(memory_format=torch.channels_last)

    def __call__(self, frames: np.ndarray) -> list[Faces]:
        """Return each frame's faces, the largest first; frames are RGB uint8 (T, H, W, 3). Pictures smaller than `min_face`
        hold none."""
        return [
            faces for start in range(0, len(frames), BATCH) for faces in self._cascade(frames[start : start + BATCH])
        ]

    @torch.no_grad()
    def refine(self, frames: np.ndarray, near: Sequence[Faces], runs: int) -> list[Faces | None]:
        """Return the faces of each frame (RGB uint8, (T, H, W, 3)) that lie near those of another, `near` (T), by MTCNN's
        last network alone, run on the box that is known, on the box that this gives, and so on. The points are the mean of
        the last two of these `runs`, 2 or more.

        It sees crops that are resampled at the square's place and not, as in MTCNN, cut at whole pixels, so that a few runs
        come to the same box whatever the first one.

        None, where not all of them are found again: one's score is below MTCNN's threshold, one has left the frame, two
        have become one, or there was none.
        """
        of_frame = np.repeat(np.arange(len(frames)), [len(faces.boxes) for faces in near])
        boxes = np.concatenate([np.empty((0, 4)), *(faces.boxes for faces in near)])
        kept, scores, points = np.ones(len(boxes), bool), np.zeros(len(boxes)), np.zeros((runs, len(boxes), 5, 2))
        for run in range(runs):
            kept[kept] = _inside(boxes[kept], frames.shape[2], frames.shape[1]) >= _INSIDE
            squares = _given(boxes[kept])
            boxes[kept], scores[kept], points[run, kept] = self._last_network(
                squares, _resampled(frames, of_frame[kept], squares.numpy())
            )
            kept &= scores > self._network.thresholds[2]
        refined: list[Faces | None] = []
        for frame in range(len(frames)):
            mine = np.flatnonzero(of_frame == frame)
            there = len(mine) and kept[mine].all() and len(_distinct(boxes[mine], scores[mine])) == len(mine)
            refined.append(Faces(boxes[mine], scores[mine], points[-2:, mine].mean(0)) if there else None)
        return refined

    @torch.no_grad()
    def _cascade(self, frames: np.ndarray) -> list[Faces]:
        """Return the faces of frames, as facenet-pytorch's `detect_face` does (v2.5.3), whose parts these are."""
        sums = [cv2.integral(one) for one in frames]
        squares, of_frame = self._first_network(sums)
        squares, of_frame = self._second_network(sums, of_frame, squares)
        boxes, scores, points = self._last_network(squares, _crops(sums, of_frame, squares, _LAST_WINDOW))
        sure = scores > self._network.thresholds[2]
        of_frame, boxes, scores, points = of_frame[sure], boxes[sure], scores[sure], points[sure]
        found = []
        for frame in range(len(frames)):
            mine = np.flatnonzero(of_frame == frame)
            mine = mine[_distinct(boxes[mine], scores[mine])]
            mine = mine[np.argsort(-np.prod(boxes[mine, 2:] - boxes[mine, :2], axis=1))]
            found.append(Faces(boxes[mine], scores[mine], points[mine]))
        return found

    def _first_network(self, sums: Sequence[np.ndarray]) -> tuple[Tensor, np.ndarray]:
        """Return squares (n, 4) in which there may be faces, and their frames (n,), from a pyramid of each frame; `sums` are
        the frames' integral images (H + 1, W + 1, 3)."""
        height, width = len(sums[0]) - 1, sums[0].shape[1] - 1
        scale = _WINDOW / self._network.min_face_size
        boxes, places = [torch.empty(0, 9)], [torch.empty(0, dtype=torch.long)]
        while min(height, width) * scale >= _WINDOW:
            level = np.stack([_scaled(one, int(height * scale + 1), int(width * scale + 1)) for one in sums])
            shift, scores = self._run(self._network.pnet, torch.from_numpy(level).permute(0, 3, 1, 2))
            of_level, at = mtcnn.generateBoundingBox(shift, scores[:, 1], scale, self._network.thresholds[0])
            kept = batched_nms(of_level[:, :4], of_level[:, 4], at, 0.5)
            boxes, places, scale = [*boxes, of_level[kept]], [*places, at[kept]], scale * self._network.factor
        all_boxes, of_frame = torch.cat(boxes), torch.cat(places)
        kept = batched_nms(all_boxes[:, :4], all_boxes[:, 4], of_frame, _SAME_FACE)
        corners, shift = all_boxes[kept, :4], all_boxes[kept, 5:]
        return mtcnn.rerec(corners + shift * (corners[:, 2:] - corners[:, :2]).repeat(1, 2)), of_frame[kept].numpy()

    def _second_network(
        self, sums: Sequence[np.ndarray], of_frame: np.ndarray, squares: Tensor
    ) -> tuple[Tensor, np.ndarray]:
        """Return which of the squares (n, 4) go on to the last network, moved to where they fit better, and their frames."""
        if not len(squares):
            return squares, of_frame
        shift, scores = self._run(self._network.rnet, _crops(sums, of_frame, squares, _SECOND_WINDOW))
        sure = torch.nonzero(scores[:, 1] > self._network.thresholds[1])[:, 0]
        sure = sure[batched_nms(squares[sure], scores[sure, 1], torch.from_numpy(of_frame)[sure], _SAME_FACE)]
        return mtcnn.rerec(mtcnn.bbreg(squares[sure], shift[sure])), of_frame[sure.numpy()]

    def _last_network(self, squares: Tensor, crops: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return boxes (n, 4), scores (n,) and points (n, 5, 2) of the faces near squares (n, 4), by MTCNN's last network;
        `crops` (n, 3, 48, 48), 0 to 255, show what lies in the squares."""
        if not len(squares):
            return np.empty((0, 4)), np.empty(0), np.empty((0, 5, 2))
        shift, points, scores = self._run(self._network.onet, crops)
        sides = (squares[:, 2:] - squares[:, :2] + 1)[:, None]
        places = torch.stack((points[:, :5], points[:, 5:]), dim=2) * sides + squares[:, None, :2] - 1
        return mtcnn.bbreg(squares, shift).double().numpy(), scores[:, 1].double().numpy(), places.double().numpy()

    def _run(self, network: torch.nn.Module, pictures: Tensor) -> list[Tensor]:
        """Return what a network gives for pictures of levels 0 to 255 (n, 3, H, W), on the CPU."""
        return [one.cpu() for one in network((pictures.to(self._network.device).float() - 127.5) / 128)]


def _crops(sums: Sequence[np.ndarray], of_frame: np.ndarray, squares: Tensor, side: int) -> Tensor:
    """Return what lies in squares (n, 4) of the frames `of_frame` (n,), scaled to (n, 3, side, side); 0 to 255. `sums` are
    the frames' integral images (H + 1, W + 1, 3)."""
    height, width = len(sums[0]) - 1, sums[0].shape[1] - 1
    crops = np.empty((len(squares), side, side, 3), np.float32)
    for at, (frame, y0, y1, x0, x1) in enumerate(zip(of_frame, *mtcnn.pad(squares, width, height), strict=True)):
        top, left = min(y0, height) - 1, min(x0, width) - 1  # a square beyond the frame has its nearest pixels
        crops[at] = _scaled(sums[frame][top : max(y1, top + 1) + 1, left : max(x1, left + 1) + 1], side, side)
    return torch.from_numpy(crops).permute(0, 3, 1, 2)


def resample(picture: np.ndarray, matrix: np.ndarray, side: int) -> np.ndarray:
    """Return the picture (side, side, 3) to which a similarity transform (2, 3) brings another (H, W, 3), whose nearest
    pixels are repeated beyond it."""
    while np.linalg.norm(matrix[:, 0]) < 0.5:  # bilinear sampling alone would skip pixels
        picture = cv2.pyrDown(picture)
        matrix = matrix * [2, 2, 1]
    return cv2.warpAffine(picture, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _resampled(frames: np.ndarray, of_frame: np.ndarray, squares: np.ndarray) -> Tensor:
    """Return what lies in squares (n, 4), in parts of a pixel, of the frames `of_frame` (n,), for MTCNN's last network
    (n, 3, 48, 48); 0 to 255. Beyond the frame the nearest pixels are repeated."""
    crops = np.empty((len(squares), _LAST_WINDOW, _LAST_WINDOW, 3), np.uint8)
    for at, (frame, (left, top, right, _)) in enumerate(zip(of_frame, squares, strict=True)):
        side = right - left + 1
        x, y = left - _EARLIER, top - _EARLIER  # where the crop begins, between pixels
        x0, y0 = max(int(x - side / 4), 0), max(int(y - side / 4), 0)  # what is far away need not be scaled
        near = frames[frame, y0 : int(y + 1.25 * side) + 1, x0 : int(x + 1.25 * side) + 1]
        matrix = _LAST_WINDOW / side * np.array([[1, 0, 0.5 + x0 - x], [0, 1, 0.5 + y0 - y]]) - [[0, 0, 0.5]]
        crops[at] = resample(near, matrix, _LAST_WINDOW)
    return torch.from_numpy(crops).permute(0, 3, 1, 2)


def _scaled(sums: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return a picture scaled to float32 (height, width, 3) from its integral image int32 (H + 1, W + 1, 3).

    Each pixel is the mean over a box of pixels, the same as adaptive average pooling's, in an eighth of its time. (The sums
    of large pictures go round at 2^32; their differences don't mind.)
    """
    (top, bottom), (left, right) = _edges(len(sums) - 1, height), _edges(sums.shape[1] - 1, width)
    rows = sums[bottom] - sums[top]
    pixels = ((bottom - top)[:, None] * (right - left))[:, :, None]
    return (rows.take(right, axis=1) - rows.take(left, axis=1)) / pixels.astype(np.float32)


def _edges(length: int, parts: int) -> tuple[np.ndarray, np.ndarray]:
    """Return where each of so many parts of a length begins and ends, in whole pixels: neighbours may have one in common."""
    at = np.arange(parts)
    return at * length // parts, -(-(at + 1) * length // parts)


def _inside(boxes: np.ndarray, width: int, height: int) -> np.ndarray:
    """Return the share (n,) of each box (n, 4) that lies in the frame; 0 for a box without area."""
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    seen = np.minimum(boxes[:, 2:], [width, height]) - np.maximum(boxes[:, :2], 0)
    return np.prod(np.maximum(seen, 0), axis=1) / np.maximum(np.prod(sides, axis=1), 1e-9)


def _given(boxes: np.ndarray) -> Tensor:
    """Return squares (n, 4) as the last network gets them from the one before it, where its own boxes are these (n, 4)."""
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    side = (boxes[:, 2:] - boxes[:, :2]).max(1, keepdims=True, initial=0) * _GIVEN
    return torch.from_numpy(np.hstack([middles - side / 2, middles + side / 2])).float()


def _distinct(boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return the indices of the boxes (n, 4) that are of different faces, by MTCNN's last non-maximum suppression."""
    of_one = torch.zeros(len(boxes))
    return mtcnn.batched_nms_numpy(torch.from_numpy(boxes), torch.from_numpy(scores), of_one, _SAME_FACE, "Min").numpy()
