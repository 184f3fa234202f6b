"""Networks of the library `transformers`, loaded from local folders without network access unless the settings allow it."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BeforeValidator

from lib.core.errors import InputError
from lib.core.folders import describe_bytes
from lib.core.hidden_states import Layers, check_layers
from lib.core.parameters import Section

if TYPE_CHECKING:  # importing this module loads neither of them
    import torch

_INSTALL = "pip install -r requirements-transformers.txt"
_OPTIONAL = ("masked_spec_embed", "mask_token")
"""Last parts of the names of weights that only pretraining uses."""
_NOT_READ = ("*.h5", "*.msgpack", "*.ot", "*.onnx", "onnx/*", "*.tflite", "*.mlmodel", "*.md")
"""Files of a repository that are not downloaded, because only other libraries read them."""


def _check_network(network: str) -> str:
    if not network.strip():
        raise ValueError("the name or folder of a network")
    return network


class PretrainedSettings(Section):
    """The keys of a section that names a network.

    network: the folder of a network, or its name on the hub (ORG/NAME). revision: its commit, tag or branch there. download:
    whether a missing network is downloaded. allow_code: whether Python code in the folder may run. layers: see `Layers`.
    """

    network: Annotated[str, AfterValidator(_check_network)]
    revision: str | None
    download: bool
    allow_code: bool
    layers: Annotated[Layers, BeforeValidator(check_layers)]

    def find_folder(self) -> Path:
        """Return the folder of the network. Raises InputError as the function `find_folder` does."""
        return find_folder(self.network, revision=self.revision, download=self.download)


def find_folder(network: str, *, revision: str | None, download: bool, setting: str = "network") -> Path:
    """Return the folder of a network: `network` itself, or the folder in the hub's local cache.

    setting: the setting or argument that names it. Raises InputError if neither exists, or if the download fails.
    """
    if Path(network).is_dir():
        return Path(network)
    hub: Any = import_package("huggingface_hub", network, setting)
    name = f"{setting} = {network!r}" + (f" with revision = {revision!r}" if revision else "")
    try:
        return Path(
            hub.snapshot_download(
                network, revision=revision, local_files_only=not download, ignore_patterns=list(_NOT_READ)
            )
        )
    except hub.errors.HFValidationError:
        raise InputError(
            f"{setting} = {network!r} is not a folder; allowed: an existing folder, or a name of the hub such as"
            " facebook/dinov2-small; correct the path"
        ) from None
    except (hub.errors.HfHubHTTPError, OSError) as error:
        if not download:
            raise InputError(
                f"{name} is neither a folder nor in the hub's local cache; allowed: a local folder, or a name of the hub;"
                f" run python -m tools.weights {network}, set download to true, or copy the network to this machine and set"
                f" {setting} to its folder"
            ) from None
        raise InputError(
            f"{name} can't be downloaded ({_cause(error)}); allowed: a name of the hub that this machine can reach;"
            f" correct the name, or copy the network to this machine and set {setting} to its folder"
        ) from None


def list_files(folder: Path) -> list[Path]:
    """Return the files of a network's folder that its outputs can depend on, for fingerprints."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file()
        and path.suffix != ".md"
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def load_network(folder: Path, *, allow_code: bool) -> "torch.nn.Module":
    """Return the network of a folder, in evaluation mode and float32.

    A pooling layer that the folder has no weights for is removed: the network then returns no pooled output. Raises
    InputError if the folder contains no network, its code may not run, or other weights are missing or have another shape.
    """
    library = _import_library(folder)
    _check_config(folder, library, allow_code)
    import torch

    network, report = explain_errors(
        lambda: library.AutoModel.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=allow_code,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            dtype=torch.float32,
        ),
        f"network = {str(folder)!r} can't be loaded",
        "allowed: a folder with config.json and weights that transformers' AutoModel loads; get the files again",
    )
    missing = {name for name in report["missing_keys"] if name.rpartition(".")[2] not in _OPTIONAL}
    if any(name.startswith("pooler.") for name in missing):
        network.pooler = None
    wrong = [f"{name} is missing" for name in sorted(missing) if not name.startswith("pooler.")]
    wrong += [
        f"{name} is {list(in_file)}, not {list(expected)}"
        for name, in_file, expected in sorted(report["mismatched_keys"])
    ]
    if wrong:
        listed = "; ".join(wrong[:5]) + (f"; and {len(wrong) - 5} more" if len(wrong) > 5 else "")
        raise InputError(
            f"network = {str(folder)!r}: its weights do not fit its config.json: {listed}; allowed: weights for all layers;"
            " get the files again"
        )
    return network.eval()


def build_network(folder: Path, *, allow_code: bool) -> "torch.nn.Module":
    """Return the randomly initialised network that a folder's config.json describes, in evaluation mode and float32.

    Raises InputError if the folder describes no network, or its code may not run.
    """
    library = _import_library(folder)
    _check_config(folder, library, allow_code)
    import torch

    def make() -> Any:
        config = library.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=allow_code)
        return library.AutoModel.from_config(config, dtype=torch.float32, trust_remote_code=allow_code)

    problem = f"network = {str(folder)!r}: no network can be built from its config.json"
    return explain_errors(make, problem, "allowed: the config.json of a network; get the file again").eval()


