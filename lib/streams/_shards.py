"""Write a stream's shards in parallel processes; finished shards are reused."""

import json
import logging
import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path
from typing import Any, NamedTuple

import h5py
from tqdm import tqdm

from lib.core import parallel, resume, shards
from lib.core.errors import InputError, log_once
from lib.core.folders import describe_bytes
from lib.core.parallel import Parallel
from lib.core.pretrained import describe_cost
from lib.core.references import Joined
from lib.core.shards import Record
from lib.streams import base
from lib.streams.base import ABOUT, TRACEBACK, Stream, StreamSettings

_PARTIAL, _COUNT = ".partial", ".count"
_MEASURED = 4  # clips
_NOTED = 0.2  # seconds between notes of the number of clips


def write_shards(
    stream: Stream,
    settings: StreamSettings,
    out: Path,
    inputs: Mapping[str, Any],
    make: Callable[[str], Iterable[Record]],
    clips: int,
    options: Parallel,
) -> tuple[float, int]:
    """Write `out`/NAME.h5 from `make(NAME)` for each shard name in `inputs`; return seconds and the number of failed clips.

    `inputs[NAME]` (JSON-able) describes the shard's inputs. A shard of an earlier run, even an interrupted one, is reused if
    inputs, settings and code are the same; it is rebuilt if a clip failed. `make` runs in other processes, according to
    `options`. clips: total for the progress bar. Raises InputError if a shard can't be built; finished shards are kept.
    """
    with resume.lock_stage(stream.name):
        started = time.perf_counter()
        folder = resume.ROOT / stream.name
        folder.mkdir(parents=True, exist_ok=True)
        plan = plan_shards(stream, settings, folder, inputs)
        remove_leftovers(folder, plan.damaged)
        finished = len(plan.paths) - len(plan.todo)
        logging.getLogger(stream.name).info("%d shards are reused, %d are to be built", finished, len(plan.todo))
        failed = build_shards(stream, plan, make, clips, options) if plan.todo else {}
        for path in plan.damaged:
            resume.remove_from_cache(path)
        publish_shards(stream, settings, plan, out)
        remove_stale(folder, {path for name, path in plan.paths.items() if name not in failed})
        return round(time.perf_counter() - started, 1), sum(failed.values())


class Plan(NamedTuple):
    """paths: the file of each shard in `folder`, by name. todo: those to be built. damaged: unreadable files among these."""

    folder: Path
    paths: dict[str, Path]
    todo: dict[str, Path]
    damaged: list[Path]


def plan_shards(stream: Stream, settings: StreamSettings, folder: Path, inputs: Mapping[str, Any]) -> Plan:
    """Return which shards of `inputs` can be reused; a file's name contains the fingerprint of code, settings and inputs."""
    # `enabled` does not change the contents of a stream
    values = {**settings.model_dump(by_alias=True), "enabled": True}
    fingerprint = resume.fingerprint([stream.module, "lib.core.shards"], values)
    paths = {name: folder / f"{name}-{resume.fingerprint([], fingerprint, inputs[name])}.h5" for name in sorted(inputs)}
    todo = {name: path for name, path in paths.items() if not resume.is_complete(path)}
    return Plan(folder, paths, todo, [path for path in todo.values() if path.exists()])


def remove_leftovers(folder: Path, damaged: Iterable[Path]) -> None:
    """Remove damaged shards and the temporary files of interrupted runs."""
    for path in damaged:
        logging.getLogger(folder.name).warning("%s is damaged and will be rebuilt", path)
        path.unlink()  # not overwritten: it may be a hard link to the published file and to DVC's cache
    # after a run that was killed at its end, stream.json may be a hard link to the published file
    for left_over in (*folder.glob(f"*{_PARTIAL}"), *folder.glob(f"*{_COUNT}"), *folder.glob(ABOUT)):
        left_over.unlink()


def build_shards(
    stream: Stream, plan: Plan, make: Callable[[str], Iterable[Record]], clips: int, options: Parallel
) -> dict[str, int]:
    """Write the shards that are to be built, in parallel; return the number of failed clips by shard."""
    reused = sum(len(shards.clip_names(path)) for name, path in plan.paths.items() if name not in plan.todo)
    with parallel.start_executor(options, stream.on_gpu) as executor:
        if stream.costly:
            measured = executor.submit(measure_cost, make, list(plan.todo))
            cost = _result(stream.name, next(iter(plan.todo)), measured)
            print_cost(stream.name, clips - reused, cost, parallel.count_workers(options, stream.on_gpu))
        with tqdm(total=clips, initial=reused, desc=stream.name, unit="clip", disable=None) as bar:
            running = {executor.submit(write_shard, path, make, name): name for name, path in plan.todo.items()}
            return _wait_for_shards(stream.name, running, plan.folder, bar)


def print_cost(stage: str, clips: int, cost: tuple[float, int, int], workers: int) -> None:
    """Print the expected time and size of the clips that are to be built. cost: of a clip, from `measure_cost`."""
    seconds, size, in_place = cost
    line = describe_cost(clips, seconds / workers, size)
    line += f"; {describe_bytes(clips * in_place)} are read in place" if in_place else ""
    print(f"{stage}: {line}", flush=True)


