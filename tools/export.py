"""Export a trained model's network for one window of a clip, as ONNX or as a PyTorch program, and check it.

The first clip sets how many steps of each stream a window has, T; those of the clips that have as many are predicted by the
network and by what was exported, which may differ by 1e-4 in the labels' units at most. Making the streams from a clip is
not part of it, nor is what becomes of shorter clips and of clips without a stream.

Inputs are, for each stream that an encoder reads, ENCODER_STREAM_values (1, T, ...), pictures in [0, 1], and _times (1, T)
in seconds; outputs are the target groups, (1, K). The file has the streams' settings and the targets' names: ONNX in its
metadata, PyTorch in about.json.

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
_SUFFIX = {"onnx": ".onnx", "torch": ".pt2"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "clips", nargs="+", type=Path, metavar="CLIP", help="a video file no longer than those of training"
    )
    parser.add_argument("--model", type=Path, default=MODEL, help="a trained model (%(default)s)")
    parser.add_argument("--format", choices=_SUFFIX, default="onnx", help="(%(default)s)")
    parser.add_argument("--out", type=Path, help="(the model's path with the ending .onnx or .pt2)")
    arguments = parser.parse_args()
    out = arguments.out or arguments.model.with_suffix(_SUFFIX[arguments.format])
    if out.suffix != _SUFFIX[arguments.format] or not out.parent.is_dir():
        raise InputError(
            f"--out {out}; allowed: a path that ends in {_SUFFIX[arguments.format]}, in a folder that is there"
        )
    predictor = Predictor(arguments.model, torch.device("cpu"))
    windows = [window for clip in arguments.clips for window in windows_of(predictor, clip)]
    window = Window(predictor.served.network, predictor.served.targets, windows[0])
    same = [one for one in map(window.parts, windows) if one is not None]
    if not same:
        raise InputError(f"{arguments.clips[0]} is shorter than what the network takes; give one of full length first")
    program = exported(window, same[0])
    about = {
        "targets": {name: group.model_dump() for name, group in predictor.served.targets.items()},
        "streams": {name: made._asdict() for name, made in predictor.served.streams.items()},
    }
    run = write_onnx(program, window, out, about) if arguments.format == "onnx" else write_torch(program, out, about)
    error = checked(window, run, same)
    print(f"{out}: {len(same)} of {len(windows)} windows have these steps; at most {error:.1e} from the network")
    for name, part in zip(window.names, same[0], strict=True):
        print(f"  {name} {tuple(part.shape)} {str(part.dtype).removeprefix('torch.')}")
    if error > MOST:
        raise InputError(f"{out} differs from the network by {error:.1e}; allowed: {MOST:.0e}")


def windows_of(predictor: Predictor, clip: Path) -> list[Inputs]:
    """Return what the network is given of a clip. Raises InputError if the clip is refused, or lacks a stream."""
    seen: list[Evidence] = []
    prediction = predictor(clip, seen.append)
    if prediction.refused:
        raise InputError(f"{clip} is refused: {prediction.refused}")
    inputs = [one.inputs for one in seen]
    for of_window in inputs:
        for encoder, read in of_window.items():
            if not all(bool(steps.present.any()) for steps in read.values()):
                raise InputError(f"{clip} has no step for the encoder {encoder}; what is exported needs one of each")
    return inputs


class Window(nn.Module):
    """A network that takes what it reads as single tensors, values and times of the steps of each stream, of one clip that
    has all; `like` is such a clip."""

    def __init__(self, network: Network, targets: Targets, like: Inputs) -> None:
        super().__init__()
        self.network, self.targets = network, targets
        self._reads = [(name, of, steps.values.shape) for name, read in like.items() for of, steps in read.items()]
        self.names = [
            f"{name}_{of.replace('.', '_')}_{part}" for name, of, _ in self._reads for part in ("values", "times")
        ]

    def forward(self, *parts: Tensor) -> tuple[Tensor, ...]:
        """Return the values (1, K) of each target group in the labels' units, then the scales of the heads that have one."""
        inputs: Inputs = {}
        for (name, of, _), values, times in zip(self._reads, parts[::2], parts[1::2], strict=True):
            inputs.setdefault(name, {})[of] = Steps(values, times, torch.ones_like(times, dtype=torch.bool))
        output = self.network(inputs).predictions
        found = [output[name].from_unit(group) for name, group in self.targets.items()]
        return tuple([prediction.mean for prediction in found] + [one.scale for one in found if one.scale is not None])

    @property
    def outputs(self) -> list[str]:
        """Names of what `forward` returns."""
        return [*self.targets, *(f"{name}_scale" for name, group in self.targets.items() if find_head(group).scaled)]

    def parts(self, inputs: Inputs) -> tuple[Tensor, ...] | None:
        """Return a clip's tensors, None if it has other numbers of steps."""
        parts: list[Tensor] = []
        for name, of, shape in self._reads:
            steps = inputs[name][of]
            if steps.values.shape != shape or not bool(steps.present.all()):
                return None
            parts += [steps.values, steps.times]
        return tuple(parts)


def exported(window: Window, like: tuple[Tensor, ...]) -> "ExportedProgram":
    """Return the window's network as a program. Raises InputError if PyTorch can't make one of it."""
    try:
        with torch.no_grad():
            return torch.export.export(window, like)
    except Exception as error:  # of any kind: what can't be exported is found on the way
        raise InputError(f"this network can't be exported ({type(error).__name__}: {_line(error)})") from None


def write_torch(program: "ExportedProgram", out: Path, about: Mapping[str, Any]) -> Callable[..., Sequence[np.ndarray]]:
    """Write a program for torch.export.load, and return what runs the file."""
    torch.export.save(program, out, extra_files={"about.json": json.dumps(about)})
    run = torch.export.load(out).module()
    return lambda *parts: [one.detach().numpy() for one in run(*parts)]


def write_onnx(
    program: "ExportedProgram", window: Window, out: Path, about: Mapping[str, Any]
) -> Callable[..., Sequence[np.ndarray]]:
    """Write an ONNX file, and return what runs it, by ONNX Runtime. Raises InputError if it can't be made, or without its
    packages."""
    try:
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError(f"{error.name} is not installed; pip install -r requirements-export.txt") from None
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    try:
        made = torch.onnx.export(program, input_names=window.names, output_names=window.outputs, verbose=False)
    except Exception as error:  # an operator that ONNX lacks
        raise InputError(f"this network can't be written as ONNX ({type(error).__name__}: {_line(error)})") from None
    assert made is not None
    made.model.metadata_props.update({key: json.dumps(value) for key, value in about.items()})
    made.save(out)
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    taken = {one.name for one in session.get_inputs()}  # an input that changes nothing is left out

    def run(*parts: Tensor) -> Sequence[np.ndarray]:
        given = {name: part.numpy() for name, part in zip(window.names, parts, strict=True) if name in taken}
        return session.run(None, given)

    return run


@torch.no_grad()
def checked(window: Window, run: Callable[..., Sequence[np.ndarray]], windows: Sequence[tuple[Tensor, ...]]) -> float:
    """Return the largest difference, in the labels' units, of what was exported from the network as it predicts."""
    each = ((values, of.numpy()) for parts in windows for values, of in zip(run(*parts), window(*parts), strict=True))
    return max(float(np.abs(values - expected).max()) for values, expected in each)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


if __name__ == "__main__":
    command.run(main)
