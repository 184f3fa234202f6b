"""Write a working skeleton of a new stream, encoder, fusion, source, analysis or figure, and a test for it.

A new stream also gets a section in params.yaml and a stage in dvc.yaml; an encoder gets an entry under model.encoders; an
analysis gets a key in params.yaml and an output in lib/core/artifacts.py and dvc.yaml. A fusion is a class in
lib/model/fusions.py, and gets a line in the comment of model.fusion. Existing files are never overwritten.
A stream is made from the clips' files or from another stream (`--input`), an encoder reads a stream (`--reads`).
"""

import argparse
import keyword
import re
from pathlib import Path

from lib.core import command, parameters
from lib.core.errors import InputError
from lib.core.registry import list_members

TEMPLATES = Path(__file__).parent / "templates"
PARAMETERS = (Path("params.yaml"), Path("params/demo.yaml"))
PIPELINE, ARTIFACTS = Path("dvc.yaml"), Path("lib/core/artifacts.py")
FUSIONS, FUSION_NAMES = Path("lib/model/fusions.py"), Path("lib/model/settings/__init__.py")
FOLDERS = {
    "stream": "lib/streams",
    "encoder": "lib/model/encoders",
    "source": "lib/sources",
    "analysis": "lib/analysis",
    "figure": "lib/report/figures",
}
FUSION = "fusion"
KINDS = (*FOLDERS, FUSION)

_STREAM_SECTION = """# describe the stream here
NAME:
  enabled: false

"""
_ENCODER_ENTRY = """    NAME:
      kind: NAME
      reads: [SOURCE]
      take: all
      steps: 1
"""
_STAGE = """  NAME:
    cmd: python -m stages.stream NAME
    deps:
DEPS
    params:
    - NAME
    - parallel
    - download.allow_missing
    outs:
    - data/NAME
    metrics:
    - metrics/NAME.json:
        cache: false
"""
RAW = "raw"
"""The source of a stream that is made from the clips' files."""
_RAW_STREAM = "waveform"
"""A stream with this source that uses only files of lib/streams that every stream uses."""
_DEFAULT_SOURCES = {"stream": "audio", "encoder": "audio.mfcc"}
_NEXT = {
    "stream": "set NAME.enabled: true, and reads: [NAME] in an encoder of model.use (params.yaml)",
    "encoder": "add NAME to model.use; its entry in model.encoders has reads: [SOURCE], which must be enabled (params.yaml)",
    "fusion": "model.fusion: NAME (params.yaml); describe it in the comment of this key and in docs/explanation/model.md",
    "source": "add NAME to download.sources (params.yaml)",
    "analysis": "dvc repro analyse",
    "figure": "dvc repro figures",
}
"""What to do when the module is ready, by kind."""
_ANALYSIS_KEY = """  # number of clips for the analysis NAME (data/NAME.csv); 0 disables it
  NAME_clips: 100
"""
_FOLDERS = "    - data/flow\n    - data/descriptors\n"
"""Lines of dvc.yaml in the dependencies of the stages that read all streams."""
_LAST_OUTPUT = "    - data/samples.h5\n  figures:\n"
"""Lines of dvc.yaml with the last output of the stage analyse."""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.new", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=KINDS, help="kind of module")
    parser.add_argument("name", help="name of the new module, in lower case")
    parser.add_argument(
        "--input", metavar="raw|STREAM", help="of a stream: raw, the clips' files, or another stream; default: audio"
    )
    parser.add_argument(
        "--reads", metavar="STREAM", help="of an encoder: the stream or array that it reads; default: audio.mfcc"
    )
    options = parser.parse_args()
    for key, kind in (("input", "stream"), ("reads", "encoder")):
        if getattr(options, key) and options.kind != kind:
            raise InputError(f"--{key} with a new {options.kind}; allowed: with a new {kind}; leave it out")
    source = options.input or options.reads or _DEFAULT_SOURCES.get(options.kind, "")
    files = create(options.kind, options.name, source)
    for path in files:
        print(f"written: {path}")
    print(f"test it: python -m pytest -n 0 {files[1]} tests/test_contract.py")
    print(f"use it: {_NEXT[options.kind].replace('NAME', options.name).replace('SOURCE', source)}")


def create(kind: str, name: str, source: str = "") -> list[Path]:
    """Write the skeleton of a new module of a kind; return its file, its test and the files that were changed.

    source: of a stream, RAW or its input; of an encoder, the stream or array that it reads. Raises InputError, and writes
    nothing, if the name is not allowed for a module, a file of that name exists, or the stream does not exist.
    """
    source = source or _DEFAULT_SOURCES.get(kind, "")
    if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_") or not name.islower():
        raise InputError(
            f"name = {name!r}; allowed: lower-case letters, digits and _, beginning with a letter; try my_{kind}"
        )
    test = Path("tests", f"test_{kind}_{name}.py")
    module = FUSIONS if kind == FUSION else Path(FOLDERS[kind], f"{name}.py")
    new_paths = (test,) if kind == FUSION else (module, module.with_suffix(""), test)
    if existing := [path for path in new_paths if path.exists()]:
        raise InputError(f"name = {name!r}, but {existing[0]} exists already; choose another name")
    streams = list_members(Path(FOLDERS["stream"]), ("base", "build"))
    stream, streams = (source, [RAW, *streams]) if kind == "stream" else (source.partition(".")[0], streams)
    if source and stream not in streams:
        raise InputError(
            f"stream {source!r} does not exist; allowed: {', '.join(streams)}; write it first, or choose another"
        )
    template = "stream_raw" if (kind, source) == ("stream", RAW) else kind
    texts = {
        module: _add_fusion(name) if kind == FUSION else _fill_template(template, name, source),
        test: _fill_template(f"test_{template}", name, source),
        **_edit_files(kind, name, source),
    }
    for path, text in texts.items():
        path.write_text(text)
    return list(texts)


