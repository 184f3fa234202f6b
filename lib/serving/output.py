"""Write predictions as CSV, JSON lines or text, and continue a file of an interrupted run."""

import csv
import fcntl
import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from lib.core.errors import InputError
from lib.core.targets import Targets
from lib.model import folder
from lib.serving.results import PERSON_COLUMNS, Prediction, describe_person
from lib.serving.scores import PARTS, Names, Window, name_columns

if TYPE_CHECKING:
    from lib.serving.predictor import Predictor

ERRORS = "surrogateescape"
"""Error handler of text encoding, with which names that are not UTF-8 keep their bytes."""


@dataclass(frozen=True)
class PredictionOrigin:
    """The origin of predictions, which must be equal in one file: the start of the model's sha256, and the options."""

    model: str
    options: str


def describe_origin(predictor: "Predictor") -> PredictionOrigin:
    """Return the checksum of the model's file or folder and the options that change scores."""
    checksum = _checksum(predictor.path)
    window = "" if predictor.window is None else f"{predictor.window:g}"
    return PredictionOrigin(
        checksum[:12], f"person={predictor.person} window={window} min_usable={predictor.min_usable:g}"
    )


def _checksum(model: Path) -> str:
    if model.is_dir():
        return folder.checksum(model)
    with model.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Before(NamedTuple):
    """The rows of an earlier run: whether a clip was rejected, and the finished clips."""

    rejected: bool
    clips: set[str]


def column_names(targets: Targets, persons: bool = False) -> Names:
    """Return the names of the columns of scores of a model's targets. persons: whether rows have PERSON_COLUMNS."""
    columns = {name: group.columns for name, group in targets.items()}
    return name_columns(columns, PERSON_COLUMNS if persons else ())


def write(
    predictions: Iterable[Prediction],
    names: Names,
    form: str,
    file: TextIO,
    origin: PredictionOrigin,
    header: bool,
    over_time: bool,
    persons: bool = False,
) -> bool:
    """Write each prediction without waiting for the next one; return whether a clip was rejected.

    A prediction is a CSV row, a JSON line or a paragraph of text. over_time: write the scores of each window too. persons:
    write PERSON_COLUMNS too; the persons of a clip are written together.
    """
    any_rejected = False
    parts = [f"{name} {part}" for name in names.values() for part in PARTS]
    times = ["start", "end"] if over_time else []
    first = ["clip", *(PERSON_COLUMNS if persons else ()), *times]
    columns = [*first, *names.values(), *parts, "usable fraction", "warnings", "rejected", "model", "options"]
    writer = csv.DictWriter(file, columns)
    if header and form == "csv":
        writer.writeheader()
    for prediction in predictions:
        any_rejected |= bool(prediction.rejected)
        if form == "csv":
            writer.writerow(to_cells(prediction, names) | asdict(origin))
            for window in prediction.windows if over_time else ():
                writer.writerow(window_cells(prediction, window, names) | asdict(origin))
        elif form == "jsonl":
            file.write(json.dumps(to_json(prediction) | asdict(origin)) + "\n")
        else:
            file.write(prediction.to_text(over_time))
        if prediction.person is None or prediction.person.number == prediction.person.count:
            file.flush()
    return any_rejected


def write_windows(
    predictions: Iterable[Prediction], names: Names, file: TextIO, origin: PredictionOrigin, persons: bool = False
) -> None:
    """Write a CSV file with a row for each window of each prediction. persons: write PERSON_COLUMNS too."""
    parts = [f"{name} {part}" for name in names.values() for part in PARTS]
    first = ["clip", *(PERSON_COLUMNS if persons else ()), "start", "end"]
    writer = csv.DictWriter(file, [*first, *names.values(), *parts, "usable fraction", "rejected", "model", "options"])
    writer.writeheader()
    for prediction in predictions:
        for window in prediction.windows:
            writer.writerow(window_cells(prediction, window, names) | asdict(origin))


def to_cells(prediction: Prediction | Window, names: Names) -> dict[str, str]:
    """Return a prediction as cells by column."""
    cells = {"rejected": prediction.rejected, "usable fraction": f"{prediction.usable_fraction:.3f}"}
    if isinstance(prediction, Prediction):
        cells |= {"clip": str(prediction.clip), "warnings": "; ".join(prediction.warnings)}
        cells |= _person_cells(prediction)
    for (group, column), name in names.items() if prediction.targets else ():
        estimate = prediction.targets[group][column]
        cells[name] = f"{estimate.score:.6f}"
        for part in PARTS:
            value = getattr(estimate, part)
            cells[f"{name} {part}"] = "" if value is None else f"{value:.6f}"
    return cells


