"""Predictions to compare, of DVC experiments, revisions and CSV files; those about other clips or labels are refused."""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import dvc.api
import numpy as np
import pandas as pd
from dvc.exceptions import DvcException

from lib.core.artifacts import PREDICTIONS
from lib.core.errors import InputError
from lib.scoring.baselines import NAMES

# parts of the names that published tables of FIV2's traits have in common; ValueNeurotisicm is FIV2's own spelling
_STEMS = {
    "extraversion": "extrav",
    "agreeableness": "agree",
    "conscientiousness": "consc",
    "neuroticism": "neuro",
    "openness": "openn",
}


def read(
    source: str, targets: str, columns: Sequence[str], of_split: pd.DataFrame, members: Iterable[str]
) -> pd.DataFrame:
    """Return a source's predictions: a row for each clip of `members` that it has (the index), and the `columns`.

    source: a revision or experiment, "workspace", or a CSV file, either like data/predictions.csv, of which those of the
    target group `targets` are taken, or with a column for each target. `of_split`: the labels of all clips of the split.
    Raises InputError if the source can't be read, was scored on other labels, or has no number for a clip.
    """
    table = _table(source)
    if "predicted" in table:
        table = table.rename(columns={"trait": "target"})  # as it was called before there were target groups
        if lacking := [name for name in ("clip", "split", "target", "actual") if name not in table]:
            raise InputError(f"{source} has no column {lacking[0]}, which predictions of this project have")
        if "targets" in table:
            if targets not in set(table["targets"]):
                found = ", ".join(table["targets"].unique()) or "nothing"
                raise InputError(f"{source} predicts {found}, not {targets}; --targets chooses")
            table = table[table["targets"] == targets]
        if lacking := [column for column in columns if column not in set(table["target"])]:
            raise InputError(f"{source} has no predictions of {', '.join(lacking)}")
        table = table.assign(**{name: pd.to_numeric(table[name], errors="coerce") for name in ("actual", "predicted")})
        _refuse_other_labels(source, table, columns, of_split)
        if (twice := table.duplicated(["clip", "target"])).any():
            row = table[twice].iloc[0]
            raise InputError(f"{source} has {row['target']} of clip {row['clip']} twice")
        table = table.pivot(index="clip", columns="target", values="predicted")[list(columns)]
    else:
        table = _wide(source, table, columns, of_split["clip"])
    table = table[table.index.isin(members)].apply(pd.to_numeric, errors="coerce")
    no_number = table.isna().any(axis=1)
    if no_number.any():
        raise InputError(f"{source} lacks a number for clip {table.index[no_number][0]} ({no_number.sum()} in all)")
    return table


def check_same_clips(source: str, found: pd.Index, first: str, expected: pd.Index) -> None:
    """Raise InputError, naming a clip, unless a source is about the same clips as the source `first`, each once."""
    if found.empty:
        raise InputError(f"{source} has no clip of the split that is compared; --split and --labels choose it")
    if found.has_duplicates:
        raise InputError(f"{source} has clip {found[found.duplicated()][0]} twice")
    lacking, extra = expected.difference(found), found.difference(expected)
    if len(lacking) or len(extra):
        shown = [f"lacks {len(lacking)}, first {lacking[0]}"] if len(lacking) else []
        shown += [f"has {len(extra)} more, first {extra[0]}"] if len(extra) else []
        raise InputError(
            f"{source} is not about the same clips as {first} ({len(expected)} of this split): {'; '.join(shown)}"
        )


def _table(source: str) -> pd.DataFrame:
    if source.endswith(".csv") or source == "workspace":
        path = PREDICTIONS if source == "workspace" else Path(source)
        if not path.is_file():
            raise InputError(f"{path} is no file")
        return _read_csv(path, source)
    try:
        return _read_csv(io.StringIO(dvc.api.read(str(PREDICTIONS), rev=source)), source)
    except (DvcException, OSError) as error:
        raise InputError(
            f"{source!r} is no revision or experiment that DVC keeps {PREDICTIONS} of ({error}); allowed: those of"
            f" `git log` and `dvc exp list`, workspace, a .csv file, {', '.join(NAMES)}, ridge_descriptors"
        ) from None


def _read_csv(file: Path | io.StringIO, source: str) -> pd.DataFrame:
    """Read all columns as text: a clip may be called 007, or NA."""
    try:
        return pd.read_csv(file, dtype=str, keep_default_na=False)
    except ValueError as error:  # pandas' errors are
        raise InputError(f"{source} is no readable CSV file ({' '.join(str(error).split())})") from None


def _refuse_other_labels(source: str, table: pd.DataFrame, columns: Sequence[str], of_split: pd.DataFrame) -> None:
    """Raise InputError if predictions of this pipeline were made on another split or corpus than what is compared."""
    mine = table[table["split"].isin(of_split["split"]) & table["target"].isin(columns)]
    labels = of_split.melt("clip", list(columns), "target", "label")
    both = mine.merge(labels, "left", ["clip", "target"])
    unknown = both["actual"].isna() & both["label"].isna()  # of all the group too: then the clip is not compared
    other = both[~((np.abs(both["actual"] - both["label"]) < 1e-5) | unknown)]
    if len(other):
        row = other.iloc[0]
        raise InputError(
            f"{source} was made on another split or corpus: {row['target']} of its {row['split']} clip {row['clip']} is"
            f" {row['actual']}, here {row['label']}"
        )


def _wide(source: str, table: pd.DataFrame, columns: Sequence[str], clips: Iterable[str]) -> pd.DataFrame:
    """Return a table's targets by clip, which may lack its file's ending; a target's column has its name, or contains it."""
    known = {name: clip for clip in clips for name in (clip, Path(clip).stem)}
    table.columns = table.columns.astype(str)
    found: dict[str, str] = {}
    for target in columns:
        named = [column for column in table.columns if column.lower() == target.lower()]
        stem = _STEMS[target] if target in _STEMS else target.lower()
        named = named or [column for column in table.columns if stem in column.lower() and column not in columns]
        if len(named) > 1:
            raise InputError(f"{source} has two columns of {target}: {', '.join(named)}")
        if named:
            found[target] = named[0]
    # the column that holds most of the clips: another may hold their videos, or their numbers
    of_clips = {
        column: table[column].astype(str).map(known) for column in table.columns if column not in found.values()
    }
    clip_column = max(of_clips, key=lambda column: of_clips[column].notna().sum(), default=None)
    if len(found) < len(columns) or clip_column is None or of_clips[clip_column].isna().all():
        raise InputError(
            f"{source} has the columns {', '.join(table.columns)}; needed are one of clips (as {next(iter(known))}) and one"
            f" for each of {', '.join(columns)}"
        )
    kept = of_clips[clip_column].notna()
    return (
        table.loc[kept, [found[target] for target in columns]]
        .set_axis(list(columns), axis=1)
        .set_index(pd.Index(of_clips[clip_column][kept], name="clip"))
    )
