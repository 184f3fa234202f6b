"""Numbers that are none, files that are damaged, disks that are full, and hands on the keyboard."""

import errno
import hashlib
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import h5py
import numpy as np
import pytest
import torch
from dvc.repo import Repo
from pydantic import BaseModel

from lib.core import command, parallel, parameters, resume, shards
from lib.core.errors import InputError
from lib.core.parallel import Parallel
from lib.core.shards import Record
from lib.model import checkpoint
from lib.model.checkpoint import TrainingSummary
from lib.model.heads import Prediction
from lib.scoring.scores import score_columns
from lib.streams import audio, base, build
from lib.training import loop
from stages import train
from tests.conftest import ROOT
from tests.test_contract import STAGES, parameters_of
from tests.test_predict import WARMTH, parameters_
from tests.test_training import TRAITS_GROUP, InMemory, fitted, network, settings
from tools import compare
from tools.ablate import runs


def test_a_validation_loss_that_is_none_stops_and_keeps_the_epochs_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictions, calls = loop.predictions, []

    def second_fails(*arguments: Any) -> dict[str, Prediction]:
        calls.append(predictions(*arguments))
        return {name: Prediction(one.mean * (np.nan if len(calls) > 1 else 1)) for name, one in calls[-1].items()}

    monkeypatch.setattr(loop, "predictions", second_fails)
    with pytest.raises(
        InputError, match=r"^the validation loss is nan in epoch 2; lower train\.learning_rate .* kept$"
    ):
        fitted(tmp_path, network(), clips=InMemory(8), epochs=3)
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    assert len(state["history"]) == 1
    assert all(values.isfinite().all() for values in state["best"].values())


def numbers(kind: Any, metadata: Any, where: str) -> Iterator[tuple[str, set[str]]]:
    """All numbers below a type, and which bounds they have."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        for name, field in kind.model_fields.items():
            yield from numbers(field.annotation, field.metadata, f"{where}.{name}")
    elif kind in (int, float):
        inner = [one for of in metadata for one in (of, *getattr(of, "metadata", ()))]
        yield where, {type(one).__name__[:1] for one in inner if type(one).__name__ in ("Ge", "Gt", "Le", "Lt")}
    elif get_origin(kind) is Annotated:
        yield from numbers(get_args(kind)[0], kind.__metadata__, where)
    elif get_origin(kind):
        for inner in get_args(kind):
            yield from numbers(inner, (), f"{where}[]")


@pytest.mark.parametrize("stage", STAGES)
def test_every_number_has_a_finite_range(stage: str) -> None:
    model = parameters_of(stage)
    for where, bounds in numbers(model, (), ""):
        assert bounds == {"G", "L"} or where.endswith((".targets[][]", ".range[]")), where  # the user's own units
    assert model.model_config["allow_inf_nan"] is False


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"train__learning_rate__default": float("inf")},
            "train.learning_rate.default = inf; allowed: a finite number",
        ),
        ({"train__weight_decay": float("nan")}, "train.weight_decay = nan; allowed: a finite number"),
        (
            {"train__learning_rate__default": 1e30},
            "train.learning_rate.default = 1e+30; allowed: less than or equal to 1000",
        ),
        (
            {"targets__warmth": WARMTH | {"range": [0.0, float("inf")]}},
            "targets.warmth.range.1 = inf; allowed: a finite number",
        ),
    ],
)
def test_numbers_that_are_none_or_too_large_are_refused(change: dict[str, Any], said: str) -> None:
    values = parameters_(**change)
    with pytest.raises(InputError) as caught:
        parameters.check({name: values[name] for name in train.Parameters.model_fields}, train.Parameters)
    assert said in str(caught.value)


def test_bounds_that_depend_on_each_other() -> None:
    with pytest.raises(InputError, match=r"mfcc = 65; allowed: up to mels = 64"):
        parameters.check(parameters_()["audio"] | {"mels": 64, "mfcc": 65}, audio.Settings, "audio")
    with pytest.raises(
        InputError, match=r"allowed: a step of at least 1 and a window of at least 2 samples at 4000 Hz"
    ):
        parameters.check(parameters_()["audio"] | {"sample_rate": 4000, "step": 1e-9}, audio.Settings, "audio")


def test_a_smallest_face_larger_than_every_frame_is_refused() -> None:
    stream, above = base.load("faces"), {"frames": base.StreamInfo({"max_side": 248}, {})}
    given = parameters.check(parameters_()["faces"] | {"min_face": 249}, stream.settings, "faces")
    with pytest.raises(InputError, match=r"faces\.min_face = 249; allowed: up to frames\.max_side = 248"):
        stream.validate_inputs(given, above)
    stream.validate_inputs(given.model_copy(update={"min_face": 248}), above)


def test_no_more_processes_than_the_machine_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = parameters_(train__devices=99)
    given = parameters.check({name: values[name] for name in train.Parameters.model_fields}, train.Parameters)
    monkeypatch.setattr(parameters, "load", lambda *_: given)
    monkeypatch.setattr(train.loky, "cpu_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(InputError, match=r"train\.devices = 99; allowed: up to 2"):
        train.main()


def test_the_processes_of_a_training_that_is_killed_end_too(tmp_path: Path) -> None:
    script = tmp_path / "training.py"
    script.write_text("""
