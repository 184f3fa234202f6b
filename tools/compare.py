"""Compare the predictions of DVC experiments, revisions and CSV files on the same clips: table, LaTeX and figure.

A predictor is NAME=SOURCE, or NAME=SOURCE,SOURCE,... for several seeds, or SOURCE alone. A SOURCE is a revision or the name
of an experiment whose data/predictions.csv DVC keeps; `workspace`; a CSV file with a column of clips and one for each trait;
or a baseline of lib/baselines.py (they are in the table in any case).
"""

import argparse
import io
from collections.abc import Sequence
from pathlib import Path

import dvc.api
import numpy as np
import pandas as pd
from dvc.exceptions import DvcException

from lib.core import clips, command
from lib.core.errors import InputError
from lib.core.targets import TRAITS
from lib.report.figures import differences
from lib.scoring import baselines, paired
from lib.scoring.baselines import NAMES, is_seen
from lib.scoring.scores import COLUMNS
from lib.sources import check
from lib.streams import descriptors

PREDICTIONS, CLIPS, DESCRIPTORS = "data/predictions.csv", Path("data/clips.csv"), Path("data/descriptors")
_STEMS = {"extrav": 0, "agree": 1, "consc": 2, "neuro": 3, "openn": 4}  # ValueNeurotisicm is FIV2's own spelling


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("predictors", nargs="+", metavar="NAME=SOURCE[,SOURCE...]")
    add_options(parser)
    arguments = parser.parse_args()

    sources: dict[str, list[str]] = {}
    for name, of_seed in map(named, arguments.predictors):
        if name in sources or (name in NAMES and of_seed != [name]):
            raise InputError(
                f"predictor {name!r} is there twice; several seeds are NAME=SOURCE,SOURCE, and the baselines"
                f" ({', '.join(NAMES)}) are in the table in any case"
            )
        sources[name] = of_seed
    options = {key: value for key, value in vars(arguments).items() if key != "predictors"}
    compare(sources, **options)


