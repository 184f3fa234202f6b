"""Tables of all scores of one target group: on subsets of the clips, for groups of persons, and by split."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from lib.core.targets import RELIABILITY, TargetGroup
from lib.scoring import ceilings
from lib.scoring.baselines import LEAKING
from lib.scoring.bootstrap import MIN_VIDEOS, Bootstrap, score_with_intervals
from lib.scoring.coverage import score_coverage
from lib.scoring.detection import score_detection
from lib.scoring.paired import adjust_table, compare_errors, compare_predictors, find_twins
from lib.scoring.person_groups import average_groups, cross_groups, score_groups
from lib.scoring.reliability import find_reliability

CONTROL_COLUMNS = (
    "targets", "control", "target", "clips", "repeats", "accuracy", "r2", "loss", "low", "high", "p", "p_holm",
)  # fmt: skip
LABELS = "labels"
"""The predictor of rows of data/group_scores.csv that describe labels."""
WEIGHTING = "weighting"
"""The column of weighted scores and comparisons that names the weighting; it is missing if no row is weighted."""
HEADLINE_SCORES = "accuracy", "r2", "ccc"


@dataclass(frozen=True)
class ScoredClips:
    """The labels of one target group and the predictions that are scored.

    actual (N, K): the labels, NaN where unknown; each clip has at least one. predictions: arrays (N, K) by predictor, among
    them "model" and "mean_predictor". videos (N,): the clips' videos. video_in_training (N,): whether the training split
    has clips of the same video. bootstrap: of all intervals and tests. half_widths (N, K): half the widths of the model's
    prediction intervals; None if it has none. clipped: by predictor, arrays (N, K) that mark the predictions that were
    clipped to the targets' range. error_variance (N, K): of the labels, NaN where unknown, for their reliability; None if
    no clip has any. weights (N, K): of the labels in the scores and comparisons, None for equal weights.
    """

    actual: np.ndarray
    predictions: Mapping[str, np.ndarray]
    videos: np.ndarray
    video_in_training: np.ndarray
    target_group: TargetGroup
    bootstrap: Bootstrap
    half_widths: np.ndarray | None = None
    clipped: Mapping[str, np.ndarray] = field(default_factory=dict)
    error_variance: np.ndarray | None = None
    weights: np.ndarray | None = None

    def subsets(self) -> Iterator[tuple[str, "ScoredClips"]]:
        """Yield the name and the clips of each subset that isn't empty: all clips, clips of seen and of unseen videos."""
        for name, members in (
            ("all", self.video_in_training | True),
            ("seen_videos", self.video_in_training),
            ("unseen_videos", ~self.video_in_training),
        ):
            if members.any():
                yield name, self.select(members)

    def select(self, members: np.ndarray) -> "ScoredClips":
        """Return the clips with a true value in `members` (N,)."""
        predictions = {name: values[members] for name, values in self.predictions.items()}
        arrays = {
            "actual": self.actual[members],
            "videos": self.videos[members],
            "video_in_training": self.video_in_training[members],
        }
        clipped = {name: values[members] for name, values in self.clipped.items()}
        half_widths = None if self.half_widths is None else self.half_widths[members]
        if self.error_variance is not None:
            arrays["error_variance"] = self.error_variance[members]
        if self.weights is not None:
            arrays["weights"] = self.weights[members]
        return replace(self, predictions=predictions, half_widths=half_widths, clipped=clipped, **arrays)

    def has_few_videos(self, targets: pd.Series) -> pd.Series:
        """Return for each target ("mean" or a column) whether fewer than MIN_VIDEOS videos have a label for it."""
        known = np.isfinite(self.actual).T
        columns = self.target_group.columns
        videos = {name: len(set(self.videos[rows])) for name, rows in zip(columns, known, strict=True)}
        return targets.map(videos | {"mean": min(videos.values())}) < MIN_VIDEOS


