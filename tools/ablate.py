"""Run variants of the model, losses, or settings of your own, with every seed, as DVC experiments, and compare them.

--variants, the default, are of params.yaml's model: each encoder of model.use alone, by its name; all of them by
late_average, concat and cross_attention; and queries_ENCODER, cross-attention in which that encoder's tokens alone query.
They end in the table of tools.compare.

--losses and --weightings: every loss of the target group (--targets) with every train.label_weighting. --grid: settings by
name, each a list of KEY=VALUE as `dvc exp run -S` takes them, for instance --grid small=train.batch_size=8
'faces=model.use=[faces] train.epochs=50' asis; none: params.yaml as it is. Both end in a table and a figure of spread,
calibration slope, regression to the mean, accuracy, R² and CCC with 95 % intervals over videos, beside the training mean;
paired differences of the same experiments are tools.compare's.

--sizes: params.yaml with train.clips of each, the learning curve: a table and a figure of accuracy, R² and CCC against the
number of training clips, of the model and of the baselines, which learn from the same clips. The scores and intervals are
evaluate's (data/scores.csv of each experiment); --unseen takes those of videos that training has not seen.

--groups COLUMN: params.yaml with download.split = group_out and each value of a column of data/groups.csv, for instance
gender: a model that was trained on the other groups is tested on the persons of one.

--folds: params.yaml with each download.fold of its download.folds, where download.split is folds, and the mean of evaluate's
scores, of the model and of the baselines, over all folds: every labelled clip is scored once, its video not trained on.

Each run is `dvc exp run evaluate` with these keys and train.seed set: it trains and evaluates, without analyses and figures;
the rest of params.yaml holds for all. Runs that `dvc exp list`
has are not repeated and an interrupted training goes on from its last epoch, so after an interruption the same command goes
on.
"""

import argparse
import io
import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable
from contextlib import suppress
from copy import deepcopy
from itertools import product
from pathlib import Path
from typing import Any

import dvc.api
import pandas as pd
from dvc.exceptions import DvcException

from lib.core import command
from lib.core.artifacts import GROUPS, PARAMETERS, PREDICTIONS, SCORES, TEXT_COLUMNS
from lib.core.clips import read_csv
from lib.core.errors import InputError
from lib.core.targets import TargetGroup
from lib.model.heads import find_head
from lib.report import curve, folds, spread, words
from lib.scoring.baselines import is_baseline
from lib.scoring.scores import Bootstrap
from lib.scoring.tables import score_over_seeds
from lib.training.losses import LOSSES, WEIGHTINGS
from tools.compare import Sources, add_options, compare, find_target_group, gather_predictions
from tools.parameters import check, parsed, plain, put

DVC = sys.executable, "-m", "dvc"
TARGET = "evaluate"
"""The last stage that an experiment runs: analyses and figures are not used by the comparison."""

