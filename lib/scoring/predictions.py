"""Read predictions of DVC experiments, revisions and CSV files; predictions for other clips or labels are errors."""

import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import dvc.api
import numpy as np
import pandas as pd
from dvc.exceptions import DvcException

from lib.core.artifacts import PREDICTIONS
from lib.core.errors import InputError
from lib.scoring.baselines import NAMES

# common parts of the traits' names in published tables; ValueNeurotisicm is FIV2's own spelling
_STEMS = {
    "extraversion": "extrav",
    "agreeableness": "agree",
    "conscientiousness": "consc",
    "neuroticism": "neuro",
    "openness": "openn",
}

_LETTERS = {name[0].upper(): name for name in _STEMS}


def read(
    source: str, targets: str, columns: Sequence[str], labels: pd.DataFrame, members: Iterable[str]
) -> pd.DataFrame:
    """Return a source's predictions: a row for each clip of `members` that it has (the index), and the `columns`.

    source: a revision or experiment, "workspace", a CSV file, or ARRAY.npy@CLIPS@ORDER (`_read_array`). A CSV file has a
    column for each target, or the columns of data/predictions.csv, from which the target group `targets` is read. labels:
    those of all clips of the split. Raises InputError if the source can't be read, was scored on other labels, or has no
    number for a clip.
    """
    table = _read_array(source, columns) if ".npy@" in source else _read_table(source)
    if "predicted" in table:
        table = table.rename(columns={"trait": "target"})  # its name in older files
        if missing := [name for name in ("clip", "split", "target", "actual") if name not in table]:
            raise InputError(
                f"{source} has no column {missing[0]}; required for predictions of this project: clip, split, target, actual"
            )
        if "targets" in table:
            if targets not in set(table["targets"]):
                groups = ", ".join(table["targets"].unique()) or "nothing"
                raise InputError(f"{source} predicts {groups}, not {targets}; choose the target group with --targets")
            table = table[table["targets"] == targets]
        if missing := [column for column in columns if column not in set(table["target"])]:
            raise InputError(f"{source} has no predictions of {', '.join(missing)}; choose another source or --targets")
        table = table.assign(**{name: pd.to_numeric(table[name], errors="coerce") for name in ("actual", "predicted")})
        _check_same_labels(source, table, columns, labels)
        if (twice := table.duplicated(["clip", "target"])).any():
            row = table[twice].iloc[0]
            raise InputError(
                f"{source} has {row['target']} of clip {row['clip']} twice; allowed: one prediction. Remove one"
            )
        table = table.pivot(index="clip", columns="target", values="predicted")[list(columns)]
    else:
        table = _read_wide(source, table, columns, labels["clip"])
    table = table[table.index.isin(members)].apply(pd.to_numeric, errors="coerce")
    no_number = table.isna().any(axis=1)
    if no_number.any():
        raise InputError(
            f"{source} has no number for clip {table.index[no_number][0]} ({no_number.sum()} clips in total); add the"
            " predictions"
        )
    return table


def check_same_clips(source: str, clips: pd.Index, first: str, expected: pd.Index) -> None:
    """Raise InputError with the name of a clip unless a source has the clips of the source `first`, each once."""
    if clips.empty:
        raise InputError(f"{source} has no clip of the compared split; choose another with --split or --labels")
    if clips.has_duplicates:
        raise InputError(f"{source} has clip {clips[clips.duplicated()][0]} twice; allowed: once. Remove a row")
    missing, extra = expected.difference(clips), clips.difference(expected)
    if len(missing) or len(extra):
        problems = [f"{len(missing)} are missing, first {missing[0]}"] if len(missing) else []
        problems += [f"has {len(extra)} more, first {extra[0]}"] if len(extra) else []
        raise InputError(
            f"{source} has other clips than {first} ({len(expected)} of this split): {'; '.join(problems)}"
        )


def _read_table(source: str) -> pd.DataFrame:
    """Return the table of a source, all columns as text."""
    if source.endswith(".csv") or source == "workspace":
        path = PREDICTIONS if source == "workspace" else Path(source)
        if not path.is_file():
            raise InputError(f"{path} is not a file; correct the path")
        return _read_csv(path, source)
    try:
        return _read_csv(io.StringIO(dvc.api.read(str(PREDICTIONS), rev=source)), source)
    except (DvcException, OSError) as error:
        raise InputError(
            f"{source!r} is not a revision or experiment for which DVC has {PREDICTIONS} ({error}); allowed: those of"
            f" `git log` and `dvc exp list`, workspace, a .csv file, {', '.join(NAMES)}, ridge_descriptors"
        ) from None


