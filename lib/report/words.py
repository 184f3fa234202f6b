"""Words and numbers that the page, the card and the comparison share."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from lib.core.targets import TargetGroup
from lib.scoring.scores import MIN_VIDEOS

SUBSETS = {
    "all": "all clips",
    "seen_videos": "clips of videos that training has seen",
    "unseen_videos": "clips of videos that training has not seen",
}
NO_GROUPS = (
    "No file in data/archives/ tells the groups (gender, ethnicity, age) of the scored clips: errors for groups of persons"
    " were not measured. Assume that they differ."
)
ABOUT_GROUPS = (
    "A difference is that of a group's value to the value of all other groups' clips together. A gap is between the highest"
    f" and the lowest group of {MIN_VIDEOS} or more videos and has no interval: the two are chosen by the same data. A"
    " predictor that is not perfect regresses to the mean, so that groups whose labels have other means get other signed"
    " errors: hold them against the training mean's."
)
CALIBRATION = {
    "std_ratio": "std ratio",
    "regression_to_mean": "regression to the mean",
    "calibration_slope": "calibration slope",
}
_PREDICTORS = {
    "mean_predictor": "training mean (sees nothing)",
    "median_predictor": "training median (sees nothing)",
    "video_lookup": "video look-up (sees no pixel)",
    "shrunk_video_lookup": "video look-up, shrunk (sees no pixel)",
    "ridge_descriptors": "ridge on mean face and flow energy",
    "ridge_embeddings": "ridge on a frozen network's embeddings",
    "boosted_trees": "boosted trees on all vectors",
    "stacked_ridge": "all regressions on vectors, stacked by ridge",
    "stacked_ridge_and_video_lookup": "the same, stacked, and the video look-up (a leak: it knows the video)",
}
_FEELINGS = (
    "What is predicted of emotions is how strangers label expressions of faces and voices, which do not tell what a person"
    " feels (Barrett et al. 2019). In the European Union a system that infers emotions of persons at work or in education is"
    " prohibited, but for medical or safety reasons (Regulation 2024/1689, Article 5(1)(f))."
)
STACKED = "stacked_ridge"
_FROZEN = "ridge_embeddings"
_RIVALS = {
    "model": "model",
    "mean_predictor": "the training mean",
    "video_lookup": "the video look-up",
    STACKED: "stacked ridge",
}
_EMOTIONS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise")
_STABILITY = (
    "In FIV2 the label called neuroticism correlates positively with the other four: it behaves as emotional stability."
)


def rivals(predictors: Iterable[str]) -> dict[str, str]:
    """Return, of the predictors of data/scores.csv, the model and what a headline holds it against, with short names: the
    mean, the look-up, and ridge, stacked where there are several, on a frozen network's embeddings for itself too."""
    there = list(predictors)
    ridge = [name for name in there if name.startswith("ridge_") and (STACKED not in there or name == _FROZEN)]
    names = _RIVALS | {name: predictor(name) for name in ridge}
    return {name: short for name, short in names.items() if name in there}


def predictor(name: str) -> str:
    """Return what readers call a predictor of data/scores.csv."""
    return _PREDICTORS[name] if name in _PREDICTORS else name.replace("ridge_", "ridge on ")


def encoders(model: Mapping[str, Any]) -> str:
    """Return which encoders a model has (the parameters' section) and how they are fused."""
    described = []
    for name in model["use"]:
        settings = model["encoders"][name]
        about = f"{settings['kind']} of {', '.join(settings['reads'])}"
        about += "".join(f"; `{settings[key]}`" for key in ("backbone", "net") if key in settings)
        about += f", {settings['weights'] or 'from scratch'}" if "weights" in settings else ""
        described.append(f"{name} ({about})")
    if len(described) == 1:
        return f"One encoder, {described[0]}."
    return f"Fusion `{model['fusion']}` of {len(described)} encoders: {', '.join(described)}."


def accuracy(group: TargetGroup) -> str:
    """Return what accuracy is for targets of this range."""
    return "1 − MAE" if group.span == 1 else f"1 − MAE / {group.span:g}"


def scale(group: TargetGroup) -> str:
    """Return the targets' range: `0 to 1`."""
    return f"{group.range[0]:g} to {group.range[1]:g}"


def group_scores(group: TargetGroup) -> dict[tuple[str, str], str]:
    """Return (predictor, score): what it is, for the scores that are shown of groups of persons."""
    return {
        ("model", "accuracy"): accuracy(group),
        ("model", "bias"): "mean signed error, predicted − actual",
        ("mean_predictor", "bias"): "mean signed error of the training mean, which sees nothing",
    }


def stability(sources: Sequence[str], group: TargetGroup) -> str:
    """Return the sentence that readers of FIV2's neuroticism need, empty for any other targets."""
    return _STABILITY if "fiv2" in sources and "neuroticism" in group.columns else ""


def feelings(group: TargetGroup) -> str:
    """Return what readers of predicted emotions have to know, empty for any other targets."""
    return _FEELINGS if any(column.split("_")[0] in _EMOTIONS for column in group.columns) else ""


def dealt(data: Mapping[str, Any]) -> str:
    """Return how many clips of how many videos each split has; `data` as in metrics/data.json."""
    return ", ".join(
        f"{count} {split} clips of {data['videos'][split]} videos" for split, count in data["clips"].items()
    )


def at_commit(commit: str, digits: int = 40) -> str:
    """Return a provenance's commit, of so many digits, and whether files were changed."""
    return commit.removesuffix("+")[:digits] + (", with changed files" if commit.endswith("+") else "")


def newest_input(provenance: Mapping[str, Any]) -> str:
    """Return when the newest input of a training was made: the newest archive, else the commit that rendered the clips."""
    if provenance.get("newest_input"):
        return f"{provenance['newest_input']}, the newest archive's"
    date = provenance.get("commit_date")
    return f"{date}, the commit: no file of its clips has a date" if date else "unknown"


def versions(provenance: Mapping[str, Any]) -> str:
    """Return the packages of data/provenance.json with their versions."""
    return ", ".join(f"{name} {version}" for name, version in provenance["versions"].items())


def headline_scores(group: TargetGroup) -> dict[str, tuple[str, int]]:
    """Return of each score that tables of experiments show its label and digits."""
    return {"accuracy": (accuracy(group), 4), "r2": ("R²", 3), "ccc": ("CCC", 3)}


def over_seeds(row: Any, digits: int) -> tuple[str, str]:
    """Return the value of a row, with its standard deviation over seeds if there are several, and its interval, which may be
    empty."""
    value, _, interval = text(row, digits).partition(" ")
    return value if pd.isna(row.seed_std) else f"{value} ± {row.seed_std:.{digits}f}", interval


def text(row: Any, digits: int = 3) -> str:
    """Return the value of a row, or a dash where it is not defined, and its interval if it has one."""
    value, low, high = (f"{number:z.{digits}f}" for number in (row.value, row.low, row.high))  # z: no -0
    if pd.isna(row.value):
        return "–"
    return value if pd.isna(row.low) else f"{value} [{low}, {high}]"