Changes = dict[str, Any]
"""Values by key, as KEY of params.yaml is given to `dvc exp run -S`."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--name", help="prefix of the experiments' names (ablation, losses, grid, sizes, folds or groups)"
    )
    parser.add_argument("--variants", nargs="+", metavar="VARIANT", help="(all)")
    parser.add_argument("--losses", nargs="+", metavar="LOSS", help=f"{', '.join(LOSSES)} (params.yaml's)")
    parser.add_argument("--weightings", nargs="+", metavar="NAME", help=f"{', '.join(WEIGHTINGS)} (params.yaml's)")
    parser.add_argument("--grid", nargs="+", metavar="NAME='KEY=VALUE KEY=VALUE'")
    parser.add_argument("--sizes", nargs="+", type=int, metavar="CLIPS", help="numbers of training clips")
    parser.add_argument("--folds", action="store_true", help="every fold of the cross-validation")
    parser.add_argument("--groups", metavar="COLUMN", help="each group of a column of data/groups.csv, tested in turn")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="(0 1 2)")
    add_options(parser, baseline="concat, for --variants alone", out="plots/NAME")
    parser.set_defaults(baseline=None, out=None)
    options = vars(parser.parse_args())
    name, seeds, baseline = (options.pop(key) for key in ("name", "seeds", "baseline"))
    kind, chosen = settings(
        dvc.api.params_show(),
        options["targets"],
        *(options.pop(key) for key in ("variants", "losses", "weightings", "grid", "sizes", "folds", "groups")),
    )
    name = name or kind
    options["out"] = options["out"] or Path("plots", name)
    if kind in ("sizes", "folds", "groups"):
        refuse_set(
            kind, parser, options, "labels", "split", "resamples", "seed", *([] if kind == "sizes" else ["unseen"])
        )
    if kind in ("folds", "groups") and len(seeds) > 1:
        raise InputError(f"--{kind} takes one of --seeds")
    if kind != "ablation" and baseline:
        raise InputError("--baseline is for --variants; of other experiments tools.compare shows paired differences")
    baseline = baseline or "concat"
    if kind == "ablation" and baseline not in chosen and not is_baseline(baseline):
        raise InputError(f"--baseline {baseline!r} is none of {', '.join(chosen)}, nor a baseline")

    given = PARAMETERS.read_bytes()
    try:
        run_all(name, chosen, seeds)
    finally:
        PARAMETERS.write_bytes(given)
    sources = {one: [experiment(name, one, seed) for seed in seeds] for one in chosen}
    if kind == "ablation":
        compare(sources, baseline, **options)
    elif kind == "sizes":
        show_curve(sources, options["targets"], options["unseen"], options["out"])
    elif kind == "folds":
        show_folds(sources, options["targets"], options["out"])
    elif kind == "groups":
        show_groups(sources, options["targets"], options["out"])
    else:
        show_spread(sources, **options)
    print("params.yaml is as it was; data/ and metrics/ are those of the last run, until `dvc repro`")


def settings(
    shared: dict[str, Any],
    targets: str | None,
    of_model: list[str] | None,
    losses_: list[str] | None,
    weightings: list[str] | None,
    grid_: list[str] | None,
    sizes_: list[int] | None = None,
    folds_: bool = False,
    groups: str | None = None,
) -> tuple[str, dict[str, Changes]]:
    """Return which kind of experiments is asked for, and their changes to the parameters `shared`, by name."""
    asked = {"--variants": of_model, "--losses/--weightings": losses_ or weightings, "--grid": grid_, "--sizes": sizes_}
    asked["--folds"] = ["all"] if folds_ else None
    asked["--groups"] = [groups] if groups else None
    if len(several := [option for option, values in asked.items() if values]) > 1:
        raise InputError(f"{', '.join(several)} exclude each other; give one")
    if grid_:
        return "grid", grid(grid_, shared)
    if sizes_:
        return "sizes", sizes(sizes_, shared)
    if folds_:
        if (split := shared["download"]["split"]) != "folds":
            raise InputError(f"--folds needs params.yaml: download.split = folds; it is {split!r}")
        return "folds", {f"fold{fold}": {"download.fold": fold} for fold in range(shared["download"]["folds"])}
    if groups:
        return "groups", groups_out(groups)
    if losses_ or weightings:
        name, group = find_target_group(targets)
        if name not in shared["model"]["targets"]:
            raise InputError(f"--targets {name!r} is none of model.targets: {', '.join(shared['model']['targets'])}")
        return "losses", losses(
            name, group, losses_ or [group.loss], weightings or [shared["train"]["label_weighting"]]
        )
    known = variants(shared["model"])
    refuse_unknown("--variants", of_model or (), known)
    return "ablation", {one: known[one] for one in of_model or known}


def groups_out(column: str) -> dict[str, Changes]:
    """Return the changes that test each group of a column of data/groups.csv, by group."""
    table = pd.read_csv(GROUPS, dtype=str, keep_default_na=False) if GROUPS.exists() else pd.DataFrame()
    if column not in table.columns[1:]:
        raise InputError(
            f"--groups {column!r}; allowed: a column of {GROUPS}, which `dvc repro download` writes:"
            f" {', '.join(table.columns[1:]) or 'there is none'}"
        )
    values = sorted({value for value in table[column] if value})
    common = {"download.split": "group_out", "download.group.column": column}
    return {re.sub(r"[^\w-]", "_", value): common | {"download.group.value": value} for value in values}


def variants(model: dict[str, Any]) -> dict[str, Changes]:
    """Return the variants of the section `model`, by name."""
    use = model["use"]
    found: dict[str, Changes] = {one: {"use": [one], "fusion": "concat", "queries": []} for one in use}
    if len(use) > 1:
        found |= {fusion: {"use": use, "fusion": fusion, "queries": []} for fusion in ("late_average", "concat")}
        found |= {f"queries_{one}": {"use": use, "fusion": "cross_attention", "queries": [one]} for one in use}
        found["cross_attention"] = {"use": use, "fusion": "cross_attention", "queries": []}
    return {name: {f"model.{key}": value for key, value in changes.items()} for name, changes in found.items()}


def losses(name: str, group: TargetGroup, chosen: list[str], weightings: list[str]) -> dict[str, Changes]:
    """Return every loss of the target group `name` with every weighting: by LOSS where it is none, else LOSS-WEIGHTING."""
    permitted = find_head(group).losses
    refuse_unknown("--losses", chosen, permitted, f" with targets.{name}.head = {group.head}")
    refuse_unknown("--weightings", weightings, WEIGHTINGS)
    return {
        loss if weighting == "none" else f"{loss}-{weighting}": {
            f"targets.{name}.loss": loss,
            "train.label_weighting": weighting,
        }
        for weighting, loss in product(weightings, chosen)
    }


def grid(given: list[str], shared: dict[str, Any]) -> dict[str, Changes]:
    """Return the changes of NAME='KEY=VALUE KEY=VALUE', by name. Raises InputError if a stage would refuse one."""
    found: dict[str, Changes] = {}
    for one in given:
        name, _, texts = one.partition("=")
        if not re.fullmatch(r"[\w-]+", name) or name in found or is_baseline(name):
            raise InputError(
                f"--grid {one!r}; allowed: NAME='KEY=VALUE KEY=VALUE', each NAME once, of letters, digits, _, -"
            )
        changes = dict(map(parsed, re.split(r"\s+(?=[\w.]+=)", texts.strip()) if texts else ()))
        changes = {key: plain(value) for key, value in changes.items()}
        if mapped := [key for key, value in changes.items() if isinstance(value, dict)]:
            raise InputError(f"--grid {one!r}: {mapped[0]} is a mapping; give each of its keys by itself")
        if "train.seed" in changes:
            raise InputError(f"--grid {one!r}: --seeds sets train.seed")
        check(changed(shared, changes))
        found[name] = changes
    return found


def sizes(given: list[int], shared: dict[str, Any]) -> dict[str, Changes]:
    """Return the changes for each number of training clips, by it, rising. Raises InputError if a stage would refuse one."""
    found: dict[str, Changes] = {str(clips): {"train.clips": clips} for clips in sorted(set(given))}
    for changes in found.values():
        check(changed(shared, changes))
    return found


def refuse_set(kind: str, parser: argparse.ArgumentParser, options: dict[str, Any], *names: str) -> None:
    """Raise InputError if one of these options, which experiments of this kind do not heed, is set."""
    if given := [name for name in names if options[name] != parser.get_default(name)]:
        raise InputError(
            f"--{given[0]} is not for --{kind}, which shows what evaluate scored; set params.yaml: evaluate"
        )


def refuse_unknown(option: str, given: Iterable[str], allowed: Iterable[str], where: str = "") -> None:
    if unknown := [one for one in given if one not in allowed]:
        raise InputError(f"{option} {unknown[0]!r}; allowed{where}: {', '.join(allowed)}")


def changed(shared: dict[str, Any], changes: Changes) -> dict[str, Any]:
    """Return whole parameters with changes made."""
    found = deepcopy(shared)
    for key, value in changes.items():
        put(found, key, value)
    return found


def value_of(shared: dict[str, Any], key: str) -> list[Any]:
    """Return the value of a key as `dvc exp run -S` takes it, none if there is none yet."""
    *above, last = key.split(".")
    for part in above:
        shared = shared.get(part, {})
    return [shared[last]] if last in shared else []


def experiment(name: str, variant: str, seed: int) -> str:
    return f"{name}-{variant}-seed{seed}"


def run_all(name: str, chosen: dict[str, Changes], seeds: list[int]) -> None:
    """Run what `dvc exp list` does not have; raises InputError if one that it has was made with other parameters.

    Each run sets all that any of them changes: `dvc exp run` leaves params.yaml as the run before had it.
    """
    listed = subprocess.run([*DVC, "exp", "list", "--names-only"], capture_output=True, text=True, check=True)
    names = set(listed.stdout.split())
    shared = dvc.api.params_show()
    changed_keys = {key for changes in chosen.values() for key in changes}
    asis = {key: found[0] for key in sorted(changed_keys) if (found := value_of(shared, key))}
    todo = list(product(seeds, chosen))
    # `dvc gc` keeps the name of an experiment whose predictions it removes
    there = {one for one in (experiment(name, variant, seed) for seed, variant in todo) if one in names and kept(one)}
    for seed, variant in todo:
        if (one := experiment(name, variant, seed)) in there:
            refuse_other_parameters(one, shared, asis | chosen[variant] | {"train.seed": seed})
    for number, (seed, variant) in enumerate(todo, 1):
        one = experiment(name, variant, seed)
        print(f"{number} of {len(todo)}: {one}{' is there' if one in there else ''}", flush=True)
        if one in there:
            continue
        changes = asis | chosen[variant] | {"train.seed": seed}
        set_ = [part for key, value in changes.items() for part in ("-S", f"{key}={json.dumps(value)}")]
        again = ["--force"] if one in names else []  # else DVC would not write over it
        if status := run_dvc("exp", "run", "-n", one, *again, *set_, TARGET):
            raise InputError(
                f"`dvc exp run -n {one} {shlex.join(set_)} {TARGET}` ended with {status}; those before it are kept"
            )


def run_dvc(*arguments: str) -> int:
    """Run a command of DVC and return its exit status. Ctrl-C ends it and its stage, and drops what they then print."""
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
    """Copy what a process writes to standard error until it ends."""
    with suppress(OSError):  # a terminal's other end is closed
        while data := os.read(reader, 65536):
            if not interrupted.is_set():
                sys.stderr.buffer.write(data)
                sys.stderr.flush()
    os.close(reader)


def kept(one: str) -> bool:
    """Tell whether DVC still has an experiment's predictions."""
    try:
        dvc.api.read(str(PREDICTIONS), rev=one)
    except (DvcException, OSError):
        return False
    return True


