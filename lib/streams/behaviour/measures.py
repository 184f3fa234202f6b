"""The measures of the stream behaviour: names, units and meanings."""

import math

from lib.streams._measures import EVENT, Measure

_RADIANS = math.pi / 180
_POINTS = "68 landmarks"
_EYES, _SPEED = "eye distances", "eye distances per second"
_OVER_TIME = ("mean", "std", "median", "p90")
_PEAK = ("number", "rate")

HEAD = (
    Measure(
        "pitch", "degrees", "head", "rotation about the horizontal axis; positive: looks down",
        openface=("pose_Rx", _RADIANS)
    ),
    Measure(
        "yaw", "degrees", "head", "rotation about the vertical axis; positive: turns to the left side of the image",
        openface=("pose_Ry", _RADIANS),
    ),
    Measure("roll", "degrees", "head", "rotation in the image; positive: clockwise", openface=("pose_Rz", _RADIANS)),
    Measure("head_x", "mm", "head", "position to the right of the camera's axis", openface=("pose_Tx", 1.0)),
    Measure("head_y", "mm", "head", "position below the camera's axis", openface=("pose_Ty", 1.0)),
    Measure("head_z", "mm", "head", "distance from the camera, for a head of average size", openface=("pose_Tz", 1.0)),
    Measure(
        "pose_error", _EYES, "head", "root mean square distance of the landmarks from the projected 3D face", ("mean", "p90")
    ),
    Measure(
        "off_camera", "degrees", "head", "angle between the direction of the head and the line to the camera",
        ("mean", "median", "p90"),
    ),
    Measure("away", "0 or 1", "head", "`off_camera` is above `behaviour.away_from`", EVENT),
    Measure("nod", "0 or 1", "head", "lowest point of a nod: `pitch` rises and falls by 5 degrees within 1.5 s", _PEAK),
    Measure("shake", "0 or 1", "head", "turning point of a head shake: `yaw` turns 8 degrees and back within 1.5 s", _PEAK),
)  # fmt: skip

FACE = (
    Measure("face_x", "frame widths", "position", "centre of the five points, from the left edge", ("mean", "std")),
    Measure("face_y", "frame heights", "position", "centre of the five points, from the upper edge", ("mean", "std")),
    Measure("face_size", "frame heights", "position", "side of the aligned face's square", ("mean", "std", "slope")),
    Measure(
        "eye_openness", "ratio", "eyes",
        "eye aspect ratio: height of the opening over its width, mean of both eyes, without correction for the pose"
        " (Soukupová and Čech 2016)", needs=_POINTS,
    ),
    Measure(
        "blink", "0 or 1", "eyes", "`eye_openness` is below 0.7 of its median in the clip, and falls"
        " below 0.6, for at most 0.5 s. In a longer glance down: below 0.7 of its median there",
        (*_PEAK, "duration"), needs=_POINTS,
    ),
    Measure("mouth_width", _EYES, "mouth", "distance between the corners of the mouth"),
    Measure("mouth_opening", _EYES, "mouth", "distance between the inner edges of the lips", needs=_POINTS),
    Measure("brow_height", _EYES, "brows", "height of the brows above the eyes, mean of both", needs=_POINTS),
)  # fmt: skip

MOTION = (
    Measure(
        "upper_face_motion", _SPEED, "motion",
        "mean length of the optical flow above the middle between eyes and tip of the nose, without motion of the head",
        _OVER_TIME,
    ),
    Measure("lower_face_motion", _SPEED, "motion", "the same below it", _OVER_TIME),
    Measure("head_motion", _SPEED, "motion", "mean speed of the five points in the frame", _OVER_TIME),
    Measure(
        "frame_motion", "fraction of pixels", "motion",
        "pixels of the frame that change by more than 15 of 255 grey levels since the step before (motion energy image)",
        _OVER_TIME,
    ),
    Measure(
        "motion_image", "0 to 1", "motion",
        "sum of the clip's motion energy images over its largest value: the weighted motion energy image"
        " (Biel and Gatica-Perez 2011)", ("entropy", "mean", "median", "centre_x", "centre_y"), by_clip=True,
    ),
)  # fmt: skip

MEASURES = (*HEAD, *FACE, *MOTION)
"""All measures, in the order of the columns of the array `steps`.

An eye distance is the distance between the eyes of a head that looks into the camera: the distance in the frame divided by
the cosine of yaw. Lengths along the face's vertical are divided by the cosine of pitch.
"""

UNAVAILABLE = {
    "gaze": "neither the five points nor the 68 landmarks contain the pupils; `off_camera` is the direction of the head",
    "action units": "the project has no detector of action units",
}
"""What users of OpenFace may look for, and why the stream does not contain it."""
