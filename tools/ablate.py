"""Run variants of the model, of losses or of any settings as DVC experiments, with every seed, and compare them.

--variants, the default: variants of params.yaml's model. Each encoder of model.use alone, by its name; all encoders by
late_average, concat and cross_attention; and queries_ENCODER, cross-attention in which only that encoder's tokens are
queries. The result is the table of tools.compare.

--losses and --weightings: every loss of the target group (--targets) with every train.label_weighting. --grid: settings by
name, each a list of KEY=VALUE as in `dvc exp run -S`, for instance --grid small=train.batch_size=8
'faces=model.use=[faces] train.epochs=50' asis; an empty list is params.yaml without changes. Both give a table and a figure
of spread, calibration slope, regression to the mean, accuracy, R² and CCC with 95 % intervals over videos, next to the
training mean. For paired differences of the same experiments, use tools.compare.

--sizes: the learning curve, params.yaml with train.clips of each size. The result is a table and a figure of accuracy, R²
and CCC against the number of training clips, for the model and the baselines, which learn from the same clips. Scores and
intervals are those of evaluate (data/scores.csv of each experiment). With --unseen they are those of videos without training
clips.

--groups COLUMN: params.yaml with download.split = group_out, for each value of a column of data/groups.csv, for instance
gender: the model is trained on all other groups and tested on the persons of one.

--folds: params.yaml with each download.fold of its download.folds, where download.split is folds; and the mean of evaluate's
scores over all folds, for the model and the baselines. Every labelled clip is scored once, by a model that was not trained
on its video.

Each run is `dvc exp run evaluate` with these keys and train.seed: it trains and evaluates, without analyses and figures. All
other parameters are those of params.yaml. Runs that `dvc exp list` already has are not repeated, and an interrupted training
continues from its last epoch: after an interruption, run the same command again.
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
from collections.abc import Iterable, Mapping
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
"""The last stage of an experiment: the comparison needs no analyses and figures."""

Changes = dict[str, Any]
"""New values by key of params.yaml, as `dvc exp run -S` takes them."""
ASKED = "variants", "losses", "weightings", "grid", "sizes", "folds", "groups"
"""The options that say which experiments are run."""


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
    kind, chosen = settings(dvc.api.params_show(), options["targets"], {key: options.pop(key) for key in ASKED})
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

    original = PARAMETERS.read_bytes()
    try:
        run_all(name, chosen, seeds)
    finally:
        PARAMETERS.write_bytes(original)
    sources = {variant: [experiment(name, variant, seed) for seed in seeds] for variant in chosen}
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
    print("params.yaml is unchanged; data/ and metrics/ are those of the last run, until you run `dvc repro`")


def settings(shared: dict[str, Any], targets: str | None, asked: Mapping[str, Any]) -> tuple[str, dict[str, Changes]]:
    """Return the kind of experiments, and their changes to the parameters `shared`, by name.

    asked: values of the options ASKED. Raises InputError for options that exclude each other or have invalid values.
    """
    is_loss = bool(asked.get("losses") or asked.get("weightings"))
    exclusive = {"--variants": asked.get("variants"), "--losses/--weightings": is_loss}
    exclusive |= {f"--{name}": asked.get(name) for name in ("grid", "sizes", "folds", "groups")}
    if len(several := [option for option, values in exclusive.items() if values]) > 1:
        raise InputError(f"{', '.join(several)} exclude each other; give one")
    if asked.get("grid"):
        return "grid", grid(asked["grid"], shared)
    if asked.get("sizes"):
        return "sizes", sizes(asked["sizes"], shared)
    if asked.get("folds"):
        if (split := shared["download"]["split"]) != "folds":
            raise InputError(f"--folds needs params.yaml: download.split = folds; it is {split!r}")
        return "folds", {f"fold{fold}": {"download.fold": fold} for fold in range(shared["download"]["folds"])}
    if asked.get("groups"):
        return "groups", groups_out(asked["groups"])
    if is_loss:
        name, group = find_target_group(targets)
        if name not in shared["model"]["targets"]:
            raise InputError(f"--targets {name!r} is none of model.targets: {', '.join(shared['model']['targets'])}")
        weightings = asked.get("weightings") or [shared["train"]["label_weighting"]]
        return "losses", losses(name, group, asked.get("losses") or [group.loss], weightings)
    available = variants(shared["model"])
    names = asked.get("variants") or list(available)
    refuse_unknown("--variants", names, available)
    return "ablation", {name: available[name] for name in names}


def groups_out(column: str) -> dict[str, Changes]:
    """Return the changes that test each group of a column of data/groups.csv, by group."""
    table = pd.read_csv(GROUPS, dtype=str, keep_default_na=False) if GROUPS.exists() else pd.DataFrame()
    if column not in table.columns[1:]:
        raise InputError(
            f"--groups {column!r}; allowed: a column of {GROUPS}, which `dvc repro download` writes:"
            f" {', '.join(table.columns[1:]) or 'none'}"
        )
    values = sorted({value for value in table[column] if value})
    common = {"download.split": "group_out", "download.group.column": column}
    return {re.sub(r"[^\w-]", "_", value): common | {"download.group.value": value} for value in values}


def variants(model: dict[str, Any]) -> dict[str, Changes]:
    """Return the variants of the section `model`, by name."""
    use = model["use"]
    models: dict[str, Changes] = {name: {"use": [name], "fusion": "concat", "queries": []} for name in use}
    if len(use) > 1:
        models |= {fusion: {"use": use, "fusion": fusion, "queries": []} for fusion in ("late_average", "concat")}
        models |= {f"queries_{name}": {"use": use, "fusion": "cross_attention", "queries": [name]} for name in use}
        models["cross_attention"] = {"use": use, "fusion": "cross_attention", "queries": []}
    return {name: {f"model.{key}": value for key, value in changes.items()} for name, changes in models.items()}


def losses(name: str, group: TargetGroup, chosen: list[str], weightings: list[str]) -> dict[str, Changes]:
    """Return every loss of the target group `name` with every weighting, by LOSS-WEIGHTING; by LOSS for weighting none."""
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


def grid(texts: list[str], shared: dict[str, Any]) -> dict[str, Changes]:
    """Return the changes of NAME='KEY=VALUE KEY=VALUE', by name. Raises InputError if a stage would reject one."""
    settings: dict[str, Changes] = {}
    for text in texts:
        name, _, pairs = text.partition("=")
        if not re.fullmatch(r"[\w-]+", name) or name in settings or is_baseline(name):
            raise InputError(
                f"--grid {text!r}; allowed: NAME='KEY=VALUE KEY=VALUE', each NAME once, of letters, digits, _, -"
            )
        changes = dict(map(parsed, re.split(r"\s+(?=[\w.]+=)", pairs.strip()) if pairs else ()))
        changes = {key: plain(value) for key, value in changes.items()}
        if mapped := [key for key, value in changes.items() if isinstance(value, dict)]:
            raise InputError(f"--grid {text!r}: {mapped[0]} is a mapping; give each of its keys by itself")
        if "train.seed" in changes:
            raise InputError(f"--grid {text!r}: --seeds sets train.seed")
        check(changed(shared, changes))
        settings[name] = changes
    return settings


def sizes(counts: list[int], shared: dict[str, Any]) -> dict[str, Changes]:
    """Return the changes for each number of training clips, rising. Raises InputError if a stage would reject one."""
    settings: dict[str, Changes] = {str(clips): {"train.clips": clips} for clips in sorted(set(counts))}
    for changes in settings.values():
        check(changed(shared, changes))
    return settings


def refuse_set(kind: str, parser: argparse.ArgumentParser, options: dict[str, Any], *names: str) -> None:
    """Raise InputError if one of these options, which experiments of this kind ignore, is set."""
    if ignored := [name for name in names if options[name] != parser.get_default(name)]:
        raise InputError(
            f"--{ignored[0]} is not for --{kind}, which shows the scores of evaluate; set params.yaml: evaluate"
        )


def refuse_unknown(option: str, names: Iterable[str], allowed: Iterable[str], where: str = "") -> None:
    """Raise InputError if one of the names isn't allowed."""
    if unknown := [name for name in names if name not in allowed]:
        raise InputError(f"{option} {unknown[0]!r}; allowed{where}: {', '.join(allowed)}")


