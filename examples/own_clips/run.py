"""From a folder of clips and a CSV of ratings to a report.

The CSV has a column `file`, one column for each rating, and optionally `video` or `person`, and `split`. Without `split`,
clips are split so that no video or person is in two splits. Copies the clips and the table into data/archives/, writes
params.yaml and runs the pipeline. KEY=VALUE changes parameters, as in tools.parameters.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd

from lib.core import command
from lib.core.errors import InputError

ARCHIVES = Path("data/archives")
NOT_RATINGS = ("file", "clip", "video", "person", "split")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of clips")
    parser.add_argument("ratings", type=Path, help="CSV of ratings")
    parser.add_argument("changes", nargs="*", metavar="KEY=VALUE", help="for instance train.epochs=10")
    parser.add_argument("--range", nargs=2, type=float, required=True, metavar=("LOW", "HIGH"), help="of all ratings")
    options = parser.parse_args()
    columns = pd.read_csv(options.ratings, nrows=0).columns
    ratings = [name for name in columns if name not in NOT_RATINGS]
    if not ratings:
        raise InputError(f"{options.ratings} has no column of ratings; add one besides {', '.join(NOT_RATINGS)}")
    copy_into_archives(options.folder, options.ratings)
    low, high = options.range
    ranges = ", ".join(f"{name}: [{low:g}, {high:g}]" for name in ratings)
    run("tools.archives")
    run(
        "tools.parameters",
        "table",
        f"download.table.targets={{{ranges}}}",
        f"targets.own.columns=[{', '.join(ratings)}]",
        f"targets.own.range=[{low:g}, {high:g}]",
        *([] if "split" in columns else ["download.split=disjoint", "download.split_fractions=[0.6, 0.2, 0.2]"]),
        *options.changes,
    )
    run("dvc", "repro")
    print("done: open plots/report.html")


def copy_into_archives(folder: Path, ratings: Path) -> None:
    """Copy the clips and the table into data/archives/. Raises InputError if another table is there."""
    table = ARCHIVES / "clips.csv"
    if table.exists() and table.read_bytes() != ratings.read_bytes():
        raise InputError(f"{table} exists and is not {ratings}; move it away, with the clips that it names")
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; give the folder of the clips")
    shutil.copytree(folder, ARCHIVES / "own", dirs_exist_ok=True)
    shutil.copy(ratings, table)


def run(*words: str) -> None:
    """Run a module of Python, and end with its exit code if it fails."""
    done = subprocess.run([sys.executable, "-m", *words], check=False)
    if done.returncode:
        sys.exit(done.returncode)


if __name__ == "__main__":
    command.run(main)
