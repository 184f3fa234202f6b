"""Collect the error messages and warnings that tests provoke: python -m pytest -p tests.messages --messages FILE.md ..."""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lib.core.errors import InputError


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --messages."""
    parser.addoption(
        "--messages", type=Path, metavar="FILE.md", help="write all messages that tests provoke to FILE.md"
    )


class Collector:
    """Records each message with the first test that provoked it. Each test process writes a part of the page."""

    def __init__(self, page: Path) -> None:
        self.page = page.resolve()
        self.seen: dict[str, str] = {}

    def record(self, kind: str, text: str) -> None:
        """Record a message. Values that differ between runs are kept."""
        test = os.environ.get("PYTEST_CURRENT_TEST", "").split(" ")[0]
        self.seen.setdefault(f"{kind}: {text}", test)

    def recording(self, initialise: Callable[..., None]) -> Callable[..., None]:
        """Return InputError's __init__ that also records the message."""

        @functools.wraps(initialise)
        def recorded(error: InputError, *arguments: Any) -> None:
            self.record("error", " ".join(map(str, arguments)))
            initialise(error, *arguments)

        return recorded

    def pytest_warning_recorded(self, warning_message: Any) -> None:
        """Record a warning that the project's code raises."""
        if "/lib/" in str(warning_message.filename) and issubclass(warning_message.category, UserWarning):
            self.record("warning", str(warning_message.message))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write this process' part, or, in the main process, the complete page."""
        lines = [f"- `{test}`\n\n  {message}\n" for message, test in self.seen.items()]
        if worker := getattr(session.config, "workerinput", None):
            self.page.with_suffix(f".{worker['workerid']}.part").write_text("\n".join(lines))
            return
        parts = sorted(self.page.parent.glob(f"{self.page.stem}.*.part"))
        texts = [*lines, *(part.read_text() for part in parts)]
        self.page.write_text("# Messages that the tests provoke\n\n" + "\n".join(filter(None, texts)))
        for part in parts:
            part.unlink()


def pytest_configure(config: pytest.Config) -> None:
    """Begin to collect if --messages is given."""
    if page := config.getoption("messages", None):
        collector = Collector(page)
        InputError.__init__ = collector.recording(InputError.__init__)  # type: ignore[method-assign]
        config.pluginmanager.register(collector, "messages")
