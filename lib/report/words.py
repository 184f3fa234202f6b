"""Texts and number formats that the report, the card, the data sheet, the paper and the comparisons share."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from lib.core.clips import describe_left_out, describe_origins
from lib.core.targets import TargetGroup
from lib.scoring.bootstrap import MIN_VIDEOS
from lib.scoring.stacked_baselines import STACKED_RIDGE, STACKED_RIDGE_LOOKUP, TREES
from lib.scoring.tables import LABELS

SUBSETS = {
    "all": "all clips",
    "seen_videos": "clips of videos seen in training",
    "unseen_videos": "clips of unseen videos",
}
NO_GROUPS = (
    "No file in data/archives/ gives gender, ethnicity or age for the scored clips, so errors were not measured by group."
    " Assume that they differ."
)
ABOUT_GROUPS = (
    "A difference compares a group with all other clips. A gap is the difference between the highest and the lowest group of"
    f" {MIN_VIDEOS} or more videos; it has no interval, because the same data choose the two groups. Every predictor with"
    " errors regresses to the mean, so groups with other mean labels get other signed errors: compare the model's signed"
    " errors with those of the training mean."
)
CALIBRATION = {
    "std_ratio": "SD ratio",
    "regression_to_mean": "regression to the mean",
    "calibration_slope": "calibration slope",
}
PLANTED = {
    "extraversion": "motion",
    "agreeableness": "appearance and motion together",
    "conscientiousness": "static appearance",
    "neuroticism": "order in time of the audio",
    "openness": "nothing (noise)",
    "interview": "the mean of the five traits",
    "sentiment": "static appearance",
    "happiness": "static appearance",
    "anger": "a moment's tint",
    "surprise": "order in time",
    "disgust": "nothing (noise)",
    "fear": "nothing (noise)",
    "sadness": "nothing (noise)",
    "nodding": "motion (rate of nods)",
    "speaking": "fraction of the time with voice",
    "together": "appearance and motion at the same time",
}
"""The planted signal of each label of the synthetic corpora (data/README.md)."""
PREDICTORS = {
    "model": ("model", "the trained network"),
    "mean_predictor": ("training mean", "the mean of the training labels; uses no input"),
    "median_predictor": ("training median", "the median of the training labels; uses no input"),
    "video_lookup": (
        "video look-up",
        "the mean training label of the clip's video; for unseen videos, the training mean",
    ),
    "shrunk_video_lookup": (
        "shrunk video look-up",
        "the video look-up, shrunk towards the training mean",
    ),
    "ridge_descriptors": (
        "ridge on descriptors",
        "ridge regression on the mean face and, for videos, the mean energy of optical flow",
    ),
    "ridge_embeddings": ("ridge on embeddings", "ridge regression on a frozen network's embeddings"),
    "ridge_attributes": (
        "ridge on attributes",
        "ridge regression on the person's groups, such as gender, and on the recording: length, brightness and size of the"
        " face, loudness, fraction of speech, as far as they are known; uses nothing else of the clip",
    ),
    "ridge_groups": ("ridge on groups", "ridge regression on the person's groups alone"),
    "ridge_recording": ("ridge on recording", "ridge regression on the recording alone"),
    TREES: ("boosted trees", "gradient boosting on the clip's vectors"),
    "ceiling": ("ceiling", "the highest expected score, given how reliable the labels are"),
    "always_present": ("always present", "predicts that every emotion is present"),
    "majority": ("majority", "predicts the more frequent class of the training clips, present or absent"),
    STACKED_RIDGE: (
        "stacked ridge",
        "ridge regressions on all vectors of the clip, summed with non-negative weights",
    ),
    STACKED_RIDGE_LOOKUP: (
        "stacked ridge + look-up",
        "stacked ridge and the video look-up; a leak, because it uses the name of the video",
    ),
}
"""Name and description of each predictor of data/scores.csv."""
_FEELINGS = (
    "Predicted emotions are strangers' labels of expressions in faces and voices, which do not tell what a person feels"
    " (Barrett et al. 2019). In the European Union, systems that infer emotions at work or in education are prohibited,"
    " except for medical or safety reasons (Regulation 2024/1689, Article 5(1)(f))."
)
_FROZEN = "ridge_embeddings"
ATTRIBUTES = "ridge_attributes"
_RIVALS = ("model", "mean_predictor", "video_lookup", ATTRIBUTES, STACKED_RIDGE)
_PARTS = ("ridge_groups", "ridge_recording")  # of the attributes
ATTRIBUTE_BASELINES = (ATTRIBUTES, *_PARTS)
_EMOTIONS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise")
_STABILITY = {
    "fiv2": "In FIV2 the label called neuroticism correlates positively with the other four traits: it behaves as emotional"
    " stability.",
    "vlogs": "In the vlogs the label called neuroticism is emotional stability: high values mean a calm person.",
}


def select_headline_predictors(predictors: Iterable[str]) -> dict[str, str]:
    """Return the predictors of a headline with their short names.

    They are the model, the training mean, the video look-up, ridge on attributes, stacked ridge (or each ridge regression if
    it is missing), and ridge on a frozen network's embeddings, as far as they are among `predictors`.
    """
    available = [name for name in predictors if name not in _PARTS]
    ridge = [
        name for name in available if name.startswith("ridge_") and (STACKED_RIDGE not in available or name == _FROZEN)
    ]
    return {name: name_predictor(name) for name in dict.fromkeys([*_RIVALS, *ridge]) if name in available}


def list_headline_subsets(scores: pd.DataFrame) -> dict[str, str]:
    """Return the subsets of the headline and their titles; one if no scored clip is of a video with training clips."""
    if are_all_unseen(scores):
        return {"all": "all clips, all of unseen videos"}
    return {"all": "all clips", "unseen_videos": "unseen videos"}


def are_all_unseen(scores: pd.DataFrame) -> bool:
    """Return whether no scored clip is of a video with training clips, given rows of data/scores.csv."""
    return not scores["subset"].eq("seen_videos").any() and bool(scores["subset"].eq("unseen_videos").any())


def name_predictor(name: str) -> str:
    """Return the display name of a predictor of data/scores.csv, or of a comparison, in which users name predictors."""
    if name in PREDICTORS:
        return PREDICTORS[name][0]
    return f"ridge on {name.removeprefix('ridge_')}" if name.startswith("ridge_") else name


def describe_predictor(name: str) -> str:
    """Return the description of a predictor of data/scores.csv."""
    return PREDICTORS[name][1] if name in PREDICTORS else f"ridge regression on {name.removeprefix('ridge_')}"


def find_cause(column: str) -> str:
    """Return the planted signal of a synthetic label (`anger_present` has that of anger), or '' for an unknown column."""
    return PLANTED.get(column) or PLANTED.get(column.split("_")[0], "")


def describe_encoders(model: Mapping[str, Any]) -> str:
    """Return a sentence on the encoders and the fusion of a model (the section `model` of params.yaml)."""
    described = []
    for name in model["use"]:
        settings = model["encoders"][name]
        parts = [f"kind `{settings['kind']}`", f"reads {', '.join(settings['reads'])}"]
        parts += [f"network `{settings[key]}`" for key in ("backbone", "net", "network") if key in settings]
        if "weights" in settings:
            parts.append(_describe_weights(settings["weights"]))
        described.append(f"{name} ({', '.join(parts)})")
    if len(described) == 1:
        return f"One encoder: {described[0]}."
    return f"{len(described)} encoders, fused by `{model['fusion']}`: {'; '.join(described)}."


def _describe_weights(weights: str | None) -> str:
    if weights is None:
        return "trained from scratch"
    return "pretrained" if weights == "pretrained" else f"pretrained on {weights}"


def name_accuracy(target_group: TargetGroup) -> str:
    """Return the definition of accuracy for the range of these targets."""
    return "1 − MAE" if target_group.span == 1 else f"1 − MAE / {target_group.span:g}"


def format_range(target_group: TargetGroup) -> str:
    """Return the targets' range: `0 to 1`."""
    return f"{target_group.range[0]:g} to {target_group.range[1]:g}"


