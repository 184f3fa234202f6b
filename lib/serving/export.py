"""Export a trained network for one window of a clip, as an ONNX file or a PyTorch program."""

import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from traceback import extract_tb
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim

from lib.core.errors import InputError
from lib.core.targets import Targets
from lib.data.batch import Inputs
from lib.model.checkpoint import TrainedModel
from lib.model.committee import Committee
from lib.model.heads import find_head
from lib.model.network import Network
from lib.model.onnx_recurrent import make_translations
from lib.model.recurrent import Last
from lib.serving.estimates import find_bounds
from lib.serving.predictor import Predictor
from lib.serving.results import Evidence
from lib.streams.base import Steps

if TYPE_CHECKING:
    from torch.export import ExportedProgram

_COLOUR = re.compile(r"\x1b\[\d*m")
_ROOT = Path(__file__).parents[2]


def windows_of(predictor: Predictor, clip: Path) -> list[Inputs]:
    """Return the network's inputs for each window of a clip. Raises InputError if the clip is rejected or lacks a stream."""
    evidence: list[Evidence] = []
    prediction = predictor(clip, evidence.append)
    if prediction.rejected:
        raise InputError(f"{clip} is rejected: {prediction.rejected}; choose another clip")
    inputs = [window.inputs for window in evidence]
    for window_inputs in inputs:
        for encoder, streams in window_inputs.items():
            if not all(bool(steps.present.any()) for steps in streams.values()):
                raise InputError(f"{clip} has no input for the encoder {encoder}; choose a clip with all streams")
    return inputs


def name_input(encoder: str, reference: str, part: str) -> str:
    """Return the name of a network's input: part `values` or `times` of a stream that an encoder reads."""
    return f"{encoder}_{reference.replace('.', '_')}_{part}"


def describe_targets(model: TrainedModel) -> dict[str, Any]:
    """Return tables for intervals and percentiles by target group.

    bounds: ends of intervals, null for unbounded heads. level: of the intervals. columns: by name, `half_width` of the
    interval (times the scale for heads that predict one), and the 101 `quantiles` of the training labels; null if unknown.
    """
    groups = {}
    for name, group in model.targets.items():
        reference = model.training.references.get(name)
        columns: dict[str, Any] = dict.fromkeys(group.columns)
        for index, column in enumerate(group.columns if reference is not None else ()):
            assert reference is not None
            width, quantiles = reference.half_widths[index], reference.quantiles[:, index]
            columns[column] = {
                "half_width": float(width) if bool(width.isfinite()) else None,
                "quantiles": quantiles.tolist() if bool(quantiles.isfinite().all()) else None,
            }
        groups[name] = {"bounds": find_bounds(group), "level": model.interval, "columns": columns}
    return groups


def list_versions(packages: Sequence[str]) -> dict[str, str]:
    """Return the installed versions of packages."""
    return {name: version(name) for name in packages}


class Window(nn.Module):
    """A network whose inputs are separate tensors: the values and times of each stream's steps, for one clip.

    like: inputs of a clip that has all streams, which determine the shapes.
    """

    def __init__(self, network: Network | Committee, targets: Targets, like: Inputs) -> None:
        super().__init__()
        self.network, self.targets = network, targets
        self._reads = [
            (name, reference, steps.values.shape)
            for name, streams in like.items()
            for reference, steps in streams.items()
        ]
        self.names = [
            name_input(name, reference, part) for name, reference, _ in self._reads for part in ("values", "times")
        ]

    def forward(self, *parts: Tensor) -> tuple[Tensor, ...]:
        """Return the values (1, K) of each target group in the labels' units, then the scales of heads that predict them."""
        inputs: Inputs = {}
        for (name, reference, _), values, times in zip(self._reads, parts[::2], parts[1::2], strict=True):
            inputs.setdefault(name, {})[reference] = Steps(values, times, torch.ones_like(times, dtype=torch.bool))
        output = self.network(inputs).predictions
        predictions = [output[name].from_unit(group) for name, group in self.targets.items()]
        scales = [prediction.scale for prediction in predictions if prediction.scale is not None]
        return tuple([prediction.mean for prediction in predictions] + scales)

    @property
    def outputs(self) -> list[str]:
        """Return the names of the tensors that `forward` returns."""
        return [*self.targets, *(f"{name}_scale" for name, group in self.targets.items() if find_head(group).scaled)]

    def parts(self, inputs: Inputs) -> tuple[Tensor, ...] | None:
        """Return a clip's tensors, or None if its numbers of steps differ."""
        parts: list[Tensor] = []
        for name, reference, shape in self._reads:
            steps = inputs[name][reference]
            if steps.values.shape != shape or not bool(steps.present.all()):
                return None
            parts += [steps.values, steps.times]
        return tuple(parts)