def refuse_other_parameters(one: str, shared: dict[str, Any], changes: Changes) -> None:
    expected = {
        key: section
        for key, section in changed(shared, changes).items()
        if key not in ("parallel", "analyse", "figures")
    }
    found = dvc.api.params_show(rev=one)
    if other := [section for section in expected if found.get(section) != expected[section]]:
        raise InputError(
            f"experiment {one} was made with another section {other[0]!r} than params.yaml now has; give --name another"
            f" prefix, or remove it with `dvc exp remove {one}`"
        )


def show_spread(sources: Sources, resamples: int, seed: int, out: Path, **which: Any) -> None:
    """Print and write the spread and the other scores of experiments, and of the training mean.

    which: the clips, as `gather_predictions` takes them.
    """
    found = gather_predictions(sources, **which)
    arrays = {one: found.predictions[one] for one in (*sources, "mean_predictor")}
    table = score_over_seeds(arrays, found.actual, found.videos, found.group, Bootstrap(resamples, seed))
    print(spread.format_markdown(table, found.which, found.group))
    spread.write(table, found.which, found.group, out)
    print(f"\nwritten: {out}.csv, .tex, .png, .pdf")


def show_curve(sources: Sources, targets: str | None, unseen: bool, out: Path) -> None:
    """Print and write the scores that experiments, by number of training clips, have in data/scores.csv."""
    name, group = find_target_group(targets)
    subset = "unseen_videos" if unseen else "all"
    tables = {int(clips): [scored(one, name, subset) for one in of_seed] for clips, of_seed in sources.items()}
    first = next(iter(tables.values()))[0].iloc[0]
    which = f"{first['clips']} clips of {first['videos']} videos" + (", unseen in training" if unseen else "")
    table = curve.make_curve(tables)
    print(curve.format_markdown(table, which, group))
    curve.write(table, which, group, out)
    print(f"\nwritten: {out}.csv, .tex, .png, .pdf")


