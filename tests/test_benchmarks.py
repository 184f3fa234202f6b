"""Benchmarks: the rates that `predict` prints, the processes that `busy` starts, and the corpus that `corpus` makes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lib.core.errors import InputError
from tests.conftest import ROOT
from tools.benchmarks import corpus, tracked_files
from tools.benchmarks._predict import describe_rate
from tools.parameters import check, merge_parameters


@pytest.mark.parametrize(("seconds", "twice", "rate"), [(10.0, 14.0, "120.0"), (30.0, 60.0, "16.0")])
def test_describe_rate_excludes_start_up(seconds: float, twice: float, rate: str) -> None:
    assert describe_rate(8, seconds, twice) == rate


@pytest.mark.parametrize(("twice", "more"), [(7.0, "-3.0"), (10.0, "+0.0"), (10.5, "+0.5")])
def test_rate_within_the_noise_is_not_measurable(twice: float, more: str) -> None:
    text = f"not measurable: 8 more clips took {more} s; use an idle machine or a larger --many"
    assert describe_rate(8, 10.0, twice) == text


@pytest.mark.slow
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


def test_made_corpus_fits_its_parameters(tmp_path: Path) -> None:
    corpus.make_corpus(tmp_path, 1000)
    labels, features = (pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("clips", "features"))
    assert features.shape == (1000, 11)
    assert labels["clip"].equals(features["clip"])
    assert labels["clip"].str.split(".").str[0].value_counts().eq(corpus.CLIPS_PER_VIDEO).all()
    assert labels["warmth"].between(0, 1).all()
    assert np.corrcoef(labels["warmth"], features["f0"])[0, 1] > 0.5
    assert abs(np.corrcoef(labels["warmth"], features["f5"])[0, 1]) < 0.1
    values = merge_parameters("table", [*corpus.CHANGES, "train.epochs=1"])
    check(values)
    assert values["download"]["videos"] is False


@pytest.mark.slow
def test_corpus_benchmark_measures_a_process(tmp_path: Path) -> None:
    (tmp_path / "data/archives").mkdir(parents=True)
    code = "import sys; from pathlib import Path; from tools.benchmarks import corpus"
    code += "; print(*corpus.run_module(Path(sys.argv[1]), 'tools.archives'))"
    # in a process of its own: Linux counts the memory of the process that starts another as that of the other
    command = [sys.executable, "-c", code, str(tmp_path)]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    _, cpu, peak = map(float, output.split()[-3:])
    assert cpu > 0
    assert 5 < peak < 2000
    assert (tmp_path / "data/archives.csv").exists()
    with pytest.raises(InputError, match=r"python -m stages\.train failed with status 1:\n(.|\n)*dvc\.yaml is missing"):
        corpus.run_module(tmp_path, "stages.train")


def test_corpus_benchmark_compares_medians_of_two_checkouts(tmp_path: Path) -> None:
    seconds = {tmp_path: iter([4.0, 40.0, 6.0]), corpus.ROOT: iter([2.0, 3.0, 1.0])}
    order = []

    def measure(root: Path) -> Iterator[tuple[str, corpus.Cost]]:
        order.append(root)
        yield "train", corpus.Cost(0, next(seconds[root]), 0)

    assert [*corpus.compare(measure, tmp_path, 3)] == [("train", "6.0 | 2.0 | 3.0")]
    assert order == [tmp_path, corpus.ROOT] * 3


@pytest.mark.slow
def test_tracked_files_benchmark_measures_each_command(tmp_path: Path) -> None:
    costs = dict(tracked_files.measure_commands(tmp_path, 3))
    assert list(costs) == list(tracked_files.COMMANDS)
    assert all(cost.cpu > 0 for cost in costs.values())
    assert not list(tmp_path.iterdir())
