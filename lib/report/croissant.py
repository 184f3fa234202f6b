"""The data in use as a Croissant file (version 1.1, with the responsible-AI fields), which programs can read."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from mimetypes import MimeTypes
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from lib.core.clips import SYNTHETIC, VIDEO_SUFFIXES, describe_left_out
from lib.core.targets import RATER_SD, RATERS, Targets, list_rating_columns
from lib.report import words
from lib.report.card import describe_labels, list_cautions
from lib.report.citations import find_cited, format_bibtex
from lib.report.corpora import BIASES, TO_FILL_IN, USES, find_corpus
from lib.report.datasheet import LIMITS, describe_composition, describe_groups, describe_preprocessing
from lib.report.licences import DATA_SETS
from lib.report.methods import CITED_CORPORA
from lib.report.page import PipelineRun
from lib.sources.listing import File

TABLE = "clips.csv"
_TEXT, _NUMBER, _BOOLEAN = "sc:Text", "sc:Float", "sc:Boolean"
COLUMNS = {
    "clip": (_TEXT, "The clip's name."),
    "video": (_TEXT, "The video that the clip was cut from. Clips of one video are not independent."),
    "corpus": (_TEXT, "The source of the clip, a name of download.sources."),
    "split": (_TEXT, "training, validation or test; empty for clips in no split."),
    "shard": (_TEXT, "The name of the files with the clip's features."),
    "file": (_TEXT, "The clip's file, relative to raw/."),
    "sha256": (_TEXT, "The checksum of the clip's file."),
    "start": (_NUMBER, "Where the clip begins in its file, in seconds; empty if the file is the clip."),
    "end": (_NUMBER, "Where the clip ends in its file, in seconds; empty if the file is the clip."),
    "duration": (_NUMBER, "The clip's length in seconds."),
    "fps": (_NUMBER, "Frames per second."),
    "width": (_NUMBER, "The width of the frames in pixels."),
    "height": (_NUMBER, "The height of the frames in pixels."),
    "audio": (_BOOLEAN, "Whether the file has audio."),
    "damaged": (_NUMBER, "The number of damaged packets of the file."),
    "reason": (_TEXT, "Why the clip is rejected; empty for usable clips."),
}
"""Data type and description of each column of the clip table that is not a label."""
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "description": {"@container": "@language"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
    "conformsTo": "dct:conformsTo",
} | {
    name: f"cr:{name}"
    for name in (
        "arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "extract", "field", "fileObject",
        "fileProperty", "fileSet", "format", "includes", "isArray", "isLiveDataset", "jsonPath", "key", "md5",
        "parentField", "path", "recordSet", "references", "regex", "repeated", "replace", "samplingRate", "separator",
        "source", "subField", "transform",
    )
}  # fmt: skip
_CONFORMS = ("http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0")


def make_croissant(
    clips: pd.DataFrame,
    groups: pd.DataFrame,
    targets: Targets,
    run: PipelineRun,
    table: Path,
    archives: Mapping[str, File],
) -> dict[str, Any]:
    """Return the file's contents. Unknown facts, such as the licence of your own clips, are missing.

    clips, groups: tables of data/clips.csv and data/group_scores.csv. table: the file of clips. archives: the files of
    data/archives.csv; they are listed one by one if the clips' names may be shown (figures.names).
    """
    sources = list(run.data["sources"])
    listed = archives if run.parameters["figures"]["names"] == "clip" else {}
    cited = format_bibtex(find_cited("".join(CITED_CORPORA.get(source, "") for source in sources)))
    licences = [DATA_SETS[source][1] for source in sources if source in DATA_SETS]
    described = _describe_responsibility(clips, groups, targets, run)
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": list(_CONFORMS),
        "name": "-".join(sources),
        "description": " ".join([*_describe_all(sources, "motivation"), described["rai:dataCollectionMissingData"]]),
        **({"license": list(dict.fromkeys(licences))} if licences else {}),
        **({"citeAs": cited} if cited else {}),
        "distribution": [*_list_files(table, {} if {*sources} <= {*SYNTHETIC} else listed)],
        "recordSet": [_describe_records(list(clips.columns), targets, is_planted=run.is_synthetic)],
        **{field: value for field, value in described.items() if value},
    }


def _describe_responsibility(
    clips: pd.DataFrame, groups: pd.DataFrame, targets: Targets, run: PipelineRun
) -> dict[str, Any]:
    """Return the fields of the Croissant RAI vocabulary, from the facts of the data sheet and the model card."""
    data, sources = run.data, list(run.data["sources"])
    compositions = (
        f"{source}: {describe_composition(clips[clips['corpus'] == source], data['corpora'][source])}"
        for source in sources
    )
    notes = dict.fromkeys(words.note_stability(sources, target_group) for target_group in targets.values())
    cautions, *more = list_cautions(sources, targets)
    enabled = [name for name, section in run.parameters.items() if isinstance(section, dict) and section.get("enabled")]
    return {
        "rai:dataCollection": " ".join(_describe_all(sources, "collection")),
        "rai:dataCollectionMissingData": " ".join(compositions),
        "rai:dataAnnotationProtocol": [
            text
            for text in (*(describe_labels(source, data) for source in sources), *notes)
            if text and TO_FILL_IN not in text
        ],
        "rai:dataPreprocessingProtocol": [describe_preprocessing(enabled)],
        "rai:personalSensitiveInformation": _describe_all(sources, "people"),
        "rai:dataBiases": [BIASES, describe_groups(groups)],
        "rai:dataLimitations": [LIMITS, *filter(None, [describe_left_out(data)])],
        "rai:dataUseCases": [USES],
        "rai:dataSocialImpact": " ".join([cautions, *more]),
        "rai:dataReleaseMaintenancePlan": " ".join(_describe_all(sources, "distribution")),
    }


def _describe_all(sources: Sequence[str], field: str) -> list[str]:
    """Return what is known about each source. Your own clips have descriptions only where you fill them in."""
    known = {source: getattr(find_corpus(source), field) for source in sources}
    return [f"{source}: {text}" for source, text in known.items() if TO_FILL_IN not in text]


def _list_files(table: Path, archives: Mapping[str, File]) -> Iterator[dict[str, Any]]:
    """Yield the clip table, the clips' files, and the archives. Videos among the archives are one set."""
    types = MimeTypes()  # without the tables of this system, which differ
    yield _describe_file(TABLE, File(table.stat().st_size, hashlib.sha256(table.read_bytes()).hexdigest()), "text/csv")
    yield _describe_set("clips", "The files of the clips.", "raw/**", "video/*")
    is_video = {path: Path(path).suffix.lower() in VIDEO_SUFFIXES for path in archives}
    if any(is_video.values()):
        yield _describe_set("videos", f"Videos as collected: {sum(is_video.values())} files.", "archives/**", "video/*")
    for path, file in archives.items():
        if not is_video[path]:
            kind = types.guess_type(path)[0] or "application/octet-stream"
            yield _describe_file(f"archives/{_escape(path)}", file, kind)