def score_table(scored: ScoredClips) -> pd.DataFrame:
    """Return a row for each subset of the clips, predictor, score and target: value, and the ends of its 95 % interval.

    With weights, the column WEIGHTING names the weighted rows; F1 and coverage are not weighted. The predictor CEILING has
    the ceilings of R², r and CCC by the labels' reliability, where it is known.
    With `half_widths`, the coverage of the model's prediction intervals is a score, too. For a predictor with clipped
    predictions, so is their number.
    """
    target_group, bootstrap, tables = scored.target_group, scored.bootstrap, []
    for subset, part in scored.subsets():
        actual, videos, mean = part.actual, part.videos, part.predictions["mean_predictor"]
        described = {"subset": subset, "clips": len(actual), "videos": len(set(videos))}
        for name, values in part.predictions.items():
            arrays = actual, values, mean, videos
            weighted = score_with_intervals(
                *arrays, target_group.columns, span=target_group.span, bootstrap=bootstrap, weights=part.weights
            )
            parts = [weighted if part.weights is None else weighted.assign(**{WEIGHTING: RELIABILITY})]
            if target_group.detect:
                parts.append(score_detection(actual, values, videos, target_group, bootstrap))
            if part.half_widths is not None and name == "model":
                parts.append(score_coverage(actual, values, part.half_widths, videos, target_group.columns, bootstrap))
            if scored.clipped.get(name, np.zeros(0)).any():
                parts.append(_count_clipped(part.clipped[name] & np.isfinite(actual), target_group.columns))
            table = pd.concat(parts, ignore_index=True)
            tables.append(table.assign(predictor=name, **described))
        reliability = find_reliability(actual, part.error_variance, target_group, part.weights)
        bounds = ceilings.tabulate(ceilings.bound_scores(reliability), target_group.columns)
        if not bounds.empty:
            tables.append(bounds.assign(predictor=ceilings.CEILING, **described))
    joined = pd.concat(tables, ignore_index=True)
    first = ["subset", "clips", "videos", "predictor"]
    joined = joined[[*first, *joined.columns.drop(first)]]
    return joined if scored.weights is None else joined.fillna({WEIGHTING: ""})


def _count_clipped(clipped: np.ndarray, columns: Sequence[str]) -> pd.DataFrame:
    """Return the rows of the score `clipped`: the number of clipped predictions, for the mean their mean over targets."""
    counts = clipped.sum(0)
    table = pd.DataFrame({"score": "clipped", "target": ["mean", *columns], "value": [counts.mean(), *counts]})
    return table.assign(low=np.nan, high=np.nan)


def comparison_table(scored: ScoredClips) -> pd.DataFrame:
    """Return the model's accuracy minus each other predictor's: a row for each subset of the clips, predictor and target.

    "mean" comes first among the targets. The columns are those of `compare_errors`; intervals and p need MIN_VIDEOS videos.
    p_holm is p corrected (Holm 1979) over all predictors of a subset, for the mean; over all predictors and columns, for a
    column. Predictors with equal predictions, such as the look-up and the mean on unseen videos, are tested once.
    """
    tables = []
    for subset, part in scored.subsets():
        errors = {
            name: np.abs(values - part.actual) / part.target_group.span for name, values in part.predictions.items()
        }
        rows = []
        for name in errors.keys() - {"model"}:
            compared = compare_errors(errors["model"], errors[name], part.videos, part.bootstrap, part.weights)
            rows.append(pd.DataFrame({"predictor": name, "target": ["mean", *part.target_group.columns], **compared}))
        if not rows:
            continue
        table = pd.concat(rows, ignore_index=True).sort_values("predictor", kind="stable", ignore_index=True)
        table.loc[part.has_few_videos(table["target"]), ["low", "high", "p", "p_floor", "smallest"]] = np.nan
        twins = find_twins({name: [values] for name, values in part.predictions.items() if name != "model"})
        tables.append(table.assign(subset=subset, p_holm=adjust_table(table, twins)))
    order = ["subset", "predictor", "target", "difference", "low", "high", "p", "p_holm", "p_floor", "smallest"]
    table = pd.concat(tables, ignore_index=True).reindex(columns=order)
    return table if scored.weights is None else table.assign(**{WEIGHTING: RELIABILITY})


