"""Score the baselines of any corpus and split, without a model: from data/clips.csv, or from FIV2's annotation files alone.

Without FOLDER, the clips are those of `dvc repro download`, and the vectors are those of the streams in data/ (for example
after `dvc repro features text`). With --folds, each clip is predicted once, by baselines that did not see its video.
Groups of persons and conditions of recording, as far as they are known, are the baselines "on attributes".
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib.core import command, interrupts
from lib.core.clips import SPLITS
from lib.core.errors import InputError

if TYPE_CHECKING:  # they take seconds to load, and --help does not need them
    import pandas as pd

    from lib.core.targets import TargetGroup
    from lib.scoring.tables import ScoredClips


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.baselines", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "folder",
        nargs="?",
        type=Path,
        help="folder with annotation_training.pkl, annotation_validation.pkl, ... of FIV2",
    )
    parser.add_argument("--targets", nargs="+", metavar="NAME", help="target groups (the first of model.targets)")
    parser.add_argument("--train", default="training", choices=SPLITS, help="split to fit baselines on (%(default)s)")
    parser.add_argument("--test", default="test", choices=SPLITS, help="split to predict (%(default)s)")
    parser.add_argument(
        "--folds", type=int, metavar="N", help="cross-validation by video in place of --train and --test"
    )
    parser.add_argument("--trees", action="store_true", help="add boosted trees, alone and in the stack")
    parser.add_argument("--resamples", type=int, default=1000, help="number of resamples for intervals (%(default)s)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write all scores to a CSV file")
    arguments = parser.parse_args()
    if arguments.train == arguments.test:
        raise InputError(f"--train {arguments.train} --test {arguments.test}; allowed: two different splits")
    if arguments.folds is not None and arguments.folds < 3:
        raise InputError(f"--folds {arguments.folds}; allowed: 3 or more, because one fold chooses penalties")
    with interrupts.loading():
        import pandas as pd

        from lib.core.artifacts import DATA
        from lib.data import pooled
        from lib.scoring.attributes import tabulate_attributes
        from tools.predictors import FIV2, find_persons, find_target_group, read_labels

    vectors = pooled.pool_vectors(DATA) if arguments.folder is None else {}
    tables = []
    for chosen in arguments.targets or [None]:
        name, group = FIV2 if arguments.folder else find_target_group(chosen)
        table = read_labels(arguments.folder, name, group.columns)
        attributes = tabulate_attributes(
            table, find_persons(arguments.folder, table), vectors, arguments.folder or DATA
        )
        options = vars(arguments) | {"attributes": attributes}
        tables.append(show(table, group, vectors, options).assign(targets=name))
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        pd.concat(tables).to_csv(arguments.out, index=False, float_format="%.6f")
        print(f"\nwritten: {arguments.out}")


def show(
    table: "pd.DataFrame", group: "TargetGroup", vectors: "dict[str, pd.DataFrame]", options: dict[str, Any]
) -> "pd.DataFrame":
    """Print the scores of the baselines for one target group, and return their table."""
    from lib.report import words
    from lib.report.score_tables import make_score_table
    from lib.scoring.baselines import PRESENCE
    from lib.scoring.tables import score_table

    scored = score_baselines(table, group, vectors, options)
    scores = score_table(scored)
    print(
        f"\n{', '.join(group.columns)}; {words.format_range(group)}. {words.describe_clipped(scores, group)}".rstrip()
    )
    labels = words.list_headline_scores(group)
    labels |= {"f1": ("F1", 3), "weighted_f1": ("weighted F1", 3)} if group.detect else {}
    for subset, title in words.list_headline_subsets(scores).items():
        rows = scores[scores["subset"] == subset]
        values = rows[~rows["predictor"].isin(PRESENCE)]  # they predict no value between present and absent
        for score, (label, digits) in labels.items() if len(rows) else ():
            print(f"\n{label}, {title} ({rows['clips'].iloc[0]} clips, {rows['videos'].iloc[0]} videos)\n")
            of_score = rows if score in ("f1", "weighted_f1") else values
            print(format_markdown(make_score_table(of_score, score, digits)))
    return scores


def score_baselines(
    table: "pd.DataFrame", group: "TargetGroup", vectors: "dict[str, pd.DataFrame]", options: dict[str, Any]
) -> "ScoredClips":
    """Return the test clips with the predictions of all baselines, clipped to the targets' range."""
    import numpy as np
    import pandas as pd

    from lib.scoring import baselines
    from lib.scoring.bootstrap import Bootstrap
    from lib.scoring.reliability import read_error_variance
    from lib.scoring.tables import ScoredClips

    columns, tests, parts = list(group.columns), [], []
    for training, test, validation in split_clips(table, options):
        splits = training, test, validation, columns, vectors
        fitted = baselines.predict(*splits, options["trees"], options["attributes"])
        parts.append(fitted | baselines.predict_presence(training, test, group))
        tests.append(test.assign(video_in_training=baselines.is_video_in_training(training, test)))
    names = [name for name in parts[0] if all(name in fitted for fitted in parts)]
    joined = {name: np.concatenate([fitted[name] for fitted in parts]) for name in names}
    predictions, clipped = baselines.clip_predictions(joined, group.range)
    test = pd.concat(tests, ignore_index=True)
    actual, videos, is_in_training = (
        test[columns].to_numpy(float),
        test["video"].to_numpy(),
        test["video_in_training"].to_numpy(),
    )
    scored = ScoredClips(actual, predictions, videos, is_in_training, group, Bootstrap(options["resamples"], 0))
    return replace(scored, clipped=clipped, error_variance=read_error_variance(test, columns))


def split_clips(
    table: "pd.DataFrame", options: dict[str, Any]
) -> "Iterator[tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]]":
    """Yield training, test and validation clips: once, or for each fold. Raises InputError if a split has no clip."""
    folds = options["folds"]
    for fold in range(folds or 1):
        parts = split_folds(table, folds, fold) if folds else table["split"]
        names = ("training", "test") if folds else (options["train"], options["test"])
        # the third split chooses penalties and the shrinkage of the look-up
        third = next(split for split in SPLITS if split not in names)
        training, test, validation = (table[parts == split] for split in (*names, third))
        for split, rows in zip(names, (training, test), strict=True):
            if rows.empty:
                raise InputError(
                    f"no clip of the split {split} has labels; splits with labels: {', '.join(sorted(set(parts) - {''}))};"
                    " choose others with --train and --test"
                )
        if not fold:
            print(f"{len(training)} training clips, {len(test)} test clips" + (", in the first fold" if folds else ""))
        yield training, test, validation


def split_folds(table: "pd.DataFrame", folds: int, fold: int) -> "pd.Series":
    """Return the split of each clip in one round of cross-validation by video, as with `download.split = folds`."""
    import pandas as pd

    from lib.core import parameters
    from lib.sources.download import assign_splits
    from lib.sources.settings import Download, Parameters

    settings: Download = parameters.load("download", Parameters).download
    settings = settings.model_copy(update={"split": "folds", "folds": folds, "fold": fold})
    return assign_splits(table, pd.DataFrame(), settings)


def format_markdown(table: "pd.DataFrame") -> str:
    """Return a table of text as Markdown."""
    header = ["predictor", *table.columns]
    lines = [
        header,
        ["---"] * len(header),
        *([str(name), *row] for name, row in zip(table.index, table.to_numpy(), strict=True)),
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


if __name__ == "__main__":
    command.run(main)