def _describe_file(path: str, file: File, kind: str) -> dict[str, Any]:
    """Return a file object. Its address is relative to the folder data/."""
    return {
        "@type": "cr:FileObject",
        "@id": path,
        "name": path,
        "contentUrl": path,
        "contentSize": f"{file.bytes} B",
        "encodingFormat": kind,
        "sha256": file.sha256,
    }


def _describe_set(name: str, description: str, pattern: str, kind: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": name,
        "name": name,
        "description": description,
        "includes": pattern,
        "encodingFormat": kind,
    }


def _describe_records(columns: Sequence[str], targets: Targets, *, is_planted: bool) -> dict[str, Any]:
    """Return the record set of the clip table: a field for each column."""
    ratings = list_rating_columns(columns)
    fields = []
    for column in columns:
        kind, description = COLUMNS.get(column, (_NUMBER, _describe_label(column, targets, is_planted)))
        if column in ratings:
            description = _describe_rating(column)
        source = {"fileObject": {"@id": TABLE}, "extract": {"column": column}}
        identity = f"table/{_escape(column)}"
        fields.append(
            {"@type": "cr:Field", "@id": identity, "name": column, "description": description, "dataType": kind}
            | {"source": source}
        )
    return {
        "@type": "cr:RecordSet",
        "@id": "table",
        "name": "table",
        "description": "A row for each annotated clip or file, also for rejected ones.",
        "key": {"@id": "table/clip"},
        "field": fields,
    }


def _describe_label(column: str, targets: Targets, is_planted: bool) -> str:
    text = f"The label {column}"
    for name, target_group in targets.items():
        if column in target_group.columns:
            text += f", {words.format_range(target_group)}, predicted in the group {name}"
            break
    if is_planted and column in words.PLANTED:
        text += f"; planted in {words.PLANTED[column]}"
    return f"{text}."


def _describe_rating(column: str) -> str:
    if column.endswith(RATERS):
        return f"The number of raters of {column.removesuffix(RATERS)}."
    return f"The standard deviation between the raters of {column.removesuffix(RATER_SD)}."


def _escape(text: str) -> str:
    return quote(text, safe="/", errors="surrogateescape")
