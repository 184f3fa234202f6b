"""Export the network of a trained model, or a stream of vectors, for other programs.

Network: as an ONNX file or a PyTorch program, and check it. As a check, all windows of the clips with T steps, as many as
the first clip has, are predicted by the network and by the exported file. The results may differ by at most 1e-4 in the
labels' units. The exported file does not include the extraction of streams from a clip, nor clips without a stream.

For each stream that an encoder reads, the inputs are ENCODER_STREAM_values (B, T, ...), images in [0, 1], and
ENCODER_STREAM_times (B, T) in seconds. In an ONNX file, the number of clips B and, unless its shapes say otherwise, the
numbers of steps T are free; a PyTorch program takes one clip with T steps. The outputs are the target groups (B, K). The
settings of the streams, the names of the targets, and tables for intervals and percentiles are in the metadata of an ONNX
file, or in about.json of a PyTorch program.
--save-inputs writes the inputs of the checked windows, for tests of another program.

Chain (--chain FOLDER): the network as ONNX, face detection as ONNX, chain.json, which describes what lies between, and
predict.py with the code that it needs. It runs without this project and without PyTorch, after
pip install -r FOLDER/requirements.txt. Its scores of the clips are compared with those of PyTorch.

Stream (--stream): the vectors of all clips in data/, as npz (by clip an array, and its times in seconds as CLIP:times),
parquet (a row for each step: clip, seconds, v0, v1, ...) or pt (a folder with CLIP.pt for each clip, as the published
EmoNeXt code writes it: emb, length; and times) or csv (a row for each step: clip, frame, timestamp, success, and the
measures by name, with OpenFace's names and units where the meaning is the same; for behaviour and voice OUT.clips.csv has a
row for each clip). The settings, versions, numbers of steps and rejected clips are in OUT.json.
The stream `features` reads npz, parquet and pt, and the table of clips.

examples:
  python -m tools.export talk.mp4 --format onnx
  python -m tools.export interviews/*.mp4 --format torch --out model.pt2
  python -m tools.export talk.mp4 --save-inputs inputs.npz
  python -m tools.export talk.mp4 --chain chain
  python -m tools.export --stream embeddings --format npz
  python -m tools.export --stream text.hashing --format pt --out vectors
  python -m tools.export --stream behaviour --format csv
"""

import argparse
from pathlib import Path

from lib.core import command, interrupts
from lib.core.artifacts import DATA, MODEL
from lib.core.errors import InputError

MOST = 1e-4
"""Largest allowed difference between the network and the exported file, in the labels' units."""
_SUFFIX = {"onnx": ".onnx", "torch": ".pt2"}
_STREAM_SUFFIX = {"npz": ".npz", "parquet": ".parquet", "pt": "", "csv": ".csv"}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "clips",
        nargs="*",
        type=Path,
        metavar="CLIP",
        help="video file; the first must be as long as the training clips",
    )
    parser.add_argument("--stream", metavar="NAME", help="export this stream, or STREAM.ARRAY, and no network")
    parser.add_argument("--model", type=Path, default=MODEL, help="trained model (%(default)s)")
    parser.add_argument(
        "--format",
        choices=[*_SUFFIX, *_STREAM_SUFFIX],
        help="format of the output: onnx (default) or torch for a network, npz (default), parquet, pt or csv for a stream",
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="output file (the model's path with the suffix .onnx or .pt2; data/export/NAME for a stream)",
    )
    parser.add_argument("--save-inputs", type=Path, metavar="FILE.npz", help="write the inputs of the checked windows")
    parser.add_argument("--chain", type=Path, metavar="FOLDER", help="export the complete chain to this new folder")
    arguments = parser.parse_args()
    if arguments.stream is not None:
        export_stream(arguments)
    elif arguments.chain is not None:
        export_chain(arguments)
    else:
        export_network(arguments)


def find_out(arguments: argparse.Namespace, suffixes: dict[str, str], default: Path) -> tuple[str, Path]:
    """Return the format and the path of the output. Raises InputError for a format or a path that does not fit."""
    file_format = arguments.format or next(iter(suffixes))
    kind = "a network" if arguments.stream is None else "a stream (--stream)"
    if file_format not in suffixes:
        raise InputError(f"--format {file_format}; allowed for {kind}: {', '.join(suffixes)}")
    suffix = suffixes[file_format]
    out = arguments.out or default.with_name(default.name + suffix)
    if (out.suffix != suffix and suffix) or (arguments.out and not out.parent.is_dir()):
        raise InputError(
            f"--out {out}; allowed: a path{f' that ends in {suffix}' if suffix else ''}, in an existing folder"
        )
    return file_format, out


