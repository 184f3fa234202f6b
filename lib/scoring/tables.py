"""Every score of every predictor of one target group, as tables: on subsets of the clips, and for groups of persons."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from lib.core.targets import TargetGroup
from lib.scoring.baselines import predict_ridge
from lib.scoring.conformal import score_coverage
from lib.scoring.detection import score_detection
from lib.scoring.paired import adjust_p, compare_errors, compare_predictors
from lib.scoring.person_groups import score_groups
from lib.scoring.scores import MIN_VIDEOS, Bootstrap, score_columns, score_with_intervals

CONTROL_COLUMNS = (
    "targets", "control", "target", "clips", "repeats", "accuracy", "r2", "loss", "low", "high", "p", "p_holm",
)  # fmt: skip
ROBUSTNESS_COLUMNS = (
    "targets", "corruption", "strength", "target", "clips", "accuracy", "r2", "loss", "low", "high",
)  # fmt: skip
PROBE_COLUMNS = "targets", "features", "width", "target", "r2", "low", "high"
DELETION_COLUMNS = "targets", "order", "deleted", "target", "clips", "draws", "accuracy", "lowest", "highest"


@dataclass(frozen=True)
class ScoredClips:
    """The predictions of one target group that are scored.

    actual (N, K), NaN where unknown; each clip has a label for at least one column. predictions: arrays (N, K) by predictor,
    among them "model" and "mean_predictor". videos (N,): the clips' videos. seen (N,): whether training has clips of the
    video. half_widths (N, K): of the model's intervals; None if it has none.
    """

    actual: np.ndarray
    predictions: Mapping[str, np.ndarray]
    videos: np.ndarray
    seen: np.ndarray
    group: TargetGroup
    bootstrap: Bootstrap
    half_widths: np.ndarray | None = None

    def subsets(self) -> Iterator[tuple[str, "ScoredClips"]]:
        """Yield name and scored clips of each subset that has any: all clips, those of seen and of unseen videos."""
        for name, members in (("all", self.seen | True), ("seen_videos", self.seen), ("unseen_videos", ~self.seen)):
            if members.any():
                yield name, self.select(members)

    def select(self, members: np.ndarray) -> "ScoredClips":
        """Return the scored clips `members` (N,)."""
        predictions = {name: values[members] for name, values in self.predictions.items()}
        chosen = {"actual": self.actual[members], "videos": self.videos[members], "seen": self.seen[members]}
        half_widths = None if self.half_widths is None else self.half_widths[members]
        return replace(self, predictions=predictions, half_widths=half_widths, **chosen)


def score_table(scored: ScoredClips) -> pd.DataFrame:
    """Return a row for each subset of the clips, predictor, score and target: value, and the ends of its 95 % interval.

    With `half_widths`, the coverage of the model's intervals is a score, too.
    """
    group, bootstrap, tables = scored.group, scored.bootstrap, []
    for subset, part in scored.subsets():
        actual, videos, mean = part.actual, part.videos, part.predictions["mean_predictor"]
        for name, values in part.predictions.items():
            scores_of = [score_with_intervals(actual, values, mean, videos, group.columns, group.span, bootstrap)]
            if group.detect:
                scores_of.append(score_detection(actual, values, videos, group, bootstrap))
            if part.half_widths is not None and name == "model":
                scores_of.append(score_coverage(actual, values, part.half_widths, videos, group.columns, bootstrap))
            table = pd.concat(scores_of, ignore_index=True)
            about = {"subset": subset, "clips": len(actual), "videos": len(set(videos)), "predictor": name}
            tables.append(table.assign(**about)[[*about, *table.columns]])
    return pd.concat(tables, ignore_index=True)


def comparison_table(scored: ScoredClips) -> pd.DataFrame:
    """Return the model's accuracy minus each other predictor's, a row for each subset of the clips, predictor and target
    ("mean" first), with the columns of `compare_errors`; no interval and no p below MIN_VIDEOS videos.

    p_holm is p corrected (Holm 1979) over all predictors of a subset, for the mean; over all predictors and columns, for a
    column.
    """
    columns, tables = scored.group.columns, []
    for subset, part in scored.subsets():
        errors = {name: np.abs(of - part.actual) / part.group.span for name, of in part.predictions.items()}
        rows = []
        for name in errors.keys() - {"model"}:
            compared = compare_errors(errors["model"], errors[name], part.videos, part.bootstrap)
            rows.append(pd.DataFrame({"predictor": name, "target": ["mean", *columns], **compared}))
        if not rows:
            continue
        table = pd.concat(rows, ignore_index=True).sort_values("predictor", kind="stable", ignore_index=True)
        table.loc[_has_few_videos(table["target"], part), ["low", "high", "p", "smallest"]] = np.nan
        for family in (table["target"] == "mean", table["target"] != "mean"):
            tested = family & table["p"].notna()
            table.loc[tested, "p_holm"] = adjust_p(table.loc[tested, "p"].to_numpy())
        tables.append(table.assign(subset=subset))
    order = ["subset", "predictor", "target", "difference", "low", "high", "p", "p_holm", "smallest"]
    return pd.concat(tables, ignore_index=True).reindex(columns=order)


def _has_few_videos(targets: pd.Series, scored: ScoredClips) -> pd.Series:
    """Return for each target ("mean" or a column) whether fewer than MIN_VIDEOS videos have a label for it."""
    known, columns = np.isfinite(scored.actual), scored.group.columns
    videos = {column: len(set(scored.videos[rows])) for column, rows in zip(columns, known.T, strict=True)}
    return targets.map(videos | {"mean": min(videos.values())}) < MIN_VIDEOS


def group_table(scored: ScoredClips, persons: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of `score_groups` for each column of `persons` (kind; a row for each scored clip), of the model and of
    the mean predictor, whose bias shows how far the groups' labels differ; empty if no clip is in a group."""
    order = ["kind", "predictor", "what", "group", "clips", "videos", "score", "target", "value", "low", "high"]
    actual, mean, group, tables = scored.actual, scored.predictions["mean_predictor"], scored.group, []
    for kind in persons.columns[persons.ne("").any()]:
        labels = persons[kind].to_numpy()
        for name in ("model", "mean_predictor"):
            values = scored.predictions[name]
            table = score_groups(actual, values, mean, scored.videos, labels, group, scored.bootstrap)
            tables.append(table.assign(kind=kind, predictor=name)[order])
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=order)