def publish_shards(stream: Stream, settings: StreamSettings, plan: Plan, out: Path) -> None:
    """Link the shards into `out`, with a file of the stream's settings and the shapes of its arrays."""
    description = {"settings": settings.model_dump(by_alias=True), "shapes": _shapes(stream, plan.paths.values())}
    info_path = plan.folder / ABOUT
    info_path.write_text(json.dumps(description, indent=2) + "\n")
    resume.publish([(info_path, Path(ABOUT)), *((path, Path(f"{name}.h5")) for name, path in plan.paths.items())], out)


def remove_stale(folder: Path, reusable: Iterable[Path]) -> None:
    """Remove all files of `folder` but the shards that a later run can reuse, and their checksums."""
    for stale in set(folder.iterdir()) - set(reusable):
        stale.unlink()
        (resume.checksum_folder(folder) / stale.name).unlink(missing_ok=True)


def measure_cost(make: Callable[[str], Iterable[Record]], names: Iterable[str]) -> tuple[float, int, int]:
    """Return the mean seconds of a clip, its bytes in the shard, and its bytes that are read in place.

    They are those of the first shard with clips that are not rejected; without one, zeros.
    A network is loaded before the first clip, which is not timed unless the shard has no other.
    """
    for name in names:
        ends, sizes, in_place = [time.perf_counter()], list[int](), list[int]()
        for record in make(name):
            if not record.rejected:
                ends.append(time.perf_counter())
                arrays = record.arrays.values()
                sizes.append(sum(array.nbytes for array in arrays))
                in_place.append(sum(array.referenced_bytes for array in arrays if isinstance(array, Joined)))
            if len(sizes) > _MEASURED:
                break
        if sizes:
            timed = ends[1:] if len(sizes) > 1 else ends
            seconds = (timed[-1] - timed[0]) / (len(timed) - 1)
            return seconds, round(sum(sizes) / len(sizes)), round(sum(in_place) / len(sizes))
    return 0.0, 0, 0


def _shapes(stream: Stream, paths: Iterable[Path]) -> dict[str, list[int]]:
    """Return the shape of one step of each of the stream's arrays, from the first clip that was not rejected."""
    for path in paths:
        with shards.open_shard(path) as file:
            for group in file.values():
                record = shards.read_group(group)
                if not record.rejected:
                    return {
                        array: list(stream.read(record, base.present_steps(record, array)[:1], array).shape[1:])
                        for array in stream.arrays or ("",)
                    }
    return {}


def write_shard(path: Path, make: Callable[[str], Iterable[Record]], name: str) -> tuple[int, int, float, list[str]]:
    """Write a shard under a temporary name and rename it when it is complete.

    Returns the number of clips, the number of rejected clips, seconds, and the tracebacks of failed clips.
    """
    started = time.perf_counter()
    partial = path.with_name(f"{path.stem}.{socket.gethostname()}.{os.getpid()}{_PARTIAL}")
    clips = rejected = 0
    failed: list[str] = []
    noted = started
    with h5py.File(partial, "w", libver="latest") as file:
        for record in make(name):
            shards.write_record(file, record)
            clips, rejected = clips + 1, rejected + bool(record.rejected)
            failed += [record.attributes[TRACEBACK]] if TRACEBACK in record.attributes else []
            if time.perf_counter() > noted + _NOTED:  # a file for each clip takes as long as a vector
                path.with_suffix(_COUNT).write_text(str(clips))
                noted = time.perf_counter()
    path.with_suffix(_COUNT).write_text(str(clips))
    resume.write_checksum(path, partial)
    resume.finish_file(partial, path)
    return clips, rejected, time.perf_counter() - started, failed


def _wait_for_shards(stage: str, running: dict[Future, str], folder: Path, bar: tqdm) -> dict[str, int]:
    """Wait for all tasks and update the progress bar; return the number of failed clips by shard.

    Raises InputError for the first task that fails.
    """
    log, initial = logging.getLogger(stage), bar.n
    failures: dict[str, int] = {}
    while running:
        for future in wait(running, timeout=0.5, return_when=FIRST_COMPLETED).done:
            name = running.pop(future)
            clips, rejected, seconds, failed = _result(stage, name, future)
            log.info("%s: %d clips, %d rejected, %.1f s; %d shards to do", name, clips, rejected, seconds, len(running))
            for trace in failed:
                log_once(stage, trace)
            failures |= {name: len(failed)} if failed else {}
        bar.update(initial + sum(int(path.read_text() or 0) for path in folder.glob(f"*{_COUNT}")) - bar.n)
    return failures


def _result(stage: str, name: str, future: Future) -> Any:
    """Return the result of a task for the shard `name`. Raises InputError if the task could not be computed."""
    try:
        return future.result()
    except Exception as error:
        if parallel.is_worker_death(error):
            reason = "its worker was killed; if memory ran out, lower parallel.workers"
        elif isinstance(error, OSError | MemoryError) or "file write failed" in str(error):  # h5py on closing
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        elif "deserialization" in str(error):  # Dask's
            reason = "the scheduler or a worker can't import lib: start them in this folder by `python -m dask`"
        else:
            raise
        raise InputError(f"{stage}: shard {name}: {reason}. Finished shards are kept") from error