def export_stream(arguments: argparse.Namespace) -> None:
    """Write a stream's vectors and their provenance."""
    if arguments.clips:
        raise InputError(
            f"--stream {arguments.stream} with {arguments.clips[0]}; allowed: all clips of data/; give no clip"
        )
    file_format, out = find_out(arguments, _STREAM_SUFFIX, DATA / "export" / arguments.stream)
    if file_format == "pt" and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(
            f"--out {out} exists; allowed for pt: a new or an empty folder; remove it, or choose another --out"
        )
    from lib.data import export

    out.parent.mkdir(parents=True, exist_ok=True)
    clips = export.write_vectors(DATA, arguments.stream, file_format, out)
    print(
        f"{out}: the vectors of {clips} clips; {out.name}.json next to it has their settings, versions and rejected clips"
    )


def export_chain(arguments: argparse.Namespace) -> None:
    """Write the folder of the complete chain, and compare its scores with PyTorch's."""
    folder = arguments.chain
    if not arguments.clips or arguments.format or arguments.out or arguments.save_inputs:
        raise InputError("--chain takes clips and --model only; give a clip of full length, and no other option")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"--chain {folder} exists; allowed: a new or an empty folder; remove it, or choose another")
    with interrupts.loading():
        import torch

        from lib.serving import export
        from lib.serving.predictor import Predictor

        export.require_onnx()
        from lib.serving import export_chain  # it needs the packages of requirements-export.txt
    predictor = Predictor(arguments.model, torch.device("cpu"))
    export_chain.write_chain(predictor, arguments.clips[0], folder)
    error = export_chain.measure_difference(predictor, folder, arguments.clips)
    print(
        f"{folder}: scores of {len(arguments.clips)} clip(s) differ by at most {error:.1e} from PyTorch's. Run"
        f" pip install -r {folder}/requirements.txt and python {folder}/{export_chain.RUNNER} CLIP"
    )
    check_error(error, folder, "PyTorch")


def check_error(error: float, out: Path, other: str) -> None:
    """Raise InputError if the difference from `other` is too large."""
    if error > MOST:
        raise InputError(f"{out} differs from {other} by {error:.1e}; allowed: {MOST:.0e}. Do not use it")


def export_network(arguments: argparse.Namespace) -> None:
    """Write the network of a trained model, and compare it with the original."""
    if not arguments.clips:
        raise InputError("no CLIP; allowed: one or several video files, or --stream NAME; give a clip of full length")
    file_format, out = find_out(arguments, _SUFFIX, arguments.model.with_suffix(""))
    with interrupts.loading():  # they take seconds to load, and --help needs none of them
        import torch

        from lib.serving import export
        from lib.serving.predictor import Predictor

    predictor = Predictor(arguments.model, torch.device("cpu"))
    windows = [window for clip in arguments.clips for window in export.windows_of(predictor, clip)]
    window = export.Window(predictor.trained.network, predictor.trained.targets, windows[0])
    complete_windows = [parts for parts in map(window.parts, windows) if parts is not None]
    if not complete_windows:
        raise InputError(
            f"{arguments.clips[0]} is shorter than the network's input; the first clip must be as long as the training clips"
        )
    program = export.export_program(window, complete_windows[0], onnx=file_format == "onnx")
    metadata = {
        "targets": {name: group.model_dump() for name, group in predictor.trained.targets.items()},
        "streams": {name: stream._asdict() for name, stream in predictor.trained.streams.items()},
        "estimates": export.describe_targets(predictor.trained),
    }
    run = (
        export.write_onnx(program, window, out, metadata)
        if file_format == "onnx"
        else export.write_torch(program, out, metadata)
    )
    error = export.measure_difference(window, run, complete_windows)
    print(
        f"{out}: checked on {len(complete_windows)} of {len(windows)} windows; largest difference from the network"
        f" {error:.1e}. Inputs:"
    )
    for name, part in zip(window.names, complete_windows[0], strict=True):
        print(f"  {name} {tuple(part.shape)} {str(part.dtype).removeprefix('torch.')}")
    if arguments.save_inputs:
        export.save_inputs(window, complete_windows, arguments.save_inputs)
    check_error(error, out, "the network")


if __name__ == "__main__":
    command.run(main)
