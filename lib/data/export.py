"""Write a stream of vectors in formats that other programs read, and that the stream `features` reads again."""

import json
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lib.core import resume, shards
from lib.core.errors import InputError
from lib.core.provenance import describe_code
from lib.data.inputs import find_kind, split_reference
from lib.data.tables import write_tables
from lib.streams import base

if TYPE_CHECKING:  # slow; only Parquet needs it
    import pyarrow

_ROWS = 1 << 14  # of a Parquet file's row group


class ClipVectors(NamedTuple):
    """A clip's vectors (T, D) or (T, L, D), and the times (T,) of its steps in seconds."""

    clip: str
    values: np.ndarray
    times: np.ndarray


def read_vectors(data: Path, reference: str) -> Iterator[ClipVectors]:
    """Yield the vectors of each clip that is not rejected and has a step.

    data: the folder of the streams. reference: a stream of vectors, `embeddings`, or one of its arrays, `text.hashing`.
    Raises InputError for a stream that is unknown, disabled, or contains no vectors.
    """
    name, array = split_reference(reference)
    if find_kind(reference) != "vectors":
        vectors = [stream for stream in base.list_names() if base.load(stream).kind == "vectors"]
        raise InputError(
            f"{reference} has steps of kind {find_kind(reference)}; allowed: vectors: {', '.join(vectors)}"
        )
    stream, folder = base.load(name), data / name
    shape = base.load_stream_info(data, [name])[name].shapes.get(array)
    if shape in (None, [0]):
        raise InputError(
            f"{folder} has no {reference}; allowed: an array that the stream was built with; see {base.ABOUT}"
        )
    for path in sorted(folder.glob("*.h5")):
        for record in shards.read_records(path):
            if not record.rejected and len(indices := base.present_steps(record, array)):
                times = base.step_times(record, array)[indices]
                yield ClipVectors(record.clip, stream.read(record, indices, array), times)


def describe_stream(data: Path, reference: str) -> dict[str, Any]:
    """Return the provenance of a stream: its settings and those of its inputs, versions, and rejected clips."""
    name, _ = split_reference(reference)
    infos = base.load_stream_info(data, [name])
    rejected = shards.read_rejections(data / name)
    return (
        {"stream": reference, "settings": {key: info.settings for key, info in infos.items()}}
        | describe_code()
        | {"rejected": rejected}
    )


def write_vectors(data: Path, reference: str, file_format: str, out: Path) -> int:
    """Write a stream's vectors to `out`, and its provenance to OUT.json next to it; return the number of clips.

    npz: by clip an array (T, D) with the clip's name, and its times as CLIP:times. parquet: a row for each step, with the
    columns clip, seconds and v0, v1, ... pt: a folder with CLIP.pt for each clip, as the published EmoNeXt code writes it
    (`emb`, `length`), and `times`. csv: see `lib.data.tables.write_tables`.
    """
    counted: dict[str, int] = {}
    if file_format == "csv":
        next(_count(read_vectors(data, reference), {}))  # an error for a stream that is not there or has no vectors
        counted = write_tables(data, reference, out)
    else:
        write = {"npz": _write_npz, "parquet": _write_parquet, "pt": _write_pt}[file_format]
        write(out, _count(read_vectors(data, reference), counted))
    about = describe_stream(data, reference) | {"format": file_format, "clips": counted}
    out.with_name(f"{out.name}.json").write_text(json.dumps(about, indent=2) + "\n")
    return len(counted)


def _count(clips: Iterator[ClipVectors], counted: dict[str, int]) -> Iterator[ClipVectors]:
    """Yield the clips, and note their numbers of steps. Raises InputError if there is none."""
    for vectors in clips:
        counted[vectors.clip] = len(vectors.times)
        yield vectors
    if not counted:
        raise InputError("the stream has no clip with a step; allowed: a stream with vectors; see its file in metrics/")


def _write_npz(out: Path, clips: Iterator[ClipVectors]) -> None:
    partial = out.with_name(f"{out.name}.partial")
    with zipfile.ZipFile(partial, "w") as archive:
        for clip, values, times in clips:
            for name, array in ((clip, values), (f"{clip}:times", times)):
                with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
    resume.finish_file(partial, out)


def _write_parquet(out: Path, clips: Iterator[ClipVectors]) -> None:
    from pyarrow import parquet  # slow; other formats do not need it

    partial, writer = out.with_name(f"{out.name}.partial"), None
    try:
        for part in _batch(clips):
            table = _make_table(part)
            writer = writer or parquet.ParquetWriter(partial, table.schema)
            writer.write_table(table)
    finally:
        if writer:
            writer.close()
    resume.finish_file(partial, out)


def _batch(clips: Iterator[ClipVectors]) -> Iterator[list[ClipVectors]]:
    """Yield clips in lists with about the rows of a row group of Parquet."""
    part: list[ClipVectors] = []
    for vectors in clips:
        part.append(vectors)
        if sum(len(member.times) for member in part) >= _ROWS:
            yield part
            part = []
    if part:
        yield part


def _make_table(part: Sequence[ClipVectors]) -> "pyarrow.Table":
    """Return a table with a row for each step of the clips."""
    import pyarrow

    if part[0].values.ndim > 2:
        raise InputError(
            f"--format parquet: a step has the shape {list(part[0].values.shape[1:])}; allowed: vectors of one layer;"
            " use npz or pt"
        )
    columns: dict[str, Any] = {
        "clip": np.repeat([vectors.clip for vectors in part], [len(each.times) for each in part])
    }
    columns["seconds"] = np.concatenate([vectors.times for vectors in part]).astype(float)
    values = np.concatenate([vectors.values for vectors in part])
    return pyarrow.table(columns | {f"v{number}": column for number, column in enumerate(values.T)})


def _write_pt(out: Path, clips: Iterator[ClipVectors]) -> None:
    import torch  # slow; other formats do not need it

    out.mkdir(exist_ok=True)
    for clip, values, times in clips:
        emb = torch.from_numpy(np.ascontiguousarray(values))
        content = {"emb": emb, "length": len(emb), "times": torch.from_numpy(times.astype(float))}
        torch.save(content, out / f"{clip}.pt")