def _read_array(source: str, columns: Sequence[str]) -> pd.DataFrame:
    """Return the predictions of an array (N, K) as a table with the column `clip` and one for each target.

    source: ARRAY.npy@CLIPS@ORDER. CLIPS: a text file with the name of a clip in each line. ORDER: the targets of the array's
    columns, joined by +, or the letters of the Big Five, such as OCEAN.
    """
    path, clip_file, order = [*map(str.strip, source.split("@")), "", ""][:3]
    names = [_LETTERS.get(letter, "") for letter in order] if "+" not in order else order.split("+")
    if sorted(names) != sorted(columns):
        raise InputError(
            f"{source} has the order {order!r}; required: ARRAY.npy@CLIPS.txt@ORDER, where ORDER is"
            f" {'+'.join(columns)} in the array's order{', or letters such as OCEAN' if {*columns} <= {*_STEMS} else ''}"
        )
    for file in (path, clip_file):
        if not Path(file).is_file():
            raise InputError(f"{source}: {file} is not a file; correct the path")
    try:
        array = np.load(path, allow_pickle=False)
    except ValueError as error:
        raise InputError(f"{path} is not a readable NPY file of numbers ({error}); write it again") from None
    clips = [line.strip() for line in Path(clip_file).read_text("utf-8-sig").splitlines() if line.strip()]
    if array.shape != (len(clips), len(names)):
        raise InputError(
            f"{path} has the shape {array.shape}; required: {(len(clips), len(names))}, for {len(clips)} clips of"
            f" {clip_file} and {len(names)} targets"
        )
    return pd.DataFrame(array, columns=names).assign(clip=clips)


def _read_csv(file: Path | io.StringIO, source: str) -> pd.DataFrame:
    """Return a CSV file's columns as text: a clip may be called 007, or NA."""
    try:
        return pd.read_csv(file, dtype=str, keep_default_na=False)
    except ValueError as error:  # the base class of pandas' errors
        raise InputError(
            f"{source} is not a readable CSV file ({' '.join(str(error).split())}); write it again"
        ) from None


def _check_same_labels(source: str, table: pd.DataFrame, columns: Sequence[str], labels: pd.DataFrame) -> None:
    """Raise InputError if predictions of this pipeline were made on another split or corpus than `labels`."""
    rows = table[table["split"].isin(labels["split"]) & table["target"].isin(columns)]
    expected = labels.melt("clip", list(columns), "\0", "\1").set_axis(["clip", "target", "label"], axis=1)
    joined = rows.merge(expected, "left", ["clip", "target"])
    unknown = joined["actual"].isna() & joined["label"].isna()  # a clip without any label is not compared
    other = joined[~((np.abs(joined["actual"] - joined["label"]) < 1e-5) | unknown)]
    if len(other):
        row = other.iloc[0]
        raise InputError(
            f"{source} was made on another split or corpus: {row['target']} of its {row['split']} clip {row['clip']} is"
            f" {row['actual']}, here {row['label']}; choose predictions for these labels, or other --labels"
        )


def _read_wide(source: str, table: pd.DataFrame, columns: Sequence[str], clips: Iterable[str]) -> pd.DataFrame:
    """Return the targets by clip from a table with a column for each target.

    The name of a target's column is the target, or contains it, or has its letter as one part, such as `pred_O`. With
    several such columns, the one with `pred` in its name is read. Names of clips may be without the file's ending.
    """
    clip_names = {name: clip for clip in clips for name in (clip, Path(clip).stem)}
    table.columns = table.columns.astype(str)
    target_columns: dict[str, str] = {}
    for target in columns:
        matches = [column for column in table.columns if column.lower() == target.lower()]
        stem = _STEMS[target] if target in _STEMS else target.lower()
        matches = matches or [column for column in table.columns if stem in column.lower() and column not in columns]
        matches = matches or [column for column in table.columns if _has_letter(column, target)]
        if len(matches) > 1:
            matches = [column for column in matches if "pred" in column.lower()] or matches
        if len(matches) > 1:
            raise InputError(f"{source} has two columns of {target}: {', '.join(matches)}; rename or remove one")
        if matches:
            target_columns[target] = matches[0]
    # the column with most of the clips' names: another may have their videos, or their numbers
    candidates = {
        column: table[column].astype(str).map(clip_names)
        for column in table.columns
        if column not in target_columns.values()
    }
    clip_column = max(candidates, key=lambda column: candidates[column].notna().sum(), default=None)
    if len(target_columns) < len(columns) or clip_column is None or candidates[clip_column].isna().all():
        raise InputError(
            f"{source} has the columns {', '.join(table.columns)}; required: a column of clips (such as"
            f" {next(iter(clip_names))}) and one for each of {', '.join(columns)}"
        )
    is_clip = candidates[clip_column].notna()
    return (
        table.loc[is_clip, [target_columns[target] for target in columns]]
        .set_axis(list(columns), axis=1)
        .set_index(pd.Index(candidates[clip_column][is_clip], name="clip"))
    )


def _has_letter(column: str, target: str) -> bool:
    """Return whether a part of a column's name is the letter of a trait: `pred_O`, `O`, `o-score`."""
    return target in _STEMS and target[0] in re.split(r"[^a-z]+", column.lower())
