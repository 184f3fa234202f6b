"""Measure CPU seconds per transcript of a text network, one by one and in batches.

The transcripts are those of a pickle {clip: text}, such as FIV2's transcription_validation.pkl. With --network, the network
computes `text.kinds: [transformer]`; its weights can be random, which does not change the time. Without it, all-MiniLM-L6
computes `text.kinds: [sentence]`.
"""

import argparse
from pathlib import Path

from lib.core import command, interrupts


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.benchmarks.text", description=__doc__)
    parser.add_argument("transcripts", type=Path, help="a pickle {clip: text}")
    parser.add_argument(
        "--network", type=Path, help="folder of a network that transformers can load, and its tokenizer"
    )
    parser.add_argument("--clips", type=int, default=300, help="number of transcripts (%(default)s)")
    arguments = parser.parse_args()
    with interrupts.loading():  # it takes seconds to load
        from tools.benchmarks import _text

    _text.run(arguments)


if __name__ == "__main__":
    command.run(main)
