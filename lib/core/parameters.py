"""Read the parameters that DVC tracks for a stage, and check them against the stage's pydantic model."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError

from lib.core.artifacts import PARAMETERS, STAGES
from lib.core.errors import LINE, InputError, SettingError


class Section(BaseModel):
    """A section of params.yaml: every key required, no other key allowed, no type coerced, every number finite.

    Code that gets values of a section raises errors with the key's path and without a file's name: a SettingError that
    begins with `train.mix = `, or an InputError that begins with `mix = ` inside `prefix_errors("train.")`. The command that
    read params.yaml adds its name.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
    renamed: ClassVar[Mapping[str, str]] = {}
    """Keys of earlier versions, with what to write in their place."""

    @model_validator(mode="before")
    @classmethod
    def _name_what_replaces_a_key(cls, values: Any) -> Any:
        for key, replacement in cls.renamed.items():
            if isinstance(values, dict) and key in values:
                raise PydanticCustomError("renamed", "{key} {replacement}", {"key": key, "replacement": replacement})
        return values


_MOVED = {
    f"evaluate.{key}": f"analyse.{key}"
    for key in (
        "attention_clips",
        "control_clips",
        "control_repeats",
        "importance_clips",
        "robustness_clips",
        "map_clips",
    )
}
"""Keys of earlier versions, and where they are now."""

ModelT = TypeVar("ModelT", bound=Section)


def load(stage: str, model: type[ModelT]) -> ModelT:
    """Return the parameters that dvc.yaml lists for `stage`, validated. DVC tracks these, so a stage can read no others.

    Raises InputError with a line for each wrong key: its name, the value seen and what is allowed.
    """
    keys = read_stages()[stage]["params"]
    values = load_all()
    selected: dict[str, Any] = {}
    for key in keys:
        *sections, name = key.split(".")
        source, target = values, selected
        for section in sections:
            source, target = source.get(section, {}), target.setdefault(section, {})
        if name in source:
            target[name] = source[name]
    return check(selected, model)


def load_all() -> dict[str, Any]:
    """Return all of params.yaml, for checks across sections; a stage's own parameters come from `load`."""
    return read_yaml(PARAMETERS)


def read_stages() -> dict[str, Any]:
    """Return the stages of dvc.yaml by name. The file is parsed once unless it changes. Raises InputError as `read_yaml`."""
    return _parse_stages(STAGES.absolute(), STAGES.stat().st_mtime_ns if STAGES.is_file() else 0)


@cache
def _parse_stages(path: Path, changed: int) -> dict[str, Any]:
    stages: dict[str, Any] = read_yaml(STAGES)["stages"]
    return stages


def read_yaml(path: Path) -> Any:
    """Return the contents of a YAML file. Raises InputError with line and column where it is not valid YAML."""
    try:
        return YAML(typ="safe").load(path)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise InputError(f"{path}{where}: {error.problem or error.context}; correct it") from None
    except OSError:
        raise InputError(f"{path} is missing; run the command in the project's folder") from None


def check(values: dict[str, Any], model: type[ModelT], prefix: str = "") -> ModelT:
    """Validate `values` (nested dicts as in params.yaml, or what it has under the key `prefix`) against `model`."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise SettingError(LINE.join(_line(problem, prefix) for problem in error.errors())) from None


def _line(problem: Any, prefix: str) -> str:
    key = ".".join(map(str, ([prefix] if prefix else []) + [part for part in problem["loc"] if part != "[key]"]))
    if problem["type"] == "renamed":
        old, replacement = problem["ctx"]["key"], problem["ctx"]["replacement"]
        return f"{key}.{old} no longer exists; write {replacement}"
    if problem["type"] == "missing":
        return f"{key} is missing; params/demo.yaml says what it is for"
    if key in _MOVED:
        return f"{key} = {problem['input']!r} is now {_MOVED[key]}; move it there"
    if problem["type"] == "extra_forbidden":
        return f"unknown key {key} = {problem['input']!r}; remove it or correct its name"
    if problem["type"] == "list_type":
        return f"{key} = {problem['input']!r} must be a list, such as [{problem['input']}]"
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if problem["type"] == "value_error" and "; allowed" in message:  # it names one of several keys below `key`
        return f"{key}.{message}" if key else message
    return f"{key} = {problem['input']!r}; allowed: {message}"
