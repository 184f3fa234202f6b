"""Failures: invalid numbers, damaged files, full disks, killed processes and interrupts."""

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
from joblib.externals import loky
from pydantic import BaseModel

from lib.core import command, parallel, parameters, resume, shards
from lib.core.errors import InputError
from lib.core.parallel import Parallel
from lib.core.shards import Record
from lib.model import checkpoint
from lib.model.checkpoint import TrainingSummary
from lib.model.heads import HeadOutput
from lib.scoring.scores import score_columns
from lib.streams import audio, base
from lib.streams._shards import write_shards
from lib.training import loop
from stages import train
from tests.conftest import ROOT
from tests.processes import wait_until
from tests.project_copy import Project
from tests.small_network import TRAITS_GROUP, InMemoryClips, make_network, make_settings, train_network
from tests.stage_parameters import WARMTH, small_parameters
from tests.test_contract import STAGES, parameters_of
from tools import compare, experiments


@pytest.mark.slow
def test_error_of_a_stage_is_above_the_last_line_of_dvc(tmp_path: Path) -> None:
    project = Project(tmp_path, compiled_flow=False)
    project.edit({"allow_missing: 0": "allow_missing: 7"})
    *_, error, last = project.run("dvc", "repro", "download").stdout.strip().splitlines()
    assert error.startswith("error: params.yaml: download.allow_missing = 7")
    assert last.startswith("ERROR: failed to reproduce")
    assert "line that begins with `error:`, above DVC's last line" in (ROOT / "docs/quickstart.md").read_text()


def test_nan_validation_loss_stops_and_keeps_earlier_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictions, calls = loop.predict_outputs, []

    def fail_in_second_epoch(*arguments: Any) -> dict[str, HeadOutput]:
        calls.append(predictions(*arguments))
        return {
            name: HeadOutput(prediction.mean * (np.nan if len(calls) > 1 else 1))
            for name, prediction in calls[-1].items()
        }

    monkeypatch.setattr(loop, "predict_outputs", fail_in_second_epoch)
    with pytest.raises(
        InputError, match=r"^the validation loss is nan in epoch 2; lower train\.learning_rate\. .* kept$"
    ):
        train_network(tmp_path, make_network(), clips=InMemoryClips(8), epochs=3)
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    assert len(state["history"]) == 1
    assert all(values.isfinite().all() for values in state["best"].values())


