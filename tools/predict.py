"""Predict the targets of video clips with the trained model, through the same functions as the pipeline's stages.

Each score comes with its 90 % interval and its percentile among the labels of the training clips. A clip that is longer than
the training clips is predicted in windows of their length, each overlapping the previous one by half, and its scores are the
means over the windows. If a clip can't be used, the reason is printed instead of scores, and the exit code is 1.

examples:
  python -m tools.predict talk.mp4
  python -m tools.predict interviews/ --out scores.csv     all videos in a folder; after an interruption, run it again
  python -m tools.predict lecture.mp4 --over-time            also the scores of each window
  python -m tools.predict talk.mp4 --over-time --window 3    windows of 3 s, which overlap by half
  python -m tools.predict interview.mp4 --person all         each person, with place, visible time and speaking time
  python -m tools.predict talk.mp4 --explain shown/          evidence: shown/talk.mp4.png and shown/talk.mp4.mp4
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
from lib.core.artifacts import MODEL, PARAMETERS
from lib.core.errors import InputError
from lib.serving.clips import find_clips

if TYPE_CHECKING:  # they take seconds to load, and --help needs none of them
    from lib.report.settings import FacesMode, NamesMode
    from lib.serving.predictor import Predictor
    from lib.serving.results import Prediction


def main() -> None:
    arguments = make_parser().parse_args()
    output_format = choose_format(arguments)
    clips = list(find_clips(arguments.clips))
    # checked first, because importing torch takes seconds
    if not arguments.model.exists():
        raise InputError(
            f"{arguments.model} is missing; run `dvc repro train`, or name a published folder with --model"
        )
    if clips and not any(os.path.isfile(clip) for clip in clips):  # noqa: PTH113 (Path.is_file raises for long names)
        missing = f"none of the {len(clips)} paths is a file; the first is {clips[0]}" if len(clips) > 1 else ""
        raise InputError(f"{missing or f'{clips[0]} is not a file'}; correct the path")
    command.log_to("predict")
    gc.disable()  # loaded modules are never freed; collecting garbage in them takes a quarter of the start-up time
    with interrupts.loading():
        from lib.serving.predictor import Predictor

    predictor = Predictor(
        arguments.model, person=arguments.person, window=arguments.window, min_usable=arguments.min_usable
    )
    gc.freeze()
    gc.enable()
    for warning in predictor.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if arguments.out is None:
        sys.exit(print_predictions(predictor, clips, arguments, output_format))
    sys.exit(write_file(predictor, clips, arguments, output_format))


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.predict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "clips", nargs="+", metavar="PATH",
        help="video file, folder, pattern such as 'day1/*.mp4', or - for paths on standard input; put -- before a path that"
        " begins with a dash",
    )  # fmt: skip
    parser.add_argument("--model", type=Path, default=MODEL, help="trained model (%(default)s)")
    parser.add_argument(
        "--format", choices=("table", "csv", "jsonl"), help="output format (table on a terminal, otherwise csv)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help=".csv or .jsonl file, to which each clip is added when it is finished"
    )
    parser.add_argument(
        "--over-time", action="store_true", help="also print the scores of each window (.jsonl always contains them)"
    )
    parser.add_argument(
        "--window", type=float, metavar="SECONDS",
        help="window length in seconds (default: length of the longest training clip, only for longer clips)",
    )  # fmt: skip
    parser.add_argument(
        "--person", default="main", metavar="WHO",
        help="person to track if several are visible: left, right, largest, or a number N for the Nth from the left"
        " (%(default)s: as in training, the largest moving face that is visible longest); all: a row for each person",
    )  # fmt: skip
    parser.add_argument(
        "--workers",
        type=int,
        default=1,
        choices=range(1, 1025),
        metavar="N",
        help="number of processes, each with its own copy of the model (%(default)s)",
    )
    parser.add_argument(
        "--explain", type=Path, metavar="FOLDER",
        help="write a sheet (PNG) and a video (MP4) of each clip to this folder: face, flow, attention, scores over time",
    )  # fmt: skip
    parser.add_argument(
        "--faces", choices=("show", "blur", "landmarks", "none"),
        help="how --explain shows faces (figures.faces of params.yaml, or show)",
    )  # fmt: skip
    parser.add_argument(
        "--names", choices=("clip", "pseudonym"),
        help="names of clips in the files of --explain (figures.names of params.yaml, or clip)",
    )  # fmt: skip
    parser.add_argument(
        "--min-usable", type=float, default=0.5, metavar="FRACTION",
        help="reject a clip if a smaller fraction of its time steps can be used, for instance has a face (%(default)s)",
    )  # fmt: skip
    return parser


def choose_format(arguments: argparse.Namespace) -> str:
    """Return the format of the output. Raises InputError if the options contradict each other."""
    out: Path | None = arguments.out
    if out is None:
        return arguments.format or ("table" if sys.stdout.isatty() else "csv")
    if out.suffix not in (".csv", ".jsonl") or arguments.format not in (None, out.suffix[1:]):
        format_option = f" with --format {arguments.format}" if arguments.format else ""
        raise InputError(
            f"--out {out}{format_option}; allowed: a file that ends in .csv or .jsonl, without another --format"
        )
    if arguments.over_time and out.suffix != ".jsonl":
        raise InputError(
            f"--over-time with --out {out}; allowed: a file that ends in .jsonl, whose lines contain the windows"
        )
    return out.suffix[1:]


def print_predictions(
    predictor: "Predictor", clips: Sequence[Path], arguments: argparse.Namespace, output_format: str
) -> bool:
    """Print predictions; return whether a clip was rejected."""
    from lib.serving import output
    from lib.streams.faces.constants import ALL

    sys.stdout.reconfigure(errors=output.ERRORS)  # type: ignore[union-attr]
    predict = make_explainer(clips, arguments)
    predictions = predictor.many(clips, predict, arguments.workers)
    persons = arguments.person == ALL
    names, origin = output.column_names(predictor.trained.targets, persons), output.describe_origin(predictor)
    if output_format == "table":
        predictions = (without(prediction, predictor.warnings) for prediction in predictions)
    options = {"header": True, "over_time": arguments.over_time, "persons": persons}
    return output.write(predictions, names, output_format, sys.stdout, origin, **options)


def write_file(
    predictor: "Predictor", clips: Sequence[Path], arguments: argparse.Namespace, output_format: str
) -> bool:
    """Append the predictions of clips that --out does not contain yet; return whether it has a rejected clip."""
    from lib.serving import output
    from lib.streams.faces.constants import ALL

    out: Path = arguments.out
    check_writable("--out", out.parent)
    persons = arguments.person == ALL
    names, origin = output.column_names(predictor.trained.targets, persons), output.describe_origin(predictor)
    predict = make_explainer(clips, arguments)
    with output.locked(out) as file:
        before = output.read_before(out, file, names, origin)
        todo = [clip for clip in clips if str(clip) not in before.clips]
        if len(todo) < len(clips):
            print(f"{out} contains {len(clips) - len(todo)} of {len(clips)} clips, which are skipped", file=sys.stderr)
        predictions = predictor.many(todo, predict, arguments.workers)
        options = {"header": not file.tell(), "over_time": False, "persons": persons}
        return output.write(predictions, names, output_format, file, origin, **options) or before.rejected


def without(prediction: "Prediction", warnings: Sequence[str]) -> "Prediction":
    """Return a prediction without the warnings that were already printed."""
    return replace(prediction, warnings=tuple(warning for warning in prediction.warnings if warning not in warnings))


def explaining(
    clips: Sequence[Path], folder: Path, faces: "FacesMode", names: "NamesMode"
) -> "Callable[[Predictor, Path | str], list[Prediction]]":
    """Return a function that predicts a clip and writes its sheet and video to a folder.

    The files have the clip's name. If clips in different folders have the same name, six digits of their paths' hash are
    added. With names = "pseudonym" they are called "clip N" by the clip's place among `clips`. The files of a clip's persons
    end in "-person1" and so on. Raises InputError if the folder is not writable.
    """
    from lib.serving.explain import explain_all

    check_writable("--explain", folder)
    repeated_names = {name for name, count in Counter(clip.name for clip in {*clips}).items() if count > 1}
    numbers = {clip: number for number, clip in enumerate(dict.fromkeys(clips), 1)}

    def predict(predictor: "Predictor", clip: Path | str) -> "list[Prediction]":
        clip = Path(clip)
        if names == "pseudonym":
            name = f"clip {numbers[clip]}"
            return explain_all(predictor, clip, folder / name, faces=faces, title=name)
        suffix = f"-{hashlib.sha256(os.fsencode(clip)).hexdigest()[:6]}" if clip.name in repeated_names else ""
        return explain_all(predictor, clip, folder / f"{clip.name}{suffix}", faces=faces)

    return predict


def make_explainer(
    clips: Sequence[Path], arguments: argparse.Namespace
) -> "Callable[[Predictor, Path | str], list[Prediction]] | None":
    """Return `explaining` with the options; what they leave out comes from params.yaml if it exists."""
    if arguments.explain is None:
        return None
    from lib.core.parameters import read_yaml

    section = read_yaml(PARAMETERS).get("figures", {}) if PARAMETERS.exists() else {}
    faces = arguments.faces or section.get("faces", "show")
    names = arguments.names or section.get("names", "clip")
    return explaining(clips, arguments.explain, faces, names)


def check_writable(option: str, folder: Path) -> None:
    """Make a folder. Raises InputError if it can't be made or written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            f"{option}: the folder {folder} is not writable ({error.strerror}); choose another folder"
        ) from None


if __name__ == "__main__":
    command.run(main)