import os, time
from pathlib import Path
from lightning_fabric import Fabric
from stages import train

def several(*_):
    Fabric(accelerator="cpu", devices=2, strategy="ddp").launch()
    Path(os.environ["OUT"], os.environ["LOCAL_RANK"]).write_text(str(os.getpid()))
    time.sleep(600)

train.parameters.load = several
train.main()
""")
    environment = os.environ | {"OUT": str(tmp_path), "PYTHONPATH": str(ROOT)}
    first = subprocess.Popen([sys.executable, script], env=environment, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: (tmp_path / "1").exists() and (tmp_path / "1").read_text() != "", 120)
    finally:
        first.kill()
        first.wait()
    second = int((tmp_path / "1").read_text())
    wait_until(lambda: not is_running(second), 10)


def wait_until(said: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not said():
        assert time.monotonic() < end
        time.sleep(0.1)


def is_running(process: int) -> bool:
    status = Path(f"/proc/{process}/stat")
    return status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(parallel, "start_executor", lambda *_: ThreadPoolExecutor(1))
    return tmp_path


def built(make: Callable[[str], Iterator[Record]] | None = None) -> list[str]:
    """Build a stream of two shards; return which were made."""
    calls: list[str] = []

    def of(name: str) -> Iterator[Record]:
        calls.append(name)
        yield Record("a.mp4", {"descriptor": np.arange(1000.0) + len(name)})

    stream = base.load("descriptors")
    given = stream.settings(enabled=True, face_cells=8, flow_cells=4)
    build.build(
        stream, given, Path("data/out"), {"one": 1, "three": 2}, make or of, 2, Parallel(engine="loky", workers=1)
    )
    return calls


def test_a_damaged_shard_that_was_kept_is_made_again_for_dvc_too(
    project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Repo.init(no_scm=True)
    assert built() == ["one", "three"]
    published = project / "data/out/one.h5"
    whole = published.read_bytes()
    digest = hashlib.md5(whole).hexdigest()
    kept = project / ".dvc/cache/files/md5" / digest[:2] / digest[2:]
    kept.parent.mkdir(parents=True)
    os.link(published, kept)  # as `cache.type: hardlink` does
    assert built() == []
    with published.open("r+b") as file:  # one file with those in data/.work and in the cache
        file.truncate(len(whole) // 2)
    assert built() == ["one"]
    assert "is damaged and will be rebuilt" in caplog.text
    assert published.read_bytes() == whole
    assert not kept.exists()
    (project / "data/.work/descriptors.sums").rename(project / "lost")
    assert built() == ["one", "three"]


def test_what_hdf5_can_not_read_is_named_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "faces" / "one.h5"
    path.parent.mkdir()
    with h5py.File(path, "w") as file:
        shards.write_record(file, Record("a.mp4", {"times": np.arange(1000.0)}))
    path.write_bytes(path.read_bytes()[:700])
    for read in (
        lambda: list(shards.read_records(path)),
        lambda: shards.clip_names(path),
        lambda: shards.read_rejections(path.parent),
    ):
        with pytest.raises(InputError, match=r"faces/one\.h5: it is damaged; remove .*faces and run `dvc repro`"):
            read()
    with pytest.raises(InputError, match=r"two\.h5: it is missing; `dvc repro` makes it"):
        list(shards.read_records(path.with_name("two.h5")))

    def no_locks(*_: Any, **__: Any) -> None:
        raise OSError("Unable to open file (unable to lock file, errno = 37, error message = 'No locks available')")

    monkeypatch.setattr(h5py, "File", no_locks)
    with pytest.raises(InputError, match=r"one\.h5: .* HDF5_USE_FILE_LOCKING=FALSE .*No locks available"):
        list(shards.read_records(path))


def test_two_runs_of_a_stage_in_one_folder_do_not_meet(project: Path) -> None:
    with (
        resume.lock_stage("descriptors"),
        pytest.raises(InputError, match=r"^descriptors is already running in this folder"),
    ):
        built()
    assert built() == ["one", "three"]


def test_a_work_folder_on_another_file_system_is_copied_from(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def other(*_: Any) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(Path, "rename", other)
    monkeypatch.setattr(os, "link", other)
    monkeypatch.setattr(os, "rename", other)
    assert built() == ["one", "three"]
    assert shards.count_clips(project / "data/out") == 2
    assert not (project / "data/.work/out.partial").exists()


def model(path: Path, **weights: torch.Tensor) -> dict[str, Any]:
    given = settings(["faces"], "concat")
    net = network(["faces"], "concat")
    values = parameters_()
    streams = {name: base.StreamInfo(dict(values[name]), {"": [3, 32, 32]}) for name in ("frames", "faces")}
    checkpoint.save(path, net.state_dict(), given, TRAITS_GROUP, streams, TrainingSummary(["demo"]))
    return torch.load(path, weights_only=True)


def changed(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        saved = model(path)
        change(saved)
        torch.save(saved, path)

    return write


def with_nan(saved: dict[str, Any]) -> None:
    next(iter(saved["weights"].values())).view(-1)[0] = float("nan")


def cut(path: Path) -> None:
    model(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


class Code:
    """What makes a file, as soon as it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "cut": cut,
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("no model"),
    "code": lambda path: torch.save({"weights": Code(path.with_name("run"))}, path),
    "plain_code": lambda path: path.write_bytes(pickle.dumps(Code(path.with_name("run")))),
    "folder": lambda path: path.mkdir(),
    "foreign": lambda path: torch.save({"layer.weight": torch.zeros(2)}, path),
    "list": lambda path: torch.save([1, 2], path),
    "nan": changed(with_nan),
    "fps": changed(lambda saved: saved["streams"]["frames"]["settings"].update(fps=-5)),
    "lacking": changed(lambda saved: saved.pop("streams")),
    "shape": changed(lambda saved: saved["model"].update(width=48)),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_model_that_is_none_is_one_line_with_the_way_out(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "model.pt"
    DAMAGE[kind](path)
    with pytest.raises(InputError, match=r"model\.pt is no whole model .*; run `dvc repro train`") as caught:
        checkpoint.load(path, torch.device("cpu"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()
    assert ("holds code, which was not run" in str(caught.value)) == (kind in ("code", "plain_code", "text"))
    if kind not in ("fps", "lacking", "shape"):  # of which a warm start needs nothing
        with pytest.raises(InputError, match=r"model\.pt"):
            checkpoint.warm_start(network(["faces"], "concat"), path)


def test_a_whole_model_is_loaded(tmp_path: Path) -> None:
    model(tmp_path / "model.pt")
    assert checkpoint.load(tmp_path / "model.pt", torch.device("cpu")).training.corpora == ["demo"]


@pytest.mark.parametrize("actual", [[[0.5]], [[0.5], [0.5], [0.5]]])
def test_scores_that_are_not_defined_are_none(actual: list[list[float]]) -> None:
    values = np.array(actual)
    found = score_columns(values, values + np.linspace(0.1, 0.2, len(values))[:, None], ["one"], 1.0)
    for name in ("r2", "ccc", "pearson", "spearman", "std_ratio", "regression_to_mean"):
        assert found[name]["one"] is None, name
    assert found["accuracy"]["one"] is not None


def test_seeds_are_different_sources() -> None:
    assert compare.parse_predictor("m=a,b") == ("m", ["a", "b"])
    for text in ("m=workspace,", "m=a,a", "m=,"):
        with pytest.raises(InputError, match=r"allowed: NAME=SOURCE,SOURCE with different sources"):
            compare.parse_predictor(text)


FULL = """
import resource, shutil, sys, torch
from pathlib import Path
from lib.core import command
Path("x").write_bytes(bytes(200_000))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
writes = {"copy": lambda: shutil.copyfile("x", "y"), "save": lambda: torch.save({"a": torch.zeros(10**6)}, "y")}
command.run(writes[sys.argv[1]])
"""


@pytest.mark.parametrize("way", ["copy", "save"])
def test_a_full_disk_is_one_line(tmp_path: Path, way: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, way], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.endswith("; make room, and run again: what is finished is kept\n")
    assert done.stderr.count("\n") == 1
    with pytest.raises(OSError, match="denied"):
        command.run(lambda: (_ for _ in ()).throw(PermissionError("denied")))


def test_a_mistake_in_yaml_is_its_line_and_column(tmp_path: Path) -> None:
    for name in ("dvc.yaml", "params.yaml"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    for command_ in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command_, cwd=tmp_path, check=True)
    path = tmp_path / "params.yaml"
    path.write_text(path.read_text().replace("  fps: 5\n", "  fps: [5\n"))
    stage = [sys.executable, "-m", "stages.frames"]
    done = subprocess.run(
        stage, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    line = path.read_text().splitlines().index("  fps: [5") + 1
    (said,) = [one for one in done.stderr.splitlines() if one.startswith("error: ")]
    assert said.startswith(f"error: params.yaml, line {line}") or said.startswith(
        f"error: params.yaml, line {line + 2}"
    )
    assert "Traceback" not in done.stderr


def test_ctrl_c_is_one_line(tmp_path: Path) -> None:
    script = "import time; from lib.core import command; command.run(lambda: (print('on', flush=True), time.sleep(60)))"
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # what runs in the background ignores it
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "on\n"
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said == "interrupted; what is finished is kept, the same command goes on from there\n"


def test_an_ablation_goes_on_after_predictions_were_collected_as_garbage(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []

    def run(arguments: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        ran.append(arguments[3:])
        return subprocess.CompletedProcess(arguments, 0, stdout="a-faces-seed0\na-flow-seed0\n")

    def read(_: str, rev: str) -> str:
        if rev == "a-flow-seed0":
            raise FileNotFoundError("data/predictions.csv is not in the cache")
        return ""

    monkeypatch.setattr(runs.subprocess, "run", run)
    monkeypatch.setattr(runs, "run_dvc", lambda arguments: run(["python", "-m", "dvc", *arguments]).returncode)
    monkeypatch.setattr(runs.dvc.api, "read", read)
    monkeypatch.setattr(runs.dvc.api, "params_show", lambda **_: {})
    monkeypatch.setattr(runs, "refuse_other_parameters", lambda *_: None)
    changes = {"model.fusion": "concat"}
    runs.run_all("a", {"faces": changes, "flow": changes, "audio": changes}, [0])
    set_ = ["-S", 'model.fusion="concat"', "-S", "train.seed=0"]
    assert ran[1:] == [
        ["exp", "run", "-n", "a-flow-seed0", "--force", *set_, "evaluate"],
        ["exp", "run", "-n", "a-audio-seed0", *set_, "evaluate"],
    ]
