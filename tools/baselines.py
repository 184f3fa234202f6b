"""Score the baselines that see no video, on a folder of annotation pickles of FIV2. A useful model has to beat them."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from lib.core import command, interrupts
from lib.core.clips import SPLITS
from lib.core.errors import InputError
from lib.core.targets import TRAITS

if TYPE_CHECKING:  # it takes seconds to load, and --help does not need it
    import pandas as pd


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.baselines", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder with annotation_training.pkl, annotation_validation.pkl, ...")
    parser.add_argument("--train", default="training", choices=SPLITS, help="split to fit baselines on (%(default)s)")
    parser.add_argument("--test", default="test", choices=SPLITS, help="split to predict (%(default)s)")
    arguments = parser.parse_args()
    with interrupts.loading():
        import pandas as pd

        from lib.scoring import baselines
        from lib.scoring.baselines import is_seen
        from lib.scoring.scores import score_columns

    training, test = (read(arguments.folder, split) for split in (arguments.train, arguments.test))
    # the third split selects the shrinkage of the look-up baseline
    others = [split for split in SPLITS if split not in (arguments.train, arguments.test)]
    validation = (
        read(arguments.folder, others[0]) if (arguments.folder / f"annotation_{others[0]}.pkl").exists() else test[:0]
    )
    predictions, _ = baselines.clip_predictions(baselines.predict(training, test, validation, TRAITS, {}), (0, 1))
    in_training = is_seen(training, test)
    print(
        f"{len(training)} training clips, {len(test)} test clips; {in_training.sum()} test clips are from training videos"
    )
    for title, members in (
        ("all clips", in_training | True),
        ("seen videos", in_training),
        ("unseen videos", ~in_training),
    ):
        rows = {}
        for name, predicted in predictions.items() if members.any() else ():
            scored = score_columns(test[list(TRAITS)].to_numpy()[members], predicted[members], TRAITS, 1)
            rows[name] = scored["accuracy"] | {"R² (mean)": scored["r2"]["mean"]}
        print(f"\n1-MAE, {title} ({members.sum()})\n{pd.DataFrame(rows).T.astype(float).round(4).to_string()}")


def read(folder: Path, split: str) -> "pd.DataFrame":
    """Return a split's scores with the column `video`."""
    from lib.sources import fiv2

    path = folder / f"annotation_{split}.pkl"
    if not path.exists():
        raise InputError(f"{path} is missing; allowed: a folder that contains annotation_{split}.pkl")
    table = fiv2.read(path)
    return table.assign(video=[fiv2.video_of(clip) for clip in table.index])


if __name__ == "__main__":
    command.run(main)
