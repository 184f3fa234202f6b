"""Run the ablation, every variant of the model with every seed, as DVC experiments, and compare them.

Variants of params.yaml's model: each encoder of model.use alone, by its name; all of them by late_average, concat and
cross_attention; and queries_ENCODER, cross-attention in which that encoder's tokens alone query. Each run is `dvc exp run`
with these keys and train.seed set; the rest of params.yaml holds for all. Runs that `dvc exp list` has are not repeated and
an interrupted training goes on from its last epoch, so after an interruption the same command goes on. The table is that of
tools.compare.
"""

import argparse
import subprocess
import sys
from copy import deepcopy
from itertools import product
from pathlib import Path
from typing import Any

import dvc.api
from dvc.exceptions import DvcException

from lib.core import command
from lib.core.errors import InputError
from lib.scoring.baselines import is_baseline
from lib.scoring.predictions import PREDICTIONS
from tools.compare import add_options, compare

PARAMETERS, DVC = Path("params.yaml"), (sys.executable, "-m", "dvc")

Changes = dict[str, Any]
"""Values by key, as KEY of params.yaml is given to `dvc exp run -S`."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", default="ablation", help="prefix of the experiments' names (%(default)s)")
    parser.add_argument("--variants", nargs="+", metavar="VARIANT", help="(all)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="(0 1 2)")
    add_options(parser, baseline="concat", out="plots/ablation")
    options = vars(parser.parse_args())
    name, chosen, seeds = (options.pop(key) for key in ("name", "variants", "seeds"))
    known = variants(dvc.api.params_show()["model"])
    if unknown := [one for one in chosen or () if one not in known]:
        raise InputError(f"--variants {unknown[0]!r}; allowed: {', '.join(known)}")
    chosen = chosen or list(known)
    if options["baseline"] not in chosen and not is_baseline(options["baseline"]):
        raise InputError(f"--baseline {options['baseline']!r} is none of {', '.join(chosen)}, nor a baseline")

    given = PARAMETERS.read_bytes()
    try:
        run_all(name, {one: known[one] for one in chosen}, seeds)
    finally:
        PARAMETERS.write_bytes(given)
    compare({one: [experiment(name, one, seed) for seed in seeds] for one in chosen}, **options)
    print("params.yaml is as it was; data/ and metrics/ are those of the last run, until `dvc repro`")


def variants(model: dict[str, Any]) -> dict[str, Changes]:
    """Return the variants of the section `model`, by name."""
    use = model["use"]
    found: dict[str, Changes] = {one: {"use": [one], "fusion": "concat", "queries": []} for one in use}
    if len(use) > 1:
        found |= {fusion: {"use": use, "fusion": fusion, "queries": []} for fusion in ("late_average", "concat")}
        found |= {f"queries_{one}": {"use": use, "fusion": "cross_attention", "queries": [one]} for one in use}
        found["cross_attention"] = {"use": use, "fusion": "cross_attention", "queries": []}
    return {name: {f"model.{key}": value for key, value in changes.items()} for name, changes in found.items()}


def experiment(name: str, variant: str, seed: int) -> str:
    return f"{name}-{variant}-seed{seed}"


def run_all(name: str, chosen: dict[str, Changes], seeds: list[int]) -> None:
    """Run what `dvc exp list` does not have; raises InputError if one that it has was made with other parameters."""
    listed = subprocess.run([*DVC, "exp", "list", "--names-only"], capture_output=True, text=True, check=True)
    names = set(listed.stdout.split())
    shared = dvc.api.params_show()
    todo = list(product(seeds, chosen))
    # `dvc gc` keeps the name of an experiment whose predictions it removes
    there = {one for one in (experiment(name, variant, seed) for seed, variant in todo) if one in names and kept(one)}
    for seed, variant in todo:
        if (one := experiment(name, variant, seed)) in there:
            refuse_other_parameters(one, shared, chosen[variant] | {"train.seed": seed})
    for number, (seed, variant) in enumerate(todo, 1):
        one = experiment(name, variant, seed)
        print(f"{number} of {len(todo)}: {one}{' is there' if one in there else ''}", flush=True)
        if one in there:
            continue
        changes = chosen[variant] | {"train.seed": seed}
        set_ = [part for key, value in changes.items() for part in ("-S", f"{key}={_text(value)}")]
        again = ["--force"] if one in names else []  # else DVC would not write over it
        if status := subprocess.run([*DVC, "exp", "run", "-n", one, *again, *set_], check=False).returncode:
            raise InputError(f"`dvc exp run -n {one} {' '.join(set_)}` ended with {status}; those before it are kept")


def kept(one: str) -> bool:
    """Tell whether DVC still has an experiment's predictions."""
    try:
        dvc.api.read(PREDICTIONS, rev=one)
    except (DvcException, OSError):
        return False
    return True


def _text(value: Any) -> str:
    return f"[{','.join(value)}]" if isinstance(value, list) else str(value)


def refuse_other_parameters(one: str, shared: dict[str, Any], changes: Changes) -> None:
    expected = {key: deepcopy(section) for key, section in shared.items() if key not in ("parallel", "figures")}
    for key, value in changes.items():
        section, _, name = key.partition(".")
        expected[section][name] = value
    found = dvc.api.params_show(rev=one)
    if other := [section for section in expected if found.get(section) != expected[section]]:
        raise InputError(
            f"experiment {one} was made with another section {other[0]!r} than params.yaml now has; give --name another"
            f" prefix, or remove it with `dvc exp remove {one}`"
        )


if __name__ == "__main__":
    command.run(main)
