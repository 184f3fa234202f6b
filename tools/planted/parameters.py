"""params.yaml during an experiment."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from lib.core.artifacts import PARAMETERS
from tools.parameters import check, dump, merge_parameters


@contextmanager
def use_parameters(name: str, changes: Sequence[str]) -> Iterator[None]:
    """Write params/NAME.yaml with `changes` KEY=VALUE to params.yaml, and restore params.yaml in the end.

    Raises InputError for an invalid change.
    """
    values = merge_parameters(name, [*changes])
    check(values)
    original = PARAMETERS.read_bytes()
    try:
        with PARAMETERS.open("w") as file:
            dump(values, file)
        yield
    finally:
        PARAMETERS.write_bytes(original)


def planted_targets(*columns: str) -> list[str]:
    """Return the changes that make these columns the only targets."""
    section = f"{{columns: [{', '.join(columns)}], range: [0, 1], head: sigmoid, loss: mse, weight: 1.0}}"
    return [f"targets.planted={section}", "model.targets=[planted]"]