def list_group_scores(target_group: TargetGroup) -> dict[tuple[str, str], str]:
    """Return the scores that are reported by group of persons: (predictor, score) and a label."""
    return {
        ("model", "accuracy"): f"accuracy ({name_accuracy(target_group)})",
        ("model", "bias"): "mean signed error (prediction − label)",
        ("mean_predictor", "bias"): "mean signed error of the training mean",
        ("model", "coverage"): "coverage of the prediction intervals",
        (LABELS, "label"): "mean label (its differences are differences of labels, not errors)",
    }


def describe_corruption(name: str, strength: float) -> str:
    """Return a corruption (`light (%)`) and its strength as text: `for light at 12 %`."""
    title, _, unit = name.removesuffix(")").partition(" (")
    if title == "frames":
        return f"when one frame in {strength:g} is kept"
    unit = f" {unit}" if unit.startswith("%") else f" ({unit})" if unit else ""
    return f"for {title} at {strength:g}{unit}"


def note_stability(sources: Sequence[str], target_group: TargetGroup) -> str:
    """Return the notes about neuroticism in FIV2 and in the vlogs, or '' for other targets and corpora."""
    notes = (note for source, note in _STABILITY.items() if source in sources)
    return " ".join(notes) if "neuroticism" in target_group.columns else ""


