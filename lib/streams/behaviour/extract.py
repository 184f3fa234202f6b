"""Measure a clip's behaviour from its frames, faces, landmarks and flow."""

import json
import warnings
from collections.abc import Mapping

import cv2
import numpy as np
from scipy.signal import find_peaks

from lib.core.shards import Record
from lib.streams import frames as stream_of_frames
from lib.streams._measures import find_runs, make_record, summarise_steps
from lib.streams.behaviour.measures import MEASURES
from lib.streams.behaviour.pose import camera_matrix, fit_pose, frame_scale, to_frame
from lib.streams.faces.align import TEMPLATE
from lib.streams.faces.constants import DETECTED

_EYES = float(np.linalg.norm(TEMPLATE[1] - TEMPLATE[0])) / 112  # distance of the eyes in sides of the aligned face
_MIDDLE = float(TEMPLATE[2, 1] + TEMPLATE[:2, 1].mean()) / 224  # row that separates upper and lower face
_CHANGED = 15  # grey levels of 255 by which a moving pixel changes between two frames
_CLOSED, _DEEP, _LOWERED = 0.7, 0.6, 0.4  # of the median eye aspect ratio
_LONGEST_BLINK = 0.5  # seconds
_NOD, _SHAKE, _GESTURE = 5.0, 8.0, 1.5  # degrees, degrees, seconds
_RIGHT_EYE, _LEFT_EYE = np.arange(36, 42), np.arange(42, 48)


def measure_behaviour(
    frames: Record, faces: Record, landmarks: Record, flow: Record, limits: tuple[float, float, float]
) -> Record:
    """Return a clip's measures: `steps` (T, D), `statistics` (1, S), `found`, `valid` and `times` (T,).

    A number is NaN where it is not defined. `valid`: the face was detected and the error of its pose is small enough; the
    statistics use these steps. limits: focal length, largest error of the pose, smallest angle that counts as away.
    Attributes: `names`, `absent` (measures that the landmarks do not allow), `mean_pose_error`, `focal_length`.
    """
    focal, max_error, away_from = limits
    times, states, cut = (faces.arrays[name] for name in ("times", "found", "cut"))
    points, five = landmarks.arrays["points"], faces.arrays["landmarks"]
    side = faces.arrays["faces"].shape[1]
    height, width = stream_of_frames.decode_frames(frames, np.arange(1))[0].shape[:2]
    camera = camera_matrix(width, height, focal)
    columns = {name: np.full(len(times), np.nan) for name in _names(points.shape[1])}
    for step in np.flatnonzero(states):
        in_frame = to_frame(points[step], five[step], side)
        measured = _measure_face(in_frame, five[step], camera, (width, height), frame_scale(five[step], side) * side)
        for name, value in measured.items():
            columns[name][step] = value
    valid = (states == DETECTED) & (columns["pose_error"] <= max_error)
    columns |= _measure_motion(faces.arrays, flow, times)
    images = _motion_images(frames, cut)
    columns["frame_motion"][1:] = [np.nan if image is None else image.mean() for image in images]
    columns |= _find_events(columns, valid, times, away_from)
    steps = np.column_stack([*columns.values()])
    listed = [measure for measure in MEASURES if measure.name in columns or measure.by_clip]
    statistics = summarise_steps(listed, np.where(valid[:, None], steps, np.nan), times) | _describe_image(images)
    arrays = {"steps": steps.astype(np.float32), "found": states, "valid": valid.astype(np.uint8), "times": times}
    error = columns["pose_error"][np.isfinite(columns["pose_error"])]
    attributes = {
        "absent": json.dumps([measure.name for measure in MEASURES if measure not in listed]),
        "mean_pose_error": float(error.mean()) if len(error) else np.nan,
        "focal_length": focal,
    }
    return make_record(faces.clip, arrays, statistics, [*columns], attributes)