def changed(shared: dict[str, Any], changes: Changes) -> dict[str, Any]:
    """Return a copy of the parameters with changes."""
    parameters = deepcopy(shared)
    for key, value in changes.items():
        put(parameters, key, value)
    return parameters


def value_of(shared: dict[str, Any], key: str) -> list[Any]:
    """Return a list with the value of a key as `dvc exp run -S` takes it; an empty list if the key isn't set."""
    *parents, last = key.split(".")
    for part in parents:
        shared = shared.get(part, {})
    return [shared[last]] if last in shared else []


def experiment(name: str, variant: str, seed: int) -> str:
    return f"{name}-{variant}-seed{seed}"


def run_all(name: str, chosen: dict[str, Changes], seeds: list[int]) -> None:
    """Run the experiments that `dvc exp list` doesn't have; raises InputError if a listed one has other parameters.

    Each run sets every key that any run changes, because `dvc exp run` leaves the previous run's values in params.yaml.
    """
    listed = subprocess.run([*DVC, "exp", "list", "--names-only"], capture_output=True, text=True, check=True)
    names = set(listed.stdout.split())
    shared = dvc.api.params_show()
    changed_keys = {key for changes in chosen.values() for key in changes}
    unchanged = {key: values[0] for key in sorted(changed_keys) if (values := value_of(shared, key))}
    runs = {
        experiment(name, variant, seed): unchanged | chosen[variant] | {"train.seed": seed}
        for seed, variant in product(seeds, chosen)
    }
    # `dvc gc` keeps the name of an experiment whose predictions it removes
    done = [label for label in runs if label in names and kept(label)]
    for label in done:
        refuse_other_parameters(label, shared, runs[label])
    for number, (label, changes) in enumerate(runs.items(), 1):
        print(f"{number} of {len(runs)}: {label}{' is there' if label in done else ''}", flush=True)
        if label in done:
            continue
        options = [part for key, value in changes.items() for part in ("-S", f"{key}={json.dumps(value)}")]
        overwrite = ["--force"] if label in names else []
        if status := run_dvc("exp", "run", "-n", label, *overwrite, *options, TARGET):
            raise InputError(
                f"`dvc exp run -n {label} {shlex.join(options)} {TARGET}` ended with {status}; the runs before it are kept"
            )


