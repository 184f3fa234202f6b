"""Train each target group alone, then all groups together with the frozen encoders, for every seed, and compare them.

params.yaml must have one encoder of kind sequence_transformer for each of model.targets, in the same order, as in
params/multitask.yaml. The DVC experiments are
- NAME-GROUP-seedN: a target group with its encoder alone
- NAME-multitask-seedN and NAME-multitask_pooled-seedN: all groups, with the encoders of the single models, frozen

The result is the table of tools.compare for each target group. Finished experiments are not repeated: after an interruption,
run the same command again.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib.core import command, interrupts, resume
from lib.core.artifacts import MODEL, PARAMETERS
from lib.core.errors import InputError
from tools.compare import add_options

if TYPE_CHECKING:  # it takes seconds to load, and --help does not need it
    from tools.ablate.plan import ParameterChanges

FUSIONS = ("multitask", "multitask_pooled")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.multitask", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--name", default="multitask", help="prefix of the experiments' names (%(default)s)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="seeds of the experiments (0 1 2)")
    add_options(parser, baseline="the target group alone", out="plots/NAME-GROUP")
    parser.set_defaults(baseline=None, out=None, targets=None)
    options = vars(parser.parse_args())
    name, seeds, baseline, out, only = (options.pop(key) for key in ("name", "seeds", "baseline", "out", "targets"))
    with interrupts.loading():
        import dvc.api

        from tools.experiments import experiment, run_all
        from tools.predictors import compare

    model = dvc.api.params_show()["model"]
    single_changes = singles(model)
    if only is not None and only not in single_changes:
        raise InputError(f"--targets {only!r}; allowed: one of model.targets: {', '.join(single_changes)}")
    original_parameters = PARAMETERS.read_bytes()
    try:
        for seed in seeds:
            run_all(name, single_changes, [seed])
            weights = {group: save_model(experiment(name, group, seed)) for group in single_changes}
            run_all(name, together(model, weights), [seed])
    finally:
        PARAMETERS.write_bytes(original_parameters)
    out = out or Path("plots", name)
    for group in [only] if only else single_changes:
        sources = {condition: [experiment(name, condition, seed) for seed in seeds] for condition in (group, *FUSIONS)}
        print(f"\n## {group}\n")
        compare(sources, baseline or group, targets=group, out=out.with_name(f"{out.name}-{group}"), **options)
    print("params.yaml is unchanged. data/ and metrics/ belong to the last run; `dvc repro` restores them")


def singles(model: dict[str, Any]) -> "dict[str, ParameterChanges]":
    """Return the changes of params.yaml that train each of model.targets alone, by target group.

    Raises InputError unless there is a suitable encoder for each group.
    """
    use, targets = model["use"], model["targets"]
    kinds = [model["encoders"][name]["kind"] for name in use]
    if len(use) != len(targets) or len(use) < 2 or set(kinds) != {"sequence_transformer"}:
        raise InputError(
            f"params.yaml: model.use = {use} of kinds {kinds} for model.targets = {targets}; allowed: one encoder of kind"
            " sequence_transformer for each of at least two target groups, in the same order, as in params/multitask.yaml"
        )
    # each run sets all keys that another run changes, because params.yaml keeps the values of the previous run
    encoder_weights = {
        f"model.encoders.{name}.{key}": model["encoders"][name][key] for name in use for key in ("weights", "frozen")
    }
    return {
        group: {"model.use": [name], "model.targets": [group], "model.fusion": "plain_concat", "model.hidden": 0}
        | encoder_weights
        for name, group in zip(use, targets, strict=True)
    }


def together(model: dict[str, Any], weights: dict[str, Path]) -> "dict[str, ParameterChanges]":
    """Return the changes of params.yaml that train all of model.targets with the single models' encoders, by fusion."""
    loaded: ParameterChanges = {f"model.{key}": model[key] for key in ("use", "targets", "hidden")}
    for name, path in zip(model["use"], weights.values(), strict=True):
        loaded |= {f"model.encoders.{name}.weights": str(path), f"model.encoders.{name}.frozen": True}
    return {fusion: {"model.fusion": fusion} | loaded for fusion in FUSIONS}


def save_model(experiment_name: str) -> Path:
    """Save an experiment's model for the experiments that start from it, and return its path."""
    import dvc.api

    path = resume.ROOT / "multitask" / f"{experiment_name}.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with dvc.api.open(str(MODEL), rev=experiment_name, mode="rb") as file:
        partial.write_bytes(file.read())
    partial.replace(path)
    return path


if __name__ == "__main__":
    command.run(main)
