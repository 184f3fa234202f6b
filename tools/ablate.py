"""Run the ablation, every fusion with every seed, as DVC experiments, and compare them.

Each run is `dvc exp run` with model.fusion and train.seed set; the rest of params.yaml holds for all. Runs that
`dvc exp list` has are not repeated and an interrupted training goes on from its last epoch, so after an interruption the
same command goes on. The table is that of tools.compare.
"""

import argparse
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import dvc.api

from lib.core import command
from lib.core.errors import InputError
from lib.model.fusions import FUSIONS
from lib.scoring.baselines import NAMES
from tools.compare import add_options, compare

PARAMETERS, DVC = Path("params.yaml"), (sys.executable, "-m", "dvc")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", default="ablation", help="prefix of the experiments' names (%(default)s)")
    parser.add_argument("--fusions", nargs="+", choices=FUSIONS, default=list(FUSIONS), help="(all)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="(0 1 2)")
    add_options(parser, baseline="static", out="plots/ablation")
    options = vars(parser.parse_args())
    name, fusions, seeds = (options.pop(key) for key in ("name", "fusions", "seeds"))
    if options["baseline"] not in (*fusions, *NAMES):
        raise InputError(f"--baseline {options['baseline']!r} is none of {', '.join((*fusions, *NAMES))}")

    given = PARAMETERS.read_bytes()
    try:
        run_all(name, fusions, seeds)
    finally:
        PARAMETERS.write_bytes(given)
    compare({fusion: [experiment(name, fusion, seed) for seed in seeds] for fusion in fusions}, **options)
    print("params.yaml is as it was; data/ and metrics/ are those of the last run, until `dvc repro`")


def experiment(name: str, fusion: str, seed: int) -> str:
    return f"{name}-{fusion}-seed{seed}"


def run_all(name: str, fusions: list[str], seeds: list[int]) -> None:
    """Run what `dvc exp list` does not have; raises InputError if one that it has was made with other parameters."""
    listed = subprocess.run([*DVC, "exp", "list", "--names-only"], capture_output=True, text=True, check=True)
    there = set(listed.stdout.split())
    shared = dvc.api.params_show()
    todo = list(product(seeds, fusions))
    for seed, fusion in todo:
        if (one := experiment(name, fusion, seed)) in there:
            refuse_other_parameters(one, shared, fusion, seed)
    for number, (seed, fusion) in enumerate(todo, 1):
        one = experiment(name, fusion, seed)
        print(f"{number} of {len(todo)}: {one}{' is there' if one in there else ''}", flush=True)
        if one in there:
            continue
        command = [*DVC, "exp", "run", "-n", one, "-S", f"model.fusion={fusion}", "-S", f"train.seed={seed}"]
        if status := subprocess.run(command, check=False).returncode:
            raise InputError(f"`{' '.join(command)}` ended with {status}; the experiments before it are kept")


def refuse_other_parameters(one: str, shared: dict[str, Any], fusion: str, seed: int) -> None:
    expected = {key: section for key, section in shared.items() if key not in ("parallel", "figures")} | {
        "model": shared["model"] | {"fusion": fusion},
        "train": shared["train"] | {"seed": seed},
    }
    found = dvc.api.params_show(rev=one)
    if other := [section for section in expected if found.get(section) != expected[section]]:
        raise InputError(
            f"experiment {one} was made with another section {other[0]!r} than params.yaml now has; give --name another"
            f" prefix, or remove it with `dvc exp remove {one}`"
        )


if __name__ == "__main__":
    command.run(main)
