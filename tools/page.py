"""Serve a page on this machine, without internet access, on which clips are uploaded or recorded, and predicted.

API: gradio_client.Client(URL).predict(clips=[gradio_client.handle_file(CLIP)], api_name="/predict")[0] is a list of the
objects that `python -m tools.predict --format jsonl` writes.

Uploads are deleted after their prediction. Results are deleted after an hour, or when this program ends.
"""

import argparse
import errno
import os
import signal
import socket
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lib.core import command, interrupts
from lib.core.artifacts import MODEL
from lib.core.errors import InputError
from lib.serving.jobs import KEPT_SECONDS, Jobs, remove_folder, render_example, render_results, write_tables

if TYPE_CHECKING:  # they take seconds to load, and --help needs none of them
    import gradio

    from lib.serving.predictor import Predictor

_MOST_CLIPS = 20
_MOST_NAMES = 10  # of targets in the introduction
_PREDICT = "Predict"
_TOP = """<h1 style="font-size: 1.5rem; margin: 0.4rem 0">{{ title }}</h1>
<p>The model predicts how people would rate the person in a clip: {{ names|join(", ") }}.</p>
<p style="font-weight: 600">⚠ {{ line }}</p>
<details><summary>What the scores mean, and the law</summary>{% for text in more %}<p>{{ text }}</p>{% endfor %}</details>"""
_FULL, _SMALL = 240, 140  # pixels: height of the place for clips before and after a prediction


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.page", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=MODEL, help="trained model (%(default)s)")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen at (%(default)s: only this machine can reach it)"
    )
    parser.add_argument("--port", type=int, default=7860, help="port to listen at (%(default)s)")
    parser.add_argument("--max-mb", type=int, default=100, help="largest upload in megabytes (%(default)s)")
    parser.add_argument("--max-seconds", type=float, default=600, help="longest clip (%(default)s)")
    parser.add_argument(
        "--person", default="main", metavar="WHO",
        help="person to predict if several are visible, as for tools.predict: main, left, right, largest, a number, or all"
        " (%(default)s)",
    )  # fmt: skip
    arguments = parser.parse_args()
    command.log_to("page")
    check_address(arguments.host, arguments.port)
    with interrupts.loading():
        from lib.serving.predictor import Predictor
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # otherwise uploads would stay
    with tempfile.TemporaryDirectory(prefix="page-", ignore_cleanup_errors=True) as folder:
        gradio = offline(Path(folder))
        jobs = Jobs(Predictor(arguments.model, person=arguments.person), Path(folder), arguments.max_seconds)
        blocks = make_page(gradio, jobs, arguments.max_mb)
        try:
            address = launch(blocks, Path(folder), arguments.host, arguments.port, arguments.max_mb)
        except OSError:  # another program took the port in the meantime
            check_address(arguments.host, arguments.port)
            raise
        try:
            print(f"The page is at {address}; Ctrl-C ends it", flush=True)
            threading.Event().wait()
        except KeyboardInterrupt:
            status = 130
        except SystemExit:
            status = 143
        blocks.close(verbose=False)
    print("the page has ended, and its files are deleted", file=sys.stderr, flush=True)
    os._exit(status)  # a prediction in another thread would delay a normal end, or abort it


def check_address(host: str, port: int) -> None:
    """Raise InputError if no program can listen at an address, for instance because another one does."""
    if not 0 < port < 2**16:
        raise InputError(f"--port {port}; allowed: 1 to {2**16 - 1}")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise InputError(
                f"--port {port} is in use, perhaps by another page; end that program, or choose another port, such as"
                f" --port {port + 1 if port < 2**16 - 1 else 7860}"
            ) from None
        raise InputError(
            f"--host {host} --port {port} is not an address of this machine that you may use ({error.strerror}); allowed:"
            " 127.0.0.1 for this machine only, 0.0.0.0 for all networks, and a port from 1024 on"
        ) from None


