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
import csv
import gc
import glob
import hashlib
import io
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, TextIO

from lib.core import command
from lib.core.artifacts import MODEL
from lib.core.errors import InputError

if TYPE_CHECKING:  # they take seconds to load, and --help needs none of them
    from lib.core.targets import Targets
    from lib.serving.predictor import Predictor
    from lib.serving.results import Prediction, Window

_PARTS = ("low", "high", "percentile")


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
        help="length of the windows, which all longer clips then have (as the longest training clip's, of longer clips)",
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
    arguments = parser.parse_args()
    format_ = arguments.format or ("table" if arguments.out is None and sys.stdout.isatty() else "csv")
    if arguments.out is not None:
        if arguments.out.suffix not in (".csv", ".jsonl") or arguments.format not in (None, arguments.out.suffix[1:]):
            asked = f" with --format {arguments.format}" if arguments.format else ""
            raise InputError(
                f"--out {arguments.out}{asked}; allowed: a file that ends in .csv or .jsonl, without another --format"
            )
        format_ = arguments.out.suffix[1:]
        if arguments.over_time and format_ != "jsonl":
            raise InputError(
                f"--over-time with --out {arguments.out}; allowed: a file .jsonl, a line a clip with its windows"
            )
    clips = list(found(arguments.clips))
    command.log_to("predict")
    gc.disable()  # what is loaded stays; looking for garbage in it takes a quarter of the time
    from lib.serving.predictor import Predictor

    predictor = Predictor(arguments.model, person=arguments.person, window=arguments.window)
    gc.freeze()
    gc.enable()
    for warning in predictor.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    targets = predictor.served.targets
    by = None if arguments.explain is None else explaining(clips, arguments.explain)
    if arguments.out is None:
        predictions = predictor.many(clips, by, arguments.workers)
        try:
            sys.exit(write(predictions, targets, format_, sys.stdout, header=True, over_time=arguments.over_time))
        except BrokenPipeError:  # who reads, as head, has enough; Python would write the rest at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
    refused, there = done(arguments.out, targets)
    writable("--out", arguments.out.parent)
    with arguments.out.open("a", newline="") as file:
        todo = [clip for clip in clips if str(clip) not in there]
        refused |= write(
            predictor.many(todo, by, arguments.workers), targets, format_, file, header=not there and not file.tell()
        )
    sys.exit(refused)


def explaining(clips: Sequence[Path], folder: Path) -> "Callable[[Predictor, Path | str], Prediction]":
    """Return what predicts a clip and leaves its sheet and film in a folder, called as the clip is, clips of one name with
    six digits that their paths give. Raises InputError if nothing can be written there."""
    from lib.serving.explain import explain

    writable("--explain", folder)
    twice = {name for name, count in Counter(clip.name for clip in {*clips}).items() if count > 1}

    def by(predictor: "Predictor", clip: Path | str) -> "Prediction":
        clip = Path(clip)
        told = f"-{hashlib.sha256(os.fsencode(clip)).hexdigest()[:6]}" if clip.name in twice else ""
        return explain(predictor, clip, folder / f"{clip.name}{told}")

    return by


def writable(option: str, folder: Path) -> None:
    """Make a folder. Raises InputError if it can't be made or written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            f"{option}: nothing can be written in {folder} ({error.strerror}); name another folder"
        ) from None


def found(given: Iterable[str]) -> Iterator[Path]:
    """Yield the clips that are meant. Raises InputError for a folder without videos, or a pattern that nothing fits."""
    from lib.sources.archives import VIDEO_SUFFIXES

    for one in given:
        if one == "-":
            yield from (Path(line.rstrip("\n")) for line in sys.stdin if line.strip())
        elif os.path.isdir(one):  # noqa: PTH112 (Path's raises at too long a name)
            videos = sorted(path for path in Path(one).rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES)
            if not videos:
                raise InputError(f"{one} has no video; looked for are {', '.join(VIDEO_SUFFIXES)}")
            yield from videos
        elif any(letter in one for letter in "*?[") and not os.path.isfile(one):  # noqa: PTH113
            fitting = sorted(glob.glob(one, recursive=True))  # noqa: PTH207 (Path's takes no absolute pattern)
            if not fitting:
                raise InputError(f"nothing is named as {one!r} says")
            yield from map(Path, fitting)
        else:
            yield Path(one)


def titles(targets: "Targets") -> dict[tuple[str, str], str]:
    """Return what columns are called, by group and column: with the group's name where two groups have one of that name."""
    count = Counter(column for group in targets.values() for column in group.columns)
    return {
        (name, column): f"{column} ({name})" if count[column] > 1 else column
        for name, group in targets.items()
        for column in group.columns
    }


