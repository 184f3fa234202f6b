"""Landmarks of the aligned face: the five points used for the alignment, or dlib's 68 points."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from lib.core import shards
from lib.core.errors import SettingError
from lib.core.shards import Record
from lib.streams.base import Stream, StreamSettings
from lib.streams.faces.points import find_landmarks, read_points

_BOX = np.array([[0.103, 0.204], [0.907, 1.008]])
"""Face box for dlib, as corners in units of the image's side. With it, the predictor's mean shape matches the template."""

_SIDE = 224
"""Smaller faces are enlarged to this side in pixels, because the predictor returns integer coordinates."""


class Settings(StreamSettings):
    """detector: "faces" for the five points of the stream faces, or "dlib" for the 68 points of dlib's shape predictor."""

    detector: Literal["faces", "dlib"]


def make_extractor(settings: Settings) -> Callable[[Record], Record]:
    """Return a function that finds the landmarks of a clip's aligned faces. Raises InputError if dlib is not installed."""
    predict = _predictor() if settings.detector == "dlib" else None
    return lambda faces: find_landmarks(faces, predict)


def files(settings: Settings) -> list[Path]:
    """Return the weights file of dlib's shape predictor if the settings use it."""
    return [Path(_dlib_and_models()[1].pose_predictor_model_location())] if settings.detector == "dlib" else []


def summary(folder: Path) -> dict[str, Any]:
    """Return the numbers of faces, points and points outside the image, and the mean distance from the template."""
    points = [values[np.isfinite(values).all((1, 2))] for values in shards.read_arrays(folder, "points")]
    far = [float(values) for values in shards.read_attributes(folder, "pixels_from_template")]
    return {
        "faces": sum(map(len, points)),
        "points": points[0].shape[1] if points else 0,
        "outside": int(sum(shards.read_attributes(folder, "outside"))),
        "mean_pixels_from_template": round(float(np.mean(far)), 3) if far else None,
    }


def _predictor() -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that finds 68 points (68, 2) in an aligned face, RGB uint8 (S, S, 3), by an ensemble of regression
    trees (Kazemi & Sullivan 2014)."""
    shape = make_shape_finder(*_dlib_and_models())

    def predict(picture: np.ndarray) -> np.ndarray:
        larger, shape_points = shape(picture)
        return (np.array([(point.x, point.y) for point in shape_points.parts()]) + 0.5) * (len(picture) / len(larger))

    return predict


def _dlib_and_models() -> tuple[Any, Any]:
    return load_dlib("landmarks.detector = dlib", "set it to faces")


def load_dlib(setting: str, alternative: str) -> tuple[Any, Any]:
    """Return the modules dlib and face_recognition_models.

    Raises InputError if one is not installed; the message contains the `setting` that needs it and an `alternative`.
    """
    try:
        import dlib
        import face_recognition_models
    except ImportError as error:
        raise SettingError(
            f"{setting}, but {error.name} is not installed; run pip install -r requirements-dlib.txt, or {alternative}"
        ) from None
    return dlib, face_recognition_models


def make_shape_finder(dlib: Any, models: Any) -> Callable[[np.ndarray], tuple[np.ndarray, Any]]:
    """Return a function that finds 68 points in an aligned face, RGB uint8 (S, S, 3).

    The function returns the image, enlarged if the face is small, and dlib's full_object_detection in this image.
    """
    predictor = dlib.shape_predictor(models.pose_predictor_model_location())

    def find(picture: np.ndarray) -> tuple[np.ndarray, Any]:
        if len(picture) < _SIDE:
            picture = cv2.resize(picture, (_SIDE, _SIDE), interpolation=cv2.INTER_CUBIC)
        picture = np.ascontiguousarray(picture)
        box = (_BOX * len(picture)).round().astype(int).ravel().tolist()
        return picture, predictor(picture, dlib.rectangle(*box))

    return find


STREAM = Stream(
    inputs=("faces",),
    kind="points",
    settings=Settings,
    make_extractor=make_extractor,
    read_steps=read_points,
    files=files,
    summary=summary,
)
