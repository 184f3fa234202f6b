"""Measure CPU seconds per transcript of a text network, one by one and in batches.

The transcripts are those of a pickle {clip: text}, such as FIV2's transcription_validation.pkl. The network is a folder that
transformers can load, with its tokenizer. Its weights can be random: they do not change the time.
"""

import argparse
from pathlib import Path

from lib.core import command, interrupts


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.benchmarks.text", description=__doc__)
    parser.add_argument("transcripts", type=Path, help="a pickle {clip: text}")
    parser.add_argument("--network", required=True, type=Path, help="folder of a network that transformers can load")
    parser.add_argument("--clips", type=int, default=300, help="number of transcripts (%(default)s)")
    arguments = parser.parse_args()
    with interrupts.loading():  # it takes seconds to load
        from tools.benchmarks import _text

    _text.run(arguments)


if __name__ == "__main__":
    command.run(main)
