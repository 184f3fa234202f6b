"""Ctrl-C, which a terminal sends to all processes: one line, exit status 130, and no process remains."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from lib.core.interrupts import LINE
from lib.media.writing import write_video
from lib.sources.demo.head import SAMPLE_RATE, Identity, Performance, render
from tests.conftest import ROOT
from tests.processes import wait_until
from tests.video_files import write_talking_head
from tools.benchmarks._predict import write_random_model

SLOWER = max(1.0, 2 * os.getloadavg()[0] / (os.cpu_count() or 1))
"""Factor by which processes are slower on a busy machine."""
POOL = """
import sys, time
from pathlib import Path
from lib.core import command, parallel
from lib.core.parallel import Parallel

def work(number):
    Path(sys.argv[1], str(number)).touch()
    time.sleep(0.05 if number < 3 else 60)
    return number

def main():
    with parallel.start_executor(Parallel(engine="loky", workers=2), gpu=False) as pool:
        for number in parallel.map_in_order(pool, work, range(50)):
            print(number, flush=True)

command.run(main)
"""
WITH_BARS = """
from tqdm import tqdm
from lib.core import parallel
from lib.core.parallel import Parallel

with parallel.start_executor(Parallel(engine="loky", workers=2), gpu=False) as pool:
    for length in parallel.map_in_order(pool, lambda number: len(list(tqdm(range(3), disable=None))), range(2)):
        print(length)
"""
STARTING = """
from pathlib import Path
from lib.core import parallel
from lib.core.parallel import Parallel

