"""The exceptions for mistakes of the user, and the handling of other exceptions that a single clip causes."""

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

INTERNAL = "internal"
"""The first word of the reason of a clip that is rejected because of an error in the program."""
_LONGEST = 500  # characters of an exception's text


class InputError(ValueError):
    """A mistake in the input. Its text names the value, what is allowed and what to do."""


class SettingError(InputError):
    """A mistake in one or several settings, a line for each, with the setting's path: `train.epochs = 0; allowed: ...`.

    The text names no file, because library code can get its settings from elsewhere. Commands get them from params.yaml:
    `lib.core.command.run` prints that name in front of each line.
    """

    def prefix_lines(self, file: str) -> str:
        """Return the text with the name of the settings' file in front of each line."""
        return LINE.join(f"{file}: {line}" for line in str(self).split(LINE))


LINE = "\n       "
"""Separates the lines of a SettingError; they are indented like the text after `error: `."""


@contextmanager
def prefix_errors(path: str) -> Iterator[None]:
    """Turn an InputError about an argument into a SettingError: put `path`, such as "model.encoders.faces.", in front."""
    try:
        yield
    except InputError as error:
        raise SettingError(f"{path}{error}") from None


def describe_internal_error(error: Exception) -> tuple[str, str]:
    """Return the reason to reject a clip whose processing raised `error`, and the traceback."""
    text = " ".join(str(error).split())[:_LONGEST]
    return f"{INTERNAL}: {type(error).__name__}: {text}", "".join(traceback.format_exception(error))


@cache
def log_once(log: str, text: str) -> None:
    """Write a traceback to the log of that name unless the same one is there already."""
    logging.getLogger(log).error(text)
