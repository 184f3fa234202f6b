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
from pathlib import Path

from lib.core import command, interrupts
from lib.core.artifacts import MODEL
from lib.core.errors import InputError

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
    with interrupts.loading():  # they take seconds to load, and --help needs none of them
        import torch

        from lib.serving import export
        from lib.serving.predictor import Predictor

    predictor = Predictor(arguments.model, torch.device("cpu"))
    windows = [window for clip in arguments.clips for window in export.windows_of(predictor, clip)]
    window = export.Window(predictor.served.network, predictor.served.targets, windows[0])
    complete_windows = [parts for parts in map(window.parts, windows) if parts is not None]
    if not complete_windows:
        raise InputError(
            f"{arguments.clips[0]} is shorter than the network's input; the first clip must be as long as the training clips"
        )
    program = export.export_program(window, complete_windows[0])
    metadata = {
        "targets": {name: group.model_dump() for name, group in predictor.served.targets.items()},
        "streams": {name: stream._asdict() for name, stream in predictor.served.streams.items()},
    }
    run = (
        export.write_onnx(program, window, out, metadata)
        if arguments.format == "onnx"
        else export.write_torch(program, out, metadata)
    )
    error = export.measure_difference(window, run, complete_windows)
    print(
        f"{out}: checked on {len(complete_windows)} of {len(windows)} windows; largest difference from the network"
        f" {error:.1e}. Inputs:"
    )
    for name, part in zip(window.names, complete_windows[0], strict=True):
        print(f"  {name} {tuple(part.shape)} {str(part.dtype).removeprefix('torch.')}")
    if error > MOST:
        raise InputError(f"{out} differs from the network by {error:.1e}; allowed: {MOST:.0e}. Do not use the file")


if __name__ == "__main__":
    command.run(main)
