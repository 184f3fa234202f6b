"""The folder of a published model: weights in safetensors, everything else in JSON. Reading it runs no code."""

import hashlib
import importlib.metadata
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from lib.core.errors import InputError
from lib.core.parameters import check
from lib.core.weight_files import WEIGHT_SETS
from lib.streams import base

FORMAT = 3
WEIGHTS, CONFIGURATION, PREPROCESSING = "model.safetensors", "config.json", "preprocessing.json"
FILES = (WEIGHTS, CONFIGURATION, PREPROCESSING)
"""The files that prediction needs."""
_PACKAGES = ("torch", "torchvision", "numpy", "av", "opencv-contrib-python", "facenet-pytorch")
"""Packages that change predictions. A folder needs the major versions that the model was trained with."""
_GET_AGAIN = "allowed: a folder that python -m tools.publish wrote; get it again"


def write(saved: Mapping[str, Any], folder: Path) -> None:
    """Write the contents of a model's file to a folder. Raises InputError if the model needs code from other folders."""
    _check_code(saved["model"]["encoders"], saved["streams"])
    save_file(
        {name: values.detach().cpu().clone().contiguous() for name, values in saved["weights"].items()},
        folder / WEIGHTS,
        {"format": "pt"},
    )
    references = {
        name: _reference_to_json(saved["targets"][name]["columns"], tensors)
        for name, tensors in saved.get("references", {}).items()
    }
    streams = {name: info["shapes"] for name, info in saved["streams"].items()}
    configuration = {name: value for name, value in saved.items() if name not in ("weights", "streams", "references")}
    _write_json(folder / CONFIGURATION, configuration | {"streams": streams, "references": references})
    requires = {name: list(_list_files(name, info["settings"])) for name, info in saved["streams"].items()}
    (folder / WEIGHTS).chmod((folder / CONFIGURATION).stat().st_mode)  # safetensors lets only the owner read
    _write_json(
        folder / PREPROCESSING,
        {
            "streams": {name: info["settings"] for name, info in saved["streams"].items()},
            "requires": {name: files for name, files in requires.items() if files},
            "packages": _list_packages(saved, requires),
        },
    )


def read(folder: Path) -> dict[str, Any]:
    """Return the contents of a model's file that a folder was written from.

    Raises InputError if a file of the folder is missing or damaged, it has another format, a package has another major
    version, or a file that a stream needs is not on this machine.
    """
    configuration, preprocessing = _read_json(folder / CONFIGURATION), _read_json(folder / PREPROCESSING)
    check_format(folder, configuration)
    try:
        settings, shapes = preprocessing["streams"], configuration.pop("streams")
        streams = {name: {"settings": settings[name], "shapes": shapes[name]} for name in shapes}
        encoders = configuration["model"]["encoders"]
        references = {
            name: _reference_from_json(configuration["targets"][name]["columns"], values)
            for name, values in configuration.pop("references").items()
        }
        _check_code(encoders, streams)
        _check_packages(folder, preprocessing["packages"])
        for name, files in preprocessing["requires"].items():
            _check_files(folder, name, streams[name]["settings"], files)
    except InputError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"{folder} is not complete ({type(error).__name__}: {error}); {_GET_AGAIN}") from None
    return configuration | {"streams": streams, "references": references, "weights": _read_weights(folder / WEIGHTS)}


def check_format(path: Path, saved: Mapping[str, Any]) -> None:
    """Raise InputError if the contents of a model have another format than this version reads."""
    if saved.get("format") != FORMAT:
        raise InputError(
            f"{path} has format {saved.get('format', 1)}, but this version reads format {FORMAT}; train the model again,"
            " or use the version that wrote it"
        )


def checksum(folder: Path) -> str:
    """Return the sha256 of the files that prediction needs."""
    digest = hashlib.sha256()
    for name in FILES:
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()


def _reference_to_json(columns: list[str], tensors: Mapping[str, torch.Tensor]) -> dict[str, dict[str, Any]]:
    """Return a reference by column; None stands for unknown quantiles and for infinite half-widths."""
    quantiles, widths = tensors["quantiles"].double().T.tolist(), tensors["half_widths"].double().tolist()
    return {
        "quantiles": {
            column: values if all(map(math.isfinite, values)) else None
            for column, values in zip(columns, quantiles, strict=True)
        },
        "half_widths": {
            column: width if math.isfinite(width) else None for column, width in zip(columns, widths, strict=True)
        },
    }


def _reference_from_json(columns: list[str], values: Mapping[str, Mapping[str, Any]]) -> dict[str, torch.Tensor]:
    quantiles = [values["quantiles"][column] or [math.nan] * 101 for column in columns]
    widths = [values["half_widths"][column] for column in columns]
    return {
        "quantiles": torch.tensor(quantiles, dtype=torch.float64).T.contiguous(),
        "half_widths": torch.tensor([math.inf if width is None else width for width in widths], dtype=torch.float64),
    }