def add_options(parser: argparse.ArgumentParser, baseline: str | None = None, out: str = "plots/comparison") -> None:
    """Add what `compare` takes beside the predictors."""
    parser.add_argument(
        "--baseline",
        required=baseline is None,
        default=baseline,
        metavar="NAME",
        help="the predictor that the others are held against" + (f" ({baseline})" if baseline else ""),
    )
    parser.add_argument(
        "--labels", type=Path, metavar="FOLDER", help="annotation pickles to score on, not data/clips.csv"
    )
    parser.add_argument("--split", choices=clips.SPLITS, default="test", help="(%(default)s)")
    parser.add_argument("--unseen", action="store_true", help="only clips whose video has no training clip")
    parser.add_argument("--resamples", type=int, default=10_000, help="for intervals and p-values (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the resamples (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path(out), help="path without suffix (%(default)s)")


def compare(
    sources: dict[str, list[str]],
    baseline: str,
    labels: Path | None,
    split: str,
    unseen: bool,
    resamples: int,
    seed: int,
    out: Path,
) -> None:
    """Print and write the comparison of the predictors in `sources`, name to one SOURCE a seed, and of the baselines."""
    table = read_labels(labels)
    training, test = table[table["split"] == "training"], table[table["split"] == split]
    of_split = test
    if unseen:
        test = test[~is_seen(training, test)]
    if training.empty or test.empty:
        lacking = "training" if training.empty else f"{'unseen ' if unseen else ''}{split}"
        raise InputError(f"there is no labelled {lacking} clip; --labels, --split and --unseen choose them")
    given = dict.fromkeys(one for of_seed in sources.values() for one in of_seed if one not in NAMES)
    read = {one: predictions(one, of_split, test["clip"]) for one in given}
    for source, found in read.items():
        refuse_other_clips(source, found.index, *next(iter(read.items())))
    if read:  # the baselines that see no pixel predict what the others do
        test = test[test["clip"].isin(next(iter(read.values())).index)]
    validation = table[(table["split"] == "validation") & (split == "test")]
    described = None
    if labels is None and DESCRIPTORS.is_dir():
        described = descriptors.read(DESCRIPTORS)
        training, validation, test = (rows[rows["clip"].isin(described.index)] for rows in (training, validation, test))
    blind = baselines.predict(training, test, validation, described)
    if unknown := [one for of_seed in sources.values() for one in of_seed if one not in {*read, *blind}]:
        raise InputError(f"{unknown[0]} needs labelled validation clips, --split test, and for ridge {DESCRIPTORS}/")
    sources = sources | {name: [name] for name in blind if [name] not in sources.values()}
    if baseline not in sources:
        raise InputError(f"--baseline {baseline!r} is none of the predictors: {', '.join(sources)}")
    read |= {name: pd.DataFrame(values, test["clip"]) for name, values in blind.items()}
    test = test.set_index("clip")
    arrays = {name: [read[one].loc[test.index].to_numpy() for one in of_seed] for name, of_seed in sources.items()}
    actual, videos = test[list(TRAITS)].to_numpy(), test["video"].to_numpy()
    compared = paired.table(arrays, actual, videos, baseline, resamples, seed)
    which = f"{len(test)} clips of {len(set(videos))} videos of the {split} split"
    print(report(compared, baseline, which + (", unseen in training" if unseen else "")))
    write(compared, baseline, out)


def named(text: str) -> tuple[str, list[str]]:
    name, _, sources = text.partition("=")
    return (name, sources.split(",")) if sources else (name, [name])


def read_labels(folder: Path | None) -> pd.DataFrame:
    """Return clip, video, split and traits, from annotation pickles or from the workspace's clip table."""
    if folder is not None:
        table = check.read_annotations(folder).rename_axis("clip").reset_index()
        return table.assign(video=table["clip"].map(clips.video_of))
    if not CLIPS.exists():
        raise InputError(f"{CLIPS} is missing; run `dvc repro download`, or give --labels FOLDER")
    return clips.read(CLIPS)


def predictions(source: str, of_split: pd.DataFrame, members: pd.Series) -> pd.DataFrame:
    """Return a source's predictions: a row for each clip of `members` that it has (the index), a column for each trait.

    `of_split`: the labels of all clips of the split. Raises InputError if the source can't be read, was scored on other
    labels, or has no number for a clip.
    """
    if source.endswith(".csv"):
        if not Path(source).is_file():
            raise InputError(f"{source} is no file")
        table = pd.read_csv(source)
    elif source == "workspace":
        table = pd.read_csv(PREDICTIONS)
    else:
        try:
            table = pd.read_csv(io.StringIO(dvc.api.read(PREDICTIONS, rev=source)))
        except (DvcException, OSError) as error:
            raise InputError(
                f"{source!r} is no revision or experiment that DVC keeps {PREDICTIONS} of ({error}); allowed: those of"
                f" `git log` and `dvc exp list`, workspace, a .csv file, {', '.join(NAMES)}"
            ) from None
    if "predicted" in table:
        refuse_other_labels(source, table, of_split)
        table = table.pivot(index="clip", columns="trait", values="predicted")[list(TRAITS)]
    else:
        table = wide(table, source)
    table = table[table.index.isin(members)]
    no_number = table.apply(pd.to_numeric, errors="coerce").isna().any(axis=1)
    if no_number.any():
        raise InputError(f"{source} lacks a number for clip {table.index[no_number][0]} ({no_number.sum()} in all)")
    return table


def refuse_other_labels(source: str, table: pd.DataFrame, of_split: pd.DataFrame) -> None:
    """Raise InputError if predictions of this pipeline were made on another split or corpus than what is compared."""
    mine = table[table["split"].isin(of_split["split"]) & table["trait"].isin(TRAITS)]
    labels = of_split.melt("clip", list(TRAITS), "trait", "label")
    both = mine.merge(labels, "left", ["clip", "trait"])
    other = both[~(np.abs(both["actual"] - both["label"]) < 1e-5)]
    if len(other):
        row = other.iloc[0]
        raise InputError(
            f"{source} was made on another split or corpus: {row['trait']} of its {row['split']} clip {row['clip']} is"
            f" {row['actual']}, here {row['label']}"
        )


def wide(table: pd.DataFrame, source: str) -> pd.DataFrame:
    """Return a table of the traits, found by the stems of their names, by clip, whose names end in .mp4 or lack it."""
    columns: dict[str, str] = {}
    for column in table.columns:
        for stem, index in _STEMS.items():
            if stem in str(column).lower():
                if TRAITS[index] in columns:
                    raise InputError(f"{source} has two columns of {TRAITS[index]}: {columns[TRAITS[index]]}, {column}")
                columns[TRAITS[index]] = column
    others = [column for column in table.columns if column not in columns.values()]
    of_clips = [column for column in others if table[column].astype(str).str.fullmatch(r".+\.\d{3}(\.mp4)?").all()]
    if len(columns) < len(TRAITS) or not of_clips:
        raise InputError(
            f"{source} has the columns {', '.join(map(str, table.columns))}; needed are one of clips (VIDEO.NNN.mp4) and one"
            f" for each of {', '.join(TRAITS)}"
        )
    index = table[of_clips[0]].astype(str).str.removesuffix(".mp4") + ".mp4"
    return table[[columns[trait] for trait in TRAITS]].set_axis(list(TRAITS), axis=1).set_index(index)


def refuse_other_clips(source: str, found: pd.Index, first: str, of_first: pd.DataFrame) -> None:
    """Raise InputError, naming a clip, unless a source is about the same clips as the first, each once."""
    expected = of_first.index
    if found.empty:
        raise InputError(f"{source} has no clip of the split that is compared; --split and --labels choose it")
    if found.has_duplicates:
        raise InputError(f"{source} has clip {found[found.duplicated()][0]} twice")
    lacking, extra = expected.difference(found), found.difference(expected)
    if len(lacking) or len(extra):
        shown = [f"lacks {len(lacking)}, first {lacking[0]}"] if len(lacking) else []
        shown += [f"has {len(extra)} more, first {extra[0]}"] if len(extra) else []
        raise InputError(
            f"{source} is not about the same clips as {first} ({len(expected)} of this split): {'; '.join(shown)}"
        )


def report(table: pd.DataFrame, baseline: str, which: str) -> str:
    """Return the tables as Markdown."""
    lines = [f"Accuracy (1 - MAE) on {which}; difference to {baseline} with its 95 % interval over videos\n"]
    lines.append("| predictor | seeds | " + " | ".join(COLUMNS) + " |")
    lines.append("|---|---|" + "---|" * len(COLUMNS))
    for name, rows in table.groupby("predictor", sort=False):
        lines.append(f"| {name} | {rows['seeds'].iloc[0]} | " + " | ".join(map(accuracy, rows.itertuples())) + " |")
    lines += ["\nR²\n", "| predictor | " + " | ".join(COLUMNS) + " |", "|---|" + "---|" * len(COLUMNS)]
    for name, rows in table.groupby("predictor", sort=False):
        lines.append(f"| {name} | " + " | ".join(map(r2, rows.itertuples())) + " |")
    lines.append("\n| against " + baseline + " | " + " | ".join(COLUMNS) + " |")
    lines.append("|---|" + "---|" * len(COLUMNS))
    others = table[table["predictor"] != baseline]
    for name, rows in others.groupby("predictor", sort=False):
        lines.append(f"| {name} | " + " | ".join(map(difference, rows.itertuples())) + " |")
    given = others[~others["predictor"].isin(NAMES)]
    smallest = (others if given.empty else given).groupby("trait", sort=False)["smallest"].max()
    lines.append(
        "\np is Holm's over all predictors and, but for the mean, traits. Intervals and p are about these predictions; other"
        " trainings differ by the spread over seeds (±). The smallest difference that these clips show four times in five"
        " (at 5 %, not corrected): " + ", ".join(f"{trait} {value:.4f}" for trait, value in smallest.items())
    )
    return "\n".join(lines)


def accuracy(row: tuple) -> str:
    spread = "" if np.isnan(row.spread) else f" ± {row.spread:.4f}"  # type: ignore[attr-defined]
    return f"{row.accuracy:.4f}{spread}"  # type: ignore[attr-defined]


def r2(row: tuple) -> str:
    spread = "" if np.isnan(row.r2_spread) else f" ± {row.r2_spread:.2f}"  # type: ignore[attr-defined]
    return f"{row.r2:z.2f}{spread}"  # type: ignore[attr-defined]  # z: no -0


def difference(row: tuple) -> str:
    return f"{row.difference:+.4f} [{row.low:+.4f}, {row.high:+.4f}], p {row.p_holm:.4f}"  # type: ignore[attr-defined]


def write(table: pd.DataFrame, baseline: str, out: Path) -> None:
    """Write out.csv, out.tex (booktabs), out.png and out.pdf."""
    out.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(out.with_suffix(".csv"), index=False, float_format="%.6f")
    cells: dict[str, Sequence[str]] = {}
    for name, rows in table.groupby("predictor", sort=False):
        cells[str(name)] = [
            accuracy(row).replace("±", r"$\pm$") + ("$^*$" if row.p_holm < 0.05 else "") for row in rows.itertuples()
        ]
    latex = pd.DataFrame.from_dict(cells, orient="index", columns=list(COLUMNS))
    caption = (
        f"Accuracy (1 - MAE); $^*$ differs from {baseline} (paired permutation test over videos, 5\\%, corrected by Holm"
        " over all predictors and, but for the mean, traits)."
    )
    text = latex.rename(index=lambda name: name.replace("_", r"\_")).to_latex(
        caption=caption.replace("_", r"\_"), column_format="l" + "r" * len(COLUMNS), position="t"
    )
    out.with_suffix(".tex").write_text(text)
    figure = differences(table[table["predictor"] != baseline], baseline)
    figure.savefig(out.with_suffix(".png"), dpi=150)
    figure.savefig(out.with_suffix(".pdf"))
    print(f"\nwritten: {out}.csv, .tex, .png, .pdf")


if __name__ == "__main__":
    command.run(main)
