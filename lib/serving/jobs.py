"""Predict uploaded clips for the page of `tools.page`, and write their results."""

import glob
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:  # they take seconds to load, and --help needs none of them
    from lib.serving.predictor import Predictor
    from lib.serving.results import Prediction

_RESULTS, KEPT_SECONDS = "results-", 3600  # prefix of folders, and the time until they are deleted
_EXAMPLE, _POSTER = "example-", ".jpg"
_ENDINGS = ".png", ".mp4", _POSTER


@dataclass
class Jobs:
    """Predictions of uploads, whose results lie below a folder; clips longer than `max_seconds` are rejected.

    Gradio stores two uploads of the same name and content at the same path. The first prediction deletes the file, so the
    second one takes the results of the first.
    """

    predictor: "Predictor"
    folder: Path
    max_seconds: float
    finished: dict[Path, tuple[list["Prediction"], Path]] = field(default_factory=dict)
    """Upload -> its predictions, several with `--person all`, and the path of its results without their endings."""

    def predict(
        self, clips: Sequence[Path], report: Callable[[float, str], None]
    ) -> tuple[list[list["Prediction"]], Path]:
        """Return the predictions of each clip and the folder of their results; the uploads are deleted.

        `report` is called with the finished fraction and the step that begins.
        """
        self._delete_old()
        to = Path(tempfile.mkdtemp(prefix=_RESULTS, dir=self.folder))
        predictions = []
        for index, clip in enumerate(clips):
            where = f"{index + 1} of {len(clips)}, {clip.name}" if len(clips) > 1 else clip.name

            def report_step(fraction: float, step: str, index: int = index, where: str = where) -> None:
                report((index + fraction) / len(clips), f"{where}: {step}")

            predictions.append(self._predict_upload(clip, to / f"{index + 1}-{clip.name}", report_step))
        return predictions, to

    def _predict_upload(self, clip: Path, to: Path, report: Callable[[float, str], None]) -> list["Prediction"]:
        if not clip.exists() and clip in self.finished:
            predictions, before = self.finished[clip]
            for path in before.parent.glob(f"{glob.escape(before.name)}[.-]*"):
                to.with_name(f"{to.name}{path.name.removeprefix(before.name)}").hardlink_to(path)
            return predictions
        try:
            self.finished[clip] = predict_clip(self.predictor, clip, to, self.max_seconds, report), to
        finally:
            clip.unlink(missing_ok=True)
        return self.finished[clip][0]

    def _delete_old(self) -> None:
        for old in self.folder.glob(f"{_RESULTS}*"):
            if time.time() - old.stat().st_mtime > KEPT_SECONDS:
                shutil.rmtree(old)
        self.finished = {clip: done for clip, done in self.finished.items() if done[1].parent.exists()}


def predict_clip(
    predictor: "Predictor", clip: Path, to: Path, max_seconds: float, report: Callable[[float, str], None]
) -> list["Prediction"]:
    """Return a clip's prediction, or one for each person; sheet, video and poster are `name_results(to)` with their endings.

    A longer clip is rejected.
    """
    import cv2

    from lib.media.frames import read_frames
    from lib.serving import web
    from lib.serving.explain import explain_all, name_results
    from lib.serving.results import Prediction
    from lib.serving.windows import measure_clip_seconds

    seconds = measure_clip_seconds(clip)
    if max_seconds < seconds < math.inf:
        reason = (
            f"takes {seconds:.0f} s; allowed: up to {max_seconds:.0f} s. `python -m tools.predict` takes any length"
        )
        return [Prediction(clip, {}, reason, predictor.warnings)]
    windows = len(predictor.spans(clip)) or 1
    predictions = explain_all(predictor, clip, to, web.count_steps(windows * (len(predictor.extractors) + 1), report))
    for prediction in predictions:
        video, poster = (name_results(to, prediction.person, ending) for ending in (".mp4", _POSTER))
        if video.exists():
            _, frame = next(iter(read_frames(video, 25)))
            cv2.imwrite(str(poster), frame[..., ::-1])
    return predictions


def write_tables(by_clip: Sequence[Sequence["Prediction"]], predictor: "Predictor", to: Path) -> list[Path]:
    """Write scores.csv, and windows.csv if there are windows; return them with the other files to download."""
    from lib.serving import output

    persons = predictor.person == "all"
    names, origin = output.column_names(predictor.trained.targets, persons), output.describe_origin(predictor)
    predictions = [remove_folder(prediction) for of_clip in by_clip for prediction in of_clip]
    with (to / "scores.csv").open("w", newline="", encoding="utf-8", errors=output.ERRORS) as file:
        output.write(predictions, names, "csv", file, origin, header=True, over_time=False, persons=persons)
    if any(prediction.windows for prediction in predictions):
        with (to / "windows.csv").open("w", newline="", encoding="utf-8", errors=output.ERRORS) as file:
            output.write_windows(predictions, names, file, origin, persons=persons)
    tables = sorted(to.glob("*.csv"))
    return [*tables, *sorted(path for path in to.iterdir() if path.suffix in (".png", ".mp4"))]


def render_results(by_clip: Sequence[Sequence["Prediction"]], predictor: "Predictor", to: Path) -> str:
    """Return predictions as HTML, with the sheets and videos in a folder."""
    from lib.serving import web
    from lib.serving.explain import name_results

    def find(index: int, prediction: "Prediction", ending: str) -> str | None:
        path = name_results(to / f"{index + 1}-{prediction.clip.name}", prediction.person, ending)
        return f"/gradio_api/file={quote(str(path))}" if path.exists() else None

    results = []
    for index, prediction in ((index, prediction) for index, of_clip in enumerate(by_clip) for prediction in of_clip):
        own_warnings = prediction.warnings[len(predictor.warnings) :]  # the others are at the top of the page
        results.append(web.DisplayedClip(prediction, own_warnings, *(find(index, prediction, end) for end in _ENDINGS)))
    return web.render(results, predictor.trained)


def remove_folder(prediction: "Prediction") -> "Prediction":
    """Return a prediction with the clip's name only: the folder of uploads means nothing to the user."""
    name = prediction.clip.name
    return replace(prediction, clip=Path(name), rejected=prediction.rejected.replace(str(prediction.clip), name))


def render_example(folder: Path, seconds: Sequence[float]) -> Path:
    """Render a clip of the demo, about as long as the training clips, whose durations are `seconds` (up to 15 s)."""
    from lib.media.writing import write_video
    from lib.sources.demo.head import SAMPLE_RATE, Identity, Performance, render

    length = min(max(seconds, default=4.0), 15.0)
    path = Path(tempfile.mkdtemp(prefix=_EXAMPLE, dir=folder)) / "example.mp4"
    frames, voice = render(Identity(1), Performance(0.5, 1.0, 0.0, 1), length, 15)
    write_video(path, frames, 15, voice, SAMPLE_RATE)
    return path
