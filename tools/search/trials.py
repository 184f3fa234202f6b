"""Run the trials of a search as DVC experiments, one after another or in DVC's queue, and read their validation scores."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dvc.api
import pandas as pd

from lib.core.errors import InputError
from lib.report.folds import combine_folds
from tools.experiments import ParameterChanges, changed, find_done, list_names, make_arguments, read_scores, run_dvc
from tools.parameters import check
from tools.search.queue import run_queue
from tools.search.space import format_changes, name_trial

LOWER_IS_BETTER = "mae", "mse", "rmse"
METRICS = "accuracy", "r2", "ccc", "pearson", "spearman", *LOWER_IS_BETTER
"""The scores by which a search can choose."""


@dataclass
class Search:
    """The trials of a search, and their validation scores.

    name: prefix of the experiments. targets: the target group. subset: of the clips, as in data/scores.csv. metric: the
    score that chooses. folds: number of inner folds, 0 for the validation split. jobs: number of experiments at a time.
    changes, scores: by trial, its changes of params.yaml, and the rows of `combine_folds`, or None if the trial failed.
    """

    name: str
    targets: str
    subset: str
    metric: str
    folds: int
    jobs: int
    shared: dict[str, Any] = field(default_factory=lambda: dvc.api.params_show())
    changes: dict[str, ParameterChanges] = field(default_factory=dict)
    scores: dict[str, pd.DataFrame | None] = field(default_factory=dict)

    def run(self, trials: Sequence[ParameterChanges]) -> list[float | None]:
        """Run the trials that have no scores yet, and return the validation score of each, None for a failed trial.

        Raises InputError if no trial has succeeded.
        """
        labels = [name_trial(self.name, changes) for changes in trials]
        runs: dict[str, ParameterChanges] = {}
        for label, changes in zip(labels, trials, strict=True):
            self.changes.setdefault(label, changes)
            if label not in self.scores:
                runs |= self.make_runs(label)
        failed = run_missing(runs, self.shared, self.jobs)
        for label in labels:
            self.scores.setdefault(label, None if {*self.make_runs(label)} & failed else self.read(label))
        if all(table is None for table in self.scores.values()):
            raise InputError(
                f"no trial succeeded; {next(iter(failed))} is the first that failed: its messages are above, or in"
                f" `dvc queue logs {next(iter(failed))}`. Correct the cause and run the same command again"
            )
        return [self.find_score(label) for label in labels]

    def make_runs(self, label: str) -> dict[str, ParameterChanges]:
        """Return the experiments of a trial, which score only validation clips: by name, their changes of params.yaml."""
        changes = self.changes[label] | {"evaluate.split": "validation", "evaluate.on": []}
        if not self.folds:
            return {label: changes | keep_folds(self.shared)}
        inner = {f"{label}-fold{fold}": fold for fold in range(self.folds)}
        return {
            name: changes | {"download.inner_folds": self.folds, "download.inner_fold": fold}
            for name, fold in inner.items()
        }

    def read(self, label: str) -> pd.DataFrame:
        """Return the validation scores of a finished trial, the mean over its folds."""
        return combine_folds([read_scores(name, self.targets, self.subset) for name in self.make_runs(label)])

    def find_score(self, label: str) -> float | None:
        """Return the score of a trial that decides; None if the trial failed or the score is undefined."""
        table = self.scores[label]
        if table is None:
            return None
        value = select_scores(table).loc[self.metric, "value"]
        return None if pd.isna(value) else float(value)

    def choose(self) -> str:
        """Return the trial with the best validation score, the first of equal ones; InputError if none has one."""
        values = {label: value for label in self.scores if (value := self.find_score(label)) is not None}
        if not values:
            raise InputError(f"--select {self.metric} is undefined for all trials; choose another score")
        sign = -1 if self.metric in LOWER_IS_BETTER else 1
        return max(values, key=lambda label: sign * values[label])

    def score_test(self, label: str) -> tuple[pd.DataFrame, int]:
        """Return the test scores of a trial, and for how many trials of this search test scores exist now.

        The trial is trained with the training and validation split of params.yaml.
        """
        prefix = f"{self.name}-test-"
        name = prefix + label.removeprefix(f"{self.name}-")
        run = {name: self.changes[label] | {"evaluate.split": "test"} | keep_folds(self.shared)}
        run[name]["evaluate.on"] = self.shared["evaluate"]["on"]
        if run_missing(run, self.shared, 1):
            raise InputError(f"the experiment {name} failed; correct the cause and run the same command again")
        scored = {other for other in list_names() if other.startswith(prefix)}
        return combine_folds([read_scores(name, self.targets, self.subset)]), len(scored)


def keep_folds(shared: dict[str, Any]) -> ParameterChanges:
    """Return the changes that set the inner folds of params.yaml."""
    return {f"download.{key}": shared["download"][key] for key in ("inner_folds", "inner_fold")}


def select_scores(table: pd.DataFrame, predictor: str = "model") -> pd.DataFrame:
    """Return the means over targets of a predictor, indexed by score; table: of `combine_folds`."""
    return table[(table["predictor"] == predictor) & (table["target"] == "mean")].set_index("score")


def is_valid(changes: ParameterChanges, shared: dict[str, Any]) -> bool:
    """Return whether all stages accept the parameters with these changes; if not, print why."""
    try:
        check(changed(shared, changes))
    except InputError as error:
        print(f"invalid, not run: {format_changes(changes)}: {error}", flush=True)
        return False
    return True


def run_missing(runs: Mapping[str, ParameterChanges], shared: dict[str, Any], jobs: int) -> set[str]:
    """Run the experiments that are not finished, up to `jobs` at a time, and return the names of those that failed.

    With several jobs, the first run of each fold runs in the workspace, where the archives are. The other runs take the
    outputs of the stage download from DVC's run cache.
    """
    names = list_names()
    done = find_done(runs, names, shared)
    prepared = {describe_download(runs[label]) for label in done}
    failed, queue = set[str](), dict[str, ParameterChanges]()
    for number, (label, changes) in enumerate(runs.items(), 1):
        waits = jobs > 1 and label not in done and describe_download(changes) in prepared
        state = "is there" if label in done else "waits for the queue" if waits else "runs"
        print(f"{number} of {len(runs)}: {label} {state}", flush=True)
        if waits:
            queue[label] = changes
        elif label not in done:
            prepared.add(describe_download(changes))
            if run_dvc(make_arguments(label, changes, names)):
                failed.add(label)
                print(f"{label} failed", flush=True)
    return failed | run_queue(queue, names, jobs)


def describe_download(changes: ParameterChanges) -> str:
    """Return the changes of the section download as text."""
    return json.dumps({key: value for key, value in changes.items() if key.startswith("download.")})
