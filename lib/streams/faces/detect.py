"""Find every face and its five points in a batch of frames with MTCNN, or near where it was."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from facenet_pytorch import MTCNN
from facenet_pytorch.models.utils import detect_face as mtcnn

BATCH = 32  # frames
_WINDOW = 12  # pixels a side that MTCNN looks at; it can't make a pyramid of less
_LAST_WINDOW = 48  # pixels a side that its last network looks at
_GIVEN = 0.93  # side of the squares that it is given by the network before it, of its own boxes' (mean over real clips)
_SAME_FACE = 0.7  # of the smaller of two boxes, where MTCNN takes them for one face
_INSIDE = 0.5  # least share of a box that lies in the frame


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
        """Return each frame's faces; frames are RGB uint8 (T, H, W, 3). Pictures smaller than `min_face` hold none."""
        if min(frames.shape[1:3]) * (_WINDOW / self._network.min_face_size) < _WINDOW:
            return [_faces(None, np.empty(0), np.empty(0)) for _ in frames]
        faces: list[Faces] = []
        for start in range(0, len(frames), BATCH):
            found = self._network.detect(frames[start : start + BATCH], landmarks=True)
            faces += [_faces(*of_frame) for of_frame in zip(*found, strict=True)]
        return faces

    def refine(self, frames: np.ndarray, near: Sequence[Faces]) -> list[Faces | None]:
        """Return the faces of each frame (RGB uint8, (T, H, W, 3)) that lie near those of another, `near` (T), by MTCNN's
        last network alone, run twice: on the box that is known, and on the box that this gives. The points are both's mean.

        None, where not all of them are found again: one's score is below MTCNN's threshold, one has left the frame, two
        have become one, or there was none.
        """
        of_frame = np.repeat(np.arange(len(frames)), [len(faces.boxes) for faces in near])
        boxes = np.concatenate([np.empty((0, 4)), *(faces.boxes for faces in near)])
        kept, scores, points = np.ones(len(boxes), bool), np.zeros(len(boxes)), np.zeros((2, len(boxes), 5, 2))
        for run in range(2):
            kept[kept] = _inside(boxes[kept], frames.shape[2], frames.shape[1]) >= _INSIDE
            if kept.any():
                boxes[kept], scores[kept], points[run, kept] = self._last_network(frames, of_frame[kept], boxes[kept])
            kept &= scores > self._network.thresholds[2]
        found: list[Faces | None] = []
        for frame, faces in enumerate(near):
            mine = of_frame == frame
            one = Faces(boxes[mine], scores[mine], points[:, mine].mean(0))
            found.append(one if len(faces.boxes) and kept[mine].all() and not _merged(one) else None)
        return found

    @torch.no_grad()
    def _last_network(
        self, frames: np.ndarray, of_frame: np.ndarray, boxes: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return boxes (n, 4), scores (n,) and points (n, 5, 2), as MTCNN's third stage finds them near boxes (n, 4) of the
        frames `of_frame` (n,)."""
        middles, side = (
            (boxes[:, :2] + boxes[:, 2:]) / 2,
            (boxes[:, 2:] - boxes[:, :2]).max(1, keepdims=True) * _GIVEN,
        )
        square = torch.from_numpy(np.hstack([middles - side / 2, middles + side / 2])).float()
        crops = []
        for frame, y0, y1, x0, x1 in zip(of_frame, *mtcnn.pad(square, frames.shape[2], frames.shape[1]), strict=True):
            crop = torch.from_numpy(frames[frame, y0 - 1 : y1, x0 - 1 : x1]).to(self._network.device)
            crops.append(mtcnn.imresample(crop.permute(2, 0, 1)[None].float(), (_LAST_WINDOW, _LAST_WINDOW)))
        shift, points, scores = (one.cpu() for one in self._network.onet((torch.cat(crops) - 127.5) / 128))
        sides = (square[:, 2:] - square[:, :2] + 1)[:, None]
        places = torch.stack((points[:, :5], points[:, 5:]), dim=2) * sides + square[:, None, :2] - 1
        return mtcnn.bbreg(square, shift).double().numpy(), scores[:, 1].double().numpy(), places.double().numpy()


def _faces(boxes: np.ndarray | None, scores: np.ndarray, points: np.ndarray) -> Faces:
    """Cast what `detect` returns: object arrays, and None for a frame without a face."""
    if boxes is None:
        return Faces(np.empty((0, 4)), np.empty(0), np.empty((0, 5, 2)))
    return Faces(np.asarray(boxes, float), np.asarray(scores, float), np.asarray(points, float))


def _inside(boxes: np.ndarray, width: int, height: int) -> np.ndarray:
    """Return the share (n,) of each box (n, 4) that lies in the frame; 0 for a box without area."""
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    seen = np.minimum(boxes[:, 2:], [width, height]) - np.maximum(boxes[:, :2], 0)
    return np.prod(np.maximum(seen, 0), axis=1) / np.maximum(np.prod(sides, axis=1), 1e-9)


def _merged(faces: Faces) -> bool:
    """Tell whether two of the boxes are of one face, as MTCNN's non-maximum suppression has it."""
    boxes = torch.from_numpy(faces.boxes)
    picked = mtcnn.batched_nms_numpy(boxes, torch.from_numpy(faces.scores), torch.zeros(len(boxes)), _SAME_FACE, "Min")
    return len(picked) < len(boxes)
