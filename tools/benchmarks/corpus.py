"""Measure time and peak memory of each stage on a made corpus of many clips: labels and ten features, without video files.

Five clips belong to each video. The labels depend on the features and on the video. The stages run in a temporary folder,
one process after another, without DVC. A row whose seconds per 1000 clips grow with the number of clips grows faster than
linearly.

With --other, the stages also run with the code of another checkout, in turn. A row then has the median CPU seconds of both
and their ratio.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from lib.core import command
from lib.core.artifacts import ARCHIVES, STAGES
from lib.core.errors import InputError

ROOT = Path(__file__).parents[2]
CLIPS_PER_VIDEO, FEATURES = 5, 10
LABELS = "warmth", "dominance"
CHANGES = (
    "download.videos=false", "frames.enabled=false", "faces.enabled=false", "flow.enabled=false", "audio.enabled=false",
    "descriptors.enabled=false", "features.enabled=true", "features.files=[features.parquet]", "download.split=disjoint",
    "download.table.path=clips.parquet", "download.table.targets={warmth: [0, 1], dominance: [0, 1]}",
    "targets.own.columns=[warmth, dominance]", "targets.own.range=[0, 1]", "model.use=[features]",
    "model.fusion=concat", "model.dropout=0.0", "model.encoders.features.width=32", "train.batch_size=256", "train.warmup=0",
    "evaluate.batch_size=1024", "analyse.attention_clips=0",
)  # fmt: skip
COMMANDS = {
    "archives": ("tools.archives",),
    "download": ("stages.download",),
    "features": ("stages.stream", "features"),
    "train": ("stages.train",),
    "evaluate": ("stages.evaluate",),
    "analyse": ("stages.analyse",),
    "figures": ("stages.figures",),
}
"""Module and arguments of each step."""


ALONE = "wall s | CPU s | CPU s per 1000 clips | peak MiB"
COMPARED = "CPU s, other | CPU s | ratio"


class Cost(NamedTuple):
    """Wall seconds, CPU seconds, and the largest memory of one process in MiB."""

    wall: float
    cpu: float
    peak: float


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.benchmarks.corpus",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--clips", nargs="+", type=int, default=[10_000, 100_000], help="numbers of clips (10000 100000)"
    )
    parser.add_argument("--epochs", type=int, default=2, help="epochs of the training (%(default)s)")
    parser.add_argument("--resamples", type=int, default=2000, help="resamples of each interval (%(default)s)")
    parser.add_argument("--folder", type=Path, help="where temporary folders are made; 1 million clips need 1 GB")
    parser.add_argument(
        "--other", type=Path, help="another checkout of the project, for instance of an earlier version"
    )
    parser.add_argument("--last", choices=COMMANDS, default="figures", help="the last stage (%(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each checkout with --other (%(default)s)")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if wrong := [clips for clips in arguments.clips if clips < 100]:
        raise InputError(f"--clips {wrong[0]}; allowed: 100 or more")
    if arguments.make:
        make_corpus(arguments.make, arguments.clips[0])
        return
    changes = [f"train.epochs={arguments.epochs}", f"evaluate.resamples={arguments.resamples}"]
    compared = arguments.other is not None
    print(f"| stage | clips | {COMPARED if compared else ALONE} |\n|---|---|---|---|---|{'' if compared else '---|'}")
    for clips in arguments.clips:
        measure = partial(measure_stages, arguments.folder, clips, changes, arguments.last)
        rows = (
            compare(measure, arguments.other.resolve(), arguments.repeats)
            if compared
            else describe(measure(ROOT), clips)
        )
        for stage, row in rows:
            print(f"| {stage} | {clips} | {row} |", flush=True)


def describe(costs: Iterator[tuple[str, Cost]], clips: int) -> Iterator[tuple[str, str]]:
    """Yield the name and the cells of each stage."""
    for stage, cost in costs:
        yield stage, f"{cost.wall:.1f} | {cost.cpu:.1f} | {1000 * cost.cpu / clips:.3f} | {cost.peak:.0f}"


def compare(
    measure: Callable[[Path], Iterator[tuple[str, Cost]]], other: Path, repeats: int
) -> Iterator[tuple[str, str]]:
    """Yield the name and the cells of each stage: the median CPU seconds of two checkouts, which run in turn."""
    seconds: dict[Path, dict[str, list[float]]] = {other: {}, ROOT: {}}
    for _ in range(repeats):
        for root, by_stage in seconds.items():
            for stage, cost in measure(root):
                by_stage.setdefault(stage, []).append(cost.cpu)
    for stage, values in seconds[ROOT].items():
        before, now = statistics.median(seconds[other][stage]), statistics.median(values)
        yield stage, f"{before:.1f} | {now:.1f} | {before / now:.1f}"


def measure_stages(
    parent: Path | None, clips: int, changes: list[str], last: str, root: Path
) -> Iterator[tuple[str, Cost]]:
    """Yield the name and the cost of each step up to `last`, on a made corpus in a temporary folder below `parent`.

    root: the checkout whose code runs.
    """
    with tempfile.TemporaryDirectory(dir=parent) as name:
        folder = Path(name)
        prepare_folder(folder, root)
        # in a process of its own: a child's peak memory includes the memory that its parent had when it started the child
        run_module(folder, "tools.benchmarks.corpus", "--make", str(folder / ARCHIVES), "--clips", str(clips))
        run_module(folder, "tools.parameters", "table", *CHANGES, *changes, root=root)
        for stage, (module, *options) in COMMANDS.items():
            yield stage, run_module(folder, module, *options, root=root)
            if stage == last:
                return


def prepare_folder(folder: Path, root: Path = ROOT) -> None:
    """Create the folders and copy the files that the stages of the checkout `root` need."""
    shutil.copytree(root / "params", folder / "params")
    shutil.copy(root / STAGES, folder)
    (folder / ARCHIVES).mkdir(parents=True)
    for name in ("metrics", "plots", "docs"):
        (folder / name).mkdir()


def run_module(folder: Path, module: str, *arguments: str, root: Path = ROOT) -> Cost:
    """Run `python -m MODULE ARGUMENTS` of the checkout `root` in `folder` and return its cost.

    Raises InputError if it fails.
    """
    environment = os.environ | {"PYTHONPATH": str(root)}
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments], cwd=folder, env=environment, stdout=output, stderr=output
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            raise InputError(f"python -m {module} failed with status {process.returncode}:\n{output.read()[-2000:]}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def make_corpus(folder: Path, clips: int) -> None:
    """Write clips.parquet, with labels, and features.parquet. Clips are called VIDEO.NNN.mp4."""
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(0)
    number = np.arange(clips)
    video = number // CLIPS_PER_VIDEO
    names = [f"v{owner}.{index % CLIPS_PER_VIDEO:03d}.mp4" for owner, index in zip(video, number, strict=True)]
    features = rng.normal(size=(clips, FEATURES)).astype(np.float32)
    common = rng.normal(size=(video[-1] + 1, len(LABELS)))[video]
    signal = features[:, : len(LABELS)] + 0.5 * common + rng.normal(size=common.shape)
    labels = 1 / (1 + np.exp(-signal))
    table = pd.DataFrame({"clip": names}).assign(**dict(zip(LABELS, labels.T, strict=True)))
    table.to_parquet(folder / "clips.parquet")
    columns = {f"f{index}": features[:, index] for index in range(FEATURES)}
    pd.DataFrame({"clip": names, **columns}).to_parquet(folder / "features.parquet")


if __name__ == "__main__":
    command.run(main)
