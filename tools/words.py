"""Show which words and pairs of words go with each target: table, LaTeX and figure.

Of the labelled training clips of data/clips.csv with words (params.yaml: text.files). Shown are single words and pairs that
are in at least --videos videos, never what one person said. A ridge regression on the presence of all of them weighs each
beside the others, how much is said partialled out; intervals and stability are over resamples of the videos
(lib/scoring/ngrams.py). It is about how words go together with others' impressions, not why.
"""

import argparse
from pathlib import Path

import dvc.api
import numpy as np

from lib.core import command, parameters
from lib.core.errors import InputError
from lib.report import ngrams
from lib.report import words as report_words
from lib.scoring.ngrams import ngram_table
from lib.streams import text
from lib.streams.base import Raw
from lib.streams.build import annotation_folder
from tools.compare import find_target_group, read_labels

_FEWEST = 5  # videos; of fewer a person could be known


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", metavar="NAME", help="target group (the first of model.targets in params.yaml)")
    parser.add_argument("--top", type=int, default=8, help="n-grams a target and sign (%(default)s)")
    parser.add_argument("--videos", type=int, default=30, help="fewest that have an n-gram (%(default)s)")
    parser.add_argument("--resamples", type=int, default=100, help="of the videos (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the resamples (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("plots/words"), help="path without suffix (%(default)s)")
    given = parser.parse_args()
    for name, least, most in (
        ("top", 1, 50),
        ("videos", _FEWEST, 10**9),
        ("resamples", 10, 10_000),
        ("seed", 0, 2**32),
    ):
        if not least <= (value := getattr(given, name)) <= most:
            raise InputError(f"--{name} {value}; allowed: {least} to {most}")
    show(given.targets, given.top, given.videos, given.resamples, given.seed, given.out)


def show(targets: str | None, top: int, videos: int, resamples: int, seed: int, out: Path) -> None:
    """Print and write the n-grams of a target group."""
    name, group = find_target_group(targets)
    settings = parameters.check(dvc.api.params_show()["text"], text.Settings, "text")
    table = read_labels(None, name, group.columns)
    table = table[(table["split"] == "training") & table[group.columns].notna().all(axis=1)]
    said = []
    for row in table.itertuples():
        words = text.look_up(Raw(row.clip, None, annotation_folder(row.corpus)), settings.files, settings.column)
        said.append(text.split_words(words.text) if words else [])
    there = np.array([bool(tokens) for tokens in said], bool)
    table, said = table[there], [tokens for tokens in said if tokens]
    of_video, values = table["video"].to_numpy(), table[group.columns].to_numpy(float)
    found = ngram_table(said, of_video, values, group.columns, videos, top=top, resamples=resamples, seed=seed)
    about = (
        f"Words and pairs of words with the highest and lowest weights in a ridge regression on the presence of"
        f" {found['ngram'].nunique()}, those that at least {videos} of {len(set(of_video))} videos ({len(table)} training"
        f" clips) have; how much is said is partialled out. {resamples} resamples of the videos: 95 % interval, and the"
        f" share in which an n-gram is among the {top} highest or lowest. Chosen as the extremes, their weights are"
        f" overstated. {report_words.note_stability(list(table['corpus'].unique()), group)}"
    ).strip()
    print(ngrams.format_markdown(found, top, about))
    ngrams.write(found, top, about, group, out)
    print(f"\nwritten: {out}.csv, .tex, .png, .pdf")


if __name__ == "__main__":
    command.run(main)