def _names(points: int) -> list[str]:
    """Return the names of the columns that this number of landmarks allows."""
    return [measure.name for measure in MEASURES if not measure.by_clip and (points == 68 or not measure.needs)]


def _measure_face(
    points: np.ndarray, five: np.ndarray, camera: np.ndarray, size: tuple[int, int], square: float
) -> dict[str, float]:
    """Return the measures of one face from its landmarks (P, 2) and five points in pixels of the frame.

    square: side of the aligned face's square in the frame.
    """
    x, y = (five.mean(0) + 0.5) / size
    measured = {"face_x": x, "face_y": y, "face_size": square / size[1]}
    pose = fit_pose(points, camera)
    if pose is None:
        return measured
    names = ("pitch", "yaw", "roll", "head_x", "head_y", "head_z", "off_camera", "pose_error")
    measured |= dict(zip(names, [*pose.angles, *pose.position, pose.off_camera, pose.error], strict=True))
    tilt, turn = np.cos(np.radians(np.clip(pose.angles[:2], -60, 60)))
    return measured | _measure_features(points, tilt, turn)


def _measure_features(points: np.ndarray, tilt: float, turn: float) -> dict[str, float]:
    """Return eyes, mouth and brows of one face. tilt, turn: cosines of pitch and yaw."""
    complete = len(points) == 68
    eyes = np.stack([points[_RIGHT_EYE].mean(0), points[_LEFT_EYE].mean(0)]) if complete else points[:2]
    corners = points[[48, 54]] if complete else points[3:]
    across = eyes[1] - eyes[0]
    distance = np.linalg.norm(across) / turn
    measured = {"mouth_width": float(np.linalg.norm(corners[1] - corners[0]) / turn / distance)}
    if complete:
        down = np.array([-across[1], across[0]]) / np.linalg.norm(across)
        brows = (points[17:22].mean(0) + points[22:27].mean(0)) / 2
        measured["eye_openness"] = (_aspect_ratio(points[_RIGHT_EYE]) + _aspect_ratio(points[_LEFT_EYE])) / 2
        measured["mouth_opening"] = float(abs((points[66] - points[62]) @ down) / tilt / distance)
        measured["brow_height"] = float((eyes.mean(0) - brows) @ down / tilt / distance)
    return measured


def _aspect_ratio(eye: np.ndarray) -> float:
    """Return the eye aspect ratio of the six landmarks of an eye: the mean of two heights, divided by the width."""
    heights = np.linalg.norm(eye[[1, 2]] - eye[[5, 4]], axis=1)
    return float(heights.mean() / np.linalg.norm(eye[3] - eye[0]))


def _measure_motion(faces: Mapping[str, np.ndarray], flow: Record, times: np.ndarray) -> dict[str, np.ndarray]:
    """Return the speed of upper face, lower face and head at each step, in eye distances per second, NaN without motion."""
    motion = {name: np.full(len(times), np.nan) for name in ("upper_face_motion", "lower_face_motion", "head_motion")}
    side, seconds = faces["faces"].shape[1], np.diff(times)
    border = round(_MIDDLE * side)
    for pair in np.flatnonzero(flow.arrays["valid"]):
        field = flow.arrays["flow"][pair].astype(np.float32) * flow.attributes["scale"]
        speed = np.linalg.norm(field, axis=-1) / (_EYES * side * seconds[pair])
        motion["upper_face_motion"][pair + 1] = speed[:border].mean()
        motion["lower_face_motion"][pair + 1] = speed[border:].mean()
        before, after = faces["landmarks"][pair : pair + 2].astype(float)
        eyes = frame_scale(before, side) * _EYES * side
        motion["head_motion"][pair + 1] = np.linalg.norm(after - before, axis=1).mean() / (eyes * seconds[pair])
    return motion


