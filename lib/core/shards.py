"""HDF5 shards: one file for each sub-folder of the corpus, in it one group for each clip, arrays with time first."""

import logging
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from tqdm import tqdm

from lib.core import parallel, resume
from lib.core.errors import InputError
from lib.core.parallel import Parallel

_PARTIAL, _COUNT = ".partial", ".count"


@dataclass(frozen=True)
class Record:
    """What a shard holds of one clip: arrays and attributes, or the reason why it is refused."""

    clip: str
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    refused: str = ""


def build(
    stage: str,
    out: Path,
    inputs: Mapping[str, Any],
    parameters: Mapping[str, Any],
    make: Callable[[str], Iterable[Record]],
    clips: int,
    settings: Parallel,
    gpu: bool = False,
) -> float:
    """Write `out`/NAME.h5 from `make(NAME)` for each shard name in `inputs`, keep what is already made; return seconds.

    `inputs[NAME]` (JSON-able) tells what the shard is made from: with the same inputs, parameters and code a shard made
    by an earlier, even an interrupted run is taken as it is. `make` runs in other processes (`lib.parallel`), and on a
    GPU if `gpu`. `clips` is the total for the progress bar.
    Raises InputError if a shard can't be made; what is finished is kept.
    """
    started = time.perf_counter()
    folder = resume.ROOT / stage
    folder.mkdir(parents=True, exist_ok=True)
    script = f"stages.{stage}"
    made = {
        name: folder / f"{name}-{resume.fingerprint([script], parameters, inputs[name])}.h5" for name in sorted(inputs)
    }
    todo = {name: path for name, path in made.items() if not path.exists()}
    for left_over in (*folder.glob(f"*{_PARTIAL}"), *folder.glob(f"*{_COUNT}")):
        left_over.unlink()
    if todo:
        kept = sum(len(clip_names(path)) for name, path in made.items() if name not in todo)
        bar = tqdm(total=clips, initial=kept, desc=stage, unit="clip", disable=None)
        with bar, parallel.executor(settings, gpu) as executor:
            _watch(stage, {executor.submit(_make, path, make, name): name for name, path in todo.items()}, folder, bar)
    resume.publish([(path, Path(f"{name}.h5")) for name, path in made.items()], out)
    for stale in set(folder.iterdir()) - set(made.values()):
        stale.unlink()
    return round(time.perf_counter() - started, 1)


def _make(path: Path, make: Callable[[str], Iterable[Record]], name: str) -> tuple[int, int, float]:
    """Write a shard under another name, and give it its own when it is whole; return clips, refused clips, seconds."""
    started = time.perf_counter()
    partial = path.with_name(f"{path.stem}.{socket.gethostname()}.{os.getpid()}{_PARTIAL}")
    clips = refused = 0
    with h5py.File(partial, "w", libver="latest") as file:
        for record in make(name):
            _write(file, record)
            clips, refused = clips + 1, refused + bool(record.refused)
            path.with_suffix(_COUNT).write_text(str(clips))
    resume.keep(partial, path)
    return clips, refused, time.perf_counter() - started


def _watch(stage: str, running: dict[Future, str], folder: Path, bar: tqdm) -> None:
    """Wait for all tasks and show their clips as they come. Raises InputError for the first that fails."""
    log, kept = logging.getLogger(stage), bar.n
    while running:
        for future in wait(running, timeout=0.5, return_when=FIRST_COMPLETED).done:
            name = running.pop(future)
            try:
                clips, refused, seconds = future.result()
            except Exception as error:
                if parallel.died(error):
                    said = "its worker was killed; if memory ran out, lower parallel.workers in params.yaml"
                elif isinstance(error, OSError | MemoryError) or "file write failed" in str(error):  # h5py on closing
                    said = f"{type(error).__name__}: {' '.join(str(error).split())}"
                elif "deserialization" in str(error):  # Dask's
                    said = "the scheduler or a worker can't import lib: start them in this folder by `python -m dask`"
                else:
                    raise
                raise InputError(f"{stage}: shard {name}: {said}. Finished shards are kept") from error
            log.info("%s: %d clips, %d refused, %.1f s; %d shards to do", name, clips, refused, seconds, len(running))
        bar.update(kept + sum(int(path.read_text() or 0) for path in folder.glob(f"*{_COUNT}")) - bar.n)


def inputs_from(folder: Path) -> dict[str, str]:
    """Return, for a stage that makes shards from shards, each shard's name and its file's sha256."""
    return {path.stem: resume.sha256(path) for path in sorted(folder.glob("*.h5"))}


def clip_names(path: Path) -> list[str]:
    """Return the names of a shard's clips, refused ones too."""
    with h5py.File(path) as file:
        return list(file)


def count_clips(folder: Path) -> int:
    """Return how many clips the shards of a folder hold, refused ones too."""
    return sum(len(clip_names(path)) for path in folder.glob("*.h5"))


def read(path: Path) -> Iterator[Record]:
    """Yield a shard's clips in order of name, arrays in memory."""
    with h5py.File(path) as file:
        for clip, group in file.items():
            attributes = dict(group.attrs)
            refused = attributes.pop("refused", "")
            yield Record(clip, {name: data[()] for name, data in group.items()}, attributes, refused)


def column(folder: Path, name: str) -> Iterator[np.ndarray]:
    """Yield the array `name` of each clip that is not refused, without reading the clip's other arrays."""
    return (group[name][()] for group in _groups(folder))


def attribute(folder: Path, name: str) -> Iterator[Any]:
    """Yield the attribute `name` of each clip that is not refused, without reading any array."""
    return (group.attrs[name] for group in _groups(folder))


def refusals(folder: Path) -> dict[str, str]:
    """Return the refused clips of a folder of shards and their reasons."""
    refused: dict[str, str] = {}
    for path in sorted(folder.glob("*.h5")):
        with h5py.File(path) as file:
            refused |= {clip: group.attrs["refused"] for clip, group in file.items() if "refused" in group.attrs}
    return refused


def _groups(folder: Path) -> Iterator[h5py.Group]:
    for path in sorted(folder.glob("*.h5")):
        with h5py.File(path) as file:
            yield from (group for group in file.values() if "refused" not in group.attrs)


def _write(file: h5py.File, record: Record) -> None:
    group = file.create_group(record.clip)
    if record.refused:
        group.attrs["refused"] = record.refused
        return
    for name, value in record.attributes.items():
        group.attrs[name] = value
    for name, array in sorted(record.arrays.items()):
        if array.ndim < 3:
            dataset = group.create_dataset(name, data=array, track_times=False)
        else:  # pictures and flows: one chunk a time step, so that a few steps can be read alone
            chunks = (1, *array.shape[1:])
            dataset = group.create_dataset(name, data=array, chunks=chunks, compression="gzip", track_times=False)
        dataset.flush()  # else where its bytes lie depends on when Python frees it: a profiler, as Dask's, delays that
