"""Print the smallest difference between two models that the clips of a run can show, in 1 - MAE, R² and CCC.

FOLDER is a project folder after `dvc repro evaluate`, or a folder with predictions.csv. The labels and the predictions come
from this file. A difference is shown by a paired, two-sided test over videos at a level of 5 %, with a power of 80 %.

The answer depends on how similar the two models are. The residual is the part of a prediction that is not linear in the
label: similar models have residuals with a high correlation. --with measures it for a second run, such as another seed.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lib.core import command, interrupts
from lib.core.clips import SPLITS
from lib.core.errors import InputError

if TYPE_CHECKING:  # they take seconds to load, and --help does not need them
    import numpy as np
    import pandas as pd

    from lib.core.targets import TargetGroup
    from lib.scoring.bootstrap import Bootstrap

COLUMNS = ("clip", "video", "split", "targets", "target", "actual", "predicted")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.power", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path, default=Path(), metavar="FOLDER", help="folder of a run (.)")
    parser.add_argument("--split", choices=SPLITS, default="test", help="split whose clips are used (%(default)s)")
    parser.add_argument("--targets", metavar="NAME", help="target group (the first of predictions.csv)")
    parser.add_argument(
        "--correlations", nargs="+", type=float, default=[0.5, 0.8, 0.9, 0.95], metavar="R",
        help="correlations between the residuals of two models (0.5 0.8 0.9 0.95)",
    )  # fmt: skip
    parser.add_argument("--with", dest="other", type=Path, metavar="FOLDER", help="folder of a second run to compare")
    parser.add_argument("--resamples", type=int, default=1000, help="number of resamples (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the resamples (%(default)s)")
    arguments = parser.parse_args()
    if wrong := [value for value in arguments.correlations if not 0 <= value < 1]:
        raise InputError(f"--correlations {wrong[0]:g}; allowed: 0 or more, and below 1. Two equal models never differ")
    if arguments.resamples < 100:
        raise InputError(f"--resamples {arguments.resamples}; allowed: 100 or more, so that the spread is estimated")
    with interrupts.loading():
        from lib.scoring.bootstrap import MIN_VIDEOS, Bootstrap

    table = read_run(arguments.folder, arguments.targets)
    scored = table[table["split"] == arguments.split]
    if (count := scored.dropna(subset="actual")["video"].nunique()) < MIN_VIDEOS:
        raise InputError(
            f"{arguments.folder} has labelled {arguments.split} clips of {count} videos; required: {MIN_VIDEOS} videos."
            " Choose another split with --split"
        )
    other = None if arguments.other is None else read_run(arguments.other, scored["targets"].iloc[0])
    bootstrap = Bootstrap(arguments.resamples, arguments.seed)
    for line in describe(scored, table[table["split"] == "training"], other, arguments.correlations, bootstrap):
        print(line)


def read_run(folder: Path, targets: str | None) -> "pd.DataFrame":
    """Return the rows of a run's predictions.csv for one target group. Raises InputError for a missing file or group."""
    from lib.core.artifacts import PREDICTIONS, TEXT_COLUMNS
    from lib.core.clips import read_csv

    path = next((path for path in (folder / PREDICTIONS, folder / PREDICTIONS.name) if path.is_file()), None)
    if path is None:
        raise InputError(
            f"{folder} has neither {PREDICTIONS} nor {PREDICTIONS.name}; give a folder after `dvc repro evaluate`"
        )
    table = read_csv(path, TEXT_COLUMNS[PREDICTIONS])
    if missing := [column for column in COLUMNS if column not in table]:
        raise InputError(f"{path} has no column {missing[0]}; required: {', '.join(COLUMNS)}. Run `dvc repro evaluate`")
    groups = list(dict.fromkeys(table["targets"]))
    if targets is not None and targets not in groups:
        raise InputError(f"{path} has no target group {targets!r}; allowed: {', '.join(groups)}. Change --targets")
    return table[table["targets"] == (targets or groups[0])]


