"""The trained model's file: weights, and all that is needed to make its input and to read its output."""

import importlib.metadata
import pickle
import subprocess
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lib.core.errors import InputError
from lib.core.parameters import check
from lib.core.targets import TargetGroup, Targets
from lib.core.weights import find_mismatches
from lib.model.network import Network, Settings
from lib.streams import base
from lib.streams.base import StreamInfo

_FORMAT = 3
_PACKAGES = (
    "torch",
    "torchvision",
    "lightning-fabric",
    "numpy",
    "h5py",
    "av",
    "opencv-contrib-python",
    "facenet-pytorch",
)
_OWN = ("--", ":/", ":!/dvc.lock", ":!/metrics")
"""For git: all files but those that a run writes."""


class Reference(NamedTuple):
    """What a target group's predictions are held against, in its table's units: quantiles (101, K), 0 to 100 %, of the
    training labels, NaN where none is known; half_widths (K,) of the intervals of lib/scoring/conformal.py, infinite where
    there is none. With a head that predicts a scale, half_widths are multiples of it."""

    quantiles: Tensor
    half_widths: Tensor


Ranges = dict[str, dict[str, tuple[float, float]]]


@dataclass(frozen=True)
class TrainingSummary:
    """The clips that a model was trained on.

    corpora: names of their corpora. clips, seed: the largest number of training clips and the seed of their choice
    (`select_videos`); None for all. seconds: the shortest and the longest duration, empty if unknown. references: by target
    group. ranges: by stream and name, the lowest and the highest value of an input statistic (lib/streams/base.py).
    """

    corpora: Sequence[str]
    clips: int | None = None
    seed: int = 0
    seconds: Sequence[float] = ()
    references: Mapping[str, Reference] = field(default_factory=dict)
    ranges: Ranges = field(default_factory=dict)


@dataclass(frozen=True)
class TrainedModel:
    """A network in evaluation mode, and what its file says about it.

    targets: the groups that it predicts. streams: how the streams that it reads were made. training: its training clips.
    provenance: the commit that it was trained at, with a + if files were changed, its date, the packages' versions, and the
    date of the newest input.
    """

    network: Network
    settings: Settings
    targets: Targets
    streams: dict[str, StreamInfo]
    training: TrainingSummary
    provenance: dict[str, Any]


def save(
    path: Path,
    weights: Mapping[str, Tensor],
    settings: Settings,
    targets: Targets,
    streams: Mapping[str, StreamInfo],
    training: TrainingSummary,
    about: Mapping[str, Any] | None = None,
) -> None:
    """Write the file, with the settings of the encoders in use only. about: further entries of its provenance."""
    model = settings.model_dump()
    torch.save(
        {
            "format": _FORMAT,
            "weights": dict(weights),
            "model": model | {"encoders": {name: model["encoders"][name] for name in settings.use}},
            "targets": {name: group.model_dump() for name, group in targets.items()},
            "streams": {name: info._asdict() for name, info in streams.items()},
            "corpora": list(training.corpora),
            "subset": [training.clips, training.seed],
            "seconds": list(training.seconds),
            "ranges": training.ranges,
            "references": {name: reference._asdict() for name, reference in training.references.items()},
            "about": dict(about or {}),
            "commit": _commit(),
            "commit_date": _git("log", "-1", "--format=%cI"),
            "versions": {name: importlib.metadata.version(name) for name in _PACKAGES if _installed(name)},
        },
        path,
    )


def load(path: Path, device: torch.device) -> TrainedModel:
    """Load data/model.pt; its weights replace any that its settings name. Raises InputError if it isn't there, or was
    written in another format."""
    if not path.exists():
        raise InputError(
            f"{path} is missing; `dvc checkout` restores the last one (a failed experiment removes it), or train one by"
            " `dvc repro train`"
        )
    saved = _read(path)
    try:
        return _served(saved, device)
    except Exception as error:  # what a file of nonsense raises can be anything
        raise _no_model(path, error) from None