def show_folds(sources: Sources, targets: str | None, out: Path) -> None:
    """Print and write the scores that experiments, one a fold, have in data/scores.csv, together."""
    name, group = find_target_group(targets)
    table = folds.combine_folds([scored(one, name, "all") for of_seed in sources.values() for one in of_seed])
    print(folds.format_markdown(table, group))
    out.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(out.with_suffix(".csv"), index=False, float_format="%.6f")
    print(f"\nwritten: {out}.csv")


def show_groups(sources: Sources, targets: str | None, out: Path) -> None:
    """Print and write the scores of experiments that each test one group of persons, one below the other."""
    name, group = find_target_group(targets)
    tables = {tested: scored(one[0], name, "all") for tested, one in sources.items()}
    table = pd.concat([scores.assign(group=tested) for tested, scores in tables.items()])
    labels = words.list_headline_scores(group)
    shown = table[(table["predictor"] == "model") & (table["target"] == "mean") & table["score"].isin(labels)]
    print(shown.pivot(index="group", columns="score", values="value")[list(labels)].round(4).to_string())
    out.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(out.with_suffix(".csv"), index=False, float_format="%.6f")
    print(f"\nwritten: {out}.csv")


def scored(one: str, name: str, subset: str) -> pd.DataFrame:
    """Return an experiment's scores of a target group on a subset of the clips. Raises InputError if it has none."""
    table = read_csv(io.StringIO(dvc.api.read(str(SCORES), rev=one)), TEXT_COLUMNS[SCORES])
    table = table[(table["targets"] == name) & (table["subset"] == subset)]
    if table.empty:
        raise InputError(f"experiment {one} has no scores of {name} on {words.SUBSETS[subset]}")
    return table


if __name__ == "__main__":
    command.run(main)
