"""End a command that gets Ctrl-C while it loads its packages. No work has started by then."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

LINE = "interrupted; finished parts are kept; run the same command to continue"


def begin_loading() -> None:
    """Let Ctrl-C end this process with one line and status 130 until `end_loading`, if it is a command (`python -m`).

    An exception could be lost in the middle of an import, or be printed with a traceback.
    """
    is_command = sys.argv[:1] == ["-m"]  # while Python imports the package of a command
    if is_command and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def end_loading() -> None:
    """Let Ctrl-C raise KeyboardInterrupt from now on."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def loading() -> Iterator[None]:
    """Let Ctrl-C end this process with one line and status 130 in a `with` block that imports packages."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(*_: Any) -> None:
    os.write(2, f"{LINE}\n".encode())
    os._exit(130)
