"""Experiments on the demo's planted targets (data/README.md), whose truth is known.

image, the default: draw the first table of docs/benchmarks/planted_signals.md as docs/benchmarks/planted.png.

behaviour: do the streams behaviour and voice find the rate of nods and the fraction of speaking time under the right name?
The command renders the clips, runs the pipeline, and prints the tables of docs/benchmarks/planted_behaviour.md.

together: which fusions find a target that exists only in the simultaneity of two streams? The command trains each fusion
with each seed, on planted tokens and on rendered clips, and prints the tables of docs/benchmarks/planted_together.md.

behaviour and together leave params.yaml as it is; data/ and metrics/ are those of the experiment until you run `dvc repro`.
After an interruption, run the same command again: it continues.
"""

import argparse

from lib.core import command, interrupts


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.planted", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", nargs="?", choices=("image", "behaviour", "together"), default="image", help="(image)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="of together (0 1 2)")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="further changes of parameters")
    arguments = parser.parse_args()
    with interrupts.loading():  # they take seconds to load, and --help needs none of them
        from tools.planted import behaviour, image, rendered, together

    if arguments.table == "image":
        image.run()
    elif arguments.table == "behaviour":
        behaviour.run(arguments.set)
    else:
        together.run(arguments.seeds, *together.make_planted(), "planted")
        together.run(arguments.seeds, *rendered.read_clips(arguments.set), "rendered")


if __name__ == "__main__":
    command.run(main)
