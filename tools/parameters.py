"""Write params.yaml: the demo's parameters, changed by a file of params/ and by what is given as KEY=VALUE.

params/demo.yaml has every parameter, with comments; each other file there only what differs from it. What comes out is
checked before anything is written.
"""

import argparse
import importlib
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any, TextIO

from ruamel.yaml import YAML, YAMLError
from ruamel.yaml.comments import CommentedMap

from lib.core import command, parameters
from lib.core.artifacts import PARAMETERS, STAGES
from lib.core.errors import InputError
from lib.sources import download
from lib.streams import base, build

FOLDER = Path("params")
_WHOLE = "demo"


def main() -> None:
    names = [path.stem for path in sorted(FOLDER.glob("*.yaml"))]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=names, help=", ".join(names), metavar="NAME")
    parser.add_argument("changes", nargs="*", metavar="KEY=VALUE", help="for instance model.fusion=concat")
    arguments = parser.parse_args()
    written = merged(arguments.name, arguments.changes)
    check(written)
    with PARAMETERS.open("w") as file:
        dump(written, file)
    print(
        f"{PARAMETERS} is {FOLDER / arguments.name}.yaml"
        + (f" with {', '.join(arguments.changes)}" if arguments.changes else "")
    )


def merged(name: str, changes: list[str]) -> CommentedMap:
    """Return the parameters of params/NAME.yaml, whole, with `changes` KEY=VALUE made. Raises InputError for a wrong key."""
    whole = _yaml().load(FOLDER / f"{_WHOLE}.yaml")
    if name != _WHOLE:
        differs = _yaml().load(FOLDER / f"{name}.yaml")
        _merge(whole, differs, f"params/{name}.yaml")
        whole.ca.comment = differs.ca.comment
    for change in changes:
        put(whole, *parsed(change))
    return whole


def parsed(change: str) -> tuple[str, Any]:
    """Return key and value of KEY=VALUE, whose VALUE is YAML."""
    key, equals, text = change.partition("=")
    if not equals:
        raise InputError(f"{change!r}; allowed: KEY=VALUE, for instance model.fusion=concat")
    try:
        return key, _yaml().load(text)
    except YAMLError as error:
        raise InputError(f"{change!r} is no YAML: {error}") from None


def put(whole: MutableMapping[str, Any], key: str, value: Any) -> None:
    """Set `key`, SECTION.NAME or deeper, in whole parameters. Raises InputError where a name above the last is unknown."""
    *above, last = key.split(".")
    section = whole
    for part in above:
        if not isinstance(section.get(part), MutableMapping):
            raise InputError(f"{key}: there is no {part!r} in {'.'.join(above)}; allowed: {', '.join(section)}")
        section = section[part]
    section[last] = value


def dump(values: CommentedMap, file: TextIO) -> None:
    """Write parameters as YAML, comments too."""
    _yaml().dump(values, file)


def check(values: Mapping[str, Any]) -> None:
    """Raise InputError if a stage would refuse the parameters."""
    for stage in parameters.read_yaml(STAGES)["stages"]:
        model: Any = (
            build.make_parameters_model(stage)
            if stage in base.names()
            else importlib.import_module(f"stages.{stage}").Parameters
        )
        given = parameters.check({name: plain(values[name]) for name in model.model_fields}, model)
        if stage == "train":
            given.model.encoder_inputs()
            given.model.chosen(given.targets)
        elif stage == "download":
            download.check_targets(values, given.download)
    base.check_enabled(values)


def _merge(whole: CommentedMap, differs: Mapping[str, Any], source: str, above: str = "") -> None:
    for key, value in differs.items():
        name = f"{above}.{key}" if above else str(key)
        if not above and key not in whole:
            raise InputError(f"{source}: there is no section {name}; allowed: {', '.join(whole)}")
        if isinstance(value, Mapping) and isinstance(whole.get(key), Mapping):
            _merge(whole[key], value, source, name)
        else:
            whole[key] = value


def plain(values: Any) -> Any:
    """YAML's own kinds of mappings, lists, numbers and texts as Python's."""
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
    yaml.representer.add_representer(type(None), lambda of, _: of.represent_scalar("tag:yaml.org,2002:null", "null"))
    return yaml


if __name__ == "__main__":
    command.run(main)
