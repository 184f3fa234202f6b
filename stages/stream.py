"""Extract the stream NAME from every usable clip, `python -m stages.stream NAME`: data/NAME/, metrics/NAME.json."""

import sys

from lib.core import command
from lib.streams import base, build


def main() -> None:
    name = sys.argv.pop(1) if len(sys.argv) > 1 else ""
    if name in base.list_names():
        command.run_stage(lambda: build.build_stream(name), name)
    else:
        sys.exit(f"error: {__doc__}\nNAME = {name!r}; allowed: {', '.join(base.list_names())}")


if __name__ == "__main__":
    main()