def _edit_files(kind: str, name: str, source: str) -> dict[Path, str]:
    """Return the new contents of the existing files that a new module of a kind changes. source: of `create`."""
    pipeline = PIPELINE.read_text()
    if kind == "stream":
        return {
            **_edit_parameters(_STREAM_SECTION.replace("NAME", name), "targets", 2),
            PIPELINE: _add_stage(pipeline, name, source),
        }
    if kind == "encoder":
        return _edit_parameters(_ENCODER_ENTRY.replace("NAME", name).replace("SOURCE", source), "train", 1)
    if kind == FUSION:
        names = re.sub(r"(?m)^(FUSIONS = \([^)]*)\)", rf'\g<1>    "{name}",\n)', FUSION_NAMES.read_text())
        comment = f"\n  # | {name}: describe the fusion here\n  fusion: "
        texts = {path: path.read_text().replace("\n  fusion: ", comment, 1) for path in PARAMETERS}
        return {FUSION_NAMES: names, **texts}
    if kind == "analysis":
        output = _LAST_OUTPUT.replace("  figures", f"    - data/{name}.csv\n  figures")
        artifacts = ARTIFACTS.read_text().replace(
            "\n\n# figures\n", f'\n{name.upper()} = DATA / "{name}.csv"\n\n# figures\n'
        )
        return {
            **_edit_parameters(_ANALYSIS_KEY.replace("NAME", name), "figures", 1),
            PIPELINE: pipeline.replace(_LAST_OUTPUT, output),
            ARTIFACTS: artifacts.replace("EMBEDDING_MAP, SAMPLES,", f"EMBEDDING_MAP, SAMPLES, {name.upper()},"),
        }
    return {}


def _add_fusion(name: str) -> str:
    """Return the module of fusions with a new class and its name. Raises InputError if it has one of the two."""
    content, class_name = FUSIONS.read_text(), "".join(part.capitalize() for part in name.split("_"))
    if f'"{name}"' in content or re.search(rf"\b{class_name}\b", content):
        raise InputError(f"name = {name!r}, but {FUSIONS} has {name} or {class_name} already; choose another name")
    text = _fill_template(FUSION, name, "").replace("CLASS", class_name)
    content = content.replace("\n\nFUSIONS:", f"\n\n{text}\n\nFUSIONS:", 1)
    return re.sub(r"(?m)^(FUSIONS: [^}]*)\}", rf'\g<1>    "{name}": {class_name},\n}}', content)


def _edit_parameters(text: str, section: str, after: int) -> dict[Path, str]:
    """Return the contents of params.yaml and params/demo.yaml with `text` inserted before a section, by `_insert`."""
    return {path: _insert(path.read_text(), text, section, after) for path in PARAMETERS}


def _fill_template(template: str, name: str, source: str) -> str:
    """Return the text of a template with the name filled in; a figure gets the last place in its report section."""
    text = (TEMPLATES / f"{template}.txt").read_text().replace("NAME", name).replace("UPPER", name.upper())
    text = text.replace("SOURCE", source)
    if "NUMBER" in text:
        figures = Path(FOLDERS["figure"]).glob("[!_]*.py")
        orders = [
            int(order)
            for path in figures
            for order in re.findall(r'^SECTION, ORDER = ".*", (\d+)$', path.read_text(), re.M)
        ]
        text = text.replace("NUMBER", str(max(orders) + 1))
    return text


def _insert(content: str, text: str, section: str, after: int) -> str:
    """Return params.yaml with `text` inserted before a section and its comment, `after` line breaks later (1 or 2)."""
    place = content.rindex("\n\n", 0, content.index(f"\n{section}:\n") + 1) + after
    return content[:place] + text + content[place:]


def _add_stage(content: str, name: str, source: str) -> str:
    """Return dvc.yaml with a new stage before train, on whose folder the stages that read streams depend."""
    stages = parameters.read_stages()
    deps = [path for path in stages[_RAW_STREAM]["deps"] if path != f"lib/streams/{_RAW_STREAM}.py"]
    if source != RAW:  # the new module imports that of its input
        deps = [path for path in deps if not path.startswith(("data/", "lib/media"))]
        deps += [f"data/{source}", *(path for path in stages[source]["deps"] if path.startswith("lib/"))]
    deps.append(f"lib/streams/{name}.py")
    lines = "\n".join(f"    - {path}" for path in sorted(set(deps)))
    content = content.replace(_FOLDERS, f"{_FOLDERS}    - data/{name}\n")
    stage = _STAGE.replace("DEPS", lines).replace("NAME", name)
    return content.replace("\n  train:\n", f"\n{stage}  train:\n", 1)


if __name__ == "__main__":
    command.run(main)