def load_image_processor(folder: Path) -> Any:
    """Return the image processor of a network's folder. Raises InputError if the folder has none."""
    return _load_processor(folder, "AutoImageProcessor", "image processor", "preprocessor_config.json")


def load_audio_processor(folder: Path) -> Any:
    """Return the feature extractor of a network's folder, which has `sampling_rate`. Raises InputError if it is missing."""
    return _load_processor(folder, "AutoFeatureExtractor", "audio processor", "preprocessor_config.json")


def load_tokenizer(folder: Path) -> Any:
    """Return the tokenizer of a network's folder. Raises InputError if the folder has none."""
    tokenizer = _load_processor(folder, "AutoTokenizer", "tokenizer", "tokenizer.json and tokenizer_config.json")
    vocabularies = {"tokenizer.json", *tokenizer.vocab_files_names.values()}
    if not any((folder / name).is_file() for name in vocabularies):  # transformers then makes one without words
        raise InputError(
            f"network = {str(folder)!r} has no vocabulary; allowed: a folder with one of"
            f" {', '.join(sorted(vocabularies))}; copy the tokenizer's files there from the network's source"
        )
    return tokenizer


def describe_cost(clips: int, seconds_per_clip: float, bytes_per_clip: int) -> str:
    """Return a line with the time and disk space that a stage needs for `clips` clips."""
    seconds, size = clips * seconds_per_clip, clips * bytes_per_clip
    time = f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min" if seconds >= 60 else "< 1 min"
    need = f"{clips} clips need about {time} and {describe_bytes(size)}"
    return f"{need} ({seconds_per_clip:.2g} s and {bytes_per_clip} bytes per clip)"


def import_package(package: str, network: str, setting: str = "network") -> Any:
    """Return a package of requirements-transformers.txt. Raises InputError if it is not installed."""
    import importlib

    try:
        return importlib.import_module(package)
    except ImportError:
        raise InputError(
            f"{setting} = {network!r} needs {package}, which is not installed; allowed without it: the networks of this"
            f" project; run {_INSTALL}, or name another network"
        ) from None


def _import_library(folder: Path) -> Any:
    library = import_package("transformers", str(folder))
    library.utils.logging.set_verbosity_error()  # its reports on weights are errors of `load_network`
    library.utils.logging.disable_progress_bar()
    return library


def _check_config(folder: Path, library: Any, allow_code: bool) -> None:
    """Raise InputError if a folder has no configuration, or needs code that may not run."""
    allowed = "allowed: the folder of a network with config.json and weights"
    path = folder / "config.json"
    if not path.is_file():
        files = ", ".join(sorted(file.name for file in folder.iterdir())[:5]) or "nothing"
        raise InputError(f"network = {str(folder)!r} has no config.json, but {files}; {allowed}; correct the path")
    try:
        config = json.loads(path.read_text())
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON ({error}); {allowed}; get the file again") from None
    is_supported = isinstance(config, dict) and config.get("model_type") in library.CONFIG_MAPPING
    own_code = isinstance(config, dict) and "auto_map" in config
    if not is_supported and own_code and not allow_code:
        raise InputError(
            f"network = {str(folder)!r} has its own Python code, which was not run; allowed with allow_code = false:"
            " networks that transformers contains; read the code and set allow_code to true, or name another network"
        )
    if not is_supported and not own_code:
        kind = config.get("model_type") if isinstance(config, dict) else None
        raise InputError(
            f"{path} has model_type = {kind!r}; {allowed} whose type transformers {library.__version__} knows; name"
            " another network"
        )


def _load_processor(folder: Path, name: str, kind: str, files: str) -> Any:
    library = _import_library(folder)
    return explain_errors(
        lambda: getattr(library, name).from_pretrained(folder, local_files_only=True, trust_remote_code=False),
        f"network = {str(folder)!r} has no {kind} that can be loaded",
        f"allowed: a folder with {files}; copy the files there from the network's source",
    )


def explain_errors(make: Callable[[], Any], problem: str, remedy: str) -> Any:
    """Return `make()`. Raises InputError for errors of a library that loads files; its text has the `problem`, the cause and
    the `remedy`."""
    from safetensors import SafetensorError

    try:
        return make()
    except InputError:
        raise
    except pickle.UnpicklingError:  # PyTorch's text recommends to run the code in the file
        raise InputError(f"{problem}: its weights are damaged or contain code, which was not run; {remedy}") from None
    except (
        OSError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        RuntimeError,
        ImportError,
        SafetensorError,
    ) as error:
        raise InputError(f"{problem} ({_cause(error)}); {remedy}") from None


def _cause(error: Exception) -> str:
    """Return the first line of an error's text, at most 200 characters."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
