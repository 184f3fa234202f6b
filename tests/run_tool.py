"""Run a tool in this process, where the start of a process is not what is tested: it would cost seconds of imports."""

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from subprocess import CompletedProcess
from types import ModuleType

import pytest

from lib.core import command


def run_tool(tool: ModuleType, *arguments: str, cwd: Path) -> CompletedProcess[str]:
    """Return what `python -m TOOL ARGUMENTS` prints, and its exit status."""
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