def split_table(
    splits: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]], group: TargetGroup, bootstrap: Bootstrap
) -> pd.DataFrame:
    """Return a row for each split, score (r2, accuracy) and target: value, and the ends of its 95 % interval.

    splits: of each split actual and predicted values (N, K) and videos (N,); clips that know no column don't count, and a
    split without others has no row.
    """
    tables = []
    for split, (actual, predicted, videos) in splits.items():
        known = np.isfinite(actual).any(1)
        if not known.any():
            continue
        actual, predicted, videos = actual[known], predicted[known], videos[known]
        # no baseline: skill is not asked for
        scored = score_with_intervals(actual, predicted, predicted, videos, group.columns, group.span, bootstrap)
        scored = scored[scored["score"].isin(["r2", "accuracy"])]
        scored.insert(0, "split", split)
        tables.append(scored.assign(clips=len(actual), videos=len(set(videos))))
    return pd.concat(tables, ignore_index=True)


def control_table(
    predictions: Mapping[str, Sequence[np.ndarray]],
    intact: str,
    actual: np.ndarray,
    videos: np.ndarray,
    group: TargetGroup,
    bootstrap: Bootstrap,
) -> pd.DataFrame:
    """Return how much worse predictions are than those named `intact`, a row for each name and for the mean and each column:
    accuracy and r2 (means over repeats), and, but for `intact`, the loss of accuracy with the ends of its 95 % interval over
    videos and p of `compare_errors`, Holm's over all; no interval and no p below MIN_VIDEOS videos.

    predictions: name to arrays (N, K), one a repeat; actual (N, K) is NaN where it is unknown; videos (N,).
    """
    table = compare_predictors(predictions, actual, videos, intact, group, bootstrap)
    few = _has_few_videos(
        table["target"], ScoredClips(actual, {}, videos, np.ones(len(actual), bool), group, bootstrap)
    )
    table.loc[few, ["low", "high", "p", "p_holm"]] = np.nan
    table = table.assign(loss=-table["difference"], low=-table["high"], high=-table["low"], clips=len(actual))
    table = table.rename(columns={"predictor": "control", "seeds": "repeats"})
    return table[[*CONTROL_COLUMNS[1:]]]


def deletion_table(
    predictions: Mapping[tuple[str, float], Sequence[np.ndarray]], actual: np.ndarray, group: TargetGroup
) -> pd.DataFrame:
    """Return the accuracy by order, deleted part and target ("mean" and each column): the mean over draws, the lowest and
    the highest of a draw.

    predictions: (order, part) to arrays (N, K), one a draw; actual (N, K) is NaN where it is unknown.
    """
    rows, known = [], np.isfinite(actual)
    for (order, deleted), draws in predictions.items():
        errors = np.array([np.where(known, np.abs(one - actual), 0).sum(0) for one in draws])  # (draws, K)
        errors = errors / np.where(known.any(0), known.sum(0), np.nan)
        accuracy = 1 - np.column_stack([errors.mean(1), errors]) / group.span
        for target, of in zip(["mean", *group.columns], accuracy.T, strict=True):
            rows.append((order, deleted, target, len(actual), len(draws), of.mean(), of.min(), of.max()))
    return pd.DataFrame(rows, columns=[*DELETION_COLUMNS[1:]])


