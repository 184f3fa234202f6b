"""Find every face and its five points in a batch of frames with MTCNN."""

import os
from dataclasses import dataclass

import numpy as np
import torch
from facenet_pytorch import MTCNN

BATCH = 32  # frames
_WINDOW = 12  # pixels a side that MTCNN looks at; it can't make a pyramid of less


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

    def __call__(self, frames: np.ndarray) -> list[Faces]:
        """Return each frame's faces; frames are RGB uint8 (T, H, W, 3). Pictures smaller than `min_face` hold none."""
        if min(frames.shape[1:3]) * (_WINDOW / self._network.min_face_size) < _WINDOW:
            return [_faces(None, np.empty(0), np.empty(0)) for _ in frames]
        faces: list[Faces] = []
        for start in range(0, len(frames), BATCH):
            found = self._network.detect(frames[start : start + BATCH], landmarks=True)
            faces += [_faces(*of_frame) for of_frame in zip(*found, strict=True)]
        return faces


def _faces(boxes: np.ndarray | None, scores: np.ndarray, points: np.ndarray) -> Faces:
    """Cast what `detect` returns: object arrays, and None for a frame without a face."""
    if boxes is None:
        return Faces(np.empty((0, 4)), np.empty(0), np.empty((0, 5, 2)))
    return Faces(np.asarray(boxes, float), np.asarray(scores, float), np.asarray(points, float))
