"""Tools answer --help and mistyped paths without importing torch, which takes seconds."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


def run_and_watch(tool: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a tool's main; the last line of its output says whether torch was imported."""
    script = (
        f"import sys\nfrom tools import {tool}\ntry:\n    {tool}.main()\nfinally:\n    print('torch' in sys.modules)"
    )
    line = [sys.executable, "-c", script, *arguments]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("tool", ["archives", "page", "predict"])
def test_help_is_printed_without_torch(tool: str) -> None:
    result = run_and_watch(tool, "--help")
    assert result.returncode == 0
    assert result.stdout.startswith("usage: ")
    assert result.stdout.endswith("\nFalse\n")


def test_predict_reports_a_missing_model_before_torch(tmp_path: Path) -> None:
    result = run_and_watch("predict", "clip.mp4", "--model", str(tmp_path / "none.pt"))
    assert result.stdout == "False\n"
    assert result.stderr.endswith("none.pt is missing; run `dvc repro train`\n")
