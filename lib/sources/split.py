"""Ways to deal the clips of a corpus out to training, validation and test."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pandas as pd

from lib.core.clips import SPLITS, column_names
from lib.core.errors import InputError
from lib.core.targets import TRAITS

SHARES = {"training": 0.6, "validation": 0.2, "test": 0.2}
"""Where a corpus has no split of its own."""

_STRATA = 10
_VALIDATION = 10  # one of so many training videos


class Dealing(NamedTuple):
    """Settings of a split: the seed; for `folds` their number and the one that tests; for `disjoint` and `random` the
    fractions of training, validation and test, None for the source's own; for `group_out` the group of every clip, where it
    is known, and the group that tests."""

    seed: int
    folds: int
    fold: int
    fractions: tuple[float, ...] | None = None
    groups: Mapping[str, str] = MappingProxyType({})
    tested: str = ""


def official(table: pd.DataFrame, dealing: Dealing) -> pd.Series:
    """Return the split that the source gives. Raises InputError if a clip has none."""
    without = table["clip"][table["split"] == ""]
    if len(without):
        raise InputError(
            f"download.split in params.yaml is official, and {len(without)} usable clips have no split ({without.iloc[0]},"
            " ...); allowed: a split for each in the labels, or one of"
            f" {', '.join(name for name in SPLITTERS if name not in ('official', 'validation_as_test'))}"
        )
    return table["split"]


def disjoint(table: pd.DataFrame, dealing: Dealing) -> pd.Series:
    """Return a split in which no video is shared, of the wanted shares, or the same as the source's.

    All clips of a video go to one split. Videos are sorted into ten strata by the mean of their targets, and each stratum
    is dealt out in random order, a video to the split that lacks most, so that the splits' labels are alike.
    """
    return table["video"].map(_deal(table, _shares(table, dealing), dealing.seed))


def random(table: pd.DataFrame, dealing: Dealing) -> pd.Series:
    """Return a split by clip, of the wanted shares or the source's: a leak, since clips of a video are alike."""
    return table["clip"].map(_deal(table.assign(video=table["clip"]), _shares(table, dealing), dealing.seed))


def folds(table: pd.DataFrame, dealing: Dealing) -> pd.Series:
    """Return a round of cross-validation by video: fold number `fold` is the test set, the next one validates."""
    if dealing.fold >= dealing.folds:
        raise InputError(
            f"params.yaml: download.fold = {dealing.fold}; allowed: 0 to {dealing.folds - 1} (download.folds)"
        )
    equal = {str(fold): 1 / dealing.folds for fold in range(dealing.folds)}
    of_fold = {str(dealing.fold): "test", str((dealing.fold + 1) % dealing.folds): "validation"}
    return table["video"].map(_deal(table, equal, dealing.seed)).map(lambda fold: of_fold.get(fold, "training"))


def validation_as_test(table: pd.DataFrame, dealing: Dealing) -> pd.Series:
    """Return the official validation clips as test, and a tenth of the training videos as validation.

    For who has no test labels; clips of an official test set are in no split then.
    """
    training = table["video"][table["split"] == "training"].unique()
    if len(training) < 2 or not (table["split"] == "validation").any():
        raise InputError(
            "download.split in params.yaml is validation_as_test; allowed: with validation clips and two training videos"
            f" or more ({len(training)} are usable)"
        )
    chosen = np.random.default_rng(dealing.seed).permutation(np.sort(training))[: -(-len(training) // _VALIDATION)]
    new = table["split"].map({"training": "training", "validation": "test"}).fillna("")
    return new.mask((new == "training") & table["video"].isin(chosen), "validation")


def group_out(table: pd.DataFrame, dealing: Dealing) -> pd.Series:
    """Return the clips of the tested group of persons as test, and those of all other groups as training and validation.

    These are assigned by video, in the proportion of training and validation that is wanted or the source's own. In no split
    are clips whose group is unknown, and clips of other groups in a video of which a clip is tested.
    """
    groups = table["clip"].map(dealing.groups)
    tested = groups == dealing.tested
    trained = groups.notna() & ~table["video"].isin(table["video"][tested])
    wanted = SHARES | _shares(table, dealing)
    known = wanted["training"] + wanted["validation"]
    others = table[trained]
    assigned = _deal(others, {part: wanted[part] / known for part in ("training", "validation")}, dealing.seed)
    return others["video"].map(assigned).reindex(table.index).fillna("").mask(tested, "test")


SPLITTERS: dict[str, Callable[[pd.DataFrame, Dealing], pd.Series]] = {
    "official": official,
    "disjoint": disjoint,
    "random": random,
    "folds": folds,
    "validation_as_test": validation_as_test,
    "group_out": group_out,
}


def _shares(table: pd.DataFrame, dealing: Dealing) -> dict[str, float]:
    """Return the wanted shares of the clips, or the source's own, without the splits that it lacks.

    Raises InputError if those wanted do not add up to 1.
    """
    if dealing.fractions is not None:
        if abs(sum(dealing.fractions) - 1) > 1e-6:
            raise InputError(
                f"params.yaml: download.split_fractions = {list(dealing.fractions)}; allowed: null, or fractions of"
                f" {', '.join(SPLITS)} that add up to 1"
            )
        return dict(zip(SPLITS, dealing.fractions, strict=True))
    own = table["split"][table["split"] != ""].value_counts(normalize=True)
    return {split: float(own[split]) for split in SPLITS if split in own} or SHARES


def _deal(table: pd.DataFrame, share: Mapping[str, float], seed: int) -> dict[str, str]:
    """Deal the videos out to the names in `share`, one at least to each. Raises InputError if they are too few."""
    videos = table.assign(level=_level(table)).groupby("video")["level"].agg(["mean", "size"])
    if len(videos) < len(share):
        raise InputError(
            f"download.split in params.yaml has {len(share)} parts to deal videos out to, and only {len(videos)} of a"
            " corpus have usable clips"
        )
    order = videos["mean"].rank(method="first", pct=True, na_option="top")
    stratum = np.minimum((order * _STRATA).astype(int), _STRATA - 1)
    rng = np.random.default_rng(seed)
    given = dict.fromkeys(share, 0)
    chosen: dict[str, str] = {}
    for _, members in videos.groupby(stratum):
        for video in rng.permutation(members.index.to_numpy()):
            dealt = sum(given.values()) + int(members.loc[video, "size"])
            lacks = {part: share[part] * dealt - given[part] for part in share}
            chosen[video] = max(lacks, key=lacks.__getitem__)
            given[chosen[video]] += int(members.loc[video, "size"])
    for empty in [part for part in share if part not in chosen.values()]:
        parts = pd.Series(chosen).value_counts()
        chosen[next(video for video in reversed(chosen) if chosen[video] == parts.index[0])] = empty
    return chosen


def _level(table: pd.DataFrame) -> pd.Series:
    """One number a clip: the mean of its Big Five, or without them of all its targets in standard deviations."""
    targets = table.drop(columns=column_names([]), errors="ignore").dropna(axis=1, how="all").select_dtypes("number")
    if set(TRAITS) <= set(targets):
        return targets[list(TRAITS)].mean(axis=1)
    return ((targets - targets.mean()) / targets.std().replace(0, 1)).mean(axis=1)
