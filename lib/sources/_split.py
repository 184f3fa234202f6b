"""Ways to split the clips of a corpus into training, validation and test."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lib.core.clips import SPLITS, column_names
from lib.core.errors import SettingError
from lib.core.targets import TRAITS, list_rating_columns

if TYPE_CHECKING:  # slow; params.yaml is checked without it
    import pandas as pd

SHARES = {"training": 0.6, "validation": 0.2, "test": 0.2}
"""Fractions for a corpus without an official split."""

_STRATA = 10
_VALIDATION = 10  # validation_as_test: one in ten training videos becomes a validation video


class SplitSettings(NamedTuple):
    """Settings of a split.

    seed: of the random assignment.
    folds, fold: for `folds`, the number of folds and the test fold.
    fractions: for `disjoint` and `random`, the fractions of training, validation and test; None for the source's own.
    groups, tested: for `group_out`, the known group of each clip's person and the test group.
    inner_folds, inner_fold: for `hold_out_inner_fold`, the number of folds, 0 for none, and the validation fold.
    """

    seed: int
    folds: int
    fold: int
    fractions: tuple[float, ...] | None = None
    groups: Mapping[str, str] = MappingProxyType({})
    tested: str = ""
    inner_folds: int = 0
    inner_fold: int = 0


def official(table: "pd.DataFrame", settings: SplitSettings) -> "pd.Series":
    """Return the split that the source gives. Raises InputError if a clip has none."""
    without = table["clip"][table["split"] == ""]
    if len(without):
        raise SettingError(
            f"download.split = official, but {len(without)} usable clips have no split ({without.iloc[0]},"
            " ...); give each clip a split in the labels, or set download.split to one of"
            f" {', '.join(name for name in SPLITTERS if name not in ('official', 'validation_as_test'))}"
        )
    return table["split"]


def disjoint(table: "pd.DataFrame", settings: SplitSettings) -> "pd.Series":
    """Return a split in which all clips of a video are in the same split, with the wanted fractions or the source's own.

    Videos are sorted into ten strata by the mean of their targets. Within each stratum, in random order, each video goes to
    the split that is furthest below its fraction, so that all splits have similar label distributions.
    """
    return table["video"].map(_assign_videos(table, _target_fractions(table, settings), settings.seed))


def random(table: "pd.DataFrame", settings: SplitSettings) -> "pd.Series":
    """Return a random split by clip, with the wanted fractions or the source's own.

    This leaks: clips of the same video, which resemble each other, fall into different splits.
    """
    one_video_per_clip = table.assign(video=table["clip"])
    return table["clip"].map(_assign_videos(one_video_per_clip, _target_fractions(table, settings), settings.seed))


def folds(table: "pd.DataFrame", settings: SplitSettings) -> "pd.Series":
    """Return one round of cross-validation by video: `fold` is the test set, the next fold is the validation set."""
    if settings.fold >= settings.folds:
        raise SettingError(f"download.fold = {settings.fold}; allowed: 0 to {settings.folds - 1} (download.folds)")
    equal = {str(fold): 1 / settings.folds for fold in range(settings.folds)}
    split_of_fold = {str(settings.fold): "test", str((settings.fold + 1) % settings.folds): "validation"}
    fold_of_video = _assign_videos(table, equal, settings.seed)
    return table["video"].map(fold_of_video).map(lambda fold: split_of_fold.get(fold, "training"))


def validation_as_test(table: "pd.DataFrame", settings: SplitSettings) -> "pd.Series":
    """Return the official validation clips as test set, and a tenth of the training videos as validation set.

    This is for users without test labels. Clips of the official test set get no split.
    """
    training = table["video"][table["split"] == "training"].unique()
    if len(training) < 2 or not (table["split"] == "validation").any():
        raise SettingError(
            f"download.split = validation_as_test with {len(training)} usable training videos; required: at"
            " least 2, and validation clips. Add clips, or choose another split"
        )
    validation = np.random.default_rng(settings.seed).permutation(np.sort(training))[: -(-len(training) // _VALIDATION)]
    new = table["split"].map({"training": "training", "validation": "test"}).fillna("")
    return new.mask((new == "training") & table["video"].isin(validation), "validation")


def group_out(table: "pd.DataFrame", settings: SplitSettings) -> "pd.Series":
    """Return the clips of the tested group of persons as test set, and those of all other groups as training and validation.

    Videos of the other groups are assigned in the wanted proportion of training and validation, or the source's own. Clips
    of unknown group get no split, nor do clips of other groups whose video has a clip in the test set.
    """
    groups = table["clip"].map(settings.groups)
    tested = groups == settings.tested
    trained = groups.notna() & ~table["video"].isin(table["video"][tested])
    wanted = SHARES | _target_fractions(table, settings)
    in_other_groups = wanted["training"] + wanted["validation"]
    others = table[trained]
    fractions = {part: wanted[part] / in_other_groups for part in ("training", "validation")}
    assigned = _assign_videos(others, fractions, settings.seed)
    return others["video"].map(assigned).reindex(table.index).fillna("").mask(tested, "test")


def hold_out_inner_fold(table: "pd.DataFrame", split: "pd.Series", settings: SplitSettings) -> "pd.Series":
    """Return the split with other training and validation clips, by video: fold `inner_fold` of `inner_folds` validates.

    The test set does not change. Settings are compared on the mean over these folds (tools.search).
    """
    if settings.inner_folds == 1 or settings.inner_fold >= settings.inner_folds:
        raise SettingError(
            f"download.inner_folds = {settings.inner_folds} with download.inner_fold = {settings.inner_fold}; allowed:"
            " 0 for none, or at least 2 folds, and a fold from 0 to their number - 1"
        )
    inner = table[split.isin(["training", "validation"])]
    equal = {str(fold): 1 / settings.inner_folds for fold in range(settings.inner_folds)}
    fold_of_clip = inner["video"].map(_assign_videos(inner, equal, settings.seed))
    is_held_out = (fold_of_clip == str(settings.inner_fold)).reindex(split.index, fill_value=False)
    return split.replace("validation", "training").mask(is_held_out, "validation")


SPLITTERS: "dict[str, Callable[[pd.DataFrame, SplitSettings], pd.Series]]" = {
    "official": official,
    "disjoint": disjoint,
    "random": random,
    "folds": folds,
    "validation_as_test": validation_as_test,
    "group_out": group_out,
}


def _target_fractions(table: "pd.DataFrame", settings: SplitSettings) -> dict[str, float]:
    """Return the wanted fraction of clips for each split, or the source's own fractions for the splits that it has.

    Raises InputError if the wanted fractions do not add up to 1.
    """
    if settings.fractions is not None:
        if abs(sum(settings.fractions) - 1) > 1e-6:
            raise SettingError(
                f"download.split_fractions = {list(settings.fractions)}; allowed: null, or fractions of"
                f" {', '.join(SPLITS)} that add up to 1"
            )
        return dict(zip(SPLITS, settings.fractions, strict=True))
    frequencies = table["split"][table["split"] != ""].value_counts(normalize=True)
    return {split: float(frequencies[split]) for split in SPLITS if split in frequencies} or SHARES


def _assign_videos(table: "pd.DataFrame", fractions: Mapping[str, float], seed: int) -> dict[str, str]:
    """Return a part (a key of `fractions`) for each video; each part gets at least one video.

    Raises InputError if there are fewer videos than parts.
    """
    import pandas as pd

    videos = table.assign(level=_level(table)).groupby("video")["level"].agg(["mean", "size"])
    if len(videos) < len(fractions):
        raise SettingError(
            f"download.split needs videos for {len(fractions)} parts, but only {len(videos)} videos of a corpus"
            " have usable clips; add videos, or choose another split"
        )
    order = videos["mean"].rank(method="first", pct=True, na_option="top")
    stratum = np.minimum((order * _STRATA).astype(int), _STRATA - 1)
    rng = np.random.default_rng(seed)
    clips_in = dict.fromkeys(fractions, 0)
    split_of: dict[str, str] = {}
    for _, members in videos.groupby(stratum):
        for video in rng.permutation(members.index.to_numpy()):
            assigned_clips = sum(clips_in.values()) + int(members.loc[video, "size"])
            deficit = {part: fractions[part] * assigned_clips - clips_in[part] for part in fractions}
            split_of[video] = max(deficit, key=deficit.__getitem__)
            clips_in[split_of[video]] += int(members.loc[video, "size"])
    for empty in [part for part in fractions if part not in split_of.values()]:
        parts = pd.Series(split_of).value_counts()
        split_of[next(video for video in reversed(split_of) if split_of[video] == parts.index[0])] = empty
    return split_of


def _level(table: "pd.DataFrame") -> "pd.Series":
    """Return the mean of each clip's Big Five scores, or of all its standardised targets if it has no Big Five."""
    others = [*column_names([]), *list_rating_columns(table)]
    targets = table.drop(columns=others, errors="ignore").dropna(axis=1, how="all").select_dtypes("number")
    if set(TRAITS) <= set(targets):
        return targets[list(TRAITS)].mean(axis=1)
    return ((targets - targets.mean()) / targets.std().replace(0, 1)).mean(axis=1)
