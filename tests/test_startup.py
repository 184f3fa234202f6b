"""Tools answer --help and mistyped paths without importing torch or other packages, which takes seconds."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

SLOW_PACKAGES = {"torch", "dvc", "pandas", "sklearn", "matplotlib"}
TOOLS = (
    "ablate",
    "archives",
    "baselines",
    "benchmarks.asr",
    "benchmarks.busy",
    "benchmarks.chain",
    "benchmarks.codecs",
    "benchmarks.corpus",
    "benchmarks.flow",
    "benchmarks.foundation",
    "benchmarks.in_place",
    "benchmarks.predict",
    "benchmarks.preprocessing",
    "benchmarks.service",
    "benchmarks.speech",
    "benchmarks.text",
    "benchmarks.tracked_files",
    "benchmarks.training",
    "compare",
    "export",
    "import_model",
    "multitask",
    "new",
    "page",
    "parameters",
    "parity",
    "planted",
    "power",
    "predict",
    "publish",
    "reference",
    "search",
    "serve",
    "weights",
    "words",
)


def run_and_watch(tool: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a tool as `python -m` does; the last line of its output lists the SLOW_PACKAGES that were imported."""
    script = (
        "import runpy, sys\n"
        f"try:\n    runpy.run_module('tools.{tool}', run_name='__main__', alter_sys=True)\n"
        f"finally:\n    print(sorted({SLOW_PACKAGES} & sys.modules.keys()))"
    )
    line = [sys.executable, "-c", script, *arguments]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)


PRINT_HELP = """
import io, json, os, runpy, sys
from contextlib import redirect_stdout
import tools  # as for each tool

slow = set(sys.argv.pop(1).split())
for name in sys.argv[1:]:
    if os.fork():
        os.wait()
        continue
    sys.argv, status = [name, "--help"], None
    with redirect_stdout(io.StringIO()) as output:
        try:
            runpy.run_module(f"tools.{name}", run_name="__main__", alter_sys=True)
        except SystemExit as end:
            status = end.code or 0
    print(json.dumps([name, [status, output.getvalue(), sorted(slow & sys.modules.keys())]]), flush=True)
    os._exit(0)
"""
"""Prints a line for each tool, which runs in a fork of one process: its name, exit status, help and slow packages."""


@pytest.fixture(scope="module")
def helps() -> dict[str, tuple[int, str, list[str]]]:
    line = [sys.executable, "-c", PRINT_HELP, " ".join(SLOW_PACKAGES), *TOOLS]
    done = subprocess.run(line, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return dict(map(json.loads, done.stdout.splitlines()))


@pytest.mark.parametrize("tool", TOOLS)
def test_help_is_printed_without_slow_packages(tool: str, helps: dict[str, tuple[int, str, list[str]]]) -> None:
    status, text, imported = helps[tool]
    assert status == 0
    assert text.startswith(f"usage: python -m tools.{tool} [-h]")
    assert imported == []


def test_every_tool_names_its_command() -> None:
    tools = {}
    for path in (ROOT / "tools").rglob("*.py"):
        if "ArgumentParser(" in (text := path.read_text()):
            name = ".".join(path.relative_to(ROOT / "tools").with_suffix("").parts).removesuffix(".__main__")
            tools[name] = f'prog="python -m tools.{name}"' in text
    assert tools == dict.fromkeys(TOOLS, True)


def test_predict_reports_a_missing_model_before_torch(tmp_path: Path) -> None:
    result = run_and_watch("predict", "clip.mp4", "--model", str(tmp_path / "none.pt"))
    assert result.stdout == "[]\n"
    assert result.stderr.endswith(
        "none.pt is missing; run `dvc repro train`, or name a published folder with --model\n"
    )


def test_predict_reports_missing_clips_before_torch(tmp_path: Path) -> None:
    model = tmp_path / "model.pt"
    model.touch()
    result = run_and_watch("predict", "one.mp4", "two.mp4", "--model", str(model))
    assert result.stdout == "[]\n"
    assert result.stderr.endswith("none of the 2 paths is a file; the first is one.mp4; correct the path\n")


def test_prediction_of_attention_does_not_load_sympy() -> None:
    script = (
        "import sys, torch; from lib.model.fusions import CrossAttention; from lib.model.tokens import Tokens;"
        " tokens = Tokens(torch.randn(1, 5, 12), torch.arange(5.0)[None], torch.ones(1, 5).bool(), (1, 1));"
        " CrossAttention({'a': 12, 'b': 12}).eval()({'a': tokens, 'b': tokens}); print('sympy' in sys.modules)"
    )
    line = [sys.executable, "-c", script]
    assert subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True).stdout == "False\n"