def _check_code(encoders: Mapping[str, Any], streams: Mapping[str, Any]) -> None:
    """Raise InputError if an encoder or a stream may run code from a network's folder."""
    settings = {f"model.encoders.{name}": section for name, section in encoders.items()}
    settings |= {name: info["settings"] for name, info in streams.items()}
    for path, section in settings.items():
        if section.get("allow_code"):
            raise InputError(
                f"{path}.allow_code = true; allowed in a published model: false, so that loading runs no code from others;"
                " name a network that transformers contains"
            )


def _list_files(stream: str, settings: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the files besides the model that a stream reads: name, size, checksum, and source.

    The source is a command or the name of a network; package is the installed package that contains the file.
    """
    hints = {weights.file_name: name for name, weights in WEIGHT_SETS.items() if weights.file_name}
    for path in _stream_files(stream, settings):
        content = path.read_bytes()
        source = f"python -m tools.weights {hints[path.name]}" if path.name in hints else settings.get("network")
        yield {
            "file": path.name,
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "source": source,
            "package": _find_package(path),
        }


def _find_package(path: Path) -> str | None:
    """Return the name of the installed package that a file is part of, or None."""
    parts = path.absolute().parts
    if "site-packages" not in parts:
        return None
    module = parts[parts.index("site-packages") + 1]
    return next(iter(importlib.metadata.packages_distributions().get(module, [])), None)


def _stream_files(stream: str, settings: dict[str, Any]) -> list[Path]:
    description = base.load(stream)
    return description.files(check(settings, description.settings, stream))


def _check_files(folder: Path, stream: str, settings: dict[str, Any], files: list[dict[str, Any]]) -> None:
    """Raise InputError if a file that a stream needs is missing, or is another file of that name."""
    try:
        paths = [path for path in _stream_files(stream, settings) if path.is_file()]
    except InputError as error:
        raise InputError(f"{folder} needs files of the stream {stream}: {error}") from None
    contents = {(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in paths}
    names = {path.name for path in paths}
    for file in files:
        if (file["file"], file["sha256"]) in contents:
            continue
        problem = "is another file on this machine" if file["file"] in names else "is missing"
        raise InputError(
            f"{folder} needs {file['file']} for the stream {stream}, which {problem}; allowed: the file of"
            f" {file['bytes']} bytes with sha256 {file['sha256'][:12]}...; {_suggest(file)}"
        )


def _suggest(file: Mapping[str, Any]) -> str:
    """Return what to do if a file that a stream needs is missing."""
    if file["package"]:
        return f"install the version of {file['package']} that the model was trained with"
    source = str(file["source"] or "")
    if source.startswith("python "):
        return f"run {source}"
    if source:
        return f"copy the network {source!r} to this machine, under the same name"
    return "copy it from the machine that the model was trained on"


def _list_packages(saved: Mapping[str, Any], requires: Mapping[str, list[dict[str, Any]]]) -> dict[str, str]:
    """Return the versions, in training, of the packages that change predictions."""
    versions = {name: version for name, version in saved.get("versions", {}).items() if name in _PACKAGES}
    has_network = any(encoder["kind"] == "pretrained" for encoder in saved["model"]["encoders"].values())
    has_network |= any(file["file"] == "config.json" for files in requires.values() for file in files)
    return versions | ({"transformers": importlib.metadata.version("transformers")} if has_network else {})


def _check_packages(folder: Path, packages: Mapping[str, str]) -> None:
    """Raise InputError if a package is missing or has another major version."""
    for name, version in packages.items():
        try:
            installed = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            raise InputError(
                f"{folder} needs {name} {version}, which is not installed; allowed: version {_major(version)}; run pip"
                f" install {name}=={version}"
            ) from None
        if _major(installed) != _major(version):
            raise InputError(
                f"{folder} was made with {name} {version}, but {installed} is installed; allowed: version"
                f" {_major(version)}; run pip install {name}=={version}, or train and publish the model again"
            )


def _major(version: str) -> str:
    return version.partition(".")[0]


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise InputError(f"{path} is missing or can't be read; {_GET_AGAIN}") from None
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON ({error}); {_GET_AGAIN}") from None
    if not isinstance(value, dict):
        raise InputError(f"{path} contains no JSON object; {_GET_AGAIN}")
    return value


def _read_weights(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except OSError:
        raise InputError(f"{path} is missing or can't be read; {_GET_AGAIN}") from None
    except SafetensorError as error:
        raise InputError(f"{path} is damaged ({error}); {_GET_AGAIN}") from None
