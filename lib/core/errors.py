"""The one exception for mistakes in what the user gave, and what becomes of any other that a single clip causes."""

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

INTERNAL = "internal"
"""The kind of reason of a clip that a fault in the program refused."""
_LONGEST = 500  # characters of an exception's text


class InputError(ValueError):
    """A mistake in the input; its text says what was seen, what is allowed and where to change it."""


@contextmanager
def prefix_errors(place: str) -> Iterator[None]:
    """Put `place` (for instance "params.yaml: model.") in front of the text of any InputError that is raised inside."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{place}{error}") from None


def describe_internal_error(error: Exception) -> tuple[str, str]:
    """Return the reason for which a clip is refused that raised `error`, and the traceback."""
    text = " ".join(str(error).split())[:_LONGEST]
    return f"{INTERNAL}: {type(error).__name__}: {text}", "".join(traceback.format_exception(error))


@cache
def log_once(log: str, text: str) -> None:
    """Write a traceback to the log of that name unless the same one is there already."""
    logging.getLogger(log).error(text)