def probe_table(
    training: pd.DataFrame,
    test: pd.DataFrame,
    validation: pd.DataFrame,
    group: TargetGroup,
    features: Mapping[str, pd.DataFrame],
    bootstrap: Bootstrap,
) -> pd.DataFrame:
    """Return what a linear probe (Alain and Bengio 2017), ridge as among the baselines, reads from each of `features` (a row
    of numbers for each clip, by name): R² with the ends of its 95 % interval over videos, a row for the mean and each
    column. Tables as of `baselines.predict`; no row where ridge can't be learnt."""
    actual = test[list(group.columns)].to_numpy(float)
    tables = [pd.DataFrame(columns=[*PROBE_COLUMNS[1:]])]
    for name, vectors in features.items():
        predicted = predict_ridge(training, test, validation, group.columns, vectors)
        if predicted is not None:
            rows = score_with_intervals(
                actual, predicted, predicted, test["video"].to_numpy(), group.columns, group.span, bootstrap
            )
            rows = rows[rows["score"] == "r2"].rename(columns={"value": "r2"})
            tables.append(rows.assign(features=name, width=vectors.shape[1])[[*PROBE_COLUMNS[1:]]])
    return pd.concat(tables[1:] or tables)


def score_over_seeds(
    predictions: Mapping[str, Sequence[np.ndarray]],
    actual: np.ndarray,
    videos: np.ndarray,
    group: TargetGroup,
    bootstrap: Bootstrap,
) -> pd.DataFrame:
    """Return a row for each predictor, target ("mean" and each column) and score of `scores`: value, the mean over
    seeds; low and high, the ends of that mean's 95 % interval, for which all seeds get the same videos; and seed_std, the
    standard deviation over seeds, NaN for one.

    predictions: name to arrays (N, K), one a seed; actual (N, K) is NaN where it is unknown; videos (N,).
    """
    columns, span, tables = group.columns, group.span, []
    for name, of_seed in predictions.items():
        of_each = [score_columns(actual, one, columns, span) for one in of_seed]
        every = range(len(columns))
        for target, which in (("mean", [*every]), *((columns[index], [index]) for index in every)):
            # the seeds' columns side by side, and of them the mean
            repeated = np.tile(actual[:, which], len(of_seed))
            predicted = np.hstack([one[:, which] for one in of_seed])
            names = list(map(str, range(predicted.shape[1])))
            rows = score_with_intervals(repeated, predicted, repeated, videos, names, span, bootstrap)
            rows = rows[(rows["target"] == "mean") & rows["score"].isin(of_each[0])]
            values = np.array([[one[score][target] for score in rows["score"]] for one in of_each], float)
            stds = values.std(0, ddof=1) if len(of_seed) > 1 else np.nan
            about = {"predictor": name, "seeds": len(of_seed), "target": target}
            tables.append(rows.assign(**about, seed_std=stds)[[*about, "score", "value", "low", "high", "seed_std"]])
    return pd.concat(tables, ignore_index=True)


HEADLINE_SCORES = "accuracy", "r2", "ccc"


def headline(table: pd.DataFrame) -> dict[str, dict[str, dict[str, float | None]]]:
    """Return the numbers of metrics/test.json for one target group, from its `score_table`.

    By subset of the clips ("all" and "unseen", those of videos that training has not seen): accuracy, R² and CCC, means over
    targets, of the model and of the best baseline, the one with the highest accuracy on that subset. A subset without clips
    is left out; a score that is not defined is None.
    """
    means = table[table["target"] == "mean"]
    found: dict[str, dict[str, dict[str, float | None]]] = {}
    for subset, name in (("all", "all"), ("unseen_videos", "unseen")):
        rows = means[means["subset"] == subset].pivot(index="predictor", columns="score", values="value")
        if not rows.empty:
            ranked = rows.drop(index="model").sort_values("accuracy", ascending=False, kind="stable")  # NaN last
            found[name] = {
                label: {score: _number(row[score]) for score in HEADLINE_SCORES}
                for label, row in (("model", rows.loc["model"]), ("best_baseline", ranked.iloc[0]))
            }
    return found


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)
