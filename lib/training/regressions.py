"""Fit the regressions inside a model: the linear path of a network, and the parts of fusion `stacked`."""

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lib.core import shards
from lib.core.artifacts import DATA
from lib.core.errors import InputError
from lib.core.targets import Targets
from lib.data.batch import collate
from lib.data.dataset import ClipDataset
from lib.data.inputs import EncoderSettings, split_reference
from lib.model.heads import find_head
from lib.model.network import Network
from lib.model.settings import list_regressed
from lib.model.stack import pool_inputs
from lib.regression.ridge import FOLDS, Ridge, assign_folds
from lib.regression.stacking import Weights, fit_parts, fit_weights
from lib.regression.trees import WIDEST, TargetTrees
from lib.streams.base import StreamInfo

_BATCH = 32  # clips
TREES, NETWORK = "trees", "network"
"""Names of parts of a stack, besides those of ridge regressions: ENCODER, or ENCODER.PART for a stream of several parts."""


class Numbers(NamedTuple):
    """values (N, D): the numbers of `pool_inputs` for the training clips, float32. parts: positions of the numbers that each
    ridge regression reads, by name."""

    values: np.ndarray
    parts: dict[str, np.ndarray]


class Fitted(NamedTuple):
    """tensors: of a Stack. weights (P, K): of each part, in the order of `names`."""

    tensors: dict[str, Tensor]
    names: list[str]
    weights: np.ndarray


class _PartRidge(NamedTuple):
    """A ridge regression of some targets: the number of its part of a stack, and the positions of its numbers."""

    part: int
    positions: np.ndarray
    fitted: Ridge


def read_numbers(
    training: pd.DataFrame, settings_by_encoder: Mapping[str, EncoderSettings], streams: Mapping[str, StreamInfo]
) -> Numbers:
    """Return the numbers of the training clips that regressions read, in the order of the table."""
    names = list_regressed(dict(settings_by_encoder))
    inputs = {name: settings_by_encoder[name] for name in names}
    clips = ClipDataset(training, DATA, inputs, streams, {})
    starts = range(0, len(clips), _BATCH)
    batches = (collate([clips[i] for i in range(start, min(start + _BATCH, len(clips)))]) for start in starts)
    values = torch.cat([pool_inputs(batch.inputs, names) for batch in batches]).numpy()
    parts: dict[str, np.ndarray] = {}
    start = 0
    for name, reference in [(encoder, read) for encoder in names for read in inputs[encoder].reads]:
        stream, array = split_reference(reference)
        width = streams[stream].shapes[array][-1]
        varies = bool(np.nan_to_num(values[:, start + width : start + 2 * width]).any())
        several = len(inputs[name].reads) > 1
        for part, offset, size in _divide(training, stream, width):
            label = ".".join([name, *([reference] if several else []), *([part] if part else [])])
            numbers = start + offset + np.arange(size)
            parts[label] = np.concatenate([numbers, numbers + width]) if varies else numbers
        start += 2 * width
    return Numbers(values, parts)


def _divide(training: pd.DataFrame, stream: str, width: int) -> list[tuple[str, int, int]]:
    """Return name, first number and size of each part of a stream's vectors; one part without a name if it has none."""
    sizes: dict[str, int] = {}
    for shard, clips in training.groupby("shard")["clip"]:
        with shards.open_shard(DATA / stream / f"{shard}.h5") as file:
            accepted = next((clip for clip in clips if "rejected" not in file[clip].attrs), None)
            if accepted is not None:
                sizes = json.loads(file[accepted].attrs.get("parts", "{}"))
                break
    if len(sizes) < 2 or sum(sizes.values()) != width:
        return [("", 0, width)]
    starts = np.cumsum([0, *sizes.values()]).tolist()
    return [(part, start, size) for (part, size), start in zip(sizes.items(), starts, strict=False)]


def fit_stack(
    numbers: Numbers,
    labels: np.ndarray,
    videos: np.ndarray,
    trees: bool = False,
    others: np.ndarray | None = None,
) -> Fitted:
    """Return the tensors of a Stack that predicts labels (N, K), NaN where unknown.

    Its parts are a ridge regression on each of `numbers.parts` and, with `trees`, boosted trees on all of up to a thousand
    numbers. others: (N, K), out-of-fold predictions of another part. Folds are those of `assign_folds(videos)`. Raises
    InputError for fewer than FOLDS videos.
    """
    check_videos(videos)
    inputs = (numbers.values[:, positions].astype(float) for positions in numbers.parts.values())
    parts = fit_parts(inputs, labels, assign_folds(videos), trees)
    ridges = [
        _PartRidge(part, positions, ridge)
        for part, (positions, fitted) in enumerate(zip(numbers.parts.values(), parts.ridges, strict=True))
        for ridge in fitted
    ]
    names, tensors, predicted = list(numbers.parts), _ridge_tensors(ridges, labels.shape[1]), parts.out_of_fold
    if parts.trees:
        narrow = [positions for positions in numbers.parts.values() if len(positions) <= WIDEST]
        tensors |= _tree_tensors(parts.trees, np.concatenate(narrow), parts.level)
        names.append(TREES)
    if others is not None:
        predicted = np.concatenate([predicted, others[None]])
        names.append(NETWORK)
    weights = fit_weights(predicted, labels)
    return Fitted(tensors | _weight_tensors(weights, ridges, len(numbers.parts)), names, weights.weights)


