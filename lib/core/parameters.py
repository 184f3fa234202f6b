"""Read a stage's parameters as DVC sees them, and check them against the stage's pydantic model."""

from typing import Any, TypeVar

import dvc.api
from pydantic import BaseModel, ConfigDict, ValidationError

from lib.core.errors import InputError


class Section(BaseModel):
    """A section of params.yaml: every key required, no other key allowed, no type coerced."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


ModelT = TypeVar("ModelT", bound=Section)


def load(stage: str, model: type[ModelT]) -> ModelT:
    """Return the parameters that dvc.yaml lists for `stage`, validated.

    Raises InputError with a line for each wrong key: its name, the value seen and what is allowed.
    """
    return check(dvc.api.params_show(stages=stage), model)


def check(values: dict[str, Any], model: type[ModelT], prefix: str = "") -> ModelT:
    """Validate `values` (nested dicts as in params.yaml, or what it has under the key `prefix`) against `model`."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise InputError("\n       ".join(_line(one, prefix) for one in error.errors())) from None


def _line(problem: Any, prefix: str) -> str:
    key = ".".join(map(str, ([prefix] if prefix else []) + list(problem["loc"])))
    if problem["type"] == "missing":
        return f"params.yaml lacks {key}; params.yaml as shipped says what it is for"
    if problem["type"] == "extra_forbidden":
        return f"params.yaml: unknown key {key} = {problem['input']!r}; remove it or correct its name"
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    return f"params.yaml: {key} = {problem['input']!r}; allowed: {message}"