def _motion_images(frames: Record, cut: np.ndarray) -> list[np.ndarray | None]:
    """Return for each pair of consecutive frames which pixels change, bool (H, W); None across a cut.

    Frames have an eighth of their sides, which removes most noise of the camera.
    """
    offsets, jpeg = frames.arrays["offsets"][()], frames.arrays["jpeg"][()]
    grey = [
        np.asarray(cv2.imdecode(jpeg[start:end], cv2.IMREAD_REDUCED_GRAYSCALE_8), np.int16)
        for start, end in zip(offsets[:-1], offsets[1:], strict=True)
    ]
    pairs = zip(grey, grey[1:], cut[1:], strict=False)
    return [None if new_shot else np.abs(after - before) > _CHANGED for before, after, new_shot in pairs]


def _describe_image(images: list[np.ndarray | None]) -> dict[str, float]:
    """Return the statistics of the weighted motion energy image by name; NaN if no pixel ever changes."""
    names = [f"motion_image.{name}" for name in ("entropy", "mean", "median", "centre_x", "centre_y")]
    moving = [image for image in images if image is not None]
    total = np.sum(moving, axis=0, dtype=float) if moving else np.zeros((1, 1))
    if not total.any():
        return dict.fromkeys(names, np.nan)
    weighted, shares = total / total.max(), total / total.sum()
    entropy = -(shares[shares > 0] * np.log(shares[shares > 0])).sum() / max(np.log(shares.size), 1e-12)
    rows, columns = ((np.arange(length) + 0.5) / length for length in total.shape)
    centre = shares.sum(0) @ columns, shares.sum(1) @ rows
    return dict(zip(names, [float(entropy), float(weighted.mean()), float(np.median(weighted)), *centre], strict=True))


def _find_events(
    columns: Mapping[str, np.ndarray], valid: np.ndarray, times: np.ndarray, away_from: float
) -> dict[str, np.ndarray]:
    """Return the events at each step, 0 or 1, NaN where the face is not valid."""
    step = float(np.median(np.diff(times)))
    events = {
        "away": columns["off_camera"] > away_from,
        "nod": _find_gestures(columns["pitch"], valid, _NOD, step),
        "shake": _find_gestures(columns["yaw"], valid, _SHAKE, step)
        | _find_gestures(-columns["yaw"], valid, _SHAKE, step),
    }
    if "eye_openness" in columns:
        events["blink"] = find_blinks(columns["eye_openness"], valid, step)
    return {name: np.where(valid, event, np.nan) for name, event in events.items()}


def _find_gestures(angle: np.ndarray, valid: np.ndarray, degrees: float, step: float) -> np.ndarray:
    """Return (T,) whether the angle has a peak that rises and falls by `degrees` within _GESTURE seconds of valid steps."""
    peaks = np.zeros(len(angle), bool)
    for start, end in find_runs(valid):
        window = 2 * max(1, round(_GESTURE / step / 2)) + 1  # an odd number of steps, as the function needs
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=RuntimeWarning)  # a peak that the window cuts off
            peaks[start + find_peaks(angle[start:end], prominence=degrees, wlen=window)[0]] = True
    return peaks


def find_blinks(openness: np.ndarray, valid: np.ndarray, step: float) -> np.ndarray:
    """Return (T,) whether the eyes are closed in a blink; `step` is the time between steps in seconds.

    A run below _CLOSED of the median is a blink if it falls below _DEEP and is short. In a longer run the person looks down
    (its median is above _LOWERED) or shuts the eyes; a blink while looking down is below _CLOSED of the run's median.
    """
    blinks = np.zeros(len(openness), bool)
    if not valid.any():
        return blinks
    limit = max(_LONGEST_BLINK, step) + 1e-6
    median = np.median(openness[valid])
    for start, end in find_runs(valid & (openness < _CLOSED * median)):
        run = openness[start:end]
        level = np.median(run)
        if (end - start) * step <= limit:
            blinks[start:end] = run.min() < _DEEP * median
        elif level > _LOWERED * median:
            for first, last in find_runs(run < _CLOSED * level):
                blinks[start + first : start + last] = (last - first) * step <= limit
    return blinks
