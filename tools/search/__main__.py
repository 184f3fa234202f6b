"""Choose values of parameters by validation scores, and score the chosen ones on the test split, once.

A parameter is KEY=VALUE,VALUE, such as model.fusion=concat,cross_attention or 'model.use=[faces],[faces, audio]'. All
combinations are run, or with --optuna TRIALS the combinations that Optuna's TPE sampler suggests. With --optuna,
KEY=LOW..HIGH is a range, of whole numbers if both ends are, and KEY=LOW..HIGH:log is drawn on a logarithmic scale.

Each trial is an experiment, `dvc exp run evaluate` with evaluate.split = validation, which predicts no test clip. --folds K
scores it on K inner folds instead: the training and validation clips are split K times by video, the test clips stay apart.
The trial with the best validation score is trained with the split of params.yaml and scored on the test split. Test scores
of other trials are not computed.

The tables show each trial's validation score, and for the chosen trial the test scores and the optimism, the validation
score minus the test score. The best of many validation scores is too high: report the test score.

Trials that `dvc exp list` already has are not repeated: after an interruption, run the same command again. --jobs N runs N
trials at a time in DVC's queue. A trial that fails is listed, and the next command tries it again.
"""

import argparse
from pathlib import Path

from lib.core import command, interrupts
from lib.core.artifacts import PARAMETERS
from lib.core.errors import InputError


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.search", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("space", nargs="+", metavar="KEY=VALUES")
    parser.add_argument("--optuna", type=int, metavar="TRIALS", help="number of trials that Optuna suggests")
    parser.add_argument("--folds", type=int, default=0, help="number of inner folds (0: the validation split)")
    parser.add_argument("--jobs", type=int, default=1, help="number of trials at a time, in DVC's queue (%(default)s)")
    parser.add_argument(
        "--select",
        default="r2",
        metavar="SCORE",
        help="score that chooses, the mean over targets: accuracy, r2, ccc, pearson, spearman, mae, mse, rmse (%(default)s)",
    )
    parser.add_argument("--targets", metavar="NAME", help="target group (the first of model.targets in params.yaml)")
    parser.add_argument("--unseen", action="store_true", help="only clips whose video has no training clip")
    parser.add_argument("--name", default="search", help="prefix of the experiments' names (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of Optuna's sampler (%(default)s)")
    parser.add_argument("--out", type=Path, help="path of the tables, without suffix (plots/NAME)")
    return parser


def main() -> None:
    options = make_parser().parse_args()
    for key, low in (("optuna", 1), ("jobs", 1), ("folds", 2)):
        value = getattr(options, key)
        if value is not None and value < low and not (key == "folds" and value == 0):
            raise InputError(f"--{key} {value}; allowed: {low} or more")
    with interrupts.loading():  # they take seconds to load, and --help needs none of them
        from tools.predictors import find_target_group
        from tools.search import results, sampler
        from tools.search.space import check_values, make_grid, parse_space
        from tools.search.trials import METRICS, Search, keep_folds

    if options.select not in METRICS:
        raise InputError(f"--select {options.select!r}; allowed: {', '.join(METRICS)}")
    name, group = find_target_group(options.targets)
    subset = "unseen_videos" if options.unseen else "all"
    search = Search(options.name, name, subset, options.select, options.folds, options.jobs)
    space = parse_space(options.space, search.shared, options.optuna is not None)
    if options.folds and keep_folds(search.shared)["download.inner_folds"]:
        raise InputError("--folds needs params.yaml: download.inner_folds = 0; the search sets it")
    if options.optuna:
        check_values(space, search.shared)
    trials = [] if options.optuna else make_grid(space, search.shared)
    original = PARAMETERS.read_bytes()
    try:
        if options.optuna:
            sampler.run(search, space, options.optuna, options.seed)
        else:
            search.run(trials)
        chosen = search.choose()
        test, tested = search.score_test(chosen)
    finally:
        PARAMETERS.write_bytes(original)
    results.show(search, chosen, test, group, options.out or Path("plots", options.name))
    if tested > 1:
        print(
            f"\nTest scores of {tested} trials named {options.name} exist by now. A choice after a look at test scores makes"
            " the test score too high as well."
        )
    print("params.yaml is unchanged; data/ and metrics/ are those of the last run, until you run `dvc repro`")


if __name__ == "__main__":
    command.run(main)
