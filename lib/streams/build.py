"""Build a stream's folder of shards from its inputs, in parallel processes; finished shards are reused."""

import csv
import json
import logging
import math
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import h5py
from pydantic import ConfigDict, Field, create_model
from tqdm import tqdm

from lib.core import parallel, parameters, resume, shards
from lib.core.artifacts import CLIPS, DATA, METRICS, stream_metrics
from lib.core.clips import read_clip_table, split_by_shard
from lib.core.errors import InputError, SettingError, log_once
from lib.core.parallel import Parallel
from lib.core.parameters import Section
from lib.core.shards import Record
from lib.streams import base
from lib.streams.base import ABOUT, RAW, TRACEBACK, Raw, Stream, StreamSettings

if TYPE_CHECKING:  # the stage of a disabled stream ends sooner without it
    import pandas as pd

_PARTIAL, _COUNT = ".partial", ".count"


class Limit(Section):
    """The keys of the section `download` that every stage reads."""

    model_config = ConfigDict(extra="ignore")

    allow_missing: Annotated[float, Field(ge=0, le=1)]


def make_parameters_model(name: str) -> type[Section]:
    """Return the model of the sections of params.yaml that the stage of the stream `name` reads."""
    fields: dict[str, Any] = {
        name: (base.load(name).settings, ...),
        "parallel": (Parallel, ...),
        "download": (Limit, ...),
    }
    return create_model("Parameters", __base__=Section, **fields)


def build_stream(name: str) -> None:
    """Build the stream `name` with the settings of params.yaml: data/NAME/ and its counts, metrics/NAME.json.

    The folder of a disabled stream is empty.
    """
    options: Any = parameters.load(name, make_parameters_model(name))
    stream, settings, out = base.load(name), getattr(options, name), DATA / name
    METRICS.mkdir(exist_ok=True)
    if not settings.enabled:
        resume.publish([], out)
        stream_metrics(name).write_text(json.dumps({"enabled": False}, indent=2) + "\n")
        return
    input_streams = [input_name for input_name in stream.inputs if input_name != RAW]
    for input_name in input_streams:
        if not (DATA / input_name / ABOUT).exists():
            raise SettingError(
                f"{name}.enabled is true and {input_name}.enabled is false, but {name} is made from"
                f" {input_name}; set {input_name}.enabled to true or {name}.enabled to false"
            )
    stream.validate_inputs(settings, base.load_stream_info(DATA, input_streams))
    rows = _clips_by_shard() if RAW in stream.inputs else {}
    inputs = _shard_inputs(stream, settings, rows)

    def make(shard: str) -> Iterator[Record]:
        make_clip = stream.make_extractor(settings)
        records_by_input = [
            _raw_clips(rows[shard]) if input_name == RAW else shards.read_records(DATA / input_name / f"{shard}.h5")
            for input_name in stream.inputs
        ]
        for records in zip(*records_by_input, strict=True):
            yield base.extract(make_clip, records)

    clip_count = sum(map(len, rows.values())) if rows else shards.count_clips(DATA / input_streams[0])
    seconds, internal = build(stream, settings, out, inputs, make, clips=clip_count, options=options.parallel)
    refused = shards.read_rejections(out)
    summary = {
        "clips": clip_count - len(refused),
        "refused": dict(sorted(Counter(refused.values()).items())),
        "internal": internal,
        **stream.summary(out),
        "seconds": seconds,
    }
    stream_metrics(name).write_text(json.dumps(summary, indent=2) + "\n")
    if internal:
        print(
            f"{name}: {internal} clips are rejected because of errors in the program itself; logs/{name}.log contains the"
            " tracebacks"
        )
    if len(refused) > options.download.allow_missing * clip_count:
        reasons = resume.ROOT / f"refused-{name}.csv"
        with reasons.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([("clip", "reason"), *sorted(refused.items())])
        kind, count = Counter(refused.values()).most_common(1)[0]
        raise InputError(
            f"{name}: {len(refused) / clip_count:.2%} of the clips are rejected ({count} of {clip_count}: {kind}; each"
            f" clip's reason is in {reasons}); download.allow_missing in params.yaml allows"
            f" {options.download.allow_missing:.2%}. Repair or remove the clips, or raise it; finished shards are kept"
        )


