"""Run experiments with DVC, each once."""

import io
import json
import os
import pty
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from copy import deepcopy
from itertools import product
from pathlib import Path
from typing import Any

import dvc.api
import pandas as pd
from dvc.exceptions import DvcException

from lib.core.artifacts import PREDICTIONS, SCORES, TEXT_COLUMNS
from lib.core.clips import read_csv
from lib.core.errors import InputError
from lib.report import words
from tools.parameters import put

DVC = sys.executable, "-m", "dvc"
TARGET = "evaluate"
"""The last stage of an experiment: the comparison needs no analyses and figures."""
ParameterChanges = dict[str, Any]
"""New values by key of params.yaml, as `dvc exp run -S` takes them."""


def value_of(shared: dict[str, Any], key: str) -> list[Any]:
    """Return a list with the value of a key as `dvc exp run -S` takes it; an empty list if the key isn't set."""
    *parents, last = key.split(".")
    for part in parents:
        shared = shared.get(part, {})
    return [shared[last]] if last in shared else []


def changed(shared: dict[str, Any], changes: ParameterChanges) -> dict[str, Any]:
    """Return a copy of the parameters with changes."""
    parameters = deepcopy(shared)
    for key, value in changes.items():
        put(parameters, key, value)
    return parameters


def experiment(name: str, variant: str, seed: int) -> str:
    """Return the name of an experiment."""
    return f"{name}-{variant}-seed{seed}"


def run_all(name: str, chosen: dict[str, ParameterChanges], seeds: list[int]) -> None:
    """Run the experiments that `dvc exp list` doesn't have; raises InputError if a listed one has other parameters.

    Each run sets every key that any run changes, because `dvc exp run` leaves the previous run's values in params.yaml.
    """
    names, shared = list_names(), dvc.api.params_show()
    changed_keys = {key for changes in chosen.values() for key in changes}
    unchanged = {key: values[0] for key in sorted(changed_keys) if (values := value_of(shared, key))}
    runs = {
        experiment(name, variant, seed): unchanged | chosen[variant] | {"train.seed": seed}
        for seed, variant in product(seeds, chosen)
    }
    done = find_done(runs, names, shared)
    for number, (label, changes) in enumerate(runs.items(), 1):
        print(f"{number} of {len(runs)}: {label}{' is there' if label in done else ''}", flush=True)
        if label not in done and (status := run_dvc(make_arguments(label, changes, names))):
            raise InputError(
                f"`dvc exp run -n {label} {shlex.join(make_options(changes))} {TARGET}` ended with {status}; correct the"
                " cause and run this command again, which keeps the finished runs"
            )


def list_names() -> set[str]:
    """Return the names of the experiments that `dvc exp list` has. Raises InputError if DVC can't list them."""
    listed = subprocess.run([*DVC, "exp", "list", "--names-only"], capture_output=True, text=True, check=False)
    if listed.returncode:
        reason = next((line for line in listed.stderr.splitlines() if line.startswith("ERROR")), listed.stderr.strip())
        raise InputError(
            f"`dvc exp list` ended with {listed.returncode}: {reason}; required: a Git repository with at least one commit,"
            " in which `dvc init` was run"
        )
    return set(listed.stdout.split())


def find_done(runs: Mapping[str, ParameterChanges], names: set[str], shared: dict[str, Any]) -> list[str]:
    """Return the finished experiments among `runs`; raises InputError if one has other parameters.

    names: those of `list_names`. `dvc gc` keeps the name of an experiment whose predictions it removes.
    """
    done = [label for label in runs if label in names and kept(label)]
    for label in done:
        check_recorded_parameters(label, shared, runs[label])
    return done


def make_arguments(label: str, changes: ParameterChanges, names: set[str], queue: bool = False) -> list[str]:
    """Return the arguments of DVC that run an experiment, or add it to DVC's queue; names: those of `list_names`."""
    overwrite = ["--force"] if label in names else []
    return ["exp", "run", *(["--queue"] if queue else []), "-n", label, *overwrite, *make_options(changes), TARGET]


def make_options(changes: ParameterChanges) -> list[str]:
    """Return changes of parameters as options of `dvc exp run`."""
    return [part for key, value in changes.items() for part in ("-S", f"{key}={json.dumps(value)}")]


def read_table(path: Path, label: str) -> pd.DataFrame:
    """Return a table of an experiment."""
    return read_csv(io.StringIO(dvc.api.read(str(path), rev=label)), TEXT_COLUMNS[path])


def read_scores(label: str, name: str, subset: str) -> pd.DataFrame:
    """Return an experiment's scores of a target group on a subset of the clips. Raises InputError if it has none."""
    table = read_table(SCORES, label)
    table = table[(table["targets"] == name) & (table["subset"] == subset)]
    if table.empty:
        raise InputError(
            f"experiment {label} has no scores of {name} on {words.SUBSETS[subset]};"
            " choose another --targets, or run it again"
        )
    return table


def run_dvc(arguments: list[str]) -> int:
    """Run a DVC command and return its exit status. Ctrl-C ends it and its stage, and hides their last messages."""
    reader, writer = pty.openpty() if sys.stderr.isatty() else os.pipe()  # progress bars need a terminal
    process = subprocess.Popen([*DVC, *arguments], stderr=writer, process_group=0)
    os.close(writer)
    interrupted = threading.Event()
    relay = threading.Thread(target=_relay, args=(reader, interrupted), daemon=True)
    relay.start()
    try:
        status = process.wait()
    except BaseException:
        interrupted.set()
        os.killpg(process.pid, signal.SIGINT)
        process.wait()
        raise
    relay.join()
    return status


def _relay(reader: int, interrupted: threading.Event) -> None:
    """Copy a process's standard error until the process ends."""
    with suppress(OSError):  # the other end of the terminal is closed
        while data := os.read(reader, 65536):
            if not interrupted.is_set():
                sys.stderr.buffer.write(data)
                sys.stderr.flush()
    os.close(reader)


def kept(label: str) -> bool:
    """Return whether DVC still has an experiment's predictions."""
    try:
        dvc.api.read(str(PREDICTIONS), rev=label)
    except (DvcException, OSError):
        return False
    return True


def check_recorded_parameters(label: str, shared: dict[str, Any], changes: ParameterChanges) -> None:
    """Raise InputError if an experiment was run with other parameters than `shared` with these changes."""
    expected = {
        key: section
        for key, section in changed(shared, changes).items()
        if key not in ("parallel", "analyse", "figures")
    }
    recorded = dvc.api.params_show(rev=label)
    if other := [section for section in expected if recorded.get(section) != expected[section]]:
        raise InputError(
            f"experiment {label} was made with another section {other[0]!r} than params.yaml now has; give --name another"
            f" prefix, or remove it with `dvc exp remove {label}`"
        )