def write(
    predictions: "Iterable[Prediction]",
    targets: "Targets",
    format_: str,
    file: TextIO,
    header: bool,
    over_time: bool = False,
) -> bool:
    """Write a row, line or paragraph for each prediction as it comes, with `over_time` a row for each window too; return
    whether a clip was refused."""
    names, any_refused = titles(targets), False
    parts = [f"{name} {part}" for name in names.values() for part in _PARTS]
    times = ["start", "end", "seen"] if over_time else []
    writer = csv.DictWriter(file, ["clip", *times, *names.values(), *parts, "warnings", "refused"])
    if header and format_ == "csv":
        writer.writeheader()
    for one in predictions:
        any_refused |= bool(one.refused)
        if format_ == "csv":
            writer.writerow(row(one, names))
            writer.writerows(row(one, names, window) for window in (one.windows if over_time else ()))
        elif format_ == "jsonl":
            file.write(json.dumps(line(one)) + "\n")
        else:
            file.write(paragraph(one, names, over_time))
        file.flush()
    return any_refused


def row(one: "Prediction", names: dict[tuple[str, str], str], window: "Window | None" = None) -> dict[str, str]:
    """Return a prediction, or that of one of its windows, as cells by column."""
    of = window or one
    cells = {
        "clip": str(one.clip),
        "warnings": "; ".join(one.warnings) if window is None else "",
        "refused": of.refused,
    }
    if window is not None:
        cells |= {"start": f"{window.start:.3f}", "end": f"{window.end:.3f}", "seen": f"{window.seen:.3f}"}
    for (group, column), name in names.items() if of.targets else ():
        target = of.targets[group][column]
        cells[name] = f"{target.score:.6f}"
        cells |= {f"{name} {part}": _cell(getattr(target, part)) for part in _PARTS}
    return cells


def line(one: "Prediction") -> dict[str, Any]:
    """Return a prediction as what JSON can hold."""
    return asdict(one) | {"clip": str(one.clip)}


def paragraph(one: "Prediction", names: dict[tuple[str, str], str], over_time: bool) -> str:
    """Return a prediction for people."""
    lines = [str(one.clip)] + [f"  refused: {one.refused}"] * bool(one.refused)
    width = max(map(len, names.values()))
    for (group, column), name in names.items() if one.targets else ():
        target = one.targets[group][column]
        between = "" if target.low is None else f"  90 % interval {target.low:.3f} to {target.high:.3f}"
        rank = "" if target.percentile is None else f"  above {target.percentile:.0f} % of the training labels"
        lines.append(f"  {name:{width}}  {target.score:.3f}{between}{rank}")
    for window in one.windows if over_time else ():
        scores = (
            f"{name} {window.targets[of][column].score:.3f}" for (of, column), name in names.items() if window.targets
        )
        lines.append(f"  {window.start:.1f} to {window.end:.1f} s: {', '.join(scores) or window.refused}")
    return "\n".join([*lines, *(f"  warning: {warning}" for warning in one.warnings)]) + "\n"


def done(out: Path, targets: "Targets") -> tuple[bool, set[str]]:
    """Return whether a clip of an earlier, interrupted run was refused, and which clips it has.

    Raises InputError if the file is not of such a run.
    """
    if not out.exists() or not out.stat().st_size:
        return False, set()
    text = out.read_bytes().decode()
    whole = text[: text.rfind("\n") + 1]  # the run may have ended within a row
    if out.suffix == ".jsonl":
        try:
            rows = [json.loads(one) for one in whole.splitlines()]
        except json.JSONDecodeError:
            rows = [{}]
    else:
        rows = list(csv.DictReader(io.StringIO(whole, newline="")))
        if rows and not {*titles(targets).values()} <= rows[0].keys():
            rows = [{}]
    if not all({"clip", "refused"} <= one.keys() for one in rows):
        raise InputError(f"--out {out} is there and holds no predictions of this model; name another, or remove it")
    out.write_bytes(whole.encode())
    return any(one["refused"] for one in rows), {one["clip"] for one in rows}


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"


if __name__ == "__main__":
    command.run(main)
