"""Build a stream: its folder of shards from its inputs, and its counts."""

import csv
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import ConfigDict, Field, create_model

from lib.core import parameters, resume, shards
from lib.core.artifacts import CLIPS, DATA, METRICS, stream_metrics
from lib.core.clips import read_clip_table, split_by_shard
from lib.core.errors import InputError
from lib.core.parallel import Parallel
from lib.core.parameters import Section
from lib.core.shards import Record
from lib.streams import base
from lib.streams._extraction import extract_all
from lib.streams._shards import write_shards
from lib.streams.base import RAW, Raw, Stream, StreamSettings

if TYPE_CHECKING:  # the stage of a disabled stream ends sooner without it
    import pandas as pd


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

    The folder of a disabled stream contains only disabled.txt.
    """
    options: Any = parameters.load(name, make_parameters_model(name))
    stream, settings, out = base.load(name), getattr(options, name), DATA / name
    METRICS.mkdir(exist_ok=True)
    if not settings.enabled:
        resume.publish([], out)
        (out / "disabled.txt").write_text(f"{name}.enabled in params.yaml is false\n")  # DVC warns of empty folders
        stream_metrics(name).write_text(json.dumps({"enabled": False}, indent=2) + "\n")
        return
    input_names = stream.inputs_of(settings.model_dump())
    input_streams = [input_name for input_name in input_names if input_name != RAW]
    stream.validate_inputs(settings, base.load_input_info(DATA, name, settings.model_dump()))
    rows = _clips_by_shard() if RAW in input_names else {}
    inputs = _shard_inputs(stream, settings, rows)

    def make(shard: str) -> Iterator[Record]:
        make_clip = stream.make_extractor(settings)
        records_by_input = [
            _raw_clips(rows[shard]) if input_name == RAW else shards.read_records(DATA / input_name / f"{shard}.h5")
            for input_name in input_names
        ]
        yield from extract_all(make_clip, zip(*records_by_input, strict=True))

    clip_count = sum(map(len, rows.values())) if rows else shards.count_clips(DATA / input_streams[0])
    seconds, internal = write_shards(stream, settings, out, inputs, make, clips=clip_count, options=options.parallel)
    rejected = shards.read_rejections(out)
    summary = {
        "clips": clip_count - len(rejected),
        "rejected": dict(sorted(Counter(rejected.values()).items())),
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
    if len(rejected) > options.download.allow_missing * clip_count:
        reasons = resume.ROOT / f"rejected-{name}.csv"
        with reasons.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([("clip", "reason"), *sorted(rejected.items())])
        kind, count = Counter(rejected.values()).most_common(1)[0]
        raise InputError(
            f"{name}: {len(rejected) / clip_count:.2%} of the clips are rejected ({count} of {clip_count}: {kind}; each"
            f" clip's reason is in {reasons}); download.allow_missing allows"
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
    for input_name in (input_name for input_name in stream.inputs_of(settings.model_dump()) if input_name != RAW):
        for path in sorted((DATA / input_name).glob("*.h5")):
            contents.setdefault(path.stem, []).append(resume.hash_file(path))
    files = _sums(stream.files(settings))
    return {shard: [*parts, files] for shard, parts in contents.items()}


def _sums(files: Iterable[Path]) -> list[str]:
    """Return the checksums of files. A missing file is left out: the extractor reports it."""
    return [resume.hash_unchanged(path) for path in files if path.is_file()]


def _identifying(rows: "pd.DataFrame") -> list[str]:
    """Return the columns of a shard's rows that identify the clips' contents."""
    return ["clip", "sha256", *(["start", "end"] if rows["start"].notna().any() else [])]