def window_cells(prediction: Prediction, window: Window, names: Names) -> dict[str, str]:
    """Return the prediction of a window as cells by column."""
    times = {"start": f"{window.start:.3f}", "end": f"{window.end:.3f}"}
    return {"clip": str(prediction.clip)} | _person_cells(prediction) | times | to_cells(window, names)


def _person_cells(prediction: Prediction) -> dict[str, str]:
    values = describe_person(prediction.person)
    return {
        name: "" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
        for name, value in values.items()
    }


def to_json(prediction: Prediction) -> dict[str, Any]:
    """Return a prediction as a JSON-able dictionary."""
    values = asdict(replace(prediction, labels={})) | {"clip": str(prediction.clip)}
    hidden = {"labels"} if prediction.person else {"labels", "person"}
    return {name: value for name, value in values.items() if name not in hidden}


@contextmanager
def locked(path: Path) -> Iterator[TextIO]:
    """Open a file to append to it. Raises InputError if another process writes to it, because rows would get mixed."""
    with path.open("a+", newline="", encoding="utf-8", errors=ERRORS) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"--out {path}: {_lock_holder(file)} is writing to this file; wait until it ends, or choose another file"
            ) from None
        except OSError:  # a file system without locks
            pass
        yield file


def _lock_holder(file: TextIO) -> str:
    """Return the process that has locked a file, according to Linux' /proc/locks."""
    inode = f":{os.fstat(file.fileno()).st_ino}"
    locks = Path("/proc/locks")
    for line in locks.read_text().splitlines() if locks.exists() else ():
        fields = line.split()  # 1: FLOCK ADVISORY WRITE PID MAJOR:MINOR:INODE 0 EOF
        if fields[1] == "FLOCK" and fields[-3].endswith(inode):
            return f"process {fields[-4]}"
    return "another process"


def read_before(path: Path, file: TextIO, names: Names, origin: PredictionOrigin) -> Before:
    """Return the finished clips of an earlier run, and remove an incomplete last row or clip.

    Raises InputError if the file has other contents, or predictions of another model or with other options.
    """
    file.seek(0)
    complete = _drop_unfinished(path, file.read())
    file.seek(0)
    file.truncate(len(complete.encode("utf-8", ERRORS)))
    file.seek(0, os.SEEK_END)
    rows = _parse(path, complete)
    expected = {"clip", "rejected", "model", "options"} | ({*names.values()} if path.suffix == ".csv" else set())
    if not all(expected <= row.keys() for row in rows):
        raise InputError(f"--out {path} contains no predictions of this model; choose another file, or remove this one")
    for field in ("model", "options"):
        if other := next((row[field] for row in rows if row[field] != getattr(origin, field)), None):
            raise InputError(
                f"--out {path} contains predictions with another {field} ({other}); this run has"
                f" {getattr(origin, field)}: choose another file, or remove this one"
            )
    return Before(any(row["rejected"] for row in rows), {row["clip"] for row in rows})


def _drop_unfinished(path: Path, text: str) -> str:
    """Return the text of a file without an incomplete last row, and without the last clip if persons of it are missing."""
    complete = text[: text.rfind("\n") + 1]  # the run may have ended within a row
    rows = _parse(path, complete)
    number, count = _read_person(rows[-1]) if rows else (0, 0)
    if number == count:
        return complete
    lines = io.StringIO(complete, newline="").readlines()
    starts = [0]  # of each row among the lines: a name in quotes can contain line ends
    if path.suffix == ".jsonl":
        starts += range(1, len(lines))
    else:
        reader = csv.reader(lines)
        starts += [reader.line_num for _ in reader][:-1]
    return "".join(lines[: starts[-number]])


def _read_person(row: Mapping[str, Any]) -> tuple[int, int]:
    """Return the number of a row's person and of all persons of the clip; 0 without a person."""
    person = row.get("person")
    if isinstance(person, dict):
        return person["number"], person["count"]
    return (int(person), int(row["persons"])) if person and "persons" in row else (0, 0)


def _parse(path: Path, text: str) -> list[dict[str, Any]]:
    """Return the rows of a file; a row that can't be parsed has no columns."""
    if path.suffix != ".jsonl":
        return list(csv.DictReader(io.StringIO(text, newline="")))
    try:
        rows = [json.loads(line) for line in text.splitlines()]
    except json.JSONDecodeError:
        return [{}]
    return [row if isinstance(row, dict) else {} for row in rows]