def _clips_by_shard() -> "dict[str, pd.DataFrame]":
    """Return the usable clips' rows by shard, sorted by clip."""
    table = read_clip_table(CLIPS)
    if table.empty:
        raise InputError(f"no clip in {CLIPS} is usable; see its column `reason`, and repair the clips or add others")
    return split_by_shard(table)


def _raw_clips(rows: "pd.DataFrame") -> Iterator[Raw]:
    for row in rows.itertuples():
        path = DATA / RAW / row.file if row.file else None
        span = None if math.isnan(row.start) else (row.start, row.end)
        yield Raw(row.clip, path, annotation_folder(row.corpus), span)


def annotation_folder(corpus: str) -> Path:
    """Return the folder of a corpus' files other than clips."""
    return DATA / RAW / corpus / "annotations"


def _shard_inputs(stream: Stream, settings: StreamSettings, rows: "Mapping[str, pd.DataFrame]") -> dict[str, Any]:
    """Return a description of each shard's inputs, for its fingerprint: the clips, and the checksums of their files, of
    other files that the stream reads, and of the input streams' shards."""
    contents: dict[str, Any] = {}
    if rows:
        corpora = sorted({corpus for of_shard in rows.values() for corpus in of_shard["corpus"]})
        sums = {corpus: _sums(stream.annotation_files(settings, annotation_folder(corpus))) for corpus in corpora}
        contents = {
            shard: [of_shard[_identifying(of_shard)].to_dict("list"), sums[of_shard["corpus"].iloc[0]]]
            for shard, of_shard in rows.items()
        }
    for input_name in (input_name for input_name in stream.inputs if input_name != RAW):
        for path in sorted((DATA / input_name).glob("*.h5")):
            contents.setdefault(path.stem, []).append(resume.hash_file(path))
    files = _sums(stream.files(settings))
    return {shard: [*parts, files] for shard, parts in contents.items()}


def _sums(files: Iterable[Path]) -> list[str]:
    """Return the checksums of files. A missing file is left out: the extractor reports it."""
    return [resume.hash_file(path) for path in files if path.is_file()]


def _identifying(rows: "pd.DataFrame") -> list[str]:
    """Return the columns of a shard's rows that identify the clips' contents."""
    return ["clip", "sha256", *(["start", "end"] if rows["start"].notna().any() else [])]


