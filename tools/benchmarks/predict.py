"""Time predictions of video clips: the start, the whole, from a file to its targets, each of its parts alone, and clips a
minute by `tools.predict` with one and two workers.

The model is one of params/ with weights of chance, since speed is the same, or one that you have (--model).
"""

import argparse
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from lib.core import command, parameters
from lib.core.device import best_device, describe_device
from lib.core.errors import InputError
from lib.core.shards import Record
from lib.data.batch import Sample, collate
from lib.data.dataset import list_streams, make_inputs
from lib.data.loading import to_device
from lib.model import checkpoint
from lib.model.checkpoint import TrainingSummary
from lib.model.network import Network
from lib.serving.predictor import Predictor
from lib.streams import base
from lib.streams.base import RAW, Raw, StreamInfo
from lib.training.settings import Parameters
from tools.benchmarks.training import of_chance, untrained

_PROJECT = Path(__file__).parents[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+", type=Path, metavar="CLIP", help="a video file")
    parser.add_argument("--params", default="fiv2", help="a file of params/, without ending (%(default)s)")
    parser.add_argument("--model", type=Path, help="a trained model, in place of --params")
    parser.add_argument("--runs", type=int, default=5, help="medians of so many are printed (%(default)s)")
    parser.add_argument(
        "--many", type=int, default=8, help="clips a minute are of twice so many clips less so many (%(default)s)"
    )
    parser.add_argument(
        "--cpu",
        action="store_true",
        help="CPU seconds, for a machine that is shared; not of clips a minute, and of `tools.predict` those to its end",
    )
    arguments = parser.parse_args()
    device = best_device()
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.model or model_of_chance(arguments.params, Path(folder) / "model.pt")
        predictor = Predictor(path, device)
        for clip in arguments.clips:
            if predictor.spans(clip):
                raise InputError(
                    f"{clip} is longer than the clips that {path} was trained on, and predicted in windows: no sum of its"
                    " parts; name a shorter one, or --params in place of --model"
                )
        predictor(arguments.clips[0])  # warms up
        model = arguments.model or f"params/{arguments.params}.yaml"
        unit = "CPU seconds" if arguments.cpu else "seconds"
        print(f"{model} on {describe_device(device)}; {unit}, medians of {arguments.runs} runs\n")
        for number, clip in enumerate(arguments.clips):
            runs = [timed(predictor, clip, device, arguments.cpu) for _ in range(arguments.runs)]
            seconds = {part: statistics.median(run[part] for run in runs) for part in runs[0]}
            if not number:
                warm = seconds["whole"]
                print(f"| clip | {' | '.join(seconds)} |\n|{'---|' * (len(seconds) + 1)}")
            print(f"| {clip.name} | {' | '.join(f'{value:.3f}' for value in seconds.values())} |", flush=True)
        del predictor
        shown = ["--model", str(path.absolute()), "--format", "csv"]
        clips = [str(clip.absolute()) for clip in arguments.clips]
        help_ = statistics.median(command_seconds("--help", cpu=arguments.cpu) for _ in range(arguments.runs))
        first = statistics.median(
            command_seconds(clips[0], *shown, lines=2, cpu=arguments.cpu) for _ in range(arguments.runs)
        )
        print("\n| `tools.predict` | |\n|---|---|")
        print(f"| `--help`, s | {help_:.2f} |\n| one clip, from the command to its row, s | {first:.2f} |")
        print(f"| of these the start, s: the clip's own `whole` taken off | {first - warm:.2f} |", flush=True)
        for workers in (1, 2):
            some, twice = (
                command_seconds(*(clips * many)[:many], "--workers", str(workers), *shown)
                for many in (arguments.many, 2 * arguments.many)
            )
            print(f"| clips a minute, --workers {workers} | {describe_rate(arguments.many, some, twice)} |", flush=True)


def describe_rate(clips: int, seconds: float, seconds_of_twice: float) -> str:
    """Return the clips per minute, from the seconds for `clips` and for twice that number: the start is left out."""
    more = seconds_of_twice - seconds
    if more <= 0.1 * seconds:
        return f"not measurable: {clips} more clips took {more:+.1f} s; use an idle machine or a larger --many"
    return f"{60 * clips / more:.1f}"


def command_seconds(*arguments: str, lines: int | None = None, cpu: bool = False) -> float:
    """Return the seconds that `tools.predict` takes with these arguments from its start until so many lines are printed, or
    to its end, or the CPU seconds of all."""
    clock = _of_children if cpu else time.perf_counter
    command_ = [sys.executable, "-m", "tools.predict", *arguments]
    started = clock()
    with subprocess.Popen(command_, cwd=_PROJECT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        printed = list(islice(process.stdout or (), lines))
        reached = clock()
        process.communicate()
    if process.returncode or len(printed) < (lines or 0):
        raise RuntimeError(f"{shlex.join(command_)} ended with {process.returncode}")
    return (clock() if cpu else reached) - started


def _of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def model_of_chance(params: str, path: Path) -> Path:
    """Write params/`params`.yaml's model with weights of chance, for streams made as it says, and return its path."""
    values = untrained(params)
    given = parameters.check({key: values[key] for key in ("model", "targets", "train")}, Parameters)
    read, rng = list_streams(given.model.encoder_inputs()), np.random.default_rng(0)
    streams = {
        one: StreamInfo(values[one], of_chance(one, "", values, rng)[1]) for name in read for one in made_of(name)
    }
    targets = given.model.chosen(given.targets)
    network = Network.from_settings(given.model, targets, streams)
    checkpoint.save(path, network.state_dict(), given.model, targets, streams, TrainingSummary([]))
    return path


def made_of(stream: str) -> Iterator[str]:
    """Yield the streams that a stream is made of, each after its inputs, and the stream."""
    for above in base.load(stream).inputs:
        if above != RAW:
            yield from made_of(above)
    yield stream


@torch.no_grad()
def timed(predictor: Predictor, clip: Path, device: torch.device, cpu: bool) -> dict[str, float]:
    """Return the seconds, or CPU seconds, of each part alone, their sum, the whole, and the whole in units of the sum."""
    records: dict[str, Record] = {}
    seconds: dict[str, float] = {}
    clock = time.process_time if cpu else time.perf_counter

    def lap(part: str, started: float) -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds[part] = clock() - started

    served = predictor.served
    for name, make in predictor.extractors.items():
        above = [Raw(clip.name, clip, None) if one == RAW else records[one] for one in base.load(name).inputs]
        started = clock()
        records[name] = base.extract(make, above)
        lap(name, started)
    started = clock()
    inputs = make_inputs(records, served.network.encoder_inputs, served.streams, seed=None)
    served.network(to_device(collate([Sample(inputs, {}, 0)]), device).inputs)
    lap("network", started)
    seconds["sum"] = sum(seconds.values())
    started = clock()
    predictor(clip)
    lap("whole", started)
    seconds["whole / sum"] = seconds["whole"] / seconds["sum"]
    return seconds


if __name__ == "__main__":
    command.run(main)
