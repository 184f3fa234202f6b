"""A page in the browser that predicts clips that are dropped on it or recorded, on this machine, without a network.

Its API: gradio_client.Client(URL).predict([gradio_client.handle_file(CLIP)], api_name="/predict")[0], a list of what
`python -m tools.predict --format jsonl` writes.

Uploads are deleted once they are predicted; what is made of them, after an hour, or when this ends.
"""

import argparse
import math
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from lib.core import command
from lib.core.artifacts import MODEL
from lib.core.errors import InputError

if TYPE_CHECKING:  # they take seconds to load, and --help needs none of them
    import gradio

    from lib.serving.predictor import Predictor
    from lib.serving.results import Prediction

_MOST_CLIPS = 20
_RESULTS, _KEPT = "results-", 3600  # a prefix, and for how many seconds
_TEMPLATE = Path(__file__).with_name("page.html")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=MODEL, help="a trained model (%(default)s)")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen at (%(default)s, which this machine alone reaches)"
    )
    parser.add_argument("--port", type=int, default=7860, help="(%(default)s)")
    parser.add_argument("--max-mb", type=int, default=100, help="largest upload in megabytes (%(default)s)")
    parser.add_argument("--max-seconds", type=float, default=600, help="longest clip (%(default)s)")
    arguments = parser.parse_args()
    command.log_to("page")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # else what was uploaded would stay
    with tempfile.TemporaryDirectory(prefix="page-") as folder:
        gradio = offline(Path(folder))
        from lib.serving.predictor import Predictor

        blocks = page(gradio, Predictor(arguments.model), Path(folder), arguments.max_seconds, arguments.max_mb)
        try:
            address = launch(blocks, Path(folder), arguments.host, arguments.port, arguments.max_mb)
        except OSError as error:
            raise InputError(f"--host {arguments.host} --port {arguments.port}: {error}") from None
        print(f"The page is at {address}; Ctrl-C ends it", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print("the page has ended, and its files are deleted", file=sys.stderr)
            sys.exit(130)
        finally:
            blocks.close(verbose=False)


def offline(folder: Path) -> Any:
    """Return Gradio, which keeps its files in a folder and asks nothing of any other machine.

    Raises InputError if it is not installed.
    """
    os.environ |= {
        "GRADIO_ANALYTICS_ENABLED": "False",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_OFFLINE": "1",
        "GRADIO_TEMP_DIR": str(folder),
    }
    try:
        import gradio
    except ImportError as error:
        raise InputError(f"{error.name} is not installed; pip install -r requirements-page.txt") from None
    return gradio


def launch(blocks: "gradio.Blocks", folder: Path, host: str, port: int | None, max_mb: int) -> str:
    """Start to serve the page, whose videos lie in a folder, in a thread; return its address."""
    import gradio

    _, address, _ = blocks.queue(default_concurrency_limit=1).launch(
        server_name=host,
        server_port=port,
        share=False,
        allowed_paths=[str(folder)],
        max_file_size=f"{max_mb}mb",
        show_error=True,
        ssr_mode=False,
        footer_links=["api"],
        enable_monitoring=False,
        prevent_thread_lock=True,
        quiet=True,
        theme=gradio.themes.Base(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
    )
    return str(address)


def page(gradio: Any, predictor: "Predictor", folder: Path, max_seconds: float, max_mb: int) -> "gradio.Blocks":
    """Return the page, whose files lie below a folder; longer clips are refused, larger ones by `launch`."""
    from lib.report.card import list_cautions

    def predict(clips: list[str], progress: Any = gradio.Progress()) -> tuple[Any, str, Any, None]:  # noqa: B008
        if not clips:
            raise gradio.Error("Add a clip first: drop it above or record one.", print_exception=False)
        if len(clips) > _MOST_CLIPS:
            raise gradio.Error(
                f"{len(clips)} clips; allowed: up to {_MOST_CLIPS}. `python -m tools.predict` takes any number",
                print_exception=False,
            )
        for old in folder.glob(f"{_RESULTS}*"):
            if time.time() - old.stat().st_mtime > _KEPT:
                shutil.rmtree(old)
        to = Path(tempfile.mkdtemp(prefix=_RESULTS, dir=folder))
        found = []
        for at, clip in enumerate(map(Path, clips)):
            progress((at, len(clips)), desc=clip.name, unit="clips")
            try:
                found.append(predicted(predictor, clip, to / f"{at + 1}-{clip.name}", max_seconds))
            finally:
                clip.unlink(missing_ok=True)
        files = written(found, predictor, to)
        return as_json(found), shown(found, predictor, to), gradio.File(list(map(str, files)), visible=True), None

    with gradio.Blocks(title="Apparent personality", analytics_enabled=False, delete_cache=(_KEPT, _KEPT)) as blocks:
        gradio.Markdown(
            "\n\n".join(
                [
                    f"# Scores of clips: {', '.join(predictor.served.targets)}",
                    *(f"⚠ **{one}**" for one in predictor.warnings),
                ]
            )
        )
        gradio.Markdown("\n\n".join(list_cautions(predictor.served.training.corpora, predictor.served.targets)))
        clips = gradio.File(
            label=f"Clips, up to {_MOST_CLIPS}, each up to {max_seconds:.0f} s and {max_mb} MB",
            file_count="multiple",
            file_types=["video", ".mkv", ".mts", ".gif"],
        )
        with gradio.Accordion("Record one", open=False):
            as_seen = gradio.WebcamOptions(mirror=False)  # Gradio would need ffmpeg to turn it round
            recorded = gradio.Video(sources=["webcam"], label="Recording", webcam_options=as_seen, include_audio=True)
        button = gradio.Button("Predict", variant="primary")
        result = gradio.HTML()
        files = gradio.File(
            label="To download: scores.csv, and of each clip a sheet and a film", file_count="multiple", visible=False
        )
        outputs = [gradio.JSON(visible=False), result, files, clips]
        button.click(predict, clips, outputs, api_name="predict")
        recorded.stop_recording(
            lambda clip, progress=gradio.Progress(): predict([clip], progress),  # noqa: B008
            recorded, outputs, api_visibility="private",
        )  # fmt: skip
    return blocks


def predicted(predictor: "Predictor", clip: Path, to: Path, max_seconds: float) -> "Prediction":
    """Return a clip's prediction, with its sheet and film beside `to`; one that is too long is refused."""
    from lib.serving.explain import explain
    from lib.serving.results import Prediction
    from lib.serving.windows import clip_seconds

    seconds = clip_seconds(clip)
    if max_seconds < seconds < math.inf:
        reason = (
            f"takes {seconds:.0f} s; allowed: up to {max_seconds:.0f} s. `python -m tools.predict` takes any length"
        )
        return Prediction(clip, {}, reason, predictor.warnings)
    return explain(predictor, clip, to)


def written(found: Sequence["Prediction"], predictor: "Predictor", to: Path) -> list[Path]:
    """Write scores.csv to a folder, and return it with all else that is there."""
    from lib.serving.output import Run, column_names, write

    names = column_names(predictor.served.targets)
    with (to / "scores.csv").open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        write((_named(one) for one in found), names, "csv", file, Run("", ""), header=True, over_time=True)
    return [to / "scores.csv", *sorted(path for path in to.iterdir() if path.suffix != ".csv")]


def as_json(found: Sequence["Prediction"]) -> list[dict[str, Any]]:
    """Return predictions as JSON can hold them."""
    from lib.serving.output import to_json

    return [to_json(_named(one)) for one in found]


def shown(found: Sequence["Prediction"], predictor: "Predictor", to: Path) -> str:
    """Return predictions as HTML, with the films in a folder."""
    from jinja2 import Environment

    clips = []
    for at, one in enumerate(found):
        film = to / f"{at + 1}-{one.clip.name}.mp4"
        clips.append(
            {
                "name": one.clip.name,
                "film": f"/gradio_api/file={quote(str(film))}" if film.exists() else None,
                "refused": one.refused.replace(str(one.clip), one.clip.name),
                "warnings": one.warnings[len(predictor.warnings) :],
                "seconds": round(one.windows[-1].end, 1) if one.windows else None,
                "groups": [_group(one, predictor, name) for name in one.targets],
            }
        )
    return Environment(autoescape=True).from_string(_TEMPLATE.read_text()).render(clips=clips)


def _group(one: "Prediction", predictor: "Predictor", name: str) -> dict[str, Any]:
    """A target group of a prediction: places are per cent of its range."""
    from lib.report.figures import COLOURS
    from lib.serving.output import describe_rank

    group, reference = predictor.served.targets[name], predictor.served.training.references.get(name)

    def at(value: float) -> float:
        return round(100 * min(max(group.to_unit(value), 0.0), 1.0), 2)

    targets, lines = [], []
    for index, (column, target) in enumerate(one.targets[name].items()):
        text = f"{target.score:.2f}"
        labels = None if reference is None else reference.quantiles[[5, 25, 50, 75, 95], index]
        if target.low is not None and target.high is not None:
            text += f", {target.low:.2f} to {target.high:.2f}"
        if target.percentile is not None:
            text += f", {describe_rank(target.percentile)}"
        targets.append(
            {
                "name": column,
                "at": at(target.score),
                "text": text,
                "interval": None if target.low is None or target.high is None else (at(target.low), at(target.high)),
                "labels": None if labels is None or not labels.isfinite().all() else list(map(at, labels.tolist())),
            }
        )
        there = [window for window in one.windows if window.targets]
        places = (
            f"{50 * (window.start + window.end) / one.windows[-1].end:.2f},{100 - at(window.targets[name][column].score)}"
            for window in there
        )
        lines.append({"name": column, "colour": COLOURS[index % len(COLOURS)], "points": " ".join(places)})
    return {"range": group.range, "targets": targets, "lines": lines if one.windows else []}


def _named(one: "Prediction") -> "Prediction":
    """A prediction of a clip by its name alone: where it was uploaded to is nobody's business."""
    return replace(one, clip=Path(one.clip.name), refused=one.refused.replace(str(one.clip), one.clip.name))


if __name__ == "__main__":
    command.run(main)