def describe(
    scored: "pd.DataFrame",
    training: "pd.DataFrame",
    other: "pd.DataFrame | None",
    correlations: list[float],
    bootstrap: "Bootstrap",
) -> Iterator[str]:
    """Yield the lines of the answer: a table for each score, with a row for each rival of the model."""
    from lib.report import words
    from lib.scoring.power import SCORES

    group = find_group(scored["targets"].iloc[0], list(dict.fromkeys(scored["target"])))
    labels, predicted = (pivot(scored, value, group) for value in ("actual", "predicted"))
    labels = labels.dropna(how="all")
    predicted = predicted.loc[labels.index]
    videos = scored.drop_duplicates("clip").set_index("clip")["video"].loc[labels.index].to_numpy()
    rivals = find_rivals(labels, predicted, videos, correlations, bootstrap.seed)
    level = pivot(training, "actual", group).mean() if len(training) else labels.mean()
    rivals = {"training mean": (labels * 0 + level).fillna(level).to_numpy()[None]} | rivals
    if other is not None:
        rivals |= compare_run(labels, predicted, other, group)
    yield (
        f"{scored['split'].iloc[0]} split: {len(labels)} labelled clips of {len(set(videos))} videos. Smallest difference"
        " between the model and another predictor that these clips show with a power of 80 % (two-sided 5 %, one test,"
        " paired over videos)"
    )
    tables = tabulate(labels, predicted, rivals, videos, group, bootstrap)
    for score, (title, digits) in words.list_headline_scores(group).items():
        assert score in SCORES
        yield f"\n{title}\n"
        yield f"| compared with | {' | '.join(['mean', *group.columns])} |\n|---|{'---|' * (len(group.columns) + 1)}"
        for name, values in tables[score].items():
            yield f"| {name} | {' | '.join(f'{value:.{digits}f}' for value in values)} |"
    yield (
        "\nFour times the number of videos halve these differences. A correction for several tests needs larger ones."
        " Another training of the same model differs, too: compare several seeds."
    )


def find_group(name: str, columns: list[str]) -> "TargetGroup":
    """Return the settings of a target group: those of params.yaml if it has the group, else a range of 0 to 1."""
    from lib.core.artifacts import PARAMETERS
    from lib.core.parameters import read_yaml
    from lib.core.targets import TargetGroup

    configured = read_yaml(PARAMETERS)["targets"].get(name) if PARAMETERS.is_file() else None
    default = TargetGroup(columns=columns, range=[0, 1], head="linear", loss="mse", weight=1)
    return default if configured is None else default.model_copy(update={"range": configured["range"]})


def pivot(table: "pd.DataFrame", value: str, group: "TargetGroup") -> "pd.DataFrame":
    """Return a column of predictions.csv as a table with a row for each clip and a column for each target."""
    return table.pivot(index="clip", columns="target", values=value)[group.columns]


def find_rivals(
    labels: "pd.DataFrame", predicted: "pd.DataFrame", videos: "np.ndarray", correlations: list[float], seed: int
) -> "dict[str, np.ndarray]":
    """Return the imitated rivals by their description."""
    from lib.scoring.power import imitate_rivals

    arrays = labels.to_numpy(), predicted.to_numpy(), videos
    return {
        f"an equal model, residuals correlate by {value:g}": imitate_rivals(*arrays, value, seed)
        for value in correlations
    }


def compare_run(
    labels: "pd.DataFrame", predicted: "pd.DataFrame", other: "pd.DataFrame", group: "TargetGroup"
) -> "dict[str, np.ndarray]":
    """Return the predictions of a second run by a description with its measured correlation."""
    import numpy as np

    from lib.scoring import predictions
    from lib.scoring.power import correlate_residuals

    second = pivot(other[other["clip"].isin(labels.index)], "predicted", group)
    predictions.check_same_clips("--with", second.index, "FOLDER", labels.index)
    arrays = second.loc[labels.index].to_numpy()
    correlation = np.nanmean(correlate_residuals(labels.to_numpy(), predicted.to_numpy(), arrays))
    return {f"the run of --with, residuals correlate by {correlation:.2f}": arrays[None]}


def tabulate(
    labels: "pd.DataFrame",
    predicted: "pd.DataFrame",
    rivals: "dict[str, np.ndarray]",
    videos: "np.ndarray",
    group: "TargetGroup",
    bootstrap: "Bootstrap",
) -> "dict[str, dict[str, np.ndarray]]":
    """Return the smallest differences (K + 1,) by score and rival."""
    from tqdm import tqdm

    from lib.scoring.power import SCORES, find_smallest

    arrays = labels.to_numpy(float), predicted.to_numpy(float)
    differences = {
        name: find_smallest(*arrays, others, videos, group, bootstrap)
        for name, others in tqdm(rivals.items(), desc="rivals", unit="rival", disable=None)
    }
    return {score: {name: values[score] for name, values in differences.items()} for score in SCORES}


if __name__ == "__main__":
    command.run(main)
