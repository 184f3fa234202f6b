"""Which experiments are run: by name, their changes to params.yaml."""

import re
from collections.abc import Iterable, Mapping
from itertools import product
from typing import Any

import pandas as pd

from lib.core import parameters
from lib.core.artifacts import GROUPS
from lib.core.errors import InputError
from lib.core.targets import LOSSES_OF_HEADS, RELIABILITY, TargetGroup, check_head
from lib.model.settings import FUSIONS, STACKED
from lib.scoring.baselines import is_baseline
from lib.sources._across import find_ranges
from lib.sources.settings import Parameters as Download
from lib.training.fairness import FAIRNESS
from lib.training.weightings import WEIGHTINGS
from tools.experiments import ParameterChanges, changed
from tools.parameters import check, parse_change, plain
from tools.predictors import find_target_group

EXPERIMENT_OPTIONS = (
    "variants",
    "losses",
    "weightings",
    "grid",
    "networks",
    "sizes",
    "folds",
    "groups",
    "corpora",
    "fair",
)
"""The options that say which experiments are run."""

ONLY_IF_CHOSEN = ("plain_concat", "multitask", "multitask_pooled", STACKED)
"""Fusions that are run only if params.yaml names them. plain_concat is concat without projection. The multitask fusions need
two encoders of one width. stacked needs an encoder of kind vectors, and trains five more networks."""

EQUAL_FOR_ONE_ENCODER = ("cross_attention", "concat", "late_average")
"""Fusions that are equal if there is only one encoder."""


def plan_experiments(
    shared: dict[str, Any], targets: str | None, options: Mapping[str, Any]
) -> tuple[str, dict[str, ParameterChanges]]:
    """Return the kind of experiments, and their changes to the parameters `shared`, by name.

    options: values of the options EXPERIMENT_OPTIONS. Raises InputError for options that exclude each other or have invalid
    values.
    """
    is_loss = bool(options.get("losses") or options.get("weightings"))
    exclusive = {"--variants": options.get("variants"), "--losses/--weightings": is_loss}
    exclusive |= {f"--{name}": options.get(name) for name in EXPERIMENT_OPTIONS[3:]}
    if len(several := [option for option, values in exclusive.items() if values]) > 1:
        raise InputError(f"{', '.join(several)} exclude each other; give one")
    if options.get("grid"):
        return "grid", plan_grid(options["grid"], shared)
    if options.get("networks"):
        return "networks", plan_networks(options["networks"], shared)
    if options.get("sizes"):
        return "sizes", plan_sizes(options["sizes"], shared)
    if options.get("folds"):
        if (split := shared["download"]["split"]) != "folds":
            raise InputError(f"--folds needs params.yaml: download.split = folds; it is {split!r}")
        return "folds", {f"fold{fold}": {"download.fold": fold} for fold in range(shared["download"]["folds"])}
    if options.get("groups"):
        return "groups", plan_groups(options["groups"])
    if options.get("corpora"):
        return "corpora", plan_corpora(shared)
    if options.get("fair"):
        return "fair", plan_fairness(options["fair"], shared)
    if is_loss:
        name, group = find_target_group(targets)
        if name not in shared["model"]["targets"]:
            raise InputError(
                f"--targets {name!r}; allowed: one of model.targets: {', '.join(shared['model']['targets'])}"
            )
        weightings = options.get("weightings") or [shared["train"]["label_weighting"]]
        return "losses", plan_losses(name, group, options.get("losses") or [group.loss], weightings)
    available = plan_variants(shared["model"])
    names = options.get("variants") or list(available)
    check_choices("--variants", names, available)
    return "ablation", {name: available[name] for name in names}


def plan_groups(column: str) -> dict[str, ParameterChanges]:
    """Return the changes that test each group of a column of data/groups.csv, by group."""
    table = pd.read_csv(GROUPS, dtype=str, keep_default_na=False) if GROUPS.exists() else pd.DataFrame()
    if column not in table.columns[1:]:
        raise InputError(
            f"--groups {column!r}; allowed: a column of {GROUPS}, which `dvc repro download` writes:"
            f" {', '.join(table.columns[1:]) or 'none'}"
        )
    values = sorted({value for value in table[column] if value})
    if len(values) < 2:
        raise InputError(
            f"--groups {column}: {GROUPS} has the groups {values}; allowed: a column of two groups or more"
        )
    common = {"download.split": "group_out", "download.group.column": column}
    changes = {re.sub(r"[^\w-]", "_", value): common | {"download.group.value": value} for value in values}
    if len(changes) < len(values):
        raise InputError(
            f"--groups {column}: two of the groups {values} differ only in signs that names of experiments can't have;"
            " rename one of them"
        )
    return changes


def plan_corpora(shared: dict[str, Any]) -> dict[str, ParameterChanges]:
    """Return the changes that hold out each corpus with targets of the model, and score on all of them, by corpus."""
    columns = {column for name in shared["model"]["targets"] for column in shared["targets"][name]["columns"]}
    ranges = find_ranges(parameters.check({"download": shared["download"]}, Download).download)
    corpora = [corpus for corpus, targets in ranges.items() if columns & targets.keys()]
    if len(corpora) < 2:
        raise InputError(
            f"--corpora needs two corpora with targets of model.targets = {shared['model']['targets']} in params.yaml:"
            f" download.sources = {shared['download']['sources']}; these have some: {', '.join(corpora) or 'none'}"
        )
    changes_by_name = {corpus: {"download.held_out": [corpus], "evaluate.on": corpora} for corpus in corpora}
    for changes in changes_by_name.values():
        check(changed(shared, changes))
    return changes_by_name


def plan_fairness(column: str, shared: dict[str, Any]) -> dict[str, ParameterChanges]:
    """Return the changes for each value of train.fairness, by its name; with download.split = folds, for each fold, too.

    column: of data/groups.csv. Raises InputError if a stage would reject one.
    """
    changes_by_name = {name: {"train.fairness": name, "train.fairness_group": column} for name in FAIRNESS}
    for changes in changes_by_name.values():
        check(changed(shared, changes))
    if shared["download"]["split"] != "folds":
        return changes_by_name
    return {
        f"{name}-fold{fold}": changes | {"download.fold": fold}
        for fold, (name, changes) in product(range(shared["download"]["folds"]), changes_by_name.items())
    }


def plan_variants(model: dict[str, Any]) -> dict[str, ParameterChanges]:
    """Return the variants of the section `model`, by name.

    They are: each encoder alone; all encoders by each fusion, but by those of ONLY_IF_CHOSEN only if `model` names it; and
    cross-attention with the queries of one encoder. A fusion that is added to FUSIONS is a variant, too.
    """
    use = model["use"]
    fusions = [name for name in FUSIONS if name not in ONLY_IF_CHOSEN or name == model["fusion"]]
    models: dict[str, ParameterChanges] = {name: {"use": [name], "fusion": "concat", "queries": []} for name in use}
    if len(use) == 1:
        fusions = [name for name in fusions if name not in EQUAL_FOR_ONE_ENCODER]
    else:
        models |= {f"queries_{name}": {"use": use, "fusion": "cross_attention", "queries": [name]} for name in use}
    models |= {fusion: {"use": use, "fusion": fusion, "queries": []} for fusion in fusions}
    return {name: {f"model.{key}": value for key, value in changes.items()} for name, changes in models.items()}


def plan_losses(name: str, group: TargetGroup, chosen: list[str], weightings: list[str]) -> dict[str, ParameterChanges]:
    """Return every loss of the target group `name` with every weighting, by LOSS-WEIGHTING; by LOSS for weighting none."""
    check_head(group)
    permitted = LOSSES_OF_HEADS[group.head]
    check_choices("--losses", chosen, permitted, f" with targets.{name}.head = {group.head}")
    check_choices("--weightings", weightings, (*WEIGHTINGS, RELIABILITY))
    return {
        loss if weighting == "none" else f"{loss}-{weighting}": {
            f"targets.{name}.loss": loss,
            "train.label_weighting": weighting,
        }
        for weighting, loss in product(weightings, chosen)
    }


def plan_grid(texts: list[str], shared: dict[str, Any]) -> dict[str, ParameterChanges]:
    """Return the changes of NAME='KEY=VALUE KEY=VALUE', by name. Raises InputError if a stage would reject one."""
    changes_by_name: dict[str, ParameterChanges] = {}
    for text in texts:
        name, _, pairs = text.partition("=")
        if not re.fullmatch(r"[\w-]+", name) or name in changes_by_name or is_baseline(name):
            raise InputError(
                f"--grid {text!r}; allowed: NAME='KEY=VALUE KEY=VALUE', each NAME once, of letters, digits, _, -"
            )
        changes = dict(map(parse_change, re.split(r"\s+(?=[\w.]+=)", pairs.strip()) if pairs else ()))
        changes = {key: plain(value) for key, value in changes.items()}
        if mapped := [key for key, value in changes.items() if isinstance(value, dict)]:
            raise InputError(f"--grid {text!r}: {mapped[0]} is a mapping; give each of its keys separately")
        if "train.seed" in changes:
            raise InputError(f"--grid {text!r}: --seeds sets train.seed; remove it from --grid")
        check(changed(shared, changes))
        changes_by_name[name] = changes
    return changes_by_name


def plan_networks(words: list[str], shared: dict[str, Any]) -> dict[str, ParameterChanges]:
    """Return the changes of STREAM NETWORK[=WEIGHTS] ..., by the network's name with _ for / and other signs.

    Raises InputError if the model does not read the stream, or a stage would reject a network.
    """
    stream, *names = words
    streams = [name for name, section in shared.items() if isinstance(section, dict) and "network" in section]
    check_choices("--networks", [stream], streams)
    model = shared["model"]
    read = {reference.partition(".")[0] for name in model["use"] for reference in model["encoders"][name]["reads"]}
    if not names or stream not in read:
        problem = f"no encoder of model.use reads {stream}" if names else "no network"
        raise InputError(
            f"--networks {' '.join(words)}: {problem}; allowed: a stream that the model reads, and its networks"
        )
    changes_by_name: dict[str, ParameterChanges] = {}
    for text in names:
        network, _, weights = text.partition("=")
        name = re.sub(r"[^\w-]+", "_", network).strip("_")
        if not name or name in changes_by_name:
            raise InputError(f"--networks {text!r}; allowed: NETWORK or NETWORK=WEIGHTS, each network once")
        if weights and "weights" not in shared[stream]:
            raise InputError(f"--networks {text!r}; allowed for {stream}: NETWORK, whose folder contains its weights")
        changes = {f"{stream}.network": network}
        changes_by_name[name] = changes | (
            {f"{stream}.weights": weights or None} if "weights" in shared[stream] else {}
        )
        check(changed(shared, changes_by_name[name]))
    return changes_by_name


def plan_sizes(counts: list[int], shared: dict[str, Any]) -> dict[str, ParameterChanges]:
    """Return the changes for each number of training clips, rising. Raises InputError if a stage would reject one."""
    changes_by_name: dict[str, ParameterChanges] = {str(clips): {"train.clips": clips} for clips in sorted(set(counts))}
    for changes in changes_by_name.values():
        check(changed(shared, changes))
    return changes_by_name


def check_choices(option: str, names: Iterable[str], allowed: Iterable[str], where: str = "") -> None:
    """Raise InputError if one of the names isn't allowed."""
    if unknown := [name for name in names if name not in allowed]:
        raise InputError(f"{option} {unknown[0]!r}; allowed{where}: {', '.join(allowed)}")
