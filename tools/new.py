"""Write a working skeleton of a new stream, encoder, source, analysis or figure, and a test for it.

A new stream also gets a section in params.yaml and a stage in dvc.yaml; an encoder gets an entry under model.encoders; an
analysis gets a key in params.yaml and an output in lib/core/artifacts.py and dvc.yaml. Existing files are never overwritten.
Test the result with `python -m pytest tests/test_NAME.py tests/test_contract.py`.
"""

import argparse
import keyword
import re
from pathlib import Path

from lib.core import command
from lib.core.errors import InputError

TEMPLATES = Path(__file__).parent / "templates"
PARAMETERS = (Path("params.yaml"), Path("params/demo.yaml"))
PIPELINE, ARTIFACTS = Path("dvc.yaml"), Path("lib/core/artifacts.py")
FOLDERS = {
    "stream": "lib/streams",
    "encoder": "lib/model/encoders",
    "source": "lib/sources",
    "analysis": "lib/analysis",
    "figure": "lib/report/figures",
}

_STREAM_SECTION = """# describe the stream here
NAME:
  enabled: false

"""
_ENCODER_ENTRY = """    NAME:
      kind: NAME
      reads: [audio.mfcc]
      take: all
      steps: 1
"""
_STAGE = """  NAME:
    cmd: python -m stages.stream NAME
    deps:
    - data/audio
    - lib/core
    - lib/streams/NAME.py
    - lib/streams/_extraction.py
    - lib/streams/_shards.py
    - lib/streams/base.py
    - lib/streams/build.py
    - stages/__init__.py
    - stages/stream.py
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
    parser.add_argument("kind", choices=FOLDERS, help="kind of module")
    parser.add_argument("name", help="name of the new module, in lower case")
    options = parser.parse_args()
    for path in create(options.kind, options.name):
        print(f"written: {path}")


def create(kind: str, name: str) -> list[Path]:
    """Write the skeleton of a new module of a kind; return the files that were written or changed.

    Raises InputError, and writes nothing, if the name is not allowed for a module or a file of that name exists.
    """
    if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_") or not name.islower():
        raise InputError(
            f"name = {name!r}; allowed: lower-case letters, digits and _, beginning with a letter; try my_{kind}"
        )
    module, test = Path(FOLDERS[kind], f"{name}.py"), Path("tests", f"test_{name}.py")
    if existing := [path for path in (module, module.with_suffix(""), test) if path.exists()]:
        raise InputError(f"name = {name!r}, but {existing[0]} exists already; choose another name")
    texts = {module: _fill_template(kind, name), test: _fill_template(f"test_{kind}", name), **_edit_files(kind, name)}
    for path, text in texts.items():
        path.write_text(text)
    return list(texts)


def _edit_files(kind: str, name: str) -> dict[Path, str]:
    """Return the new contents of the existing files that a new module of a kind changes."""
    pipeline = PIPELINE.read_text()
    if kind == "stream":
        return {
            **_edit_parameters(_STREAM_SECTION.replace("NAME", name), "targets", 2),
            PIPELINE: _add_stage(pipeline, name),
        }
    if kind == "encoder":
        return _edit_parameters(_ENCODER_ENTRY.replace("NAME", name), "train", 1)
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


def _edit_parameters(text: str, section: str, after: int) -> dict[Path, str]:
    """Return the contents of params.yaml and params/demo.yaml with `text` inserted before a section, by `_insert`."""
    return {path: _insert(path.read_text(), text, section, after) for path in PARAMETERS}


def _fill_template(template: str, name: str) -> str:
    """Return the text of a template with the name filled in; a figure gets the last place in its report section."""
    text = (TEMPLATES / f"{template}.txt").read_text().replace("NAME", name).replace("UPPER", name.upper())
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


def _add_stage(content: str, name: str) -> str:
    """Return dvc.yaml with a new stage before train, on whose folder the stages that read streams depend."""
    content = content.replace(_FOLDERS, f"{_FOLDERS}    - data/{name}\n")
    return content.replace("\n  train:\n", "\n" + _STAGE.replace("NAME", name) + "  train:\n", 1)


if __name__ == "__main__":
    command.run(main)
