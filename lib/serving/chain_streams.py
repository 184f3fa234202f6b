"""Extract the streams of a clip by ONNX Runtime, without PyTorch, from the arguments in an exported folder's chain.json."""

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lib.core.records import Record
from lib.media import jpeg_frames
from lib.streams import _spectra
from lib.streams.faces.align import Aligner
from lib.streams.faces.constants import read_faces
from lib.streams.faces.detect import Detector
from lib.streams.faces.points import find_landmarks, read_points
from lib.streams.flow import fields, opencv
from lib.streams.flow.solver import Solver

if TYPE_CHECKING:  # the repository imports this module without requirements-export.txt, too
    import onnxruntime

MTCNN = ("pnet.onnx", "rnet.onnx", "onet.onnx")
"""Files of the three networks of face detection."""

Extract = Callable[..., Record]


class Extraction(NamedTuple):
    """How a stream is extracted. make: takes the stream's arguments and the folder, and returns a function from the records
    of its inputs, or the clip, to its record. read: takes a record, indices of steps and the name of an array, and returns
    the steps' values."""

    make: Callable[[Mapping[str, Any], Path], Extract]
    read: Callable[[Record, np.ndarray, str], np.ndarray]


def open_network(path: Path, has_fixed_shapes: bool = False) -> "onnxruntime.InferenceSession":
    """Return an ONNX file's session on the CPU. has_fixed_shapes: whether memory of earlier inputs can be reused."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = count_threads()
    options.enable_cpu_mem_arena = options.enable_mem_pattern = has_fixed_shapes
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def count_threads() -> int:
    """Return the number of processors that this process can use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _make_frames(arguments: Mapping[str, Any], folder: Path) -> Extract:
    return partial(jpeg_frames.sample_frames, **arguments)


def _make_faces(arguments: Mapping[str, Any], folder: Path) -> Extract:
    networks = [partial(_run_network, open_network(folder / name)) for name in MTCNN]
    options = dict(arguments)
    return Aligner(detector=Detector(options.pop("min_face"), networks), person="main", **options)


def _run_network(session: "onnxruntime.InferenceSession", pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scores, shifts = session.run(None, {"pictures": pictures.astype(np.float32)})
    return scores, shifts


def _make_landmarks(arguments: Mapping[str, Any], folder: Path) -> Extract:
    return partial(find_landmarks, predict=None)


def _make_flow(arguments: Mapping[str, Any], folder: Path) -> Extract:
    solver = Solver(**arguments["solver"])
    if arguments["backend"] == "opencv":
        solve: fields.Solve = partial(opencv.tvl1, solver=solver)
    else:
        from lib.streams.flow import compiled  # the only module that needs Numba

        solve = partial(compiled.solve, solver=solver, threads=count_threads())
    return partial(fields.compute_flow, solve=solve, bound=arguments["bound"])


def _make_audio(arguments: Mapping[str, Any], folder: Path) -> Extract:
    return partial(_spectra.compute_features, bands=_spectra.Bands(**arguments))


def _read_array(record: Record, indices: np.ndarray, array: str) -> np.ndarray:
    values: np.ndarray = record.arrays[array][indices]
    return values


def _read_frames(record: Record, indices: np.ndarray, array: str) -> np.ndarray:
    return np.stack(jpeg_frames.decode_frames(record, indices)).transpose(0, 3, 1, 2)


EXTRACTIONS = {
    "frames": Extraction(_make_frames, _read_frames),
    "faces": Extraction(_make_faces, lambda record, indices, array: read_faces(record, indices)),
    "landmarks": Extraction(_make_landmarks, lambda record, indices, array: read_points(record, indices)),
    "flow": Extraction(_make_flow, lambda record, indices, array: fields.read_flow(record, indices)),
    "audio": Extraction(_make_audio, _read_array),
}
"""The streams that can be extracted, by name."""