def group_table(scored: ScoredClips, persons: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of `score_groups` for each column of `persons` and for their intersections (kind).

    predictor: "model", with the score `coverage` of its prediction intervals, too; "mean_predictor", the training mean; or
    LABELS, with the score `label`, the mean label of each group, which is not an error. persons: a row for each scored clip.
    The table is empty if no clip is in a group.
    """
    order = ["kind", "predictor", "what", "group", "clips", "videos", "score", "target", "value", "low", "high"]
    mean, target_group, tables = scored.predictions["mean_predictor"], scored.target_group, []
    persons = pd.concat([persons, cross_groups(persons)], axis=1)
    averaged = [(LABELS, "label", scored.actual)]
    if (half_widths := scored.half_widths) is not None:
        inside = np.abs(scored.predictions["model"] - scored.actual) <= half_widths
        is_known = np.isfinite(scored.actual) & np.isfinite(half_widths)
        averaged.append(("model", "coverage", np.where(is_known, inside, np.nan)))
    for kind in persons.columns[persons.ne("").any()]:
        person_groups, videos = persons[kind].to_numpy(), scored.videos
        for name in ("model", "mean_predictor"):
            values = scored.predictions[name]
            arrays = scored.actual, values, mean, videos, person_groups
            table = score_groups(*arrays, target_group=target_group, bootstrap=scored.bootstrap)
            tables.append(table.assign(kind=kind, predictor=name)[order])
        for name, score, values in averaged:
            table = average_groups(
                score, values, videos, person_groups, target_group.columns, bootstrap=scored.bootstrap
            )
            tables.append(table.assign(kind=kind, predictor=name)[order])
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=order)


def split_table(
    splits: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]], target_group: TargetGroup, bootstrap: Bootstrap
) -> pd.DataFrame:
    """Return a row for each split, score (r2, accuracy) and target: value, and the ends of its 95 % interval.

    splits: for each split actual and predicted values (N, K) and videos (N,). Clips without a label are left out, and so is
    a split without labels.
    """
    tables = []
    for split, (actual, predicted, videos) in splits.items():
        labelled = np.isfinite(actual).any(1)
        if not labelled.any():
            continue
        actual, predicted, videos = actual[labelled], predicted[labelled], videos[labelled]
        # skill is not used: any array serves as its baseline
        scored = score_with_intervals(
            actual, predicted, predicted, videos, target_group.columns, span=target_group.span, bootstrap=bootstrap
        )
        scored = scored[scored["score"].isin(["r2", "accuracy"])]
        scored.insert(0, "split", split)
        tables.append(scored.assign(clips=len(actual), videos=len(set(videos))))
    return pd.concat(tables, ignore_index=True)


def control_table(
    predictions: Mapping[str, Sequence[np.ndarray]],
    intact: str,
    actual: np.ndarray,
    videos: np.ndarray,
    target_group: TargetGroup,
    bootstrap: Bootstrap,
) -> pd.DataFrame:
    """Return the loss of accuracy compared with the predictions named `intact`: a row for each name and target.

    Targets are "mean" and each column. accuracy and r2 are means over repeats. All rows except `intact` have the loss with
    the ends of its 95 % interval over videos, p of `compare_errors`, and p_holm over all rows; intervals and p need
    MIN_VIDEOS videos.

    predictions: arrays (N, K) by name, one for each repeat; actual (N, K) is NaN where unknown; videos (N,).
    """
    table = compare_predictors(predictions, actual, videos, intact, target_group, bootstrap)
    scored = ScoredClips(actual, {}, videos, np.ones(len(actual), bool), target_group, bootstrap)
    table.loc[scored.has_few_videos(table["target"]), ["low", "high", "p", "p_holm"]] = np.nan
    table = table.assign(loss=-table["difference"], low=-table["high"], high=-table["low"], clips=len(actual))
    table = table.rename(columns={"predictor": "control", "seeds": "repeats"})
    return table[[*CONTROL_COLUMNS[1:]]]


def headline(table: pd.DataFrame) -> dict[str, dict[str, dict[str, float | None]]]:
    """Return the numbers of metrics/scores.json for one target group, from its `score_table`.

    By subset of the clips ("all" and "unseen", those of videos without training clips): accuracy, R² and CCC, means over
    targets, of the model and of the best baseline of `rank_baselines`. A subset without clips is left out; an undefined
    score is None.
    """
    means = table[table["target"] == "mean"]
    headlines: dict[str, dict[str, dict[str, float | None]]] = {}
    for subset, name in (("all", "all"), ("unseen_videos", "unseen")):
        rows = means[means["subset"] == subset].pivot(index="predictor", columns="score", values="value")
        if not rows.empty:
            best = rank_baselines(rows["accuracy"]).index[0]
            headlines[name] = {
                label: {score: _number(rows.loc[predictor, score]) for score in HEADLINE_SCORES}
                for label, predictor in (("model", "model"), ("best_baseline", best))
            }
    return headlines


def rank_baselines(accuracy: pd.Series) -> pd.Series:
    """Return the baselines of a series of accuracies by predictor, best first, undefined last.

    Those that use the name of a clip's video (`baselines.LEAKING`) are left out, because on clips of unseen videos they
    know nothing.
    """
    return accuracy.drop(["model", ceilings.CEILING, *LEAKING], errors="ignore").sort_values(
        ascending=False, kind="stable"
    )


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)
