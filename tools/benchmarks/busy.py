"""Time training steps of a ResNet-18 (batches of 16 images, 64 x 64 pixels) next to busy processes.

Each round starts a process with OpenMP's default spin count (before), a process with this project's settings (now), and a
process with a single thread. Prints the medians over the rounds, and the ratios of `now` to the others.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from lib.core import command, threads

STEPS, WARM_UP = 10, 3
VARIABLES = "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT"
SETTINGS: dict[str, dict[str, str]] = {
    "before": {"GOMP_SPINCOUNT": "300000"},  # GNU OpenMP's default
    "now": {},
    "one thread": {"OMP_NUM_THREADS": "1"},
}

BUSY = """
import os, sys
while os.getppid() == int(sys.argv[1]):
    for _ in range(1_000_000):
        pass
"""
"""The program of a busy process. It ends when the benchmark ends, even if the benchmark is killed."""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.benchmarks.busy",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--busy", nargs="+", type=int, default=[0, 1, 3, 10], help="numbers of busy processes (0 1 3 10)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="number of rounds (%(default)s)")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(time_steps())
        return
    print(f"{STEPS} steps, median wall seconds of {arguments.rounds} rounds, {threads.count_cpus()} CPUs\n")
    print("| busy processes | before | now | one thread | now : before | now : one thread |")
    print("|---|---|---|---|---|---|")
    for count in arguments.busy:
        seconds: dict[str, list[float]] = {name: [] for name in SETTINGS}
        with busy_processes(count):
            for _ in range(arguments.rounds):
                for name in SETTINGS:
                    seconds[name].append(run(name))
        before, now, one_thread = (statistics.median(seconds[name]) for name in SETTINGS)
        print(
            f"| {count} | {before:.1f} | {now:.1f} | {one_thread:.1f} | {now / before:.2f} | {now / one_thread:.2f} |",
            flush=True,
        )


def run(name: str) -> float:
    """Return the seconds of the steps in a new process with one of SETTINGS."""
    environment = {key: value for key, value in os.environ.items() if key not in VARIABLES} | SETTINGS[name]
    line = [sys.executable, "-m", "tools.benchmarks.busy", "--measure"]
    return float(subprocess.run(line, env=environment, capture_output=True, text=True, check=True).stdout)


@contextmanager
def busy_processes(count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Let `count` processes compute until the context ends."""
    processes = [subprocess.Popen([sys.executable, "-c", BUSY, str(os.getpid())]) for _ in range(count)]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


def time_steps() -> float:
    """Return the wall seconds of the training steps in this process."""
    import torch  # not needed by the process that starts the others
    import torchvision

    torch.manual_seed(0)
    network = torchvision.models.resnet18(num_classes=5)
    optimiser = torch.optim.AdamW(network.parameters(), 1e-4)
    images, labels = torch.rand(16, 3, 64, 64), torch.rand(16, 5)
    for step in range(WARM_UP + STEPS):
        if step == WARM_UP:
            began = time.perf_counter()
        optimiser.zero_grad()
        torch.nn.functional.mse_loss(network(images), labels).backward()
        optimiser.step()
    return time.perf_counter() - began


if __name__ == "__main__":
    command.run(main)
