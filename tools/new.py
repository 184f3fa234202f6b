"""Write a working skeleton of a new stream, encoder or source with its test, ready to be changed.

A stream also gets its section of params.yaml and its stage in dvc.yaml, an encoder its entry under model.encoders. Files of
the same name are never overwritten. `python -m pytest tests/test_NAME.py tests/test_contract.py` tests what was written.
"""

import argparse
import keyword
from pathlib import Path

from lib.core import command
from lib.core.errors import InputError

TEMPLATES = Path(__file__).parent / "templates"
PARAMETERS = (Path("params.yaml"), Path("params/demo.yaml"))
FOLDERS = {"stream": "lib/streams", "encoder": "lib/model/encoders", "source": "lib/sources"}

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
_FOLDERS = "    - data/flow\n    - data/descriptors\n"
"""Where the stages that read all streams list their folders."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=FOLDERS)
    parser.add_argument("name", help="of the new module")
    options = parser.parse_args()
    for path in create(options.kind, options.name):
        print(f"written: {path}")


def create(kind: str, name: str) -> list[Path]:
    """Write the skeleton of a new member of a kind in the project's folder; return the files that were written or changed.

    Raises InputError if the name is no module's, or a file is there already; nothing is written then.
    """
    if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_") or not name.islower():
        raise InputError(
            f"name = {name!r}; allowed: a module's name in small letters, digits and _, not first; try my_{kind}"
        )
    module, test = Path(FOLDERS[kind], f"{name}.py"), Path("tests", f"test_{name}.py")
    if there := [path for path in (module, module.with_suffix(""), test) if path.exists()]:
        raise InputError(f"{there[0]} is there already; choose another name than {name!r}")
    edits: dict[Path, str] = {}
    if kind == "stream":
        edits = {
            path: _inserted(path.read_text(), _STREAM_SECTION.replace("NAME", name), "targets", 2)
            for path in PARAMETERS
        }
        edits[Path("dvc.yaml")] = _with_stage(Path("dvc.yaml").read_text(), name)
    elif kind == "encoder":
        edits = {
            path: _inserted(path.read_text(), _ENCODER_ENTRY.replace("NAME", name), "train", 1) for path in PARAMETERS
        }
    written = {module: _template(kind, name), test: _template(f"test_{kind}", name), **edits}
    for path, text in written.items():
        path.write_text(text)
    return list(written)


def _template(template: str, name: str) -> str:
    return (TEMPLATES / f"{template}.txt").read_text().replace("NAME", name)


def _inserted(content: str, text: str, section: str, after: int) -> str:
    """Return params.yaml with `text` before a section and its comment: after 1 or 2 ends of line of the blank line there."""
    place = content.rindex("\n\n", 0, content.index(f"\n{section}:\n") + 1) + after
    return content[:place] + text + content[place:]


def _with_stage(content: str, name: str) -> str:
    """Return dvc.yaml with a stage before train, and its folder among the dependencies of the stages that read streams."""
    content = content.replace(_FOLDERS, f"{_FOLDERS}    - data/{name}\n")
    return content.replace("\n  train:\n", "\n" + _STAGE.replace("NAME", name) + "  train:\n", 1)


if __name__ == "__main__":
    command.run(main)
