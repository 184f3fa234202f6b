"""Export the network of a trained model for one window of a clip, as an ONNX file or a PyTorch program, and check it.

The first clip determines T, the number of steps of each stream in a window. As a check, all windows of the clips with T
steps are predicted by the network and by the exported file. The results may differ by at most 1e-4 in the labels' units.
The exported file does not include the extraction of streams from a clip, nor the treatment of shorter clips and of clips
without a stream.

For each stream that an encoder reads, the inputs are ENCODER_STREAM_values (1, T, ...), images in [0, 1], and
ENCODER_STREAM_times (1, T) in seconds. The outputs are the target groups (1, K). The settings of the streams and the names
of the targets are in the metadata of an ONNX file, or in about.json of a PyTorch program.

examples:
  python -m tools.export talk.mp4 --format onnx
  python -m tools.export interviews/*.mp4 --format torch --out model.pt2
"""

import argparse
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from lib.core import command
from lib.core.artifacts import MODEL
from lib.core.errors import InputError
from lib.core.targets import Targets
from lib.data.batch import Inputs
from lib.model.heads import find_head
from lib.model.network import Network
from lib.serving.predictor import Predictor
from lib.serving.results import Evidence
from lib.streams.base import Steps

if TYPE_CHECKING:
    from torch.export import ExportedProgram

MOST = 1e-4
"""Largest allowed difference between the network and the exported file, in the labels' units."""
_SUFFIX = {"onnx": ".onnx", "torch": ".pt2"}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "clips",
        nargs="+",
        type=Path,
        metavar="CLIP",
        help="video file; the first must be as long as the training clips",
    )
    parser.add_argument("--model", type=Path, default=MODEL, help="trained model (%(default)s)")
    parser.add_argument("--format", choices=_SUFFIX, default="onnx", help="format of the output file (%(default)s)")
    parser.add_argument("--out", type=Path, help="output file (the model's path with the suffix .onnx or .pt2)")
    arguments = parser.parse_args()
    out = arguments.out or arguments.model.with_suffix(_SUFFIX[arguments.format])
    if out.suffix != _SUFFIX[arguments.format] or not out.parent.is_dir():
        raise InputError(
            f"--out {out}; allowed: a path that ends in {_SUFFIX[arguments.format]}, in an existing folder"
        )
    predictor = Predictor(arguments.model, torch.device("cpu"))
    windows = [window for clip in arguments.clips for window in windows_of(predictor, clip)]
    window = Window(predictor.served.network, predictor.served.targets, windows[0])
    complete_windows = [parts for parts in map(window.parts, windows) if parts is not None]
    if not complete_windows:
        raise InputError(
            f"{arguments.clips[0]} is shorter than the network's input; the first clip must be as long as the training clips"
        )
    program = export_program(window, complete_windows[0])
    metadata = {
        "targets": {name: group.model_dump() for name, group in predictor.served.targets.items()},
        "streams": {name: stream._asdict() for name, stream in predictor.served.streams.items()},
    }
    run = (
        write_onnx(program, window, out, metadata)
        if arguments.format == "onnx"
        else write_torch(program, out, metadata)
    )
    error = measure_difference(window, run, complete_windows)
    print(
        f"{out}: checked on {len(complete_windows)} of {len(windows)} windows; largest difference from the network"
        f" {error:.1e}. Inputs:"
    )
    for name, part in zip(window.names, complete_windows[0], strict=True):
        print(f"  {name} {tuple(part.shape)} {str(part.dtype).removeprefix('torch.')}")
    if error > MOST:
        raise InputError(f"{out} differs from the network by {error:.1e}; allowed: {MOST:.0e}. Do not use the file")


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

    def __init__(self, network: Network, targets: Targets, like: Inputs) -> None:
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


if __name__ == "__main__":
    command.run(main)
