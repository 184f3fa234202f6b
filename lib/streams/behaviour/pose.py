"""Head pose from landmarks: a rigid 3D face is fitted to its projections (perspective-n-point)."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from lib.streams.faces.align import TEMPLATE, fit_similarity

_RIGID = {
    27: (0.0, -32.7, -52.4), 30: (0.0, 11.3, -74.8),
    31: (-10.4, 14.6, -56.6), 33: (0.0, 20.9, -60.6), 35: (10.4, 14.6, -56.6),
    36: (-44.5, -26.6, -31.7), 39: (-18.6, -25.9, -37.6), 42: (18.6, -25.9, -37.6), 45: (44.5, -26.6, -31.7),
    48: (-24.6, 43.4, -42.8), 54: (24.6, 43.4, -42.8),
}  # fmt: skip
"""Index among the 68 landmarks -> position in mm on MediaPipe's canonical face (Apache 2.0; Kartynnik et al. 2019, Real-time
facial surface geometry from monocular video on mobile GPUs). x points to the right of the image, y down, z away from the
camera. Bridge and tip of the nose, nostrils, corners of eyes and mouth: they move little when the face moves."""

_FIVE = np.array([(-31.8, -26.4, -36.6), (31.8, -26.4, -36.6), _RIGID[30], _RIGID[48], _RIGID[54]])
"""The centres of the eyes, the tip of the nose and the corners of the mouth on the same face."""

POINTS = {5: ([*range(5)], _FIVE), 68: ([*_RIGID], np.array([*_RIGID.values()]))}
"""Number of landmarks -> the indices of those that the pose is fitted to, and their positions (P, 3) on the 3D face."""


class Pose(NamedTuple):
    """The pose of a head in camera coordinates: x to the right of the image, y down, z forward.

    angles: pitch, yaw and roll in degrees. The rotation is Rx(pitch) Ry(yaw) Rz(roll), as in OpenFace: positive angles look
    down, turn to the left side of the image, and tilt clockwise. position: in mm, for a head of average size. off_camera:
    angle in degrees between the direction of the head and the line to the camera. error: root mean square distance of the
    landmarks from the projected 3D face, in distances between the eyes.
    """

    angles: np.ndarray
    position: np.ndarray
    off_camera: float
    error: float


def camera_matrix(width: int, height: int, focal: float) -> np.ndarray:
    """Return the matrix of a pinhole camera. focal: focal length in units of the longer side of the frame."""
    length = focal * max(width, height)
    return np.array([[length, 0, width / 2], [0, length, height / 2], [0, 0, 1]])


def fit_pose(points: np.ndarray, camera: np.ndarray) -> Pose | None:
    """Return the pose for 5 or 68 landmarks (P, 2) in pixels of the frame, or None without a solution.

    The start is the global solution of Terzakis and Lourakis 2020 (SQPnP); Levenberg-Marquardt then minimises the squared
    reprojection error.
    """
    chosen, solid = POINTS[len(points)]
    flat = np.ascontiguousarray(points[chosen], float)
    solved, rotation, position = cv2.solvePnP(solid, flat, camera, None, flags=cv2.SOLVEPNP_SQPNP)
    if not solved:
        return None
    rotation, position = cv2.solvePnPRefineLM(solid, flat, camera, None, rotation, position)
    matrix, place = cv2.Rodrigues(rotation)[0], position.ravel()
    if place[2] <= 0 or not np.isfinite(matrix).all():
        return None
    projected = cv2.projectPoints(solid, rotation, position, camera, None)[0][:, 0]
    eyes = cv2.projectPoints(_FIVE[:2], rotation, position, camera, None)[0][:, 0]
    # between the eyes of a head that looks into the camera at this distance
    between = np.linalg.norm(_FIVE[1] - _FIVE[0]) * camera[0, 0] / max(place[2], 1e-6)
    error = np.sqrt(((projected - flat) ** 2).sum(1).mean()) / max(between, np.linalg.norm(eyes[1] - eyes[0]), 1e-6)
    towards = -place / np.linalg.norm(place)
    off = np.degrees(np.arccos(np.clip(matrix @ [0, 0, -1] @ towards, -1, 1)))
    return Pose(to_angles(matrix), place, float(off), float(error))


def to_angles(matrix: np.ndarray) -> np.ndarray:
    """Return pitch, yaw and roll in degrees of a rotation matrix Rx(pitch) Ry(yaw) Rz(roll)."""
    yaw = np.arcsin(np.clip(matrix[0, 2], -1, 1))
    pitch, roll = np.arctan2(-matrix[1, 2], matrix[2, 2]), np.arctan2(-matrix[0, 1], matrix[0, 0])
    return np.degrees([pitch, yaw, roll])


def to_frame(points: np.ndarray, five: np.ndarray, side: int) -> np.ndarray:
    """Return the position in the frame of points (P, 2) in the aligned face of `side` pixels.

    five: (5, 2), the points in the frame that the alignment maps to its template, as the stream faces stores them. The
    result is in pixels from the frame's upper left corner; (0.5, 0.5) is the centre of the first pixel.
    """
    to_template = fit_similarity(five.astype(float), TEMPLATE * (side / 112))
    linear, shift = to_template[:, :2], to_template[:, 2]
    return (points.astype(float) - 0.5 - shift) @ np.linalg.inv(linear).T + 0.5


def frame_scale(five: np.ndarray, side: int) -> float:
    """Return the length in the frame of one pixel of the aligned face."""
    return 1 / float(np.hypot(*fit_similarity(five.astype(float), TEMPLATE * (side / 112))[:, 0]))


def project(solid: np.ndarray | Sequence, angles: np.ndarray, position: np.ndarray, camera: np.ndarray) -> np.ndarray:
    """Return the projections (P, 2) of points (P, 3) in mm on the 3D face for a pose: angles in degrees, position in mm."""
    pitch, yaw, roll = (
        cv2.Rodrigues(axis * np.radians(angle))[0] for axis, angle in zip(np.eye(3), angles, strict=True)
    )
    moved = np.asarray(solid, float) @ (pitch @ yaw @ roll).T + position
    projected = moved @ camera.T
    return projected[:, :2] / projected[:, 2:]