def pretrained(path: Path) -> dict[str, nn.Module]:
    """Return the encoders of data/model.pt for which its settings name weights as they were before training, in evaluation
    mode. Raises InputError if the weights can't be had."""
    saved = _read(path)
    settings = check(saved["model"], Settings)
    streams = {name: StreamInfo(**about) for name, about in saved["streams"].items()}
    named = [name for name in settings.use if settings.encoders[name].get("weights") is not None]
    if not named:
        return {}
    network = Network.from_settings(settings, {}, streams).eval()
    return {name: network.encoders[name] for name in named}


def _served(saved: dict[str, Any], device: torch.device) -> TrainedModel:
    model = saved["model"]
    for encoder in model["encoders"].values():
        if "weights" in encoder:
            encoder["weights"] = None
        if encoder.get("landmark_weights") is not None:
            encoder["landmark_weights"] = "random"
    settings = check(model, Settings)
    targets = {name: check(group, TargetGroup) for name, group in saved["targets"].items()}
    streams = {name: StreamInfo(**about) for name, about in saved["streams"].items()}
    for name, about in streams.items():
        check(about.settings, base.load(name).settings, name)
    network = Network.from_settings(settings, targets, streams).to(device)
    network.load_state_dict(saved["weights"])
    clips, seed = saved.get("subset", (None, 0))
    training = TrainingSummary(
        saved["corpora"],
        clips,
        seed,
        seconds=saved.get("seconds", []),
        references={name: Reference(**tensors) for name, tensors in saved.get("references", {}).items()},
        ranges=saved.get("ranges", {}),
    )
    provenance = {"commit": saved.get("commit"), "commit_date": saved.get("commit_date")}
    provenance |= {"versions": saved.get("versions", {})} | saved.get("about", {})
    return TrainedModel(network.eval(), settings, targets, streams, training, provenance)


def warm_start(network: Network, path: Path) -> None:
    """Load the weights of an older data/model.pt into a network. Raises InputError if it isn't there or is of another
    shape."""
    if not path.is_file():
        raise InputError(f"init = {str(path)!r} is not a file; allowed: null, or the path of a model.pt")
    weights = _read(path)["weights"]
    if wrong := find_mismatches(network.state_dict(), weights):
        raise InputError(
            f"init = {str(path)!r} is a model of another shape ({len(wrong)} weights differ, first {wrong[0]}); set the"
            " section model as it was trained with, or init to null"
        )
    network.load_state_dict(weights)


def _read(path: Path) -> dict[str, Any]:
    try:
        with warnings.catch_warnings():  # of another pickle's protocol: the error says enough
            warnings.simplefilter("ignore")
            saved = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise _no_model(path, ValueError("it is not a file of weights, or contains code, which was not run")) from None
    except Exception as error:
        raise _no_model(path, error) from None
    if not isinstance(saved, dict):
        raise _no_model(path, ValueError("it contains no model"))
    weights = saved.get("weights")
    if not isinstance(weights, dict) or not all(isinstance(values, Tensor) for values in weights.values()):
        raise _no_model(path, ValueError("it contains no weights"))
    if saved.get("format") != _FORMAT:
        raise InputError(
            f"{path} has format {saved.get('format', 1)}, but this version reads format {_FORMAT}; train the model again,"
            " or use the version that wrote it"
        )
    if wrong := [name for name, values in weights.items() if not values.isfinite().all()]:
        raise _no_model(path, ValueError(f"{len(wrong)} of its weights are not finite, first {wrong[0]}"))
    return saved


def _no_model(path: Path, error: Exception) -> InputError:
    said = " ".join(str(error).split()).partition(". ")[0][:200]
    return InputError(
        f"{path} is not a complete model of this project ({type(error).__name__}: {said}); run `dvc repro train`, restore it"
        " with `dvc checkout`, or choose another"
    )


def _commit() -> str | None:
    """The commit of the project's code, with a + if files were changed other than those that DVC and stages write; None
    without git."""
    commit, changed = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--untracked-files=no", *_OWN)
    return None if commit is None else commit + ("+" if changed else "")


def _git(*command: str) -> str | None:
    """What a command of git prints; None without git."""
    try:
        return subprocess.run(["git", *command], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
