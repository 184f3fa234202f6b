"""Tables and figures of finished experiments."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lib.core.artifacts import CORPUS_SCORES
from lib.report import curve, folds, left_out_corpora, spread, words
from lib.scoring.bootstrap import Bootstrap
from lib.scoring.ceilings import CEILING, bound_scores, tabulate
from lib.scoring.seeds import score_over_seeds
from tools.experiments import read_scores, read_table
from tools.predictors import Sources, find_target_group, gather_predictions


def show_spread(sources: Sources, resamples: int, seed: int, out: Path, **which: Any) -> None:
    """Print and write the spread and the other scores of experiments, and of the training mean.

    which: the clips, as `gather_predictions` takes them.
    """
    gathered = gather_predictions(sources, **which)
    arrays = {name: gathered.predictions[name] for name in (*sources, "mean_predictor")}
    table = score_over_seeds(arrays, gathered.actual, gathered.videos, gathered.group, Bootstrap(resamples, seed))
    columns = gathered.group.columns
    bounds = tabulate(bound_scores(gathered.reliability), columns).assign(predictor=CEILING, seeds=1, seed_std=np.nan)
    table = pd.concat([table, bounds[table.columns]], ignore_index=True) if len(bounds) else table
    print(spread.format_markdown(table, gathered.which, gathered.group))
    spread.write(table, gathered.which, gathered.group, out)
    print(f"\nwritten: {out}.csv, .tex, .png, .pdf")


def show_curve(sources: Sources, targets: str | None, unseen: bool, out: Path) -> None:
    """Print and write the scores of experiments (data/scores.csv) by number of training clips."""
    name, group = find_target_group(targets)
    subset = "unseen_videos" if unseen else "all"
    tables = {int(clips): [read_scores(label, name, subset) for label in labels] for clips, labels in sources.items()}
    first = next(iter(tables.values()))[0].iloc[0]
    which = f"{first['clips']} clips of {first['videos']} videos" + (", unseen in training" if unseen else "")
    table = curve.make_curve(tables)
    print(curve.format_markdown(table, which, group))
    curve.write(table, which, group, out)
    print(f"\nwritten: {out}.csv, .tex, .png, .pdf")


def show_folds(sources: Sources, targets: str | None, out: Path) -> None:
    """Print and write the mean scores of experiments (data/scores.csv), one for each fold."""
    name, group = find_target_group(targets)
    table = folds.combine_folds([read_scores(label, name, "all") for labels in sources.values() for label in labels])
    print(folds.format_markdown(table, group))
    out.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(out.with_suffix(".csv"), index=False, float_format="%.6f")
    print(f"\nwritten: {out}.csv")


def show_groups(sources: Sources, targets: str | None, out: Path) -> None:
    """Print and write the scores of experiments that each test one group of persons, a row for each group."""
    name, group = find_target_group(targets)
    tables = {tested: read_scores(labels[0], name, "all") for tested, labels in sources.items()}
    table = pd.concat([scores.assign(group=tested) for tested, scores in tables.items()])
    columns = words.list_headline_scores(group)
    means = table[(table["target"] == "mean") & table["score"].isin(columns)]
    rows, bounds = (means[means["predictor"] == predictor] for predictor in ("model", CEILING))
    scores_by_group = rows.pivot(index="group", columns="score", values="value")[list(columns)]
    scores_by_group = scores_by_group.join(
        bounds.pivot(index="group", columns="score", values="value").add_prefix("ceiling of ")
    )
    print(scores_by_group.round(4).to_string())
    out.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(out.with_suffix(".csv"), index=False, float_format="%.6f")
    print(f"\nwritten: {out}.csv")


def show_corpora(sources: Sources, targets: str | None, out: Path) -> None:
    """Print and write the scores of experiments on the corpus that each leaves out (data/corpus_scores.csv), over seeds."""
    name, group = find_target_group(targets)
    tables = {}
    for corpus, labels in sources.items():
        of_seeds = [read_table(CORPUS_SCORES, label) for label in labels]
        tables[corpus] = [table[table["targets"] == name] for table in of_seeds]
    table = left_out_corpora.combine_seeds(tables)
    print(left_out_corpora.format_markdown(table, group))
    out.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(out.with_suffix(".csv"), index=False, float_format="%.6f")
    print(f"\nwritten: {out}.csv")
