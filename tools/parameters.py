"""Write params.yaml from a file of params/, with optional changes KEY=VALUE.

params/demo.yaml contains every parameter, with comments. The other files contain only the parameters that differ from it.
The result is checked before params.yaml is written.
"""

import argparse
import importlib
from collections.abc import Mapping, MutableMapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any, TextIO

from ruamel.yaml import YAML, YAMLError
from ruamel.yaml.comments import CommentedMap

from lib.core import command, interrupts, parameters, weight_files
from lib.core.artifacts import PARAMETERS
from lib.core.errors import InputError

FOLDER = Path("params")
_COMPLETE = "demo"


def main() -> None:
    names = [path.stem for path in sorted(FOLDER.glob("*.yaml"))]
    parser = argparse.ArgumentParser(
        prog="python -m tools.parameters", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=names, help=", ".join(names), metavar="NAME")
    parser.add_argument(
        "changes", nargs="*", metavar="KEY=VALUE", help="change of a parameter, such as model.fusion=concat"
    )
    arguments = parser.parse_args()
    values = merge_parameters(arguments.name, arguments.changes)
    check(values)
    with PARAMETERS.open("w") as file:
        dump(values, file)
    print(
        f"{PARAMETERS} is {FOLDER / arguments.name}.yaml"
        + (f" with {', '.join(arguments.changes)}" if arguments.changes else "")
    )
    for line in weight_files.list_missing(plain(values)):
        print(line)


def merge_parameters(name: str, changes: list[str]) -> CommentedMap:
    """Return the complete parameters of params/NAME.yaml with `changes` KEY=VALUE. Raises InputError for a wrong key."""
    complete = _load_file(_COMPLETE)
    if name != _COMPLETE:
        changes_of_file = _load_file(name)
        _merge(complete, changes_of_file, f"params/{name}.yaml")
        complete.ca.comment = changes_of_file.ca.comment
    for change in changes:
        put(complete, *parse_change(change))
    return complete


def _load_file(name: str) -> CommentedMap:
    """Return the parameters of params/NAME.yaml with their comments. The file is parsed once unless it changes."""
    path = (FOLDER / f"{name}.yaml").absolute()
    return deepcopy(_parse_file(path, path.stat().st_mtime_ns))


@cache
def _parse_file(path: Path, changed: int) -> CommentedMap:
    return _yaml().load(path)


def parse_change(change: str) -> tuple[str, Any]:
    """Return the key and the value of KEY=VALUE. VALUE is YAML."""
    key, equals, text = change.partition("=")
    if not equals:
        raise InputError(f"{change!r}; allowed: KEY=VALUE, such as model.fusion=concat")
    try:
        return key, _yaml().load(text)
    except YAMLError as error:
        raise InputError(
            f"{change!r} is not valid YAML ({error}); allowed: KEY=VALUE, such as model.fusion=concat"
        ) from None


def put(values: MutableMapping[str, Any], key: str, value: Any) -> None:
    """Set `key`, such as SECTION.NAME, in the complete parameters. Raises InputError for an unknown section."""
    *parents, last = key.split(".")
    section = values
    for depth, part in enumerate(parents):
        if not isinstance(section.get(part), MutableMapping):
            place = ".".join(parents[:depth]) or "params.yaml"
            raise InputError(f"{key}: {place} has no section {part!r}; allowed: {', '.join(section)}")
        section = section[part]
    section[last] = value


def dump(values: CommentedMap, file: TextIO) -> None:
    """Write parameters as YAML with their comments."""
    _yaml().dump(values, file)


def check(values: Mapping[str, Any]) -> None:
    """Raise InputError if the parameters are invalid for a stage."""
    with interrupts.loading():  # they are slow to load
        from lib.sources import settings as sources
        from lib.streams import base, build

    for stage in parameters.read_stages():
        model: Any = (
            build.make_parameters_model(stage)
            if stage in base.list_names()
            else importlib.import_module(f"stages.{stage}").Parameters
        )
        section_values = parameters.check({name: plain(values[name]) for name in model.model_fields}, model)
        if stage == "train":
            section_values.resolve()
        elif stage == "download":
            sources.check_targets(values, section_values.download)
            sources.find_scored(values, section_values.download)
    base.check_enabled(values)


def _merge(values: CommentedMap, changes: Mapping[str, Any], source: str, parent: str = "") -> None:
    for key, value in changes.items():
        name = f"{parent}.{key}" if parent else str(key)
        if not parent and key not in values:
            raise InputError(f"{source}: unknown section {name}; allowed: {', '.join(values)}")
        if isinstance(value, Mapping) and isinstance(values.get(key), Mapping):
            _merge(values[key], value, source, name)
        else:
            values[key] = value


def plain(values: Any) -> Any:
    """Return values of ruamel.yaml's types as dict, list, bool, int, float or str."""
    if isinstance(values, Mapping):
        return {str(key): plain(value) for key, value in values.items()}
    if isinstance(values, list):
        return [plain(value) for value in values]
    for kind in (bool, int, float, str):
        if isinstance(values, kind):
            return kind(values)
    return values


def _yaml() -> YAML:
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 1000
    yaml.representer.add_representer(
        type(None), lambda dumper, _: dumper.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    return yaml


if __name__ == "__main__":
    command.run(main)