def offline(folder: Path) -> Any:
    """Return Gradio, set to keep its files in a folder and to send no request to another machine.

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
        raise InputError(f"{error.name} is not installed; run pip install -r requirements-page.txt") from None
    return gradio


def launch(blocks: "gradio.Blocks", folder: Path, host: str, port: int | None, max_mb: int) -> str:
    """Serve the page, whose videos lie in a folder, in a thread; return its address."""
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
        _frontend=False,  # without it, Gradio ends if the first answer takes 3 s, as on a busy machine
        theme=gradio.themes.Base(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
    )
    return str(address)


class Parts(NamedTuple):
    """The components of the page that change."""

    clips: Any
    example: Any
    button: Any
    note: Any
    recorded: Any
    result: Any
    files: Any
    predictions: Any


def make_page(gradio: Any, jobs: Jobs, max_mb: int) -> "gradio.Blocks":
    """Return the page; larger uploads are rejected by `launch`."""
    title = "Predict ratings from video clips"
    with gradio.Blocks(title=title, analytics_enabled=False, delete_cache=(KEPT_SECONDS, KEPT_SECONDS)) as blocks:
        gradio.HTML(introduce(title, jobs.predictor))
        clips = gradio.File(
            label=f"Clips: up to {_MOST_CLIPS}, each up to {jobs.max_seconds:.0f} s and {max_mb} MB",
            file_count="multiple",
            file_types=["video", ".mkv", ".mts", ".gif"],
            height=_FULL,
        )
        note = gradio.Markdown(visible=False)
        with gradio.Row():
            example = gradio.Button("Use an example clip")
            button = gradio.Button(_PREDICT, variant="primary", interactive=False)
        with gradio.Accordion("Record a clip", open=False):
            as_seen = gradio.WebcamOptions(mirror=False)  # Gradio would need ffmpeg to mirror it
            recorded = gradio.Video(sources=["webcam"], label="Recording", webcam_options=as_seen, include_audio=True)
        result = gradio.HTML(label="Scores as HTML")
        files = gradio.File(
            label="Downloads: scores.csv (a row per clip), windows.csv (a row per window), a sheet and a video per clip",
            file_count="multiple",
            visible=False,
        )
        predictions = gradio.JSON(label="Predictions, one object per clip", visible=False)
        parts = Parts(clips, example, button, note, recorded, result=result, files=files, predictions=predictions)
        connect(gradio, jobs, parts)
    return blocks


def introduce(title: str, predictor: "Predictor") -> str:
    """Return the top of the page: what it does, the warnings in one line, and the rest of the cautions folded."""
    from jinja2 import Environment

    from lib.report.card import list_cautions

    trained = predictor.trained
    cautions, *notes = list_cautions(trained.training.corpora, trained.targets)
    first, _, rest = cautions.partition(". ")
    warnings = [f"{warning[0].upper()}{warning[1:]}" for warning in predictor.warnings]
    names = [column for group in trained.targets.values() for column in group.columns]
    if len(names) > _MOST_NAMES:
        names[_MOST_NAMES:] = [f"{len(names) - _MOST_NAMES} more"]
    template = Environment(autoescape=True).from_string(_TOP)
    return template.render(title=title, names=names, line=". ".join([*warnings, first]) + ".", more=[rest, *notes])


def connect(gradio: Any, jobs: Jobs, parts: Parts) -> None:
    """Connect the components of the page. The button Predict is active while clips are selected and no prediction runs."""

    def check(clips: list[str] | None) -> tuple[Any, Any]:
        count = len(clips or ())
        text = f"{count} clips; allowed: up to {_MOST_CLIPS}. Remove some; `python -m tools.predict` takes any number."
        return gradio.Button(interactive=0 < count <= _MOST_CLIPS), gradio.Markdown(text, visible=count > _MOST_CLIPS)

    def predict(clips: list[str], progress: Any = gradio.Progress()) -> tuple[Any, str, Any]:  # noqa: B008
        from lib.serving.output import to_json

        count = len(clips or ())
        if not 0 < count <= _MOST_CLIPS:
            raise gradio.Error(f"{count} clips; allowed: 1 to {_MOST_CLIPS}", print_exception=False)
        by_clip, to = jobs.predict([*map(Path, clips)], lambda fraction, text: progress(fraction, desc=text))
        files = write_tables(by_clip, jobs.predictor, to)
        objects = [to_json(remove_folder(prediction)) for of_clip in by_clip for prediction in of_clip]
        return objects, render_results(by_clip, jobs.predictor, to), gradio.File(list(map(str, files)), visible=True)

    def begin() -> tuple[Any, ...]:
        inactive = gradio.Button(interactive=False)
        return gradio.File(interactive=False), inactive, gradio.Button("Predicting …", interactive=False)

    def end() -> tuple[Any, ...]:
        clips = gradio.File(None, interactive=True, height=_SMALL)
        return clips, gradio.Button(interactive=True), gradio.Button(_PREDICT, interactive=False)

    inputs = [parts.clips, parts.example, parts.button]
    quiet = {"api_visibility": "private", "show_progress": "hidden", "queue": False}
    outputs = [parts.predictions, parts.result, parts.files]
    parts.clips.change(check, parts.clips, [parts.button, parts.note], **quiet)
    parts.example.click(
        lambda: [str(render_example(jobs.folder, jobs.predictor.trained.training.seconds))], None, parts.clips, **quiet
    )
    clicked = parts.button.click(begin, None, inputs, **quiet)
    done = clicked.then(predict, parts.clips, outputs, api_name="predict", show_progress_on=parts.result)
    done.then(end, None, inputs, **quiet)
    stopped = parts.recorded.stop_recording(begin, None, inputs, **quiet)
    recorded = stopped.then(
        lambda clip, progress=gradio.Progress(): predict([clip], progress),  # noqa: B008
        parts.recorded, outputs, api_visibility="private", show_progress_on=parts.result,
    )  # fmt: skip
    recorded.then(end, None, inputs, **quiet)


if __name__ == "__main__":
    command.run(main)