def build(
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
        return _build(stream, settings, out, inputs, make, clips=clips, options=options)


def _build(
    stream: Stream,
    settings: StreamSettings,
    out: Path,
    inputs: Mapping[str, Any],
    make: Callable[[str], Iterable[Record]],
    clips: int,
    options: Parallel,
) -> tuple[float, int]:
    started = time.perf_counter()
    folder = resume.ROOT / stream.name
    folder.mkdir(parents=True, exist_ok=True)
    values = settings.model_dump(by_alias=True)
    # `enabled` does not change the contents of a stream
    fingerprint = resume.fingerprint([stream.module, "lib.core.shards"], {**values, "enabled": True})
    paths = {name: folder / f"{name}-{resume.fingerprint([], fingerprint, inputs[name])}.h5" for name in sorted(inputs)}
    todo = {name: path for name, path in paths.items() if not resume.is_complete(path)}
    damaged = [path for path in todo.values() if path.exists()]
    for path in damaged:
        logging.getLogger(stream.name).warning("%s is damaged and will be rebuilt", path)
        path.unlink()  # not overwritten: it may be a hard link to the published file and to DVC's cache
    # after a run that was killed at its end, stream.json may be a hard link to the published file
    for left_over in (*folder.glob(f"*{_PARTIAL}"), *folder.glob(f"*{_COUNT}"), *folder.glob(ABOUT)):
        left_over.unlink()
    log = logging.getLogger(stream.name)
    log.info("%d shards are reused, %d are to be built", len(paths) - len(todo), len(todo))
    failed: dict[str, int] = {}
    if todo:
        initial = sum(len(shards.clip_names(path)) for name, path in paths.items() if name not in todo)
        bar = tqdm(total=clips, initial=initial, desc=stream.name, unit="clip", disable=None)
        with bar, parallel.start_executor(options, stream.on_gpu) as executor:
            running = {executor.submit(_make, path, make, name): name for name, path in todo.items()}
            failed = _watch(stream.name, running, folder, bar)
    for path in damaged:
        resume.remove_from_cache(path)
    info_path = folder / ABOUT
    info_path.write_text(json.dumps({"settings": values, "shapes": _shapes(stream, paths.values())}, indent=2) + "\n")
    resume.publish([(info_path, Path(ABOUT)), *((path, Path(f"{name}.h5")) for name, path in paths.items())], out)
    for stale in set(folder.iterdir()) - {path for name, path in paths.items() if name not in failed}:
        stale.unlink()
        (resume.checksum_folder(folder) / stale.name).unlink(missing_ok=True)
    return round(time.perf_counter() - started, 1), sum(failed.values())


def _shapes(stream: Stream, paths: Iterable[Path]) -> dict[str, list[int]]:
    """Return the shape of one step of each of the stream's arrays, from the first clip that was not rejected."""
    for path in paths:
        with shards.open_shard(path) as file:
            for group in file.values():
                record = shards.read_group(group)
                if not record.refused:
                    first = base.present_steps(record)[:1]
                    return {
                        array: list(stream.read(record, first, array).shape[1:]) for array in stream.arrays or ("",)
                    }
    return {}


def _make(path: Path, make: Callable[[str], Iterable[Record]], name: str) -> tuple[int, int, float, list[str]]:
    """Write a shard under a temporary name and rename it when it is complete.

    Returns the number of clips, the number of rejected clips, seconds, and the tracebacks of failed clips.
    """
    started = time.perf_counter()
    partial = path.with_name(f"{path.stem}.{socket.gethostname()}.{os.getpid()}{_PARTIAL}")
    clips = refused = 0
    failed: list[str] = []
    with h5py.File(partial, "w", libver="latest") as file:
        for record in make(name):
            shards.write_record(file, record)
            clips, refused = clips + 1, refused + bool(record.refused)
            failed += [record.attributes[TRACEBACK]] if TRACEBACK in record.attributes else []
            path.with_suffix(_COUNT).write_text(str(clips))
    resume.write_checksum(path, partial)
    resume.finish_file(partial, path)
    return clips, refused, time.perf_counter() - started, failed


def _watch(stage: str, running: dict[Future, str], folder: Path, bar: tqdm) -> dict[str, int]:
    """Wait for all tasks and update the progress bar; return the number of failed clips by shard.

    Raises InputError for the first task that fails.
    """
    log, initial = logging.getLogger(stage), bar.n
    failures: dict[str, int] = {}
    while running:
        for future in wait(running, timeout=0.5, return_when=FIRST_COMPLETED).done:
            name = running.pop(future)
            try:
                clips, refused, seconds, failed = future.result()
            except Exception as error:
                if parallel.is_worker_death(error):
                    reason = "its worker was killed; if memory ran out, lower parallel.workers in params.yaml"
                elif isinstance(error, OSError | MemoryError) or "file write failed" in str(error):  # h5py on closing
                    reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
                elif "deserialization" in str(error):  # Dask's
                    reason = "the scheduler or a worker can't import lib: start them in this folder by `python -m dask`"
                else:
                    raise
                raise InputError(f"{stage}: shard {name}: {reason}. Finished shards are kept") from error
            log.info("%s: %d clips, %d rejected, %.1f s; %d shards to do", name, clips, refused, seconds, len(running))
            for trace in failed:
                log_once(stage, trace)
            failures |= {name: len(failed)} if failed else {}
        bar.update(initial + sum(int(path.read_text() or 0) for path in folder.glob(f"*{_COUNT}")) - bar.n)
    return failures