def find_numbers(annotation: Any, metadata: Any, key: str) -> Iterator[tuple[str, set[str]]]:
    """Yield the key and the bounds of each number in a settings class."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, field in annotation.model_fields.items():
            yield from find_numbers(field.annotation, field.metadata, f"{key}.{name}")
    elif annotation in (int, float):
        inner = [constraint for item in metadata for constraint in (item, *getattr(item, "metadata", ()))]
        yield (
            key,
            {
                type(constraint).__name__[:1]
                for constraint in inner
                if type(constraint).__name__ in ("Ge", "Gt", "Le", "Lt")
            },
        )
    elif get_origin(annotation) is Annotated:
        yield from find_numbers(get_args(annotation)[0], annotation.__metadata__, key)
    elif get_origin(annotation):
        for inner in get_args(annotation):
            yield from find_numbers(inner, (), f"{key}[]")


@pytest.mark.parametrize("stage", STAGES)
def test_each_numeric_parameter_has_a_finite_range(stage: str) -> None:
    model = parameters_of(stage)
    for key, bounds in find_numbers(model, (), ""):
        assert bounds == {"G", "L"} or key.endswith((".targets[][]", ".range[]")), key  # these are in units of the user
    assert model.model_config["allow_inf_nan"] is False


@pytest.mark.parametrize(
    ("change", "message"),
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
def test_parameters_reject_nan_inf_and_huge_numbers(change: dict[str, Any], message: str) -> None:
    values = small_parameters(**change)
    with pytest.raises(InputError) as caught:
        parameters.check({name: values[name] for name in train.Parameters.model_fields}, train.Parameters)
    assert message in str(caught.value)


def test_audio_settings_reject_contradicting_values() -> None:
    with pytest.raises(InputError, match=r"mfcc = 65; allowed: up to mels = 64"):
        parameters.check(small_parameters()["audio"] | {"mels": 64, "mfcc": 65}, audio.Settings, "audio")
    with pytest.raises(
        InputError, match=r"allowed: a step of at least 1 and a window of at least 2 samples at 4000 Hz"
    ):
        parameters.check(small_parameters()["audio"] | {"sample_rate": 4000, "step": 1e-9}, audio.Settings, "audio")


def test_faces_reject_min_face_larger_than_frames() -> None:
    stream, inputs = base.load("faces"), {"frames": base.StreamInfo({"max_side": 248}, {})}
    settings = parameters.check(small_parameters()["faces"] | {"min_face": 249}, stream.settings, "faces")
    with pytest.raises(InputError, match=r"faces\.min_face = 249; allowed: up to frames\.max_side = 248"):
        stream.validate_inputs(settings, inputs)
    stream.validate_inputs(settings.model_copy(update={"min_face": 248}), inputs)


def test_train_rejects_more_devices_than_the_machine_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = small_parameters(train__devices=99, train__batch_size=99)
    settings = parameters.check({name: values[name] for name in train.Parameters.model_fields}, train.Parameters)
    monkeypatch.setattr(parameters, "load", lambda *_: settings)
    monkeypatch.setattr(loky, "cpu_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(InputError, match=r"train\.devices = 99; allowed: up to 2"):
        train.main()


@pytest.mark.slow
def test_killed_training_ends_all_its_processes(tmp_path: Path) -> None:
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
    main_process = subprocess.Popen([sys.executable, script], env=environment, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: (tmp_path / "1").exists() and (tmp_path / "1").read_text() != "", 120)
    finally:
        main_process.kill()
        main_process.wait()
    other_process = int((tmp_path / "1").read_text())
    wait_until(lambda: not is_running(other_process), 10)


def is_running(process_id: int) -> bool:
    status = Path(f"/proc/{process_id}/stat")
    return status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(parallel, "start_executor", lambda *_: ThreadPoolExecutor(1))
    return tmp_path


def build_stream(make: Callable[[str], Iterator[Record]] | None = None) -> list[str]:
    """Build a stream of two shards; return the names of the shards that were built."""
    calls: list[str] = []

    def make_record(name: str) -> Iterator[Record]:
        calls.append(name)
        yield Record("a.mp4", {"descriptor": np.arange(1000.0) + len(name)})

    stream = base.load("descriptors")
    settings = stream.settings(enabled=True, source="faces", face_cells=8, flow_cells=4)
    write_shards(
        stream,
        settings,
        Path("data/out"),
        {"one": 1, "three": 2},
        make or make_record,
        2,
        Parallel(engine="loky", workers=1),
    )
    return calls


def test_damaged_cached_shard_is_rebuilt_also_for_dvc(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    Repo.init(no_scm=True)
    assert build_stream() == ["one", "three"]
    published = project / "data/out/one.h5"
    content = published.read_bytes()
    digest = hashlib.md5(content).hexdigest()
    cached = project / ".dvc/cache/files/md5" / digest[:2] / digest[2:]
    cached.parent.mkdir(parents=True)
    os.link(published, cached)  # as DVC does with `cache.type: hardlink`
    assert build_stream() == []
    with published.open("r+b") as file:  # the copies in data/.work and in DVC's cache are the same file
        file.truncate(len(content) // 2)
    assert build_stream() == ["one"]
    assert "is damaged and will be rebuilt" in caplog.text
    assert published.read_bytes() == content
    assert not cached.exists()
    (project / "data/.work/descriptors.sums").rename(project / "lost")
    assert build_stream() == ["one", "three"]


def test_unreadable_shards_give_the_cause_and_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    with pytest.raises(InputError, match=r"two\.h5: it is missing; `dvc repro` builds it"):
        list(shards.read_records(path.with_name("two.h5")))

    def no_locks(*_: Any, **__: Any) -> None:
        raise OSError("Unable to open file (unable to lock file, errno = 37, error message = 'No locks available')")

    monkeypatch.setattr(h5py, "File", no_locks)
    with pytest.raises(InputError, match=r"one\.h5: .* HDF5_USE_FILE_LOCKING=FALSE .*No locks available"):
        list(shards.read_records(path))


def test_second_run_of_a_stage_in_a_folder_is_rejected(project: Path) -> None:
    with (
        resume.lock_stage("descriptors"),
        pytest.raises(InputError, match=r"^descriptors is already running in this folder"),
    ):
        build_stream()
    assert build_stream() == ["one", "three"]


def test_work_folder_on_another_file_system_is_copied(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(Path, "rename", fail)
    monkeypatch.setattr(os, "link", fail)
    monkeypatch.setattr(os, "rename", fail)
    assert build_stream() == ["one", "three"]
    assert shards.count_clips(project / "data/out") == 2
    assert not (project / "data/.work/out.partial").exists()


def save_model(path: Path, **weights: torch.Tensor) -> dict[str, Any]:
    model_settings = make_settings(["faces"], "concat")
    net = make_network(["faces"], "concat")
    values = small_parameters()
    streams = {name: base.StreamInfo(dict(values[name]), {"": [3, 32, 32]}) for name in ("frames", "faces")}
    checkpoint.save(path, net.state_dict(), model_settings, TRAITS_GROUP, streams, TrainingSummary(["demo"]))
    return torch.load(path, weights_only=True)


def save_changed(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        saved = save_model(path)
        change(saved)
        torch.save(saved, path)

    return write


def set_nan(saved: dict[str, Any]) -> None:
    next(iter(saved["weights"].values())).view(-1)[0] = float("nan")


def save_truncated(path: Path) -> None:
    save_model(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


class CodeInPickle:
    """An object that creates a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "cut": save_truncated,
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("no model"),
    "code": lambda path: torch.save({"weights": CodeInPickle(path.with_name("run"))}, path),
    "plain_code": lambda path: path.write_bytes(pickle.dumps(CodeInPickle(path.with_name("run")))),
    "foreign": lambda path: torch.save({"layer.weight": torch.zeros(2)}, path),
    "list": lambda path: torch.save([1, 2], path),
    "nan": save_changed(set_nan),
    "fps": save_changed(lambda saved: saved["streams"]["frames"]["settings"].update(fps=-5)),
    "lacking": save_changed(lambda saved: saved.pop("streams")),
    "shape": save_changed(lambda saved: saved["model"].update(width=48)),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_load_rejects_damaged_models_in_one_line(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "model.pt"
    DAMAGE[kind](path)
    with pytest.raises(InputError, match=r"model\.pt is not a complete model .*; run `dvc repro train`") as caught:
        checkpoint.load(path, torch.device("cpu"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()
    assert ("contains code, which was not run" in str(caught.value)) == (kind in ("code", "plain_code", "text"))
    if kind not in ("fps", "lacking", "shape"):  # a warm start does not read the damaged parts of these
        with pytest.raises(InputError, match=r"model\.pt"):
            checkpoint.warm_start(make_network(["faces"], "concat"), path, TRAITS_GROUP)


def test_load_accepts_a_complete_model(tmp_path: Path) -> None:
    save_model(tmp_path / "model.pt")
    assert checkpoint.load(tmp_path / "model.pt", torch.device("cpu")).training.corpora == ["demo"]


@pytest.mark.parametrize("actual", [[[0.5]], [[0.5], [0.5], [0.5]]])
def test_undefined_scores_are_none(actual: list[list[float]]) -> None:
    values = np.array(actual)
    scores = score_columns(values, values + np.linspace(0.1, 0.2, len(values))[:, None], ["one"], 1.0)
    for name in ("r2", "ccc", "pearson", "spearman", "std_ratio", "regression_to_mean"):
        assert scores[name]["one"] is None, name
    assert scores["accuracy"]["one"] is not None


def test_parse_predictor_rejects_equal_or_empty_seeds() -> None:
    assert compare.parse_predictor("m=a,b") == ("m", ["a", "b"])
    for text in ("m=workspace,", "m=a,a", "m=,"):
        with pytest.raises(InputError, match=r"allowed: NAME=SOURCE,SOURCE with a different source"):
            compare.parse_predictor(text)


FULL_DISK = """
import resource, shutil, sys, torch
from pathlib import Path
from lib.core import command
Path("x").write_bytes(bytes(200_000))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
writes = {"copy": lambda: shutil.copyfile("x", "y"), "save": lambda: torch.save({"a": torch.zeros(10**6)}, "y")}
command.run(writes[sys.argv[1]])
"""


@pytest.mark.parametrize("function", ["copy", "save"])
@pytest.mark.slow
def test_full_disk_gives_an_error_of_one_line(tmp_path: Path, function: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", FULL_DISK, function], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert result.stderr.endswith("; free disk space and run the command again (finished parts are kept)\n")
    assert result.stderr.count("\n") == 1
    with pytest.raises(OSError, match="denied"):
        command.run(lambda: (_ for _ in ()).throw(PermissionError("denied")))


def test_yaml_error_names_line_and_column(tmp_path: Path) -> None:
    for name in ("dvc.yaml", "params.yaml"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    path = tmp_path / "params.yaml"
    path.write_text(path.read_text().replace("  fps: 5\n", "  fps: [5\n"))
    stage = [sys.executable, "-m", "stages.frames"]
    result = subprocess.run(
        stage, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    line = path.read_text().splitlines().index("  fps: [5") + 1
    (message,) = [printed for printed in result.stderr.splitlines() if printed.startswith("error: ")]
    assert message.startswith(f"error: params.yaml, line {line}") or message.startswith(
        f"error: params.yaml, line {line + 2}"
    )
    assert "Traceback" not in result.stderr


def test_interrupt_prints_one_line(tmp_path: Path) -> None:
    script = "import time; from lib.core import command; command.run(lambda: (print('on', flush=True), time.sleep(60)))"
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),   # a background process ignores SIGINT
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "on\n"
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, message = process.communicate(timeout=60)
    assert process.returncode == 130
    assert message == "interrupted; finished parts are kept; run the same command to continue\n"


def test_ablate_reruns_experiments_whose_predictions_are_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def run(arguments: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        commands.append(arguments[3:])
        return subprocess.CompletedProcess(arguments, 0, stdout="a-faces-seed0\na-flow-seed0\n")

    def read(_: str, rev: str) -> str:
        if rev == "a-flow-seed0":
            raise FileNotFoundError("data/predictions.csv is not in the cache")
        return ""

    monkeypatch.setattr(experiments.subprocess, "run", run)
    monkeypatch.setattr(experiments, "run_dvc", lambda arguments: run(["python", "-m", "dvc", *arguments]).returncode)
    monkeypatch.setattr(experiments.dvc.api, "read", read)
    monkeypatch.setattr(experiments.dvc.api, "params_show", lambda **_: {})
    monkeypatch.setattr(experiments, "check_recorded_parameters", lambda *_: None)
    changes = {"model.fusion": "concat"}
    experiments.run_all("a", {"faces": changes, "flow": changes, "audio": changes}, [0])
    options = ["-S", 'model.fusion="concat"', "-S", "train.seed=0"]
    assert commands[1:] == [
        ["exp", "run", "-n", "a-flow-seed0", "--force", *options, "evaluate"],
        ["exp", "run", "-n", "a-audio-seed0", *options, "evaluate"],
    ]
