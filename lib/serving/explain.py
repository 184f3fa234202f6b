"""Show the evidence for a prediction: a sheet of the clip, and the clip with what was found in it."""

from pathlib import Path

import numpy as np

from lib.serving.moments import Moment, read_moments
from lib.serving.overlay import OverlayVideo
from lib.serving.predictor import Predictor
from lib.serving.results import Evidence, Prediction, Report
from lib.serving.sheet import draw_sheet

_MOMENTS = 6  # on a sheet


def explain(predictor: Predictor, clip: Path, to: Path, report: Report | None = None) -> Prediction:
    """Predict a clip and write `to`.png, its sheet, and `to`.mp4, the clip at the rate at which faces are looked for, with
    the square of the aligned face, the five points, optical flow, attention and the scores of each time.

    `report` is called as by the predictor. Nothing is written for a rejected clip, and no video for a model without frames.
    Flow is in the colours of Baker et al. 2011 (A database and evaluation methodology for optical flow): the hue is the
    direction, full at 3 pixels of the aligned face from a frame to the next.
    """
    starts = [start for start, _ in predictor.spans(clip)] or [0.0]
    shown = {starts[at] for at in np.linspace(0, len(starts) - 1, _MOMENTS).round().astype(int)}
    on_sheet: list[Moment] = []
    with OverlayVideo(to.with_name(f"{to.name}.mp4")) as video:

        def watch(evidence: Evidence) -> None:
            start = evidence.span[0] if evidence.span else 0.0
            moments = [one for one in read_moments(evidence) if one.time > video.until]  # windows overlap
            for moment in moments:
                video.add(moment, evidence)
            if start in shown and moments:
                chosen = np.linspace(0, len(moments) - 1, 2 + _MOMENTS // len(shown)).round().astype(int)[1:-1]
                on_sheet.extend(moments[at] for at in chosen)

        prediction = predictor(clip, watch, report)
    if not prediction.refused:
        draw_sheet(prediction, predictor, on_sheet).savefig(to.with_name(f"{to.name}.png"), dpi=110)
    return prediction
