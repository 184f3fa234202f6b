"""Predict the targets of video clips with the trained model, through the same functions as the pipeline's stages.

A clip that can't be used has the reason in place of its targets, and the exit code is then 1. Beside a score stand the ends
of its 90 % interval and the percentile that it has among the training clips' labels. A clip longer than those that the
model was trained on is predicted in windows of their length, each half over the one before: its scores are their mean.

examples:
  python -m tools.predict talk.mp4
  python -m tools.predict interviews/ --out scores.csv     a folder and those in it; interrupted, the same command goes on
  python -m tools.predict lecture.mp4 --over-time            a row a window
  python -m tools.predict talk.mp4 --over-time --window 3    a row for every three seconds, half over the ones before
  python -m tools.predict talk.mp4 --explain shown/          what it rests on: shown/talk.mp4.png, shown/talk.mp4.mp4
  find . -name "*.mov" | python -m tools.predict - --format jsonl
"""

import argparse
import gc
import hashlib
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

from lib.core import command, interrupts
from lib.core.artifacts import MODEL
from lib.core.errors import InputError
from lib.serving.clips import find_clips

if TYPE_CHECKING:  # they take seconds to load, and --help needs none of them
    from lib.serving.predictor import Predictor
    from lib.serving.results import Prediction


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "clips", nargs="+", metavar="PATH",
        help="a video file, a folder, a pattern as 'day1/*.mp4', or - for paths on standard input (after -- if it begins"
        " with a dash)",
    )  # fmt: skip
    parser.add_argument("--model", type=Path, default=MODEL, help="a trained model (%(default)s)")
    parser.add_argument(
        "--format", choices=("table", "csv", "jsonl"), help="(table on a terminal, csv elsewhere and for --out)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="a row a clip, added as it is done: .csv or .jsonl")
    parser.add_argument(
        "--over-time", action="store_true", help="the scores of each window of long clips too (.jsonl has them always)"
    )
    parser.add_argument(
        "--window", type=float, metavar="SECONDS",
        help="window length in seconds (the longest training clip, for longer clips)",
    )  # fmt: skip
    parser.add_argument(
        "--person", default="main", metavar="WHO",
        help="whose face is followed where several are seen: left, right, largest, or N, the Nth from the left"
        " (%(default)s: as in training, who is large, seen long and moves)",
    )  # fmt: skip
    parser.add_argument(
        "--workers",
        type=int,
        default=1,
        choices=range(1, 1025),
        metavar="N",
        help="processes, each with a model (%(default)s)",
    )
    parser.add_argument(
        "--explain", type=Path, metavar="FOLDER",
        help="a sheet (PNG) and a film (MP4) of each clip go there: the face found, flow, attention, scores over time",
    )  # fmt: skip
    parser.add_argument(
        "--min-seen", type=float, default=0.5, metavar="FRACTION",
        help="reject a clip if a smaller fraction of it can be used, for instance shows a face (%(default)s)",
    )  # fmt: skip
    arguments = parser.parse_args()
    format_ = choose_format(arguments)
    clips = list(find_clips(arguments.clips))
    if not arguments.model.exists():  # before torch is imported, which takes seconds
        raise InputError(f"{arguments.model} is missing; run `dvc repro train`")
    command.log_to("predict")
    gc.disable()  # what is loaded stays; collecting garbage in it takes a quarter of the time
    with interrupts.loading():
        from lib.serving.predictor import Predictor

    predictor = Predictor(
        arguments.model, person=arguments.person, window=arguments.window, min_seen=arguments.min_seen
    )
    gc.freeze()
    gc.enable()
    for warning in predictor.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if arguments.out is None:
        sys.exit(print_predictions(predictor, clips, arguments, format_))
    sys.exit(write_file(predictor, clips, arguments, format_))


def choose_format(arguments: argparse.Namespace) -> str:
    """Return the format of the output. Raises InputError if the options contradict each other."""
    out: Path | None = arguments.out
    if out is None:
        return arguments.format or ("table" if sys.stdout.isatty() else "csv")
    if out.suffix not in (".csv", ".jsonl") or arguments.format not in (None, out.suffix[1:]):
        asked = f" with --format {arguments.format}" if arguments.format else ""
        raise InputError(f"--out {out}{asked}; allowed: a file that ends in .csv or .jsonl, without another --format")
    if arguments.over_time and out.suffix != ".jsonl":
        raise InputError(f"--over-time with --out {out}; allowed: a file .jsonl, a line a clip with its windows")
    return out.suffix[1:]


def print_predictions(
    predictor: "Predictor", clips: Sequence[Path], arguments: argparse.Namespace, format_: str
) -> bool:
    """Print predictions; return whether a clip was rejected."""
    from lib.serving import output

    sys.stdout.reconfigure(errors=output.ERRORS)  # type: ignore[union-attr]
    predict = None if arguments.explain is None else explaining(clips, arguments.explain)
    predictions = predictor.many(clips, predict, arguments.workers)
    names, run = output.column_names(predictor.served.targets), output.describe_run(predictor)
    if format_ == "table":
        predictions = (without(one, predictor.warnings) for one in predictions)
    try:
        return output.write(predictions, names, format_, sys.stdout, run, header=True, over_time=arguments.over_time)
    except BrokenPipeError:  # the reader, such as head, has enough; Python would write the rest at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True


def write_file(predictor: "Predictor", clips: Sequence[Path], arguments: argparse.Namespace, format_: str) -> bool:
    """Add predictions to --out, of those clips that it does not contain; return whether a clip in it was rejected."""
    from lib.serving import output

    out: Path = arguments.out
    check_writable("--out", out.parent)
    names, run = output.column_names(predictor.served.targets), output.describe_run(predictor)
    predict = None if arguments.explain is None else explaining(clips, arguments.explain)
    with output.locked(out) as file:
        before = output.read_before(out, file, names, run)
        todo = [clip for clip in clips if str(clip) not in before.clips]
        if len(todo) < len(clips):
            print(f"{out} contains {len(clips) - len(todo)} of {len(clips)} clips, which are skipped", file=sys.stderr)
        predictions = predictor.many(todo, predict, arguments.workers)
        return (
            output.write(predictions, names, format_, file, run, header=not file.tell(), over_time=False)
            or before.refused
        )


def without(prediction: "Prediction", warnings: Sequence[str]) -> "Prediction":
    """Return a prediction without warnings that were printed already."""
    return replace(prediction, warnings=tuple(one for one in prediction.warnings if one not in warnings))


def explaining(clips: Sequence[Path], folder: Path) -> "Callable[[Predictor, Path | str], Prediction]":
    """Return what predicts a clip and leaves its sheet and film in a folder, called as the clip is, clips of one name with
    six digits that their paths give. Raises InputError if nothing can be written there."""
    from lib.serving.explain import explain

    check_writable("--explain", folder)
    twice = {name for name, count in Counter(clip.name for clip in {*clips}).items() if count > 1}

    def by(predictor: "Predictor", clip: Path | str) -> "Prediction":
        clip = Path(clip)
        told = f"-{hashlib.sha256(os.fsencode(clip)).hexdigest()[:6]}" if clip.name in twice else ""
        return explain(predictor, clip, folder / f"{clip.name}{told}")

    return by


def check_writable(option: str, folder: Path) -> None:
    """Make a folder. Raises InputError if it can't be made or written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            f"{option}: nothing can be written in {folder} ({error.strerror}); name another folder"
        ) from None


if __name__ == "__main__":
    command.run(main)
