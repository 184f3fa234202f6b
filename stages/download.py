"""Bring the corpus in, unpack it and verify every clip: data/raw/, data/clips.csv, data/groups.csv, metrics/data.json."""

import json
import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from tqdm import tqdm

from lib.core import command, parameters, resume
from lib.core.errors import InputError
from lib.core.parameters import Section
from lib.sources import check, fiv2, persons, split
from lib.sources.archives import Unpacker
from lib.sources.demo import corpus
from lib.sources.fetch import fetch

ARCHIVES, RAW, CLIPS, GROUPS, METRICS = (
    Path(name) for name in ("data/archives", "data/raw", "data/clips.csv", "data/groups.csv", "metrics/data.json")
)
KEY_HINT = (
    "set the environment variables FIV2_KEY_A (outer archives) and FIV2_KEY_B (inner ones)"
    " to the two keys that ChaLearn gives on registration"
)


class Demo(Section):
    clips: Annotated[int, Field(ge=20)]
    seconds: Annotated[float, Field(ge=2)]
    shared: Annotated[float, Field(ge=0, le=1)]
    seed: Annotated[int, Field(ge=0)]


class Url(Section):
    url: str
    sha256: str | None


class Download(Section):
    source: Literal["demo", "fiv2"]
    split: Literal["official", "disjoint"]
    split_seed: Annotated[int, Field(ge=0)]
    allow_missing: Annotated[float, Field(ge=0, le=1)]
    min_seconds: Annotated[float, Field(ge=0)]
    min_frames: Annotated[int, Field(ge=2)]
    urls: dict[str, Url]
    demo: Demo


class Parameters(Section):
    download: Download


def main() -> None:
    parameters_ = parameters.load("download", Parameters).download
    folder = resume.ROOT / f"download-{parameters_.source}"
    folder.mkdir(parents=True, exist_ok=True)
    if parameters_.source == "demo":
        archives, keys = demo_archives(parameters_.demo), [corpus.KEY_A, corpus.KEY_B]
    else:
        archives, keys = (
            fiv2_archives(parameters_.urls),
            [os.environ[name] for name in ("FIV2_KEY_A", "FIV2_KEY_B") if os.environ.get(name)],
        )
    unpacker = Unpacker(folder, keys, KEY_HINT)
    files = sorted(set(tqdm(unpacker.unpack(archives), desc="unpack", unit="file", disable=None)))
    clip_files = [file for file in files if file.suffix.lower() == ".mp4"]

    scores = check.read_annotations(folder / "annotations")
    table = check.clip_table(scores, folder, clip_files, parameters_.min_seconds, parameters_.min_frames)
    if parameters_.split == "disjoint":
        usable = table["reason"] == ""
        table.loc[usable, "split"] = split.disjoint(table[usable], parameters_.split_seed)
    summary = {"source": parameters_.source, "split": parameters_.split} | check.summary(table)
    if parameters_.source == "fiv2":
        summary["annotation_files"] = {
            name: "as distributed" if resume.sha256(folder / "annotations" / name) == known else "not as distributed"
            for name, known in fiv2.SHA256.items()
            if (folder / "annotations" / name).exists()
        }
    of_persons = persons.read([folder / file for file in files], table["clip"][table["reason"] == ""])
    for kind in of_persons.columns[1:]:
        summary.setdefault("groups", {})[kind] = of_persons[kind].value_counts().sort_index().to_dict()
    report(summary)
    lost = 1 - summary["usable"] / summary["annotated"]
    if lost > parameters_.allow_missing:
        table.to_csv(resume.ROOT / "clips.csv", index=False)
        raise InputError(
            f"{lost:.2%} of the annotated clips are missing or refused ({summary['refused']}; each clip's reason is in"
            f" {resume.ROOT / 'clips.csv'}); download.allow_missing in params.yaml allows {parameters_.allow_missing:.2%}."
            " What was unpacked is kept"
        )
    resume.publish([(folder / file, file) for file in files], RAW)
    table.to_csv(CLIPS, index=False)
    of_persons.to_csv(GROUPS, index=False)
    METRICS.parent.mkdir(exist_ok=True)
    METRICS.write_text(json.dumps(summary, indent=2) + "\n")


def demo_archives(settings: Demo) -> Path:
    """Return the folder of the demo's archives, made if it is not there."""
    folder = resume.ROOT / f"demo-{resume.fingerprint(['lib.sources.demo.corpus'], settings.model_dump())}"
    if not folder.exists():
        corpus.write(folder, **settings.model_dump())
    return folder


def fiv2_archives(urls: dict[str, Url]) -> Path:
    """Return data/archives/ once it holds something, with what `urls` names fetched."""
    for name, source in urls.items():
        if Path(name).name != name:
            raise InputError(f"params.yaml: download.urls has {name!r}; allowed: a plain file name")
        if not (ARCHIVES / name).exists():
            fetch(source.url, ARCHIVES / name, source.sha256)
    if not any(path.name != "README.md" for path in ARCHIVES.iterdir()):
        raise InputError(
            f"download.source is fiv2 and {ARCHIVES}/ is empty; put or link FIV2's archives or unpacked folders there"
            f" ({ARCHIVES}/README.md lists them), or name their URLs under download.urls in params.yaml"
        )
    return ARCHIVES


def report(summary: dict) -> None:
    """Print what was found, missing files and unlabelled ones first."""
    missing = summary["refused"].get("no file in data/archives", 0)
    unlabelled = summary["refused"].get("no annotation", 0)
    print(
        f"{summary['annotated']} clips are annotated; {missing} of them have no file."
        f" {unlabelled} files have no annotation. {summary['usable']} clips are usable: {summary['clips']}"
    )
    for reason, count in summary["refused"].items():
        print(f"  refused, {reason}: {count}")
    for name, state in summary.get("annotation_files", {}).items():
        print(f"  {name}: {state}")


if __name__ == "__main__":
    command.run_stage(main)
