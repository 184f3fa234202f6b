"""Find every face in a batch of frames with YuNet, a small network that runs in OpenCV."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from lib.core.errors import SettingError
from lib.core.weight_files import require_file
from lib.streams.faces.detect import Detector, Faces, Network

NAME = "yunet"
"""Its name in `lib.core.weight_files`."""

_MIN_SCORE = 0.6  # score
_SMALLEST = 0.6  # smallest face relative to `min_face`; MTCNN also finds faces of this size
_SAME_FACE = 0.3  # boxes with a larger intersection over union are one face


class YuNet(Detector):
    """YuNet (Wu et al. 2023, YuNet: a tiny millisecond-level face detector) in place of MTCNN's first two networks. MTCNN's
    last network refines and tracks the detected faces.

    weights: the path of its file, None for the file in data/weights/. Raises InputError if it is missing or is not YuNet.
    """

    def __init__(self, weights: str | None, min_face: int, networks: Sequence[Network]) -> None:
        super().__init__(min_face, networks)
        self._smallest = _SMALLEST * min_face
        path = Path(weights) if weights else require_file(NAME, "faces.detector = yunet")
        if not path.is_file():
            raise SettingError(
                f"faces.weights = {weights!r} is not a file; allowed: null, for data/weights/, or the path of"
                f" face_detection_yunet_2023mar.onnx; run python -m tools.weights {NAME} and set it to null"
            )
        try:
            self._yunet = cv2.FaceDetectorYN.create(str(path), "", (0, 0), _MIN_SCORE, _SAME_FACE)
        except cv2.error as error:
            raise SettingError(
                f"faces.weights: {path} can't be read as YuNet's weights ({error.err}); allowed: the file that"
                f" python -m tools.weights {NAME} writes; run it"
            ) from None

    def __call__(self, frames: Sequence[np.ndarray]) -> list[Faces]:
        """Return each frame's faces, the largest first. Frames are RGB uint8 (T of (H, W, 3)).

        Points have MTCNN's order and lie 3 to 7 % of a face's width away from MTCNN's points.
        """
        self._yunet.setInputSize(frames[0].shape[1::-1])
        return [self._faces(self._yunet.detect(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))[1]) for frame in frames]

    def _faces(self, rows: np.ndarray | None) -> Faces:
        """Return the faces in YuNet's rows of corner, size, five points and score."""
        rows = np.empty((0, 15)) if rows is None else rows.astype(float)
        rows = rows[rows[:, 2:4].max(1, initial=0) >= self._smallest]
        rows = rows[np.argsort(-np.prod(rows[:, 2:4], axis=1))]
        return Faces(np.hstack([rows[:, :2], rows[:, :2] + rows[:, 2:4]]), rows[:, 14], rows[:, 4:14].reshape(-1, 5, 2))
