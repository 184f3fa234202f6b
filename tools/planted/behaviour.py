"""Do the streams behaviour and voice find the rate of nods and the fraction of speaking time under the right name?"""

from collections.abc import Sequence

import dvc.api
import pandas as pd

from lib.core.artifacts import CLIPS, DATA, FEATURE_IMPORTANCE, LENS, SCORES
from lib.core.clips import read_clip_table, read_csv
from lib.core.errors import InputError
from lib.core.targets import TargetGroup
from lib.data.pooled import pool_vectors
from lib.scoring.baselines import predict_ridge
from lib.scoring.bootstrap import Bootstrap
from lib.scoring.seeds import score_over_seeds
from lib.scoring.stacked_baselines import STACKED_RIDGE
from tools.experiments import run_dvc
from tools.planted.parameters import planted_targets, use_parameters
from tools.predictors import find_target_group

SETTINGS = [
    "download.sources=[demo]", "download.allow_missing=0.0", "download.demo.clips=150", "download.demo.seconds=4.0",
    "download.demo.shared=0.0", "download.demo.planted=[nods, speaking]", *planted_targets("nodding", "speaking"),
    "frames.fps=10", "descriptors.enabled=true", "model.missing=drop", "train.batch_size=16", "train.epochs=40",
    "train.learning_rate={default: 0.002}", "evaluate.trees=false", "evaluate.resamples=2000", "analyse.feature_clips=100",
    "analyse.control_clips=0", "analyse.importance_clips=0", "analyse.robustness_clips=0",
]  # fmt: skip
"""The changes to params/behaviour.yaml. The stream `descriptors` has the mean face."""

MEAN_FACE = "ridge_mean_face"
"""Ridge on the mean of a clip's aligned faces."""

_PREDICTORS = ("model", "ridge_behaviour", "ridge_voice", STACKED_RIDGE, MEAN_FACE, "mean_predictor")
_MOST = 3


def run(changes: Sequence[str]) -> None:
    """Run the pipeline, and print the scores and the measures that come first in the lens model and in importance."""
    with use_parameters("behaviour", [*SETTINGS, *changes]):
        if status := run_dvc(["repro", "evaluate", "analyse"]):
            raise InputError(
                f"`dvc repro evaluate analyse` ended with {status}; correct the cause and run this command again"
            )
        values = dvc.api.params_show()
        _, group = find_target_group(None)
    faces = pool_vectors(DATA)["descriptors"].iloc[:, : 3 * values["descriptors"]["face_cells"] ** 2]
    bootstrap = Bootstrap(values["evaluate"]["resamples"], values["evaluate"]["seed"])
    of_faces = score_vectors(read_clip_table(CLIPS), faces, group, bootstrap).assign(predictor=MEAN_FACE, subset="all")
    print(format_scores(pd.concat([read_csv(SCORES, []), of_faces])))
    print(format_first(read_csv(LENS, []), read_csv(FEATURE_IMPORTANCE, [])))


def score_vectors(clips: pd.DataFrame, vectors: pd.DataFrame, group: TargetGroup, bootstrap: Bootstrap) -> pd.DataFrame:
    """Return the scores of ridge on `vectors` (a row for each clip) on the test clips, as data/scores.csv has them."""
    clips = clips[clips["clip"].isin(vectors.index)]
    training, test, validation = (clips[clips["split"] == split] for split in ("training", "test", "validation"))
    predicted = predict_ridge(training, test, validation, group.columns, vectors)
    if predicted is None:
        raise InputError(f"{CLIPS} has no labelled training or validation clip; run `dvc repro download`")
    actual = test[group.columns].to_numpy()
    return score_over_seeds({MEAN_FACE: [predicted]}, actual, test["video"].to_numpy(), group, bootstrap)


def format_scores(scores: pd.DataFrame) -> str:
    """Return R² of some predictors by target as Markdown, given data/scores.csv."""
    rows = scores[(scores["subset"] == "all") & (scores["score"] == "r2") & (scores["target"] != "mean")]
    cells = rows.set_index(["predictor", "target"])
    targets = list(dict.fromkeys(rows["target"]))
    lines = ["| predictor | " + " | ".join(targets) + " |", "|---|" + "---|" * len(targets)]
    for name in _PREDICTORS:
        texts = [_with_interval(cells.loc[(name, target)], "value") for target in targets]
        lines.append(f"| {name} | {' | '.join(texts)} |")
    return "\n".join(lines)


def format_first(lens: pd.DataFrame, importance: pd.DataFrame) -> str:
    """Return the measures with the largest correlation and importance by target as Markdown, given the tables' files."""
    lines = ["\n| target | r with the label | loss of 1-MAE with another clip's measure |", "|---|---|---|"]
    is_measure = ~importance["control"].str.startswith(("group ", "intact"))
    for target in dict.fromkeys(lens["target"]):
        correlated = lens[(lens["side"] == "label") & (lens["target"] == target)]
        correlated = correlated.sort_values("r", key=abs, ascending=False).head(_MOST)
        needed = importance[is_measure & (importance["target"] == target)].nlargest(_MOST, "loss")
        cells = [
            ", ".join(f"`{row[name]}` {_with_interval(row, value, digits)}" for _, row in rows.iterrows())
            for rows, name, value, digits in ((correlated, "feature", "r", 2), (needed, "control", "loss", 3))
        ]
        lines.append(f"| {target} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _with_interval(row: pd.Series, value: str, digits: int = 2) -> str:
    return f"{row[value]:.{digits}f} [{row['low']:.{digits}f}, {row['high']:.{digits}f}]".replace("-", "−")