def export_program(window: Window, like: tuple[Tensor, ...], onnx: bool = True) -> "ExportedProgram":
    """Return the window's network as a program, for any number of clips, and of steps where the network allows it.

    onnx: whether the program will be written as ONNX; other programs take one clip with as many steps. Raises InputError if
    PyTorch can't export it.
    """
    for module in window.modules():
        if isinstance(module, Last):
            module.as_operator = onnx
    twice = tuple(torch.cat([part, part]) for part in like)  # PyTorch would fix a batch of 1
    sizes = tuple({0: Dim.AUTO, 1: Dim.AUTO} for _ in like)
    try:
        with torch.no_grad():
            if not onnx:  # its guards would reject a single clip
                return torch.export.export(window, like)
            program = torch.export.export(window, twice, dynamic_shapes=(sizes,))
            return program if _takes_any_batch(program) else torch.export.export(window, like)
    except Exception as error:  # torch.export raises errors of many types
        raise InputError(
            f"this network can't be exported{_find_code(error)} ({type(error).__name__}: {_line(error)})"
        ) from None


def _takes_any_batch(program: "ExportedProgram") -> bool:
    inputs = set(program.graph_signature.user_inputs)
    shapes = [node.meta["val"].shape for node in program.graph.nodes if node.name in inputs]
    return not any(isinstance(shape[0], int) for shape in shapes)


def write_torch(
    program: "ExportedProgram", out: Path, metadata: Mapping[str, Any]
) -> Callable[..., Sequence[np.ndarray]]:
    """Write a program for torch.export.load, and return a function that runs the file."""
    torch.export.save(program, out, extra_files={"about.json": json.dumps(metadata)})
    run = torch.export.load(out).module()
    return lambda *parts: [output.detach().numpy() for output in run(*parts)]


def save_inputs(window: Window, windows: Sequence[tuple[Tensor, ...]], out: Path) -> None:
    """Write the inputs (B, T, ...) of windows by name, as NPZ."""
    arrays = [torch.cat(parts).numpy() for parts in zip(*windows, strict=True)]
    np.savez(out, **dict(zip(window.names, arrays, strict=True)))  # type: ignore[arg-type]


def require_onnx() -> None:
    """Raise InputError if a package for ONNX is missing."""
    for package in ("onnxruntime", "onnxscript"):
        if find_spec(package) is None:
            raise InputError(f"{package} is not installed; run pip install -r requirements-export.txt")


def write_onnx(
    program: "ExportedProgram", window: Window, out: Path, metadata: Mapping[str, Any]
) -> Callable[..., Sequence[np.ndarray]]:
    """Write an ONNX file, and return a function that runs it by ONNX Runtime.

    Raises InputError if the network can't be converted or a package is missing.
    """
    require_onnx()
    import onnxruntime

    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    try:
        program_file = torch.onnx.export(
            program,
            input_names=window.names,
            output_names=window.outputs,
            custom_translation_table=make_translations(),
            verbose=False,
        )
    except Exception as error:  # for instance, an operator that ONNX does not have
        raise InputError(f"this network can't be written as ONNX ({type(error).__name__}: {_line(error)})") from None
    assert program_file is not None
    program_file.model.metadata_props.update({key: json.dumps(value) for key, value in metadata.items()})
    program_file.save(out)
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    input_names = {node.name for node in session.get_inputs()}  # ONNX removes unused inputs

    def run(*parts: Tensor) -> Sequence[np.ndarray]:
        inputs = {name: part.numpy() for name, part in zip(window.names, parts, strict=True) if name in input_names}
        return session.run(None, inputs)

    return run


@torch.no_grad()
def measure_difference(
    window: Window, run: Callable[..., Sequence[np.ndarray]], windows: Sequence[tuple[Tensor, ...]]
) -> float:
    """Return the largest difference between the network and the exported file, in the labels' units."""
    pairs = ((*pair,) for parts in windows for pair in zip(run(*parts), window(*parts), strict=True))
    return max(float(np.abs(values - expected.numpy()).max()) for values, expected in pairs)


def _find_code(error: Exception) -> str:
    """Return the place in this project and the code of the operation that raised an error, or "" if it was elsewhere."""
    places = [frame for frame in extract_tb(error.__traceback__) if Path(frame.filename).is_relative_to(_ROOT / "lib")]
    frame = places[-1]
    if frame.filename == __file__:
        return ""
    return f" because of {Path(frame.filename).relative_to(_ROOT)}, line {frame.lineno}: `{frame.line}`"


def _line(error: BaseException) -> str:
    """Return the messages of an error and its causes in a line. The first cause is first, because it names the operator."""
    causes = [error]
    while (cause := causes[0].__cause__) is not None:
        causes.insert(0, cause)
    return "; ".join(" ".join(_COLOUR.sub("", str(cause)).split())[:300] for cause in causes)[:600]
