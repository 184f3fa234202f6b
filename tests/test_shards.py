"""Shards that other processes build, on this machine or a Dask cluster: failures, resuming, and equal bytes."""

import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

from lib.core import resume, shards
from lib.core.errors import InputError
from lib.core.parallel import Parallel
from lib.core.shards import Record
from lib.streams import base, frames
from lib.streams._shards import measure_cost, write_shard, write_shards
from tests.conftest import ROOT
from tests.processes import wait_until

LOKY = Parallel(engine="loky", workers=2)
INPUTS = {"a": 1, "b": 1, "c": 1}
FRAMES = frames.Settings(enabled=True, fps=5, max_side=64, quality=90)


@pytest.fixture(autouse=True)
def work_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "ROOT", tmp_path / "work")


def make_records(calls: Path, name: str) -> Iterator[Record]:
    """Return two clips and record the call."""
    (calls / f"{name}-{time.time_ns()}").touch()
    jpeg = np.frombuffer(cv2.imencode(".jpg", np.zeros((2, 3, 3), np.uint8))[1].tobytes(), np.uint8)
    arrays = {"jpeg": jpeg, "offsets": np.array([0, len(jpeg)]), "times": np.zeros(1)}
    yield Record("-x y.mp4", arrays | {"faces": np.arange(60 + ord(name)).reshape(1, -1, 1)}, {"scale": 0.5})
    yield Record("z", rejected="why")


def fail_once(calls: Path, fail: Callable[[], None], name: str) -> Iterator[Record]:
    """Like `make_records`, but at the first call for shard b `fail` is called after the other shards are complete."""
    if name == "b" and not (calls / "accident").exists():
        wait_until(lambda: len(list((calls.parent / "work/frames").glob("[ac]-*.h5"))) == 2, 60)
        yield Record("-x y.mp4", {"faces": np.zeros((1, 9, 9))})
        (calls / "accident").write_text(str(os.getpid()))
        fail()
    yield from make_records(calls, name)


def build_frames(out: Path, make: Callable[[str], Iterator[Record]], settings: Parallel = LOKY, **inputs: int) -> None:
    """Build a stream of frames with constant settings and code."""
    write_shards(base.load("frames"), FRAMES, out, INPUTS | inputs, make, 6, settings)


def built_shards(calls: Path) -> list[str]:
    return sorted(path.name.split("-")[0] for path in calls.iterdir() if path.name != "accident")


@pytest.fixture
def calls(tmp_path: Path) -> Path:
    (tmp_path / "calls").mkdir()
    return tmp_path / "calls"


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The shards of an undisturbed run."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "calls").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resume, "ROOT", folder / "work")
        build_frames(folder / "out", partial(make_records, folder / "calls"))
    return read_shards(folder / "out")


def read_shards(out: Path) -> dict[str, bytes]:
    return {path.stem: path.read_bytes() for path in out.glob("*.h5")}


def test_build_rebuilds_only_changed_shards(tmp_path: Path, calls: Path, expected: dict[str, bytes]) -> None:
    build_frames(tmp_path / "out", partial(make_records, calls))
    assert read_shards(tmp_path / "out") == expected
    assert shards.read_rejections(tmp_path / "out") == {"z": "why"}
    build_frames(tmp_path / "out", partial(make_records, calls))
    assert built_shards(calls) == ["a", "b", "c"]
    build_frames(tmp_path / "out", partial(make_records, calls), b=2, d=1)
    assert built_shards(calls) == ["a", "b", "b", "c", "d"]
    assert sorted(path.suffix for path in (tmp_path / "work/frames").iterdir()) == [".h5"] * 4
    description = json.loads((tmp_path / "out/stream.json").read_text())
    assert description == {"settings": FRAMES.model_dump(), "shapes": {"": [3, 2, 3]}}
    with h5py.File(tmp_path / "out/a.h5") as file:
        assert file["-x y.mp4/faces"].chunks == (1, 157, 1)


def kill_me() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fill_the_disk() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))


def lose_a_file() -> None:
    Path("gone.h5").read_bytes()


