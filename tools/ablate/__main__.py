"""Run variants of the model, of losses or of any settings as DVC experiments, with every seed, and compare them.

--variants, the default: variants of params.yaml's model. Each encoder of model.use alone, by its name; all encoders by
late_average, concat, cross_attention, params.yaml's own fusion, and every fusion that you add to the project; and
queries_ENCODER, cross-attention in which only that encoder's tokens are queries. plain_concat, multitask, multitask_pooled
and stacked are variants only if params.yaml names them. The result is the table of tools.compare.

--losses and --weightings: every loss of the target group (--targets) with every train.label_weighting. --grid: settings by
name, each a list of KEY=VALUE as in `dvc exp run -S`, for instance --grid small=train.batch_size=8
'faces=model.use=[faces] train.epochs=50' asis; an empty list is params.yaml without changes. Both give a table and a figure
of spread, calibration slope, regression to the mean, accuracy, R² and CCC with 95 % intervals over videos, next to the
training mean. For paired differences of the same experiments, use tools.compare.

--networks: pretrained networks of one stream, for instance --networks embeddings sface facebook/dinov2-small
emonext_base=imagenet. Each run sets embeddings.network, and embeddings.weights to the text after the equals sign or to null.
The stream is built again for each network. The table is that of --grid.

--sizes: the learning curve, params.yaml with train.clips of each size. The result is a table and a figure of accuracy, R²
and CCC against the number of training clips, for the model and the baselines, which learn from the same clips. Scores and
intervals are those of evaluate (data/scores.csv of each experiment). With --unseen they are those of videos without training
clips.

--groups COLUMN: params.yaml with download.split = group_out, for each value of a column of data/groups.csv, for instance
gender: the model is trained on all other groups and tested on the persons of one.

--corpora: params.yaml with download.held_out = each corpus of download.sources that has the model's targets, in turn: the
model is trained on the others and scored on this one (evaluate.on). The result is a table of accuracy, r and ρ, next to
regressions that are fitted to the corpus itself. Corpora with different ranges of labels need download.scale = unit.

--fair [COLUMN]: every value of train.fairness for the groups of a column of data/groups.csv (params.yaml's
train.fairness_group). The result is a table and a figure of accuracy against the gaps of signed error, accuracy and coverage
between the two groups whose labels differ most in training. With download.split = folds, all folds are run and scored
together. With --unseen only clips of videos without training clips are scored.

--folds: params.yaml with each download.fold of its download.folds, where download.split is folds; and the mean of evaluate's
scores over all folds, for the model and the baselines. Every labelled clip is scored once, by a model that was not trained
on its video.

Each run is `dvc exp run evaluate` with these keys and train.seed: it trains and evaluates, without analyses and figures. All
other parameters are those of params.yaml. Runs that `dvc exp list` already has are not repeated, and an interrupted training
continues from its last epoch: after an interruption, run the same command again.
"""

import argparse
from pathlib import Path
from typing import Any

from lib.core import command, interrupts
from lib.core.artifacts import PARAMETERS
from lib.core.errors import InputError
from tools.compare import add_options

PARAMETERS_COLUMN = "train.fairness_group"
"""The value of --fair without a column: the column is that of params.yaml."""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.ablate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--name",
        help="prefix of the experiments' names (ablation, losses, grid, networks, sizes, folds, groups, corpora or fair)",
    )
    parser.add_argument("--variants", nargs="+", metavar="VARIANT", help="(all)")
    parser.add_argument("--losses", nargs="+", metavar="LOSS", help="values of targets.NAME.loss (params.yaml's)")
    parser.add_argument(
        "--weightings", nargs="+", metavar="NAME", help="values of train.label_weighting (params.yaml's)"
    )
    parser.add_argument("--grid", nargs="+", metavar="NAME='KEY=VALUE KEY=VALUE'")
    parser.add_argument(
        "--networks", nargs="+", metavar="NAME", help="a stream, and networks for it: STREAM NETWORK[=WEIGHTS] ..."
    )
    parser.add_argument("--sizes", nargs="+", type=int, metavar="CLIPS", help="numbers of training clips")
    parser.add_argument("--folds", action="store_true", help="every fold of the cross-validation")
    parser.add_argument("--groups", metavar="COLUMN", help="each group of a column of data/groups.csv, tested in turn")
    parser.add_argument("--corpora", action="store_true", help="leave out each corpus of download.sources in turn")
    parser.add_argument(
        "--fair",
        nargs="?",
        const=PARAMETERS_COLUMN,
        metavar="COLUMN",
        help="every train.fairness, for groups of a column",
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="(0 1 2)")
    add_options(parser, baseline="concat, for --variants alone", out="plots/NAME")
    parser.set_defaults(baseline=None, out=None)
    return parser


def main() -> None:
    parser = make_parser()
    options = vars(parser.parse_args())
    with interrupts.loading():  # they take seconds to load, and --help needs none of them
        import dvc.api

        from lib.scoring.baselines import is_baseline
        from lib.scoring.bootstrap import Bootstrap
        from tools.ablate.fair import show_fair
        from tools.ablate.plan import EXPERIMENT_OPTIONS, plan_experiments
        from tools.ablate.results import show_corpora, show_curve, show_folds, show_groups, show_spread
        from tools.experiments import experiment, run_all
        from tools.predictors import compare

    name, seeds, baseline = (options.pop(key) for key in ("name", "seeds", "baseline"))
    shared, chosen_options = dvc.api.params_show(), {key: options.pop(key) for key in EXPERIMENT_OPTIONS}
    if chosen_options["fair"] == PARAMETERS_COLUMN:
        chosen_options["fair"] = shared["train"]["fairness_group"]
    kind, chosen = plan_experiments(shared, options["targets"], chosen_options)
    name = name or kind
    options["out"] = options["out"] or Path("plots", name)
    if kind in ("sizes", "folds", "groups", "corpora"):
        ignored = ["labels", "split", "resamples", "seed", *([] if kind == "sizes" else ["unseen"])]
        check_ignored(kind, parser, options, ignored)
    if kind == "fair":
        check_ignored(kind, parser, options, ["labels", "split"])
    if kind in ("folds", "groups") and len(seeds) > 1:
        raise InputError(f"--{kind} with {len(seeds)} seeds; allowed: one, for example --seeds 0")
    if kind != "ablation" and baseline:
        raise InputError("--baseline is for --variants; compare other experiments with tools.compare")
    baseline = baseline or "concat"
    if kind == "ablation" and baseline not in chosen and not is_baseline(baseline):
        raise InputError(f"--baseline {baseline!r}; allowed: {', '.join(chosen)}, or a baseline")

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
    elif kind == "corpora":
        show_corpora(sources, options["targets"], options["out"])
    elif kind == "fair":
        bootstrap = Bootstrap(options["resamples"], options["seed"])
        show_fair(sources, chosen_options["fair"], options["targets"], options["unseen"], bootstrap, out=options["out"])
    else:
        show_spread(sources, **options)
    print("params.yaml is unchanged; data/ and metrics/ are those of the last run, until you run `dvc repro`")


def check_ignored(kind: str, parser: argparse.ArgumentParser, options: dict[str, Any], names: list[str]) -> None:
    """Raise InputError if one of these options, which experiments of this kind ignore, is set."""
    if ignored := [name for name in names if options[name] != parser.get_default(name)]:
        raise InputError(
            f"--{ignored[0]} is not for --{kind}, which shows the scores of evaluate; set params.yaml: evaluate"
        )


if __name__ == "__main__":
    command.run(main)