def note_emotions(target_group: TargetGroup) -> str:
    """Return the note about predicted emotions, or '' for other targets."""
    return _FEELINGS if any(column.split("_")[0] in _EMOTIONS for column in target_group.columns) else ""


def describe_scored_clips(data: Mapping[str, Any], split: str) -> list[str]:
    """Return sentences on the corpus' own splits of the scored clips, and on usable clips that are in no split."""
    origins = describe_origins(data, split)
    sentences = [f"The scored clips are {origins}."] if origins else []
    return [*sentences, *filter(None, [describe_left_out(data)])]


def is_weighted(rows: pd.DataFrame) -> bool:
    """Return whether rows of data/scores.csv or data/comparisons.csv are weighted by the labels' reliability."""
    return "weighting" in rows and bool(rows["weighting"].eq("reliability").any())


def describe_weighting(scores: pd.DataFrame) -> str:
    """Return a sentence on the weights of the labels, or '' for equal weights."""
    text = (
        "Scores and differences are weighted by the labels' reliability: a label weighs the inverse of its variance, so that"
        " labels with more raters who agree count more."
    )
    return text if is_weighted(scores) else ""


def describe_clipped(scores: pd.DataFrame, target_group: TargetGroup) -> str:
    """Return a sentence on the clipped predictions of the baselines, or '' without any.

    scores: a target group's rows of data/scores.csv.
    """
    rows = scores[(scores["score"] == "clipped") & (scores["subset"] == "all") & (scores["target"] != "mean")]
    counts = rows.groupby("predictor", sort=False)["value"].sum()
    listed = ", ".join(f"{count:.0f} of {name_predictor(str(name))}" for name, count in counts.items() if count)
    return f"Predictions of baselines outside {format_range(target_group)} were clipped: {listed}." if listed else ""


def count_clips(data: Mapping[str, Any]) -> str:
    """Return the numbers of clips and videos of each split as text, given the contents of metrics/data.json."""
    return ", ".join(
        f"{count} {split} clips of {data['videos'][split]} videos" for split, count in data["clips"].items()
    )


def list_headline_scores(target_group: TargetGroup) -> dict[str, tuple[str, int]]:
    """Return the label and number of digits of each score in the headline and in tables of experiments."""
    return {"accuracy": (name_accuracy(target_group), 4), "r2": ("R²", 3), "ccc": ("CCC", 3)}


def is_p_at_floor(row: Any) -> bool:
    """Return whether no permutation is as extreme as the data; row: of `paired.compare_errors`, with p and p_floor."""
    return bool(row.p <= row.p_floor)


def format_p(row: Any) -> str:
    """Return the corrected p of a comparison as text: `p = 0.02`, or `p < 0.002` where no permutation is as extreme."""
    return f"p {'<' if is_p_at_floor(row) else '='} {row.p_holm:.2g}"


def format_over_seeds(row: Any, digits: int) -> tuple[str, str]:
    """Return the value of a row, with its standard deviation over seeds if there are several seeds, and its interval or an
    empty text."""
    value, _, interval = format_value(row, digits).partition(" ")
    return value if pd.isna(row.seed_std) else f"{value} ± {row.seed_std:.{digits}f}", interval


def format_value(row: Any, digits: int = 3) -> str:
    """Return the value of a row and its interval: `0.893 [0.883, 0.903]`; a dash if the value is undefined."""
    value, low, high = (
        f"{number:z.{digits}f}".replace("-", "−") for number in (row.value, row.low, row.high)
    )  # z: no -0
    if pd.isna(row.value):
        return "–"
    return value if pd.isna(row.low) else f"{value} [{low}, {high}]"
