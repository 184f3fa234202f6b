"""SFace, a face recognition network that runs in OpenCV: its embeddings of two images of one person are similar."""

from pathlib import Path

import cv2
import numpy as np

from lib.core import weight_files
from lib.core.errors import SettingError

_NAME = "sface"


class SFace:
    """SFace (Zhong et al. 2021, SFace: sigmoid-constrained hypersphere loss), quantised to 8 bits.

    weights: the path of its file, None for the file in data/weights/. setting: the setting that needs the network, with its
    value, for errors. Raises SettingError if the file is missing or is not a network.
    """

    SIDE = 112
    """Side of the network's training images, which are aligned to the same five points as this project's faces."""

    def __init__(self, weights: str | None, setting: str) -> None:
        path = find_weights(weights) if weights else weight_files.require_file(_NAME, setting)
        if not path.is_file():
            raise SettingError(
                f"{setting} with weights = {weights!r}, which is not a file; allowed: null, for data/weights/, or the path"
                f" of SFace's weights; run python -m tools.weights {_NAME} and set it to null"
            )
        try:
            self._network = cv2.FaceRecognizerSF.create(str(path), "")
        except cv2.error as error:
            raise SettingError(
                f"{setting}, but {path} can't be read as SFace's weights ({error.err}); allowed: the file that"
                f" python -m tools.weights {_NAME} writes; run it"
            ) from None

    def __call__(self, faces: np.ndarray) -> np.ndarray:
        """Return embeddings, float32 (N, 128), of aligned faces, RGB uint8 (N, S, S, 3)."""
        images = (cv2.cvtColor(_scale(face), cv2.COLOR_RGB2BGR) for face in faces)
        return np.concatenate([self._network.feature(image) for image in images])


def find_weights(weights: str | None) -> Path:
    """Return the path of SFace's weights, which need not exist: `weights`, or the file in data/weights/."""
    return Path(weights) if weights else weight_files.find_file(_NAME)


def _scale(face: np.ndarray) -> np.ndarray:
    if face.shape[:2] == (SFace.SIDE, SFace.SIDE):
        return face
    how = cv2.INTER_AREA if len(face) > SFace.SIDE else cv2.INTER_LINEAR
    return cv2.resize(face, (SFace.SIDE, SFace.SIDE), interpolation=how)
