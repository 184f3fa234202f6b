"""Shards made by other processes, on this machine and on a Dask cluster: killed, out of space, resumed, the same bytes."""

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
from lib.streams import base, build, frames
from tests.conftest import ROOT

LOKY = Parallel(engine="loky", workers=2)
INPUTS = {"a": 1, "b": 1, "c": 1}
FRAMES = frames.Settings(enabled=True, fps=5, max_side=64, quality=90)


@pytest.fixture(autouse=True)
def work_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "ROOT", tmp_path / "work")


def make(calls: Path, name: str) -> Iterator[Record]:
    """Two clips; the call is noted."""
    (calls / f"{name}-{time.time_ns()}").touch()
    jpeg = np.frombuffer(cv2.imencode(".jpg", np.zeros((2, 3, 3), np.uint8))[1].tobytes(), np.uint8)
    arrays = {"jpeg": jpeg, "offsets": np.array([0, len(jpeg)]), "times": np.zeros(1)}
    yield Record("-x y.mp4", arrays | {"faces": np.arange(60 + ord(name)).reshape(1, -1, 1)}, {"scale": 0.5})
    yield Record("z", refused="why")


def make_after(calls: Path, accident: Callable[[], None], name: str) -> Iterator[Record]:
    """As `make`, but in shard b, once the others are there, the `accident` happens, the first time only."""
    if name == "b" and not (calls / "accident").exists():
        until(lambda: len(list((calls.parent / "work/frames").glob("[ac]-*.h5"))) == 2)
        yield Record("-x y.mp4", {"faces": np.zeros((1, 9, 9))})
        (calls / "accident").write_text(str(os.getpid()))
        accident()
    yield from make(calls, name)


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def build_(out: Path, make: Callable[[str], Iterator[Record]], settings: Parallel = LOKY, **inputs: int) -> None:
    """Build a stream of frames, whose settings and code stay the same."""
    build.build(base.load("frames"), FRAMES, out, INPUTS | inputs, make, 6, settings)


def names(calls: Path) -> list[str]:
    return sorted(path.name.split("-")[0] for path in calls.iterdir() if path.name != "accident")


@pytest.fixture
def calls(tmp_path: Path) -> Path:
    (tmp_path / "calls").mkdir()
    return tmp_path / "calls"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What an undisturbed run writes."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "calls").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resume, "ROOT", folder / "work")
        build_(folder / "out", partial(make, folder / "calls"))
    return written(folder / "out")


def written(out: Path) -> dict[str, bytes]:
    return {path.stem: path.read_bytes() for path in out.glob("*.h5")}


def test_only_what_changed_is_made_again(tmp_path: Path, calls: Path, whole: dict[str, bytes]) -> None:
    build_(tmp_path / "out", partial(make, calls))
    assert written(tmp_path / "out") == whole
    assert shards.read_rejections(tmp_path / "out") == {"z": "why"}
    build_(tmp_path / "out", partial(make, calls))
    assert names(calls) == ["a", "b", "c"]
    build_(tmp_path / "out", partial(make, calls), b=2, d=1)
    assert names(calls) == ["a", "b", "b", "c", "d"]
    assert sorted(path.suffix for path in (tmp_path / "work/frames").iterdir()) == [".h5"] * 4
    about = json.loads((tmp_path / "out/stream.json").read_text())
    assert about == {"settings": FRAMES.model_dump(), "shapes": {"": [3, 2, 3]}}
    with h5py.File(tmp_path / "out/a.h5") as file:
        assert file["-x y.mp4/faces"].chunks == (1, 157, 1)


def kill_me() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fill_the_disk() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))


def lose_a_file() -> None:
    Path("gone.h5").read_bytes()


