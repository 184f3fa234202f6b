"""Run experiments in DVC's queue, several at a time."""

import subprocess
import time
from collections.abc import Mapping

from lib.core.errors import InputError
from tools.experiments import DVC, ParameterChanges, make_arguments, run_dvc

ACTIVE = "Queued", "Running"
SECONDS = 3.0
"""Time between two looks at the queue. Each look takes a second of a CPU."""


def run_queue(runs: Mapping[str, ParameterChanges], names: set[str], jobs: int) -> set[str]:
    """Run the experiments in DVC's queue, `jobs` at a time, and return the names of those that failed.

    names: the experiments that `dvc exp list` has. Ctrl-C ends the running experiments and removes the waiting ones. Raises
    InputError if the queue contains other experiments, which DVC would start, too.
    """
    if not runs:
        return set()
    before = read_status()
    if others := [name for name, state in before.items() if state in ACTIVE and name not in runs]:
        raise InputError(
            f"DVC's queue has {len(others)} other experiments ({others[0]}, ...), which would start, too; run them with"
            " `dvc queue start`, or remove them with `dvc queue remove --queued`"
        )
    if running := [name for name, state in before.items() if state == "Running"]:
        raise InputError(
            f"DVC's queue runs {running[0]} already; wait for it, or end it with `dvc queue kill {running[0]}`"
        )
    if before.keys() & runs.keys():  # of an interrupted search, or failed
        call_dvc("queue", "remove", *sorted(before.keys() & runs.keys()))
    try:
        for label, changes in runs.items():
            if status := run_dvc(make_arguments(label, changes, names, queue=True)):
                raise InputError(f"`dvc exp run --queue -n {label}` ended with {status}; correct the cause")
        call_dvc("queue", "start", "-j", str(min(jobs, len(runs))))
        return wait_for(runs)
    except BaseException:
        active = [name for name, state in read_status().items() if state in ACTIVE and name in runs]
        if active:
            subprocess.run([*DVC, "queue", "stop", "--kill"], capture_output=True, check=False)
            subprocess.run([*DVC, "queue", "remove", *active], capture_output=True, check=False)
        raise


def wait_for(runs: Mapping[str, ParameterChanges]) -> set[str]:
    """Wait until the queue has finished the experiments, and return the names of those that failed."""
    finished: set[str] = set()
    while True:
        states = read_status()
        for label in runs:
            if label not in finished and states.get(label) not in ACTIVE:
                finished.add(label)
                print(f"{label}: {states.get(label, 'gone')}", flush=True)
        if len(finished) == len(runs):
            return {label for label in runs if states.get(label) != "Success"}
        time.sleep(SECONDS)


def read_status() -> dict[str, str]:
    """Return the states of the experiments in the queue: Queued, Running, Success or Failed, by name."""
    rows = [line.split() for line in call_dvc("queue", "status").splitlines()]
    return {row[1]: row[-1] for row in rows if len(row) > 3 and row[-1] in (*ACTIVE, "Success", "Failed")}


def call_dvc(*arguments: str) -> str:
    """Run a command of DVC and return its output. Raises InputError if it fails."""
    done = subprocess.run([*DVC, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"`dvc {' '.join(arguments)}` ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout
