"""Train each target group alone, then all together on the finished encoders, with every seed, and compare them.

For params.yaml with an encoder of kind sequence_transformer for each of model.targets, in their order, as
params/multitask.yaml has them. The DVC experiments are NAME-GROUP-seedN, a target group by its encoder alone, and
NAME-multitask-seedN and NAME-multitask_pooled-seedN, whose encoders are those of the single ones and stay as they are. Ends
in the table of tools.compare for each target group. Experiments that are there are not repeated, so after an interruption
the same command goes on.
"""

import argparse
from pathlib import Path
from typing import Any

import dvc.api

from lib.core import command, resume
from lib.core.artifacts import MODEL, PARAMETERS
from lib.core.errors import InputError
from tools.ablate.plan import Changes
from tools.ablate.runs import experiment, run_all
from tools.compare import add_options, compare

FUSIONS = ("multitask", "multitask_pooled")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", default="multitask", help="prefix of the experiments' names (%(default)s)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="(0 1 2)")
    add_options(parser, baseline="the target group alone", out="plots/NAME-GROUP")
    parser.set_defaults(baseline=None, out=None, targets=None)
    options = vars(parser.parse_args())
    name, seeds, baseline, out, only = (options.pop(key) for key in ("name", "seeds", "baseline", "out", "targets"))
    model = dvc.api.params_show()["model"]
    alone = singles(model)
    if only is not None and only not in alone:
        raise InputError(f"--targets {only!r} is none of model.targets: {', '.join(alone)}")
    given = PARAMETERS.read_bytes()
    try:
        for seed in seeds:
            run_all(name, alone, [seed])
            weights = {group: kept(experiment(name, group, seed)) for group in alone}
            run_all(name, together(model, weights), [seed])
    finally:
        PARAMETERS.write_bytes(given)
    out = out or Path("plots", name)
    for group in [only] if only else alone:
        sources = {one: [experiment(name, one, seed) for seed in seeds] for one in (group, *FUSIONS)}
        print(f"\n## {group}\n")
        compare(sources, baseline or group, targets=group, out=out.with_name(f"{out.name}-{group}"), **options)
    print("params.yaml is unchanged; data/ and metrics/ are those of the last run, until you run `dvc repro`")


def singles(model: dict[str, Any]) -> dict[str, Changes]:
    """Return the changes that train each of model.targets alone, by its name.

    Raises InputError if the encoders don't suit.
    """
    use, targets = model["use"], model["targets"]
    kinds = [model["encoders"][name]["kind"] for name in use]
    if len(use) != len(targets) or len(use) < 2 or set(kinds) != {"sequence_transformer"}:
        raise InputError(
            f"params.yaml: model.use = {use} of kinds {kinds} for model.targets = {targets}; allowed: an encoder of kind"
            " sequence_transformer for each of two target groups, in their order, as in params/multitask.yaml"
        )
    # each run sets all that another one changes: params.yaml is left as the last one had it
    own = {
        f"model.encoders.{name}.{key}": model["encoders"][name][key] for name in use for key in ("weights", "frozen")
    }
    return {
        group: {"model.use": [name], "model.targets": [group], "model.fusion": "plain_concat", "model.hidden": 0} | own
        for name, group in zip(use, targets, strict=True)
    }


def together(model: dict[str, Any], weights: dict[str, Path]) -> dict[str, Changes]:
    """Return the changes that train all of model.targets on the single models' encoders, by fusion."""
    loaded: Changes = {f"model.{key}": model[key] for key in ("use", "targets", "hidden")}
    for name, path in zip(model["use"], weights.values(), strict=True):
        loaded |= {f"model.encoders.{name}.weights": str(path), f"model.encoders.{name}.frozen": True}
    return {fusion: {"model.fusion": fusion} | loaded for fusion in FUSIONS}


def kept(one: str) -> Path:
    """Return where an experiment's model is kept for those that start from it."""
    path = resume.ROOT / "multitask" / f"{one}.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with dvc.api.open(str(MODEL), rev=one, mode="rb") as file:
        partial.write_bytes(file.read())
    partial.replace(path)
    return path


if __name__ == "__main__":
    command.run(main)
