"""List the sets of weights that the project can use by name, or fetch and verify some of them.

Without a name, the command lists each set: size, whether it is present, the setting that reads it, licence, source and
checksum. With names, it downloads the missing ones: files to data/weights/, repositories of the Hugging Face hub to its
local cache. A name ORG/NAME can be any repository of the hub.
"""

import argparse

from lib.core import command
from lib.core.weight_files import WEIGHT_SETS


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.weights", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="weights to fetch and verify")
    parser.add_argument("--revision", help="commit, tag or branch of a repository of the hub; default: main")
    options = parser.parse_args()
    from tools.weights import fetch

    for name in options.names:
        print(fetch.fetch_weights(name, options.revision))
    if not options.names:
        print("\n".join(line for name in WEIGHT_SETS for line in _describe(name, fetch.find_weights(name) is not None)))
        print("To fetch and verify a set: python -m tools.weights NAME")


def _describe(name: str, is_present: bool) -> list[str]:
    weights = WEIGHT_SETS[name]
    return [
        f"{name:24} {weights.megabytes:6.1f} MB  {'present' if is_present else 'missing'}",
        f"    used by  {weights.use}",
        f"    licence  {weights.licence}: {weights.allows}",
        f"    source   {weights.origin}",
        f"    sha256   {weights.sha256 or 'not verified'}",
    ]


if __name__ == "__main__":
    command.run(main)
