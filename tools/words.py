"""Show which words and pairs of words are associated with each target, as a table, LaTeX and a figure.

The data are the labelled training clips of data/clips.csv with a transcript (params.yaml: text.files). Words and pairs are
shown only if they occur in at least --videos videos, so that no single person can be identified. Their weights come from a
ridge regression on the presence of all of them, with the amount of speech partialled out; intervals and stability come from
resamples of the videos (lib/scoring/ngrams.py). The weights show correlations with observers' impressions, not causes.
"""

import argparse
from pathlib import Path

from lib.core import command, interrupts, parameters
from lib.core.errors import InputError

_FEWEST = 5  # lowest value of --videos; with fewer videos, a person could be identified


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.words", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--targets", metavar="NAME", help="target group (the first of model.targets in params.yaml)")
    parser.add_argument("--top", type=int, default=8, help="number of n-grams per target and sign (%(default)s)")
    parser.add_argument(
        "--videos", type=int, default=30, help="smallest number of videos in which an n-gram occurs (%(default)s)"
    )
    parser.add_argument("--resamples", type=int, default=100, help="number of resamples of the videos (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the resamples (%(default)s)")
    parser.add_argument(
        "--out", type=Path, default=Path("plots/words"), help="path of the output files, without suffix (%(default)s)"
    )
    arguments = parser.parse_args()
    for name, least, most in (
        ("top", 1, 50),
        ("videos", _FEWEST, 10**9),
        ("resamples", 10, 10_000),
        ("seed", 0, 2**32),
    ):
        if not least <= (value := getattr(arguments, name)) <= most:
            raise InputError(f"--{name} {value}; allowed: {least} to {most}")
    show(arguments.targets, arguments.top, arguments.videos, arguments.resamples, arguments.seed, arguments.out)


def show(targets: str | None, top: int, videos: int, resamples: int, seed: int, out: Path) -> None:
    """Print and write the n-grams of a target group."""
    with interrupts.loading():  # they take seconds to load, and --help needs none of them
        import dvc.api
        import numpy as np

        from lib.report import ngrams
        from lib.report import words as report_words
        from lib.scoring.ngrams import ngram_table
        from lib.streams import text
        from lib.streams.base import Raw
        from lib.streams.build import annotation_folder
        from lib.streams.text import transcripts, vectors
        from tools.predictors import find_target_group, read_labels

    name, group = find_target_group(targets)
    settings = parameters.check(dvc.api.params_show()["text"], text.Settings, "text")
    table = read_labels(None, name, group.columns)
    table = table[(table["split"] == "training") & table[group.columns].notna().all(axis=1)]
    tokens_by_clip = []
    for row in table.itertuples():
        transcript = transcripts.look_up(
            Raw(row.clip, None, annotation_folder(row.corpus)), settings.files, settings.column
        )
        tokens_by_clip.append(vectors.split_words(transcript.text) if transcript else [])
    has_words = np.array([bool(tokens) for tokens in tokens_by_clip], bool)
    table, tokens_by_clip = table[has_words], [tokens for tokens in tokens_by_clip if tokens]
    videos_of_clips, values = table["video"].to_numpy(), table[group.columns].to_numpy(float)
    rows = ngram_table(
        tokens_by_clip, videos_of_clips, values, group.columns, videos, top=top, resamples=resamples, seed=seed
    )
    caption = (
        f"Words and pairs of words with the highest and lowest weights in a ridge regression on the presence of"
        f" {rows['ngram'].nunique()} n-grams, which occur in at least {videos} of {len(set(videos_of_clips))} videos"
        f" ({len(table)} training clips). The amount of speech is partialled out. 95 % intervals, and the stability (the"
        f" fraction of resamples in which an n-gram is among the {top} highest or lowest), are from {resamples} resamples of"
        " the videos. The weights are overstated, because the extremes are selected."
        f" {report_words.note_stability(list(table['corpus'].unique()), group)}"
    ).strip()
    print(ngrams.format_markdown(rows, top, caption))
    ngrams.write(rows, top, caption, group, out)
    print(f"\nwritten: {out}.csv, .tex, .png, .pdf")


if __name__ == "__main__":
    command.run(main)
