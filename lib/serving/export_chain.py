"""Export a trained model with the extraction of its streams: ONNX files, their description, and code that runs them."""

import ast
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from lib.core.errors import InputError
from lib.core.parameters import check
from lib.data.inputs import split_reference
from lib.model.encoders import images
from lib.serving import chain, chain_streams, export
from lib.serving.predictor import Predictor
from lib.streams import base, faces, flow, landmarks
from lib.streams.base import StreamInfo
from lib.streams.faces import mtcnn

CODE = "code"
"""Folder of the copied modules."""
RUNNER = "predict.py"
_ROOT = Path(__file__).parents[2]
_PROGRAM = '''"""Predict clips without PyTorch: python predict.py CLIP ..."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "code"))

from lib.serving.chain import main

if __name__ == "__main__":
    main()
'''
_SIDE = 64  # pixels of the example with which MTCNN's first network is exported; other sizes are allowed
_PACKAGES = ("numpy", "opencv-contrib-python", "av", "onnxruntime")


def describe_arguments(name: str, info: StreamInfo) -> dict[str, Any]:
    """Return the inputs and the arguments of a stream's extraction. Raises InputError if it can't be exported."""
    if name not in _ARGUMENTS:
        raise InputError(
            f"the model reads the stream {name}: {PREVENTS[name]}; allowed with --chain: {', '.join(_ARGUMENTS)}; export the"
            " network alone, without --chain"
        )
    settings = check(info.settings, base.load(name).settings, name)
    inputs = [other for other in base.load(name).inputs_of(info.settings) if other != base.RAW]
    return {"inputs": inputs, "arguments": _ARGUMENTS[name](settings)}


def _describe_faces(settings: faces.Settings) -> dict[str, Any]:
    for key, allowed in (("detector", "mtcnn"), ("identity", "none"), ("persons", "main")):
        _require("faces", key, getattr(settings, key), allowed)
    return settings.model_dump(include={"side", "min_face", "min_found", "max_gap", "key_seconds"})


def _describe_landmarks(settings: landmarks.Settings) -> dict[str, Any]:
    _require("landmarks", "detector", settings.detector, "faces")
    return {}


def _require(section: str, key: str, value: str, allowed: str) -> None:
    if value != allowed:
        raise InputError(f"{section}.{key} = {value!r}; allowed with --chain: {allowed}; export the network alone")


def _describe_flow(settings: flow.Settings) -> dict[str, Any]:
    solver = settings.model_dump(exclude={"enabled", "backend", "bound"})
    return {"backend": settings.backend, "bound": settings.bound, "solver": solver}


_ARGUMENTS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "frames": lambda settings: settings.model_dump(include={"fps", "max_side", "quality"}),
    "faces": _describe_faces,
    "landmarks": _describe_landmarks,
    "flow": _describe_flow,
    "audio": lambda settings: settings.model_dump(exclude={"enabled"}),
}

PREVENTS = {
    "behaviour": "its extraction needs SciPy",
    "descriptors": "its extraction is not part of the chain's code",
    "embeddings": "its extraction runs a network of PyTorch (embeddings.network)",
    "features": "its vectors are in the user's files",
    "pictures": "its images are in the user's files",
    "scenes": "its extraction runs a network of PyTorch (scenes.network)",
    "sound_descriptors": "its extraction needs librosa, openSMILE or Resemblyzer",
    "speech": "its extraction runs a network of PyTorch (speech.network)",
    "text": "its extraction needs a transcript, and scikit-learn or a network of PyTorch",
    "voice": "its extraction needs SciPy",
    "waveform": "its extraction is not part of the chain's code",
}
"""What prevents the export of a stream's extraction, by name."""


def describe(predictor: Predictor) -> dict[str, Any]:
    """Return the contents of chain.json. Raises InputError for a stream or an encoder that can't be exported."""
    streams = {name: describe_arguments(name, info) for name, info in predictor.trained.streams.items()}
    packages = list(_PACKAGES)
    if "flow" in streams and streams["flow"]["arguments"]["backend"] == "torch":
        packages.append("numba")
    encoders: dict[str, Any] = {}
    for name, encoder in predictor.trained.network.settings_by_encoder.items():
        encoders[name] = {
            "take": encoder.take,
            "steps": encoder.steps,
            "images": isinstance(encoder, images.Settings),
            "shorter_side": encoder.shorter_side if isinstance(encoder, images.Settings) else None,
            "crop": encoder.crop if isinstance(encoder, images.Settings) else None,
            "reads": {
                reference: dict(zip(("stream", "array"), split_reference(reference), strict=True))
                | {part: export.name_input(name, reference, part) for part in ("values", "times")}
                for reference in encoder.reads
            },
        }
    return {
        "format": chain.FORMAT,
        "packages": packages,
        "seconds": list(predictor.trained.training.seconds),
        "streams": streams,
        "encoders": encoders,
        "targets": export.describe_targets(predictor.trained),
    }