def run_dvc(*arguments: str) -> int:
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


def refuse_other_parameters(label: str, shared: dict[str, Any], changes: Changes) -> None:
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


def show_spread(sources: Sources, resamples: int, seed: int, out: Path, **which: Any) -> None:
    """Print and write the spread and the other scores of experiments, and of the training mean.

    which: the clips, as `gather_predictions` takes them.
    """
    gathered = gather_predictions(sources, **which)
    arrays = {name: gathered.predictions[name] for name in (*sources, "mean_predictor")}
    table = score_over_seeds(arrays, gathered.actual, gathered.videos, gathered.group, Bootstrap(resamples, seed))
    print(spread.format_markdown(table, gathered.which, gathered.group))
    spread.write(table, gathered.which, gathered.group, out)
    print(f"\nwritten: {out}.csv, .tex, .png, .pdf")


def show_curve(sources: Sources, targets: str | None, unseen: bool, out: Path) -> None:
    """Print and write the scores of experiments (data/scores.csv) by number of training clips."""
    name, group = find_target_group(targets)
    subset = "unseen_videos" if unseen else "all"
    tables = {int(clips): [scored(label, name, subset) for label in labels] for clips, labels in sources.items()}
    first = next(iter(tables.values()))[0].iloc[0]
    which = f"{first['clips']} clips of {first['videos']} videos" + (", unseen in training" if unseen else "")
    table = curve.make_curve(tables)
    print(curve.format_markdown(table, which, group))
    curve.write(table, which, group, out)
    print(f"\nwritten: {out}.csv, .tex, .png, .pdf")


def show_folds(sources: Sources, targets: str | None, out: Path) -> None:
    """Print and write the mean scores of experiments (data/scores.csv), one for each fold."""
    name, group = find_target_group(targets)
    table = folds.combine_folds([scored(label, name, "all") for labels in sources.values() for label in labels])
    print(folds.format_markdown(table, group))
    out.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(out.with_suffix(".csv"), index=False, float_format="%.6f")
    print(f"\nwritten: {out}.csv")


def show_groups(sources: Sources, targets: str | None, out: Path) -> None:
    """Print and write the scores of experiments that each test one group of persons, a row for each group."""
    name, group = find_target_group(targets)
    tables = {tested: scored(labels[0], name, "all") for tested, labels in sources.items()}
    table = pd.concat([scores.assign(group=tested) for tested, scores in tables.items()])
    columns = words.list_headline_scores(group)
    rows = table[(table["predictor"] == "model") & (table["target"] == "mean") & table["score"].isin(columns)]
    print(rows.pivot(index="group", columns="score", values="value")[list(columns)].round(4).to_string())
    out.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(out.with_suffix(".csv"), index=False, float_format="%.6f")
    print(f"\nwritten: {out}.csv")


def scored(label: str, name: str, subset: str) -> pd.DataFrame:
    """Return an experiment's scores of a target group on a subset of the clips. Raises InputError if it has none."""
    table = read_csv(io.StringIO(dvc.api.read(str(SCORES), rev=label)), TEXT_COLUMNS[SCORES])
    table = table[(table["targets"] == name) & (table["subset"] == subset)]
    if table.empty:
        raise InputError(f"experiment {label} has no scores of {name} on {words.SUBSETS[subset]}")
    return table


if __name__ == "__main__":
    command.run(main)
