"""The measurements of tools.benchmarks.predict."""

import argparse
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from lib.core import parameters
from lib.core.device import best_device, describe_device
from lib.core.errors import InputError
from lib.core.shards import Record
from lib.data.batch import Sample, collate
from lib.data.dataset import make_inputs
from lib.data.inputs import list_streams
from lib.data.loading import to_device
from lib.model import checkpoint
from lib.model.checkpoint import TrainingSummary
from lib.model.network import Network
from lib.serving.predictor import Predictor
from lib.streams import base
from lib.streams._extraction import extract_clip
from lib.streams.base import RAW, Raw, StreamInfo
from lib.training.settings import Parameters
from tools.benchmarks._training import load_untrained, random_record

_PROJECT = Path(__file__).parents[2]


def run(arguments: argparse.Namespace) -> None:
    """Measure, and print the tables."""
    device = best_device()
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.model or write_random_model(arguments.params, Path(folder) / "model.pt")
        predictor = Predictor(path, device)
        for clip in arguments.clips:
            if predictor.spans(clip):
                raise InputError(
                    f"{clip} is longer than the training clips of {path} and is predicted in windows, so that times of parts"
                    " can't be added; choose a shorter clip, or --params in place of --model"
                )
        predictor(arguments.clips[0])  # warm-up
        model = arguments.model or f"params/{arguments.params}.yaml"
        unit = "CPU seconds" if arguments.cpu else "seconds"
        print(f"{model} on {describe_device(device)}; {unit}, medians of {arguments.runs} runs\n")
        for number, clip in enumerate(arguments.clips):
            runs = [time_parts(predictor, clip, device, arguments.cpu) for _ in range(arguments.runs)]
            seconds = {part: statistics.median(run[part] for run in runs) for part in runs[0]}
            if not number:
                warm = seconds["complete"]
                print(f"| clip | {' | '.join(seconds)} |\n|{'---|' * (len(seconds) + 1)}")
            print(f"| {clip.name} | {' | '.join(f'{value:.3f}' for value in seconds.values())} |", flush=True)
        del predictor
        options = ["--model", str(path.absolute()), "--format", "csv"]
        clips = [str(clip.absolute()) for clip in arguments.clips]
        help_seconds = statistics.median(command_seconds("--help", cpu=arguments.cpu) for _ in range(arguments.runs))
        first = statistics.median(
            command_seconds(clips[0], *options, lines=2, cpu=arguments.cpu) for _ in range(arguments.runs)
        )
        print("\n| `tools.predict` | |\n|---|---|")
        print(f"| `--help`, s | {help_seconds:.2f} |\n| one clip, from the command to its row, s | {first:.2f} |")
        print(f"| start-up alone (minus `complete` of the clip), s | {first - warm:.2f} |", flush=True)
        for workers in (1, 2):
            seconds_once, seconds_twice = (
                command_seconds(*(clips * many)[:many], "--workers", str(workers), *options)
                for many in (arguments.many, 2 * arguments.many)
            )
            rate = describe_rate(arguments.many, seconds_once, seconds_twice)
            print(f"| clips per minute, --workers {workers} | {rate} |", flush=True)


def describe_rate(clips: int, seconds: float, seconds_of_twice: float) -> str:
    """Return the clips per minute without start-up, from the seconds for `clips` clips and for twice that number."""
    more = seconds_of_twice - seconds
    if more <= 0.1 * seconds:
        return f"not measurable: {clips} more clips took {more:+.1f} s; use an idle machine or a larger --many"
    return f"{60 * clips / more:.1f}"


def command_seconds(*arguments: str, lines: int | None = None, cpu: bool = False) -> float:
    """Return the seconds from the start of `tools.predict` until it has printed `lines` lines, or until its end if None.

    cpu: return the CPU seconds until its end instead.
    """
    clock = _cpu_seconds_of_children if cpu else time.perf_counter
    command_line = [sys.executable, "-m", "tools.predict", *arguments]
    started = clock()
    with subprocess.Popen(command_line, cwd=_PROJECT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        output_lines = list(islice(process.stdout or (), lines))
        reached = clock()
        process.communicate()
    if process.returncode or len(output_lines) < (lines or 0):
        raise RuntimeError(f"{shlex.join(command_line)} ended with {process.returncode}")
    return (clock() if cpu else reached) - started


def _cpu_seconds_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def write_random_model(params: str, path: Path) -> Path:
    """Write the model of params/`params`.yaml with random weights to `path`, and return `path`."""
    values = load_untrained(params)
    checked = parameters.check({key: values[key] for key in ("model", "targets", "train")}, Parameters)
    streams_read, rng = list_streams(checked.model.settings_by_encoder()), np.random.default_rng(0)
    streams = {
        stream: StreamInfo(values[stream], random_record(stream, "", values, rng)[1])
        for name in streams_read
        for stream in base.list_with_inputs(name, values)
    }
    targets = checked.model.select_targets(checked.targets)
    network = Network.from_settings(checked.model, targets, streams)
    checkpoint.save(path, network.state_dict(), checked.model, targets, streams, TrainingSummary([]))
    return path


@torch.no_grad()
def time_parts(predictor: Predictor, clip: Path, device: torch.device, cpu: bool) -> dict[str, float]:
    """Return the seconds, or CPU seconds, of each part, their sum, the complete prediction (`complete`), and its ratio to
    the sum."""
    records: dict[str, Record] = {}
    seconds: dict[str, float] = {}
    clock = time.process_time if cpu else time.perf_counter

    def record_seconds(part: str, started: float) -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds[part] = clock() - started

    trained = predictor.trained
    for name, make in predictor.extractors.items():
        inputs_of_stream = [
            Raw(clip.name, clip, None) if input_name == RAW else records[input_name]
            for input_name in base.load(name).inputs_of(trained.streams[name].settings)
        ]
        started = clock()
        records[name] = extract_clip(make, inputs_of_stream)
        record_seconds(name, started)
    started = clock()
    inputs = make_inputs(records, trained.network.settings_by_encoder, trained.streams, seed=None)
    trained.network(to_device(collate([Sample(inputs, {}, 0)]), device).inputs)
    record_seconds("network", started)
    seconds["sum"] = sum(seconds.values())
    started = clock()
    predictor(clip)
    record_seconds("complete", started)
    seconds["complete / sum"] = seconds["complete"] / seconds["sum"]
    return seconds