def fit_paths(network: Network, training: pd.DataFrame, targets: Targets, streams: Mapping[str, StreamInfo]) -> None:
    """Fit the linear path of each target group to the training clips: ridge regressions in closed form, and their weights.

    They are fitted in the units of the output of the head's linear layer. Nothing happens for a network without a path.
    """
    if not len(network.paths):
        return
    numbers = read_numbers(training, network.settings_by_encoder, streams)
    labels = ClipDataset(training, DATA, {}, {}, targets).targets
    for name, group in targets.items():
        unlinked = find_head(group).unlink(labels[name])
        fitted = fit_stack(numbers, unlinked, training["video"].to_numpy())
        network.paths[name].set(**fitted.tensors)  # type: ignore[operator]


def check_videos(videos: np.ndarray) -> None:
    """Raise InputError for too few videos of training clips."""
    if len(set(videos)) < FOLDS:
        raise InputError(
            f"the training clips are of {len(set(videos))} videos; allowed with model.linear_path = true or model.fusion ="
            f" stacked: {FOLDS} or more, which are divided into folds; add clips, or change these settings"
        )


def _ridge_tensors(ridges: Sequence[_PartRidge], targets: int) -> dict[str, Tensor]:
    """Return the tensors of ridge regressions; each predicts 0 for the targets that are not its own."""

    def join(arrays: Sequence[np.ndarray], *columns: int) -> Tensor:
        return torch.from_numpy(np.concatenate([np.zeros((0, *columns)), *arrays]))

    largest = np.finfo(np.float32).max
    fitted = [ridge.fitted._replace(std=np.minimum(ridge.fitted.std, largest)) for ridge in ridges]
    return {
        "sizes": torch.tensor([float(len(ridge.positions)) for ridge in ridges], dtype=torch.float64),
        "numbers": join([ridge.positions for ridge in ridges]),
        **{name: join([getattr(ridge, name) for ridge in fitted]).float() for name in ("low", "high", "mean", "std")},
        "coefficients": join([_widen(ridge.coefficients[0], ridge.columns) for ridge in fitted], targets).float(),
        "levels": join([_widen(ridge.level[None], ridge.columns) for ridge in fitted], targets).float(),
    }


def _widen(values: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return values (M, C) of the C targets of `columns` (K,) as (M, K), 0 for the other targets."""
    widened = np.zeros((len(values), len(columns)))
    widened[:, columns] = values
    return widened


def _tree_tensors(models: Sequence[TargetTrees | None], positions: np.ndarray, mean: np.ndarray) -> dict[str, Tensor]:
    """Return the tensors of all targets' trees; `mean` (K,) of the labels is predicted for a target without trees.

    Trees with fewer nodes than others are filled with leaves of value 0.
    """
    trees = [
        (column, fitted, tree[0].nodes)
        for column, fitted in enumerate(models)
        if fitted is not None
        for tree in fitted.model._predictors  # scikit-learn offers the nodes in no other way
    ]
    most = max(len(nodes) for *_, nodes in trees)
    own_index = np.arange(most)
    arrays: dict[str, list[np.ndarray]] = {
        name: [] for name in ("feature", "threshold", "left", "right", "missing_left")
    }
    arrays["value"] = []
    for _, fitted, nodes in trees:
        leaf = np.ones(most, bool)
        leaf[: len(nodes)] = nodes["is_leaf"].astype(bool)

        def fill(values: np.ndarray, otherwise: np.ndarray, leaf: np.ndarray = leaf) -> np.ndarray:
            return np.where(leaf, otherwise, np.pad(values.astype(float), (0, most - len(values))))

        arrays["feature"].append(fill(positions[fitted.numbers[nodes["feature_idx"]]], 0 * own_index))
        largest = np.finfo(np.float64).max
        arrays["threshold"].append(fill(nodes["num_threshold"].clip(-largest, largest), 0 * own_index))
        arrays["left"].append(fill(nodes["left"], own_index))
        arrays["right"].append(fill(nodes["right"], own_index))
        arrays["missing_left"].append(fill(nodes["missing_go_to_left"], 0 * own_index))
        arrays["value"].append(np.pad(nodes["value"], (0, most - len(nodes))))
    level = [
        mean[column] if fitted is None else float(np.ravel(fitted.model._baseline_prediction)[0])
        for column, fitted in enumerate(models)
    ]
    tensors = {name: torch.from_numpy(np.stack(values)) for name, values in arrays.items()}
    target = torch.tensor([float(column) for column, *_ in trees], dtype=torch.float64)
    return tensors | {"target": target, "trees_level": torch.tensor(level, dtype=torch.float64)}


def _weight_tensors(weights: Weights, ridges: Sequence[_PartRidge], parts: int) -> dict[str, Tensor]:
    """Return the tensors of a stack whose first `parts` parts are divided into ridge regressions for some targets each."""
    rows = [ridge.part for ridge in ridges]
    ridge_weights = [
        _widen(weights.weights[[ridge.part]][:, ridge.fitted.columns], ridge.fitted.columns) for ridge in ridges
    ]
    divided = Weights(
        np.concatenate([*ridge_weights, weights.weights[parts:]]),
        np.concatenate([weights.centres[rows], weights.centres[parts:]]),
        weights.level,
    )
    return {name: torch.from_numpy(values).float() for name, values in divided._asdict().items()}
