"""Export a trained network for one window of a clip, as an ONNX file or a PyTorch program."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from lib.core.errors import InputError
from lib.core.targets import Targets
from lib.data.batch import Inputs
from lib.model.committee import Committee
from lib.model.heads import find_head
from lib.model.network import Network
from lib.serving.predictor import Predictor
from lib.serving.results import Evidence
from lib.streams.base import Steps

if TYPE_CHECKING:
    from torch.export import ExportedProgram


def windows_of(predictor: Predictor, clip: Path) -> list[Inputs]:
    """Return the network's inputs for each window of a clip. Raises InputError if the clip is rejected or lacks a stream."""
    evidence: list[Evidence] = []
    prediction = predictor(clip, evidence.append)
    if prediction.refused:
        raise InputError(f"{clip} is rejected: {prediction.refused}; choose another clip")
    inputs = [window.inputs for window in evidence]
    for window_inputs in inputs:
        for encoder, streams in window_inputs.items():
            if not all(bool(steps.present.any()) for steps in streams.values()):
                raise InputError(f"{clip} has no input for the encoder {encoder}; choose a clip with all streams")
    return inputs


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
            f"{name}_{reference.replace('.', '_')}_{part}"
            for name, reference, _ in self._reads
            for part in ("values", "times")
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


def export_program(window: Window, like: tuple[Tensor, ...]) -> "ExportedProgram":
    """Return the window's network as a program. Raises InputError if PyTorch can't export it."""
    try:
        with torch.no_grad():
            return torch.export.export(window, like)
    except Exception as error:  # torch.export raises errors of many types
        raise InputError(f"this network can't be exported ({type(error).__name__}: {_line(error)})") from None


def write_torch(
    program: "ExportedProgram", out: Path, metadata: Mapping[str, Any]
) -> Callable[..., Sequence[np.ndarray]]:
    """Write a program for torch.export.load, and return a function that runs the file."""
    torch.export.save(program, out, extra_files={"about.json": json.dumps(metadata)})
    run = torch.export.load(out).module()
    return lambda *parts: [output.detach().numpy() for output in run(*parts)]


def write_onnx(
    program: "ExportedProgram", window: Window, out: Path, metadata: Mapping[str, Any]
) -> Callable[..., Sequence[np.ndarray]]:
    """Write an ONNX file, and return a function that runs it by ONNX Runtime.

    Raises InputError if the network can't be converted or a package is missing.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError(f"{error.name} is not installed; run pip install -r requirements-export.txt") from None
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    try:
        program_file = torch.onnx.export(program, input_names=window.names, output_names=window.outputs, verbose=False)
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


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
