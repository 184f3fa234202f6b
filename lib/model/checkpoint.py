"""A trained model: its network, and everything that prediction needs, in data/model.pt or in a published folder."""

import pickle
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lib.core.errors import InputError
from lib.core.parameters import check
from lib.core.provenance import describe_code
from lib.core.targets import INTERVAL_LEVEL, TargetGroup, Targets
from lib.core.weights import find_mismatches, load_published
from lib.model import folder, ssl_mepr_weights
from lib.model.committee import Committee, build_model
from lib.model.network import Network
from lib.model.settings import Settings
from lib.streams import base
from lib.streams.base import StreamInfo


class LabelQuantiles(NamedTuple):
    """Quantiles of the training labels of a target group and widths of prediction intervals, in the table's units.

    quantiles (101, K): 0 to 100 % of the training labels, NaN for a target without labels. half_widths (K,): of the
    intervals of lib/scoring/conformal.py, infinite without an interval; multiples of the scale for a head with a scale.
    """

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
    references: Mapping[str, LabelQuantiles] = field(default_factory=dict)
    ranges: Ranges = field(default_factory=dict)


@dataclass(frozen=True)
class TrainedModel:
    """A network in evaluation mode, and what its file says about it.

    targets: the groups that it predicts. streams: how the streams that it reads were made. training: its training clips.
    provenance: the commit that it was trained at, with a + if files were changed, its date, the packages' versions, and the
    date of the newest input.
    """

    network: Network | Committee
    settings: Settings
    targets: Targets
    streams: dict[str, StreamInfo]
    training: TrainingSummary
    provenance: dict[str, Any]

    @property
    def interval(self) -> float:
        """The expected fraction of labels inside the prediction intervals."""
        return float(self.provenance.get("interval", INTERVAL_LEVEL))


def save(
    path: Path,
    weights: Mapping[str, Tensor],
    settings: Settings,
    targets: Targets,
    streams: Mapping[str, StreamInfo],
    training: TrainingSummary,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write the file, with the settings of the encoders in use only. provenance: entries besides commit and versions."""
    model = settings.model_dump()
    torch.save(
        {
            "format": folder.FORMAT,
            "weights": dict(weights),
            "model": model | {"encoders": {name: model["encoders"][name] for name in settings.use}},
            "targets": {name: group.model_dump() for name, group in targets.items()},
            "streams": {name: info._asdict() for name, info in streams.items()},
            "corpora": list(training.corpora),
            "subset": [training.clips, training.seed],
            "seconds": list(training.seconds),
            "ranges": training.ranges,
            "references": {name: reference._asdict() for name, reference in training.references.items()},
            "about": dict(provenance or {}),
            **describe_code(),
        },
        path,
    )


def load(path: Path, device: torch.device) -> TrainedModel:
    """Load data/model.pt or the folder of a published model. Its weights replace pretrained weights that its settings name.

    Raises InputError if the file or folder is missing, damaged or has another format.
    """
    if not path.exists():
        raise InputError(
            f"{path} is missing; `dvc checkout` restores the last one (a failed experiment removes it), or train one by"
            " `dvc repro train`"
        )
    saved = read(path)
    try:
        return _build_model(saved, device)
    except Exception as error:  # what a file of nonsense raises can be anything
        raise _no_model(path, error) from None


def pretrained(path: Path) -> dict[str, nn.Module]:
    """Return the encoders of data/model.pt that started from pretrained weights, with these weights, in evaluation mode.

    Raises InputError if the weights can't be loaded.
    """
    saved = read(path)
    settings = check(saved["model"], Settings)
    streams = {name: StreamInfo(**info) for name, info in saved["streams"].items()}
    names = [name for name in settings.make_member_settings().use if settings.encoders[name].get("weights") is not None]
    if not names:
        return {}
    network = Network.from_settings(settings.make_member_settings(), {}, streams).eval()
    return {name: network.encoders[name] for name in names}


def _build_model(saved: dict[str, Any], device: torch.device) -> TrainedModel:
    model = saved["model"]
    for encoder in model["encoders"].values():
        if "weights" in encoder:
            encoder["weights"] = None
        if encoder.get("landmark_weights") is not None:
            encoder["landmark_weights"] = "random"
    settings = check(model, Settings)
    targets = {name: check(group, TargetGroup) for name, group in saved["targets"].items()}
    streams = {name: StreamInfo(**info) for name, info in saved["streams"].items()}
    for name, info in streams.items():
        check(info.settings, base.load(name).settings, name)
    network = build_model(settings, targets, streams).to(device)
    network.load_state_dict(saved["weights"])
    clips, seed = saved.get("subset", (None, 0))
    training = TrainingSummary(
        saved["corpora"],
        clips,
        seed,
        seconds=saved.get("seconds", []),
        references={name: LabelQuantiles(**tensors) for name, tensors in saved.get("references", {}).items()},
        ranges=saved.get("ranges", {}),
    )
    provenance = {"commit": saved.get("commit"), "commit_date": saved.get("commit_date")}
    provenance |= {"versions": saved.get("versions", {})} | saved.get("about", {})
    return TrainedModel(network.eval(), settings, targets, streams, training, provenance)


def warm_start(network: Network, path: Path, targets: Targets) -> None:
    """Load the weights of an older data/model.pt, or of a published network of SSL-MEPR, into a network for `targets`.

    Raises InputError if they are missing or do not fit.
    """
    if not path.is_file():
        raise InputError(
            f"init = {str(path)!r} is not a file; allowed: null, or the path of a model.pt or of a published checkpoint"
        )
    if path.suffix == ".pth" and ssl_mepr_weights.find_kind(published := load_published(str(path), "init", "")):
        ssl_mepr_weights.load(network, published, targets, f"init = {str(path)!r}: the weights")
        return
    weights = read(path)["weights"]
    if wrong := find_mismatches(network.state_dict(), weights):
        raise InputError(
            f"init = {str(path)!r} is a model of another shape ({len(wrong)} weights differ, first {wrong[0]}); set the"
            " section model as it was trained with, or init to null"
        )
    network.load_state_dict(weights)


def read(path: Path) -> dict[str, Any]:
    """Return the contents of data/model.pt, or of the folder of a published model, which is read without unpickling.

    Raises InputError if they are damaged or have another format.
    """
    saved = folder.read(path) if path.is_dir() else _unpickle(path)
    if not isinstance(saved, dict):
        raise _no_model(path, ValueError("it contains no model"))
    weights = saved.get("weights")
    if not isinstance(weights, dict) or not all(isinstance(values, Tensor) for values in weights.values()):
        raise _no_model(path, ValueError("it contains no weights"))
    folder.check_format(path, saved)
    if wrong := [name for name, values in weights.items() if not values.isfinite().all()]:
        raise _no_model(path, ValueError(f"{len(wrong)} of its weights are not finite, first {wrong[0]}"))
    return saved


def _unpickle(path: Path) -> Any:
    """Return the contents of data/model.pt. PyTorch runs no code in it."""
    try:
        with warnings.catch_warnings():  # of another pickle's protocol: the error says enough
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise _no_model(path, ValueError("it is not a file of weights, or contains code, which was not run")) from None
    except Exception as error:
        raise _no_model(path, error) from None


def _no_model(path: Path, error: Exception) -> InputError:
    reason = " ".join(str(error).split()).partition(". ")[0][:200]
    return InputError(
        f"{path} is not a complete model of this project ({type(error).__name__}: {reason}); run `dvc repro train`, restore"
        " it with `dvc checkout`, or choose another"
    )
