"""The tables of the report and the card, as data frames of text: a value and its interval in each cell."""

from typing import Any

import pandas as pd

from lib.core.clips import SPLITS
from lib.core.targets import INTERVAL_LEVEL, TargetGroup
from lib.report import words
from lib.scoring.bootstrap import MIN_VIDEOS

_SCORES = {
    "r2": "R²",
    "ccc": "CCC",
    "skill": "Skill over the training mean: 1 − MSE / MSE of the training mean",
    "std_ratio": "SD ratio: standard deviation of the predictions over that of the labels (ideal: 1)",
    "regression_to_mean": "Regression to the mean: 0 if extremes are predicted as extremes, 1 if every prediction is the"
    " mean; 1 − R² for a calibrated predictor",
    "calibration_slope": "Calibration slope: slope of the regression of labels on predictions (ideal: 1)",
}
_FIRST = ("accuracy", "r2", "ccc")


def list_score_tables(
    scores: pd.DataFrame,
    comparisons: pd.DataFrame,
    target_group: TargetGroup,
    subset: str,
    level: float = INTERVAL_LEVEL,
) -> tuple[dict[str, pd.DataFrame], dict[str, pd.DataFrame]]:
    """Return the tables of a subset of the clips by title: the main scores and differences, then all further scores.

    level: of the prediction intervals.
    """
    rows = scores[scores["subset"] == subset]
    coverage = f"Coverage: fraction of labels within the {level:.0%} interval of tools.predict"
    labels = {"accuracy": f"Accuracy ({words.name_accuracy(target_group)})"} | _SCORES | {"coverage": coverage}
    labels |= _name_detections(target_group)
    measured = {score: label for score, label in labels.items() if (rows["score"] == score).any()}
    measured = {score: _name_weighted(label, rows[rows["score"] == score]) for score, label in measured.items()}
    main = {label: make_score_table(rows, score) for score, label in measured.items() if score in _FIRST}
    further = {label: make_score_table(rows, score) for score, label in measured.items() if score not in _FIRST}
    compared = comparisons[comparisons["subset"] == subset]
    compared = compared.assign(score="", value=compared["difference"])
    main[_name_weighted("Accuracy of the model minus that of each baseline", compared)] = make_score_table(compared, "")
    return main, further


def _name_weighted(title: str, rows: pd.DataFrame) -> str:
    """Return the title of a table, which names the weighting if its rows are weighted."""
    return f"{title}, weighted by reliability" if words.is_weighted(rows) else title


def make_score_table(rows: pd.DataFrame, score: str, digits: int = 3) -> pd.DataFrame:
    """Return one score: a row per predictor, a column for the mean and for each target."""
    of_score = rows[rows["score"] == score]
    return pd.DataFrame(
        {
            words.name_predictor(str(name)): {
                row.target: words.format_value(row, digits) for row in of_predictor.itertuples()
            }
            for name, of_predictor in of_score.groupby("predictor", sort=False)
        }
    ).T


def list_group_tables(groups: pd.DataFrame, target_group: TargetGroup) -> dict[str, pd.DataFrame]:
    """Return a table for each kind of group of persons and each score, given a target group's rows of data/group_scores.csv.

    Kinds without any large group are left out.
    """
    tables = {
        f"{kind}: {label}": make_group_table(rows, predictor, score)
        for kind, rows in groups.groupby("kind", sort=False)
        for (predictor, score), label in words.list_group_scores(target_group).items()
    }
    return {title: table for title, table in tables.items() if not table.empty}


def make_group_table(rows: pd.DataFrame, predictor: str, score: str) -> pd.DataFrame:
    """Return one score for all groups of a kind: values, differences to all other clips, and the gap between groups.

    Groups with fewer than MIN_VIDEOS videos are left out (`describe_small_groups`).
    """
    cells: dict[str, dict[str, str]] = {}
    small = _find_small_groups(rows)["group"].tolist()
    for row in rows[(rows["score"] == score) & (rows["predictor"] == predictor)].itertuples():
        if row.what != "gap" and row.group in small:
            continue
        label = {
            "value": f"{row.group} ({row.clips} clips, {row.videos} videos)",
            "difference": f"{row.group} minus the others",
            "gap": "gap",
        }[row.what]
        which = f" ({row.group})" if row.what == "gap" and pd.notna(row.value) else ""
        cells.setdefault(label, {})[row.target] = words.format_value(row) + which
    return pd.DataFrame(cells).T


def list_cue_tables(cues: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return a table of maps and targets for each stream, kind and score, given a target group's rows of
    data/cue_scores.csv."""
    names = {"pointing": "largest importance is marked", "energy": "marked part of the importance"}
    tables = {}
    for (stream, kind, score), rows in cues.groupby(["stream", "kind", "score"], sort=False):
        cells: dict[str, dict[str, str]] = {}
        for row in rows.itertuples():
            cells.setdefault(row.map, {})[f"{row.target} ({row.clips} clips)"] = words.format_value(row)
        tables[f"Marks of people, {stream}, {kind}: {names[score]}"] = pd.DataFrame(cells).T
    return tables


def describe_small_groups(rows: pd.DataFrame) -> str:
    """Return a sentence that lists the groups of persons that tables leave out, or an empty string."""
    small = _find_small_groups(rows)
    names = ", ".join(f"{row.group} ({row.clips} clips, {row.videos} videos)" for row in small.itertuples())
    return f"Not shown, because they have fewer than {MIN_VIDEOS} videos: {names}." if names else ""


def _find_small_groups(rows: pd.DataFrame) -> pd.DataFrame:
    small = rows[(rows["what"] == "value") & (rows["videos"] < MIN_VIDEOS)]
    return small.drop_duplicates(["kind", "group"])


def list_label_tables(clips: pd.DataFrame, target_group: TargetGroup) -> dict[str, pd.DataFrame]:
    """Return the labels' statistics by split, and their correlations over all clips; `clips` as in data/clips.csv."""
    columns = list(target_group.columns)
    cells: dict[Any, dict[str, str]] = {}
    for split in SPLITS:
        of_split = clips.loc[clips["split"] == split, columns]
        for column, values in of_split.items():
            text = f"{values.mean():.3f} ± {values.std():.3f} ({values.count()})" if values.count() else "–"
            cells.setdefault(column, {})[split] = text
    correlations = clips[columns].corr().map(lambda value: "–" if pd.isna(value) else f"{value:.2f}".replace("-", "−"))
    return {
        "Labels: mean ± standard deviation (number of clips)": pd.DataFrame(cells).T,
        "Labels: Pearson correlations": correlations,
    }


def _name_detections(target_group: TargetGroup) -> dict[str, str]:
    if not target_group.detect:
        return {}
    threshold = target_group.from_unit(target_group.detect_from)
    rule = f"Present: label above {target_group.range[0]:g}; detected: prediction of {threshold:.3g} or more."
    return {
        "f1": f"F1 of the class present. {rule}",
        "macro_f1": "Macro F1: mean of the classes present and absent",
        "weighted_f1": "Weighted F1: mean of the classes present and absent, weighted by their numbers",
        "uar": "UAR: mean recall of the classes present and absent",
        "auc": "Area under the ROC curve",
    }