@pytest.mark.parametrize(
    ("accident", "said"),
    [
        (kill_me, "shard b: its worker was killed; if memory ran out, lower parallel.workers"),
        (fill_the_disk, r"shard b: \w+: .*File too large"),
        (lose_a_file, "shard b: FileNotFoundError: .*gone.h5"),
    ],
)
def test_an_accident_is_one_clear_error_and_costs_one_shard(
    tmp_path: Path, calls: Path, whole: dict[str, bytes], accident: Callable[[], None], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        build_(tmp_path / "out", partial(make_after, calls, accident))
    assert names(calls) in (["a", "c"], ["a", "b", "c"])
    assert not (tmp_path / "out").exists()
    before = len(names(calls))
    build_(tmp_path / "out", partial(make_after, calls, accident))
    assert len(names(calls)) == before + 1
    assert written(tmp_path / "out") == whole


def test_a_killed_stage_goes_on_and_half_a_shard_is_never_taken(
    tmp_path: Path, calls: Path, whole: dict[str, bytes]
) -> None:
    script = f"""
        import time
        from functools import partial
        from pathlib import Path
        from lib.core import resume
        from tests.test_shards import build_, make_after

        resume.ROOT = Path({str(tmp_path / "work")!r})
        build_(Path({str(tmp_path / "out")!r}), partial(make_after, Path({str(calls)!r}), partial(time.sleep, 600)))
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], cwd=ROOT, start_new_session=True)
    until(lambda: (calls / "accident").exists())
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert list((tmp_path / "work/frames").glob("b-*.partial"))
    assert not (tmp_path / "out").exists()
    build_(tmp_path / "out", partial(make_after, calls, kill_me))
    assert names(calls) == ["a", "b", "c"]
    assert written(tmp_path / "out") == whole


def test_a_dask_cluster_that_loses_a_worker_writes_the_same_bytes(
    tmp_path: Path, calls: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "scheduler.json"
    dask = [sys.executable, "-m", "dask"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": ROOT}
    scheduler = [*dask, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", file]
    worker = [*dask, "worker", "--scheduler-file", file, "--nthreads", "1", "--no-nanny", "--no-dashboard"]
    processes = [subprocess.Popen(command, **quiet) for command in (scheduler, worker, worker)]  # type: ignore[call-overload]
    try:
        until(lambda: file.exists() and bool(file.read_text()))
        monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", json.loads(file.read_text())["address"])

        def kill_the_worker() -> None:
            until(lambda: (calls / "accident").exists() and bool((calls / "accident").read_text()))
            os.kill(int((calls / "accident").read_text()), signal.SIGKILL)

        threading.Thread(target=kill_the_worker, daemon=True).start()
        cluster = Parallel(engine="dask", workers=0)
        build_(tmp_path / "out", partial(make_after, calls, partial(time.sleep, 600)), cluster)
        assert sorted(process.poll() is None for process in processes) == [False, True, True]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert names(calls) == ["a", "b", "c"]
    assert written(tmp_path / "out") == whole


def test_a_profiler_that_holds_frames_changes_no_byte(tmp_path: Path, calls: Path) -> None:
    held, files = [], []
    for profile in (None, lambda frame, *_: held.append(frame)):
        sys.setprofile(profile)
        try:
            build._make(tmp_path / "shard.h5", partial(make, calls), "a")
        finally:
            sys.setprofile(None)
        files.append((tmp_path / "shard.h5").read_bytes())
    assert held
    assert files[0] == files[1]


def test_a_dask_cluster_that_is_not_there_is_named(
    tmp_path: Path, calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Parallel(engine="dask", workers=0)
    monkeypatch.delenv("DASK_SCHEDULER_ADDRESS", raising=False)
    with pytest.raises(InputError, match="needs the environment variable DASK_SCHEDULER_ADDRESS"):
        build_(tmp_path / "out", partial(make, calls), cluster)
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", "nonsense://x")
    with pytest.raises(InputError, match="no Dask scheduler answers at DASK_SCHEDULER_ADDRESS=nonsense"):
        build_(tmp_path / "out", partial(make, calls), cluster)