def read_blocked(pid):
    status = dict(line.split(":\\t") for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(status["SigBlk"], 16) >> 1 & 1     # SIGINT is signal 2

with parallel.start_executor(Parallel(engine="loky", workers=2), gpu=False) as pool:
    print([read_blocked(pid) for pid in pool._processes])
"""
FAKE_DVC = """
import os, signal, subprocess, sys, time
stage = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print("ready", file=sys.stderr, flush=True)
signal.signal(signal.SIGINT, signal.SIG_IGN)
print("ERROR: failed to reproduce", stage.wait(), file=sys.stderr, flush=True)
sys.exit(255)
"""
ABLATE = """
import sys
from lib.core import command
from tools import experiments
experiments.DVC = (sys.executable, "-c", sys.argv[1])
command.run(lambda: experiments.run_dvc(["exp", "run"]))
"""


def start(command: list[str]) -> subprocess.Popen[str]:
    """Start a command in its own process group, as a shell does."""
    return subprocess.Popen(
        command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, process_group=0,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),   # a background process ignores SIGINT
    )  # fmt: skip


def interrupt(process: subprocess.Popen[str]) -> str:
    """Interrupt a command, check that it and its children end with status 130 in 5 s (if idle), and return its stderr."""
    children = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)
    _, text = process.communicate(timeout=5 * SLOWER)
    _, running = psutil.wait_procs(children, timeout=2)
    assert not running, (running, text)
    assert process.returncode == 130, text
    return text


def test_interrupted_pool_ends_in_one_line(tmp_path: Path) -> None:
    process = start([sys.executable, "-c", POOL, str(tmp_path)])
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(3)] == ["0\n", "1\n", "2\n"]
    assert interrupt(process) == f"{LINE}\n"


def test_finished_pool_prints_nothing() -> None:
    result = subprocess.run([sys.executable, "-c", WITH_BARS], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (result.stdout, result.stderr) == ("3\n3\n", "")


def test_starting_workers_block_interrupts() -> None:
    result = subprocess.run([sys.executable, "-c", STARTING], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == "[1, 1]\n"


def test_interrupted_predict_ends_in_one_line(tmp_path: Path) -> None:
    write_talking_head(tmp_path / "clip.mp4", 1, Performance(0.5, 1.0, 0.0, 1), 2.0)
    clips = [tmp_path / f"{number}.mp4" for number in range(200)]
    for clip in clips:
        clip.symlink_to("clip.mp4")
    model, out = write_random_model("demo", tmp_path / "model.pt"), tmp_path / "scores.csv"
    options = ["--model", str(model), "--workers", "2", "--out", str(out)]
    process = start([sys.executable, "-m", "tools.predict", *map(str, clips), *options])
    wait_until(lambda: out.exists() and out.read_text().count("\n") > 1, 240)
    assert interrupt(process) == f"{LINE}\n"


def test_interrupted_archives_tool_ends_in_one_line(tmp_path: Path) -> None:
    script = (
        "import os, sys; from lib.core import command; from tools import archives; os.chdir(sys.argv.pop());"
        " print('on', flush=True); command.run(archives.main)"
    )
    (tmp_path / "data/archives").mkdir(parents=True)
    with (tmp_path / "data/archives/large.zip").open("wb") as file:
        file.truncate(200 * 2**30)
    process = start([sys.executable, "-c", script, str(tmp_path)])
    assert process.stdout is not None
    assert process.stdout.readline() == "on\n"
    time.sleep(0.5)
    assert interrupt(process) == f"{LINE}\n"


def test_interrupted_ablation_ends_dvc_silently() -> None:
    process = start([sys.executable, "-c", ABLATE, FAKE_DVC])
    assert process.stderr is not None
    assert process.stderr.readline() == "ready\n"
    time.sleep(0.2)
    assert interrupt(process) == f"{LINE}\n"


@pytest.mark.parametrize("predicting", [False, True])
def test_interrupted_page_ends_in_one_line(tmp_path: Path, predicting: bool) -> None:
    gradio_client = pytest.importorskip("gradio_client", reason="requirements-page.txt is not installed")
    model = write_random_model("demo", tmp_path / "model.pt")
    clip = tmp_path / "clip.mp4"
    frames, voice = render(Identity(1), Performance(0.5, 1.0, 0.0, 1), 4.0, 15)
    write_video(clip, np.tile(frames, (20, 1, 1, 1)), 15, np.tile(voice, 20), SAMPLE_RATE)
    process = start([sys.executable, "-m", "tools.page", "--model", str(model), "--port", "7873"])
    assert process.stdout is not None
    assert process.stdout.readline() == "The page is at http://127.0.0.1:7873/; Ctrl-C ends it\n"
    if predicting:
        client = gradio_client.Client("http://127.0.0.1:7873", verbose=False, analytics_enabled=False)
        job = client.submit([gradio_client.handle_file(str(clip))], api_name="/predict")
        wait_until(lambda: bool(job.status().progress_data), 240)
    assert interrupt(process) == "the page has ended, and its files are deleted\n"


@pytest.mark.parametrize("imported", ["lib.core.threads", "numpy.linalg", "torch.autograd"])
@pytest.mark.parametrize("command", [["tools.predict", "README.md", "--model", "README.md"], ["stages.train"]])
def test_interrupted_loading_ends_in_one_line(command: list[str], imported: str) -> None:
    process = start([sys.executable, "-X", "importtime", "-m", *command])
    assert process.stderr is not None
    while not (line := process.stderr.readline()).rstrip().endswith(f" {imported}"):
        assert line, f"{imported} is not imported"
    lines = interrupt(process).splitlines()
    assert [line for line in lines if not line.startswith("import time:")] == [LINE]


@pytest.mark.parametrize(("lines", "unbuffered"), [(1, ""), (100_000, ""), (1, "1")])
def test_command_ends_quietly_when_its_reader_has_ended(lines: int, unbuffered: str) -> None:
    script = f"from lib.core import command; command.run(lambda: [print('line') for _ in range({lines})])"
    read, write = os.pipe()
    os.close(read)
    line = [sys.executable, "-c", script]
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(line, cwd=ROOT, env=environment, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_command_reports_another_broken_pipe() -> None:
    script = "from lib.core import command\ndef main(): raise BrokenPipeError('of a socket')\ncommand.run(main)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.endswith("BrokenPipeError: of a socket\n")
