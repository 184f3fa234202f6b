"""Benchmarks: the rates that `predict` prints, and the processes that `busy` starts."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tools.benchmarks._predict import describe_rate


@pytest.mark.parametrize(("seconds", "twice", "rate"), [(10.0, 14.0, "120.0"), (30.0, 60.0, "16.0")])
def test_rate_leaves_out_the_start(seconds: float, twice: float, rate: str) -> None:
    assert describe_rate(8, seconds, twice) == rate


@pytest.mark.parametrize(("twice", "more"), [(7.0, "-3.0"), (10.0, "+0.0"), (10.5, "+0.5")])
def test_rate_within_the_noise_is_not_measurable(twice: float, more: str) -> None:
    text = f"not measurable: 8 more clips took {more} s; use an idle machine or a larger --many"
    assert describe_rate(8, 10.0, twice) == text


def test_busy_processes_end_when_the_benchmark_is_killed() -> None:
    code = (
        "import time\n"
        "from tools.benchmarks.busy import busy_processes\n"
        "with busy_processes(2) as processes:\n"
        "    print(*(process.pid for process in processes), flush=True)\n"
        "    time.sleep(600)\n"
    )
    benchmark = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert benchmark.stdout is not None
    folders = [Path("/proc", number) for number in benchmark.stdout.readline().split()]
    assert len(folders) == 2
    assert all(folder.exists() for folder in folders)
    os.kill(benchmark.pid, signal.SIGKILL)
    benchmark.wait()
    deadline = time.monotonic() + 60
    while any(folder.exists() for folder in folders):
        assert time.monotonic() < deadline
        time.sleep(0.05)
