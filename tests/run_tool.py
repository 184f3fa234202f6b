"""Run tools in this process, which saves the seconds that a new process needs for imports."""

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from subprocess import CompletedProcess
from types import ModuleType

import pytest

from lib.core import command


def run_tool(tool: ModuleType, *arguments: str, cwd: Path) -> CompletedProcess[str]:
    """Return the output and the exit status of `python -m TOOL ARGUMENTS`."""
    out, error, status = io.StringIO(), io.StringIO(), 0
    line = [tool.__name__, *arguments]
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(error):
        patch.chdir(cwd)
        patch.setattr(sys, "argv", line)
        try:
            command.run(tool.main)
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
            if isinstance(end.code, str):
                print(end.code, file=sys.stderr)
    return CompletedProcess(line, status, out.getvalue(), error.getvalue())


def call_main(tool: ModuleType, *arguments: object) -> None:
    """Call a tool's main() with these command-line arguments. Its exceptions reach the caller."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [tool.__name__, *map(str, arguments)])
        tool.main()
