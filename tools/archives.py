"""List the files in data/archives/ in data/archives.csv, which git tracks. Run this after each change in data/archives/."""

import argparse

from lib.core import command, resume
from lib.core.artifacts import ARCHIVES
from lib.sources import listing


def main() -> None:
    argparse.ArgumentParser(
        prog="python -m tools.archives",
        description=__doc__,
        epilog="Only files whose size or time has changed since the last run are read again.",
    ).parse_args()
    read_count = listing.write_list(ARCHIVES, listing.LISTING, resume.ROOT / resume.CHECKSUMS)
    count = len(listing.read_list(listing.LISTING))
    print(
        f"{listing.LISTING} lists {count} files; {read_count} new or changed files were read. To track the list, run"
        f" `git add {listing.LISTING}`"
    )


if __name__ == "__main__":
    command.run(main)
