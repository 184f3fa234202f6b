"""Show the evidence for a prediction: a sheet of the clip, and a video with face, flow, attention and scores."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from lib.report.privacy import FacesMode
from lib.serving.moments import Moment, read_moments
from lib.serving.overlay import OverlayVideo
from lib.serving.predictor import Predictor
from lib.serving.results import Evidence, Prediction, Report
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
    """Predict a clip and write its sheet, `to`.png, and a video, `to`.mp4.

    The video has the frame rate of the stream frames, and shows the square of the aligned face, its five points, optical
    flow, attention, and the scores at each time.

    `report` is called as by the predictor. faces: how faces are shown (`lib.report.privacy.hide_face`). title: of the sheet,
    by default the clip's name. Nothing is written for a rejected clip, and no video for a model without frames.
    The colours of flow are those of Baker et al. 2011 (A database and evaluation methodology for optical flow): the hue is
    the direction, and the colour is saturated at a displacement of 3 pixels of the aligned face between two frames.
    """
    starts = [start for start, _ in predictor.spans(clip)] or [0.0]
    shown_starts = {starts[index] for index in np.linspace(0, len(starts) - 1, _MOMENTS).round().astype(int)}
    on_sheet: list[Moment] = []
    with OverlayVideo(to.with_name(f"{to.name}.mp4")) as video:

        def watch(evidence: Evidence) -> None:
            start = evidence.span[0] if evidence.span else 0.0
            moments = [
                moment for moment in read_moments(evidence, faces) if moment.time > video.until
            ]  # windows overlap
            for moment in moments:
                video.add(moment, evidence)
            if start in shown_starts and moments:
                steps = np.linspace(0, len(moments) - 1, 2 + _MOMENTS // len(shown_starts)).round().astype(int)[1:-1]
                on_sheet.extend(moments[index] for index in steps)

        prediction = predictor(clip, watch, report)
    if not prediction.refused:
        named = prediction if title is None else replace(prediction, clip=Path(title))
        draw_sheet(named, on_sheet).savefig(to.with_name(f"{to.name}.png"), dpi=110)
    return prediction
