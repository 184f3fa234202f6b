"""List what lies in data/archives/ in data/archives.csv, for git to keep: run it after each change there."""

import argparse

from lib.core import command, resume
from lib.core.artifacts import ARCHIVES
from lib.sources import listing


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, epilog="Only files whose size or time changed since the last run are read again."
    ).parse_args()
    read = listing.write(ARCHIVES, listing.LISTING, resume.ROOT / "archives.json")
    count = len(listing.read(listing.LISTING))
    print(f"{listing.LISTING} lists {count} files, {read} of which were read; `git add {listing.LISTING}` keeps it")


if __name__ == "__main__":
    command.run(main)