def write_chain(predictor: Predictor, clip: Path, folder: Path) -> None:
    """Write the folder of a predictor's chain. clip: a clip of full length, which determines fixed numbers of steps.

    Raises InputError for a model that can't be exported.
    """
    description = describe(predictor)
    window = export.Window(
        predictor.trained.network, predictor.trained.targets, inputs := export.windows_of(predictor, clip)[0]
    )
    parts = window.parts(inputs)
    assert parts is not None
    folder.mkdir(parents=True)
    metadata = {"estimates": description["targets"]}
    export.write_onnx(export.export_program(window, parts), window, folder / chain.NETWORK, metadata)
    if "faces" in description["streams"]:
        _write_mtcnn(folder)
    (folder / chain.DESCRIPTION).write_text(json.dumps(description, indent=1) + "\n")
    (folder / RUNNER).write_text(_PROGRAM)
    pins = export.list_versions(description["packages"])
    (folder / "requirements.txt").write_text("".join(f"{name}=={version}\n" for name, version in pins.items()))
    copy_code(folder / CODE)


def _write_mtcnn(folder: Path) -> None:
    """Write the three networks of face detection, for any number of images; the first one for images of any size."""
    sides = _SIDE, 24, 48
    for number, (name, network) in enumerate(
        zip(chain_streams.MTCNN, mtcnn.load_networks(torch.device("cpu")), strict=True)
    ):
        dynamic: dict[int, Any] = {0: torch.export.Dim("images")}
        if number == 0:
            dynamic |= {1: torch.export.Dim("height", min=12), 2: torch.export.Dim("width", min=12)}
        example = torch.zeros(2, sides[number], sides[number] + (8 if number == 0 else 0), 3)
        torch.onnx.export(
            network.layers.eval(),
            (example,),
            folder / name,
            input_names=["pictures"],
            output_names=["scores", "shifts"],
            dynamic_shapes=(dynamic,),
            external_data=False,
            verbose=False,
        )


def copy_code(folder: Path) -> None:
    """Copy the modules that `lib.serving.chain` imports. Their packages get empty `__init__.py`."""
    for path in sorted(list_modules("lib.serving.chain")):
        copy = folder / path.relative_to(_ROOT)
        for parent in copy.relative_to(folder).parents:
            (folder / parent).mkdir(parents=True, exist_ok=True)
            if parent != Path():
                (folder / parent / "__init__.py").touch()
        shutil.copy2(path, copy)


def list_modules(name: str) -> set[Path]:
    """Return the files of a module and of all modules of this project that it imports, without those of packages."""
    files, todo = set[Path](), [name]
    while todo:
        path = _ROOT.joinpath(*todo.pop().split(".")).with_suffix(".py")
        if path.is_file() and path not in files:
            files.add(path)
            todo += _find_imports(ast.parse(path.read_text()))
    return files


def _find_imports(node: ast.AST) -> Iterator[str]:
    """Yield the modules that code imports, except for annotations (`if TYPE_CHECKING`)."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ImportFrom) and child.module:
            yield child.module
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        elif not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield from _find_imports(child)


def measure_difference(predictor: Predictor, folder: Path, clips: list[Path]) -> float:
    """Return the largest difference between the scores of the predictor and of the exported chain, in the labels' units.

    Raises InputError if only one of them rejects a clip.
    """
    run, largest = chain.Chain(folder), 0.0
    for clip in clips:
        expected, exported = predictor(clip), run(clip)
        if bool(expected.rejected) != bool(exported["rejected"]):
            reason = exported["rejected"] or expected.rejected
            raise InputError(f"only one of PyTorch and the exported chain rejects {clip}: {reason}")
        largest = max([largest, *_differences(expected.targets, exported["targets"])])
    return largest


def _differences(expected: Mapping[str, Any], exported: Mapping[str, Any]) -> Iterator[float]:
    for group, estimates in expected.items():
        for column, estimate in estimates.items():
            yield abs(estimate.score - exported[group][column]["score"])
