"""The header of the model card in YAML, which model hubs read: tags, data sets, and scores with their intervals."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import yaml

from lib.core.targets import TargetGroup, Targets
from lib.report.page import PipelineRun
from lib.report.verdict import select_group

_SCORES = {"mae": "mean absolute error", "r2": "R²", "ccc": "CCC"}
_SUBSETS = {"all": "all clips", "unseen_videos": "clips of unseen videos"}
_TASK = "video-classification"


def make_header(scores: pd.DataFrame, targets: Targets, run: PipelineRun) -> str:
    """Return the header between lines of three dashes. scores: table of data/scores.csv. targets: the predicted groups."""
    sources, encoders = list(run.data["sources"]), run.parameters["model"]["encoders"]
    read = [
        reference.partition(".")[0] for name in run.parameters["model"]["use"] for reference in encoders[name]["reads"]
    ]
    results = [
        {
            "task": {"type": _TASK, "name": f"regression of {name}"},
            "dataset": {"name": " and ".join(sources), "type": "-".join(sources), "split": run.split},
            "metrics": list(_list_metrics(select_group(scores, name), target_group)),
        }
        for name, target_group in targets.items()
    ]
    header = {
        "license": "unknown",
        "library_name": "pytorch",
        "pipeline_tag": _TASK,
        "tags": list(dict.fromkeys(["apparent-personality", "video", "regression", *targets, *read])),
        "datasets": sources,
        "metrics": list(_SCORES),
        "model-index": [{"name": f"{' and '.join(targets)} from video clips", "results": results}],
    }
    return f"---\n{yaml.safe_dump(header, sort_keys=False, allow_unicode=True, width=1000)}---\n"


def _list_metrics(scores: pd.DataFrame, target_group: TargetGroup) -> Iterator[dict[str, Any]]:
    """Yield the model's scores of the mean of all targets and of each target, with 95 % intervals where they are known."""
    model = scores[scores["predictor"] == "model"].set_index(["subset", "score", "target"])
    for subset, described in _SUBSETS.items():
        for score, title in _SCORES.items():
            for target in ("mean", *target_group.columns):
                if (subset, score, target) not in model.index:
                    continue
                row = model.loc[(subset, score, target)]
                if not np.isfinite(row["value"]):
                    continue
                metric = {"type": score, "name": f"{title}, {target}, {described}", "value": _round(row["value"])}
                if np.isfinite([row["low"], row["high"]]).all():
                    metric["interval_95"] = [_round(row["low"]), _round(row["high"])]
                yield metric


def _round(value: float) -> float:
    return round(float(value), 4)
