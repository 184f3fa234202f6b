"""Show the evidence for a prediction: a sheet of the clip, and a video with face, flow, attention and scores."""

from contextlib import ExitStack
from pathlib import Path

import numpy as np

from lib.report.settings import FacesMode
from lib.serving.moments import Moment, read_moments
from lib.serving.overlay import OverlayVideo
from lib.serving.predictor import Predictor
from lib.serving.results import Evidence, Person, Prediction, Report
from lib.serving.sheet import draw_sheet

_MOMENTS = 6  # number of moments on a sheet


def explain(
    predictor: Predictor,
    clip: Path,
    to: Path,
    report: Report | None = None,
    *,
    faces: FacesMode = "show",
    title: str | None = None,
) -> Prediction:
    """Predict a clip and write its sheet, `to`.png, and a video, `to`.mp4; return the prediction.

    As `explain_all`, for a predictor of one person.
    """
    return explain_all(predictor, clip, to, report, faces=faces, title=title)[0]


def explain_all(
    predictor: Predictor,
    clip: Path,
    to: Path,
    report: Report | None = None,
    *,
    faces: FacesMode = "show",
    title: str | None = None,
) -> list[Prediction]:
    """Predict a clip and write its sheet, `to`.png, and a video, `to`.mp4, or both for each person: `to`-person1.png, ...

    The video has the frame rate of the stream frames, and shows the square of the aligned face, its five points, optical
    flow, attention, and the scores at each time. With all persons, the square has the person's number, and the word "speaks"
    shows who speaks.

    `report` is called as by the predictor. faces: how faces are shown (`lib.report.privacy.hide_face`). title: of the sheet,
    by default the clip's name. Nothing is written for a rejected clip, and no video for a model without frames.
    The colours of flow are those of Baker et al. 2011 (A database and evaluation methodology for optical flow): the hue is
    the direction, and the colour is saturated at a displacement of 3 pixels of the aligned face between two frames.
    """
    starts = [start for start, _ in predictor.spans(clip)] or [0.0]
    shown_starts = {starts[index] for index in np.linspace(0, len(starts) - 1, _MOMENTS).round().astype(int)}
    recordings: dict[Path, _Recording] = {}
    with ExitStack() as stack:

        def watch(evidence: Evidence) -> None:
            path = name_results(to, evidence.person, ".mp4")
            if path not in recordings:
                recordings[path] = _Recording(stack.enter_context(OverlayVideo(path)), shown_starts, faces)
            recordings[path].add(evidence)

        predictions = predictor.predict_all(clip, watch, report)
    for prediction in predictions:
        if not prediction.rejected:
            video, path = (name_results(to, prediction.person, ending) for ending in (".mp4", ".png"))
            name = prediction.describe(title or clip.name)
            draw_sheet(prediction, recordings[video].on_sheet, name).savefig(path, dpi=110)
    return predictions


def name_results(to: Path, person: Person | None, ending: str) -> Path:
    """Return the path of a sheet or video: `to` with the person's number, if all persons are predicted, and an ending."""
    return to.with_name(f"{to.name}-person{person.number}{ending}" if person else f"{to.name}{ending}")


class _Recording:
    """The video of a clip or person, and the moments for the sheet. shown_starts: begins of windows that the sheet shows."""

    def __init__(self, video: OverlayVideo, shown_starts: set[float], faces: FacesMode) -> None:
        self._video, self._shown_starts, self._faces = video, shown_starts, faces
        self.on_sheet: list[Moment] = []

    def add(self, evidence: Evidence) -> None:
        """Add a window's moments that no earlier window has, because windows overlap."""
        start = evidence.span[0] if evidence.span else 0.0
        moments = [moment for moment in read_moments(evidence, self._faces) if moment.time > self._video.until]
        for moment in moments:
            self._video.add(moment, evidence)
        if start in self._shown_starts and moments:
            steps = np.linspace(0, len(moments) - 1, 2 + _MOMENTS // len(self._shown_starts)).round().astype(int)[1:-1]
            self.on_sheet.extend(moments[index] for index in steps)
