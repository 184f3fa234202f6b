"""Load test of `tools.serve` on this machine: several clients send clips at the same time, and the memory is watched.

Prints the number of answers by status, lost clips, clips per minute, seconds per clip (median and largest), and the resident
memory of the service and its workers after each tenth of the clips. A client that gets status 429 waits as Retry-After says
and sends the clip again. By default the model has random weights, which do not change the speed. The exit status is 1 if a
clip was lost.
"""

import argparse
import collections
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import requests

from lib.core import command
from lib.core.errors import InputError

HEADERS: dict[str, str] = {}
"""Headers of each request, such as the key."""
_HOST = "127.0.0.1"
_START_SECONDS, _CLIP_SECONDS = 120.0, 600.0
_TRIES = 1000
"""How often a clip is sent before it counts as lost."""


@dataclass
class ServiceAnswers:
    """What clients saw: answers by status, seconds from the first try to the answer by clip, memory in MiB, lost clips."""

    statuses: collections.Counter[int] = field(default_factory=collections.Counter)
    seconds: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    lost: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.benchmarks.service",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("clip", type=Path, metavar="CLIP", help="video file that is sent each time")
    parser.add_argument("--model", type=Path, help="trained or published model, in place of random weights")
    parser.add_argument("--clips", type=int, default=200, help="number of requests (%(default)s)")
    parser.add_argument("--clients", type=int, default=4, help="number of clients (%(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="number of the service's workers (%(default)s)")
    parser.add_argument("--queue", type=int, default=8, help="length of the service's queue (%(default)s)")
    parser.add_argument("--port", type=int, default=8123, help="port of the service (%(default)s)")
    arguments = parser.parse_args()
    if not arguments.clip.is_file():
        raise InputError(f"{arguments.clip} is not a file; allowed: a video file; correct the path")
    with tempfile.TemporaryDirectory() as folder:
        model = arguments.model or _write_model(Path(folder) / "model.pt")
        options = ["--model", str(model), "--workers", str(arguments.workers), "--queue", str(arguments.queue)]
        with run_service(arguments.port, options, Path(folder)) as service:
            began = time.monotonic()
            results = send_clips(service, arguments.port, arguments.clip, arguments.clips, arguments.clients)
            print_results(results, time.monotonic() - began)
    if results.lost:
        raise InputError(
            f"{results.lost} of {arguments.clips} clips were lost; allowed: none; read the log of tools.serve"
        )


def _write_model(path: Path) -> Path:
    from tools.benchmarks._predict import write_random_model

    return write_random_model("demo", path)


@contextmanager
def run_service(port: int, options: list[str], folder: Path) -> Iterator[psutil.Process]:
    """Run `tools.serve` on a port of this machine in a `with` block, and wait until its workers are ready."""
    line = [sys.executable, "-m", "tools.serve", "--port", str(port), *options]
    with (folder / "log").open("w") as log, subprocess.Popen(line, stderr=log) as service:
        try:
            deadline = time.monotonic() + _START_SECONDS
            while not _answers(port):
                if service.poll() is not None or time.monotonic() > deadline:
                    raise InputError(f"the service did not start: {(folder / 'log').read_text()[-500:]}")
                time.sleep(0.2)
            yield psutil.Process(service.pid)
        finally:
            service.terminate()


def _answers(port: int) -> bool:
    try:
        return requests.get(f"http://{_HOST}:{port}/health", timeout=5).ok
    except requests.ConnectionError:
        return False


def send_clips(service: psutil.Process, port: int, clip: Path, count: int, clients: int) -> ServiceAnswers:
    """Send a clip `count` times by several clients; return what they saw."""
    results, content = ServiceAnswers(), clip.read_bytes()
    finished = itertools.count(1)
    interval = max(1, count // 10)

    def send(_: int) -> None:
        began = time.monotonic()
        arrived = _send_until_answered(port, content, results)
        with results.lock:
            results.lost += not arrived
            results.seconds.append(time.monotonic() - began)
            if next(finished) % interval == 0:
                results.memory.append(measure_memory(service))
                print(f"{len(results.seconds)} of {count} clips, {results.memory[-1]:.0f} MiB", file=sys.stderr)

    with ThreadPoolExecutor(clients) as threads:
        list(threads.map(send, range(count)))
    return results


def _send_until_answered(port: int, content: bytes, results: ServiceAnswers) -> bool:
    """Return whether a clip was predicted."""
    for _ in range(_TRIES):
        answer = requests.post(
            f"http://{_HOST}:{port}/predict",
            files={"clip": ("clip.mp4", content)},
            headers=HEADERS,
            timeout=_CLIP_SECONDS,
        )
        with results.lock:
            results.statuses[answer.status_code] += 1
        if answer.status_code != requests.codes.too_many_requests:
            return answer.ok and bool(json.loads(answer.text)["targets"])
        time.sleep(int(answer.headers["Retry-After"]))
    return False


def measure_memory(service: psutil.Process) -> float:
    """Return the resident memory in MiB of a process and its children."""
    total = 0
    for process in (service, *service.children(recursive=True)):
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total / 2**20


def print_results(results: ServiceAnswers, seconds: float) -> None:
    """Print what clients saw as a table."""
    rows = {
        "clips, lost": f"{len(results.seconds)}, {results.lost}",
        "answers by status": ", ".join(f"{status}: {count}" for status, count in sorted(results.statuses.items())),
        "clips per minute": f"{60 * len(results.seconds) / seconds:.1f}",
        "seconds per clip, median and largest": f"{statistics.median(results.seconds):.2f}, {max(results.seconds):.2f}",
        "memory, MiB, after each tenth": ", ".join(f"{value:.0f}" for value in results.memory),
    }
    print("| | |\n|---|---|")
    for name, text in rows.items():
        print(f"| {name} | {text} |")


if __name__ == "__main__":
    command.run(main)