@pytest.mark.parametrize(
    ("fail", "message"),
    [
        (kill_me, "shard b: its worker was killed; if memory ran out, lower parallel.workers"),
        (fill_the_disk, r"shard b: \w+: .*File too large"),
        (lose_a_file, "shard b: FileNotFoundError: .*gone.h5"),
    ],
)
def test_failed_worker_gives_one_error_and_costs_one_shard(
    tmp_path: Path, calls: Path, expected: dict[str, bytes], fail: Callable[[], None], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        build_frames(tmp_path / "out", partial(fail_once, calls, fail))
    assert built_shards(calls) in (["a", "c"], ["a", "b", "c"])
    assert not (tmp_path / "out").exists()
    number_before = len(built_shards(calls))
    build_frames(tmp_path / "out", partial(fail_once, calls, fail))
    assert len(built_shards(calls)) == number_before + 1
    assert read_shards(tmp_path / "out") == expected


def test_killed_stage_resumes_without_partial_shards(tmp_path: Path, calls: Path, expected: dict[str, bytes]) -> None:
    script = f"""
        import time
        from functools import partial
        from pathlib import Path
        from lib.core import resume
        from tests.test_shards import build_frames, fail_once

        resume.ROOT = Path({str(tmp_path / "work")!r})
        build_frames(Path({str(tmp_path / "out")!r}), partial(fail_once, Path({str(calls)!r}), partial(time.sleep, 600)))
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], cwd=ROOT, start_new_session=True)
    wait_until(lambda: (calls / "accident").exists(), 60)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert list((tmp_path / "work/frames").glob("b-*.partial"))
    assert not (tmp_path / "out").exists()
    build_frames(tmp_path / "out", partial(fail_once, calls, kill_me))
    assert built_shards(calls) == ["a", "b", "c"]
    assert read_shards(tmp_path / "out") == expected


def test_dask_cluster_without_a_worker_writes_equal_bytes(
    tmp_path: Path, calls: Path, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "scheduler.json"
    dask = [sys.executable, "-m", "dask"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": ROOT}
    scheduler = [*dask, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", file]
    worker = [*dask, "worker", "--scheduler-file", file, "--nthreads", "1", "--no-nanny", "--no-dashboard"]
    processes = [subprocess.Popen(command, **quiet) for command in (scheduler, worker, worker)]  # type: ignore[call-overload]
    try:
        wait_until(lambda: file.exists() and bool(file.read_text()), 60)
        monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", json.loads(file.read_text())["address"])

        def kill_the_worker() -> None:
            wait_until(lambda: (calls / "accident").exists() and bool((calls / "accident").read_text()), 60)
            os.kill(int((calls / "accident").read_text()), signal.SIGKILL)

        threading.Thread(target=kill_the_worker, daemon=True).start()
        cluster = Parallel(engine="dask", workers=0)
        build_frames(tmp_path / "out", partial(fail_once, calls, partial(time.sleep, 600)), cluster)
        assert sorted(process.poll() is None for process in processes) == [False, True, True]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert built_shards(calls) == ["a", "b", "c"]
    assert read_shards(tmp_path / "out") == expected


def test_shard_bytes_do_not_depend_on_a_profiler(tmp_path: Path, calls: Path) -> None:
    frames_held, contents = [], []
    for profile in (None, lambda frame, *_: frames_held.append(frame)):
        sys.setprofile(profile)
        try:
            write_shard(tmp_path / "shard.h5", partial(make_records, calls), "a")
        finally:
            sys.setprofile(None)
        contents.append((tmp_path / "shard.h5").read_bytes())
    assert frames_held
    assert contents[0] == contents[1]


def test_missing_dask_cluster_is_named(tmp_path: Path, calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Parallel(engine="dask", workers=0)
    monkeypatch.delenv("DASK_SCHEDULER_ADDRESS", raising=False)
    with pytest.raises(InputError, match="needs the environment variable DASK_SCHEDULER_ADDRESS"):
        build_frames(tmp_path / "out", partial(make_records, calls), cluster)
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", "nonsense://x")
    with pytest.raises(InputError, match="no Dask scheduler answers at DASK_SCHEDULER_ADDRESS=nonsense"):
        build_frames(tmp_path / "out", partial(make_records, calls), cluster)


def make_slow_records(name: str) -> Iterator[Record]:
    """Return a rejected clip and six clips of 80 bytes; only the first takes 0.5 s, as if it loaded a network."""
    time.sleep(0.5)
    yield Record("a", rejected="why")
    for number in range(6):
        yield Record(f"b{number}", {"values": np.zeros((10, 1)), "times": np.zeros(0)})
        time.sleep(0.01)


def test_cost_is_measured_without_the_time_of_loading() -> None:
    seconds, size, in_place = measure_cost(make_slow_records, ["a"])
    assert (size, in_place) == (80, 0)
    assert 0.01 <= seconds < 0.1
    alone = measure_cost(lambda name: list(make_slow_records(name))[:2], ["a"])
    assert alone[0] >= 0.5
    assert measure_cost(lambda name: [Record("a", rejected="why")], ["a", "b"]) == (0, 0, 0)


def test_cost_is_printed_before_an_expensive_stream(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stream = replace(base.load("frames"), costly=True, read_steps=lambda record, indices: np.zeros((1, 1)))
    for inputs, expected in (
        ({"a": 1}, "frames: 7 clips need about < 1 min and 0.1 MB"),
        ({"a": 1, "b": 1}, "frames: 7 clips"),
    ):
        write_shards(stream, FRAMES, tmp_path / "out", inputs, make_slow_records, 7 * len(inputs), LOKY)
        assert capsys.readouterr().out.startswith(expected)  # the second run reuses a shard of seven clips
    write_shards(stream, FRAMES, tmp_path / "out", {"a": 1}, make_slow_records, 7, LOKY)
    assert capsys.readouterr().out == ""
