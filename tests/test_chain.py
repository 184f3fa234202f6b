"""The exported chain predicts clips outside the repository, without PyTorch, as the Predictor does."""

import io
import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tools.export
import tools.predict
from lib.core.errors import InputError
from lib.core.parameters import check
from lib.core.targets import TargetGroup
from lib.data.inputs import list_streams
from lib.model import checkpoint
from lib.model.checkpoint import TrainingSummary
from lib.model.committee import Committee, build_model
from lib.model.settings import Settings
from lib.serving import export_chain
from lib.serving.predictor import Predictor
from lib.streams import base
from lib.streams.base import Steps, StreamInfo
from lib.training import regressions
from tests.code_blocks import find_code_blocks
from tests.compiled_flow import compile_flow
from tests.conftest import ROOT
from tests.rendered_corpus import render_corpus
from tests.run_tool import call_main
from tests.stage_parameters import small_parameters

pytest.importorskip("onnxscript", reason="requirements-export.txt is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="requirements-export.txt is not installed")

CLIPS = 10
BLOCKED = (
    "torch", "torchvision", "facenet_pytorch", "pydantic", "librosa", "scipy", "pandas", "h5py", "sklearn",
)  # fmt: skip
SHAPES: dict[str, dict[str, list[int]]] = {
    "frames": {"": [3, 240, 320]}, "faces": {"": [3, 64, 64]}, "flow": {"": [2, 64, 64]},
    "audio": {"log_mel": [16], "mfcc": [6]},
}  # fmt: skip


def save_model(path: Path, **changes: Any) -> Path:
    """Save a network with random weights, and tables of intervals and percentiles."""
    values = small_parameters(**({"model__missing": "drop"} | changes))
    settings = check(values["model"], Settings)
    targets = settings.select_targets({name: check(group, TargetGroup) for name, group in values["targets"].items()})
    read = base.list_with_inputs
    names = [name for stream in list_streams(settings.settings_by_encoder()) for name in read(stream, values)]
    streams = {name: StreamInfo(dict(values[name]), SHAPES[name]) for name in dict.fromkeys(names)}
    torch.manual_seed(1)
    model = build_model(settings, targets, streams)
    if isinstance(model, Committee):
        fit_stacks(model)
    weights = model.state_dict()
    references = {
        name: checkpoint.Reference(
            torch.linspace(*group.range, 101)[:, None].expand(-1, len(group.columns)),
            torch.full((len(group.columns),), 0.1),
        )
        for name, group in targets.items()
    }
    training = TrainingSummary(["fiv2"], seconds=[1.9, 2.1], references=references)
    checkpoint.save(path, weights, settings, targets, streams, training)
    return path


def fit_stacks(model: Committee) -> None:
    """Fit the regressions of a stacked model on random numbers of the stream audio.mfcc."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(80, 12)).astype(np.float32)
    for name, stack in model.stacks.items():
        labels = rng.uniform(size=(80, model.first.heads[name].layers[0][1].out_features))  # type: ignore[index,union-attr]
        numbers = regressions.Numbers(values, {"audio": np.arange(12)})
        fitted = regressions.fit_stack(numbers, labels, np.arange(80) // 2, trees=True, others=labels + 0.1)
        stack.set(**fitted.tensors)  # type: ignore[operator]


def save_sound_model(path: Path, **changes: Any) -> Path:
    """Save a model of one encoder of kind vectors that reads MFCC."""
    reads = {"model__use": ["features"], "model__encoders__features__reads": ["audio.mfcc"]}
    return save_model(path, **reads, **changes)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Ten rendered clips."""
    folder = tmp_path_factory.mktemp("clips")
    contents: list[bytes] = []
    with zipfile.ZipFile(render_corpus() / "train-1.zip") as archive:
        for part in archive.namelist():
            with zipfile.ZipFile(io.BytesIO(archive.read(part))) as inner:
                contents += [inner.read(name) for name in inner.namelist() if name.endswith(".mp4")]
    for number, content in enumerate(contents[:CLIPS]):
        (folder / f"{number}.mp4").write_bytes(content)
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def exported(clips: list[Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The paths of a model and of its chain, outside the repository, with compiled flow."""
    folder = tmp_path_factory.mktemp("exported")
    compile_flow()
    model = save_model(folder / "model.pt")
    call_main(tools.export, clips[0], "--model", model, "--chain", folder / "chain")
    cache = folder / "chain/code/lib/streams/flow/__pycache__"
    cache.mkdir(exist_ok=True)
    for path in compile_flow():
        shutil.copy2(path, cache / path.name)
    return model, folder / "chain"


def run_without_torch(folder: Path, *arguments: object) -> list[dict[str, Any]]:
    """Return the predictions of a chain, in a process that can import neither PyTorch nor this project."""
    program = str(folder / "predict.py")
    script = (
        f"import runpy, sys; sys.modules.update(dict.fromkeys({BLOCKED})); sys.argv[0] = {program!r};"
        f" runpy.run_path({program!r}, run_name='__main__')"
    )
    line = [sys.executable, "-I", "-c", script, *map(str, arguments)]
    result = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False)
    assert not result.stderr
    return [json.loads(text) for text in result.stdout.splitlines()]


@pytest.mark.slow
def test_chain_scores_of_ten_clips_equal_pytorchs(
    clips: list[Path], exported: tuple[Path, Path], tmp_path: Path
) -> None:
    model, folder = exported
    (tmp_path / "text.mp4").write_text("no video")
    *predictions, silent = run_without_torch(folder, *clips, tmp_path / "text.mp4")
    assert len(predictions) == CLIPS
    predictor = Predictor(model, torch.device("cpu"))
    for clip, prediction in zip(clips, predictions, strict=True):
        expected = predictor(clip)
        assert not expected.rejected
        for group, estimates in expected.targets.items():
            for column, estimate in estimates.items():
                exported_estimate = prediction["targets"][group][column]
                for part in ("score", "low", "high", "percentile"):
                    value = getattr(estimate, part)
                    tolerance = 1e-2 if part == "percentile" else 1e-4
                    assert exported_estimate[part] == pytest.approx(value, abs=tolerance), (clip.name, column, part)
    assert silent["rejected"] == predictor(tmp_path / "text.mp4").rejected


@pytest.mark.slow
def test_stacked_model_predicts_and_exports(
    clips: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = save_sound_model(tmp_path / "model.pt", model__fusion="stacked")
    with pytest.raises(SystemExit) as caught:
        call_main(tools.predict, clips[0], "--model", model, "--format", "jsonl")
    assert not caught.value.code
    printed = json.loads(capsys.readouterr().out.splitlines()[0])["targets"]
    call_main(tools.export, *clips[:2], "--model", model, "--chain", tmp_path / "chain")
    assert "numba" not in (tmp_path / "chain/requirements.txt").read_text()
    (prediction,) = run_without_torch(tmp_path / "chain", clips[0])
    for group, estimates in printed.items():
        for column, estimate in estimates.items():
            assert prediction["targets"][group][column]["score"] == pytest.approx(estimate["score"], abs=1e-4)


@pytest.mark.slow
def test_documented_program_predicts_outside_the_repository(clips: list[Path], tmp_path: Path) -> None:
    model = save_sound_model(tmp_path / "model.pt", model__targets=["traits"])
    call_main(tools.export, clips[0], "--model", model, "--save-inputs", tmp_path / "inputs.npz")
    (program,) = (text for text in find_code_blocks(ROOT / "docs/predict.md", "python") if "onnxruntime" in text)
    (tmp_path / "program.py").write_text(program)
    line = [sys.executable, "-I", "program.py"]
    result = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=True)
    expected = Predictor(model, torch.device("cpu"))(clips[0]).targets["traits"]
    for text, (column, estimate) in zip(result.stdout.splitlines(), expected.items(), strict=True):
        name, *numbers = re.match(r"(\w+) (\S+), interval (\S+) to (\S+), percentile (\d+)$", text).groups()  # type: ignore[union-attr]
        assert name == column
        values = [estimate.score, estimate.low, estimate.high, estimate.percentile]
        for number, value, tolerance in zip(numbers, values, [1e-3, 1e-3, 1e-3, 0.6], strict=True):
            assert float(number) == pytest.approx(value, abs=tolerance)


@pytest.mark.slow
def test_exported_network_takes_other_numbers_of_clips_and_steps(clips: list[Path], tmp_path: Path) -> None:
    model = save_model(tmp_path / "model.pt", model__use=["audio"], model__fusion="concat")  # an LSTM
    call_main(tools.export, clips[0], "--model", model)
    predictor = Predictor(model, torch.device("cpu"))
    values = torch.randn(3, 97, 6)
    times = torch.arange(97.0).expand(3, -1) / 100
    session = onnxruntime.InferenceSession(model.with_suffix(".onnx"))
    arrays = {"audio_audio_mfcc_values": values.numpy(), "audio_audio_mfcc_times": times.numpy()}
    outputs = session.run(["traits"], {node.name: arrays[node.name] for node in session.get_inputs()})
    steps = Steps(values, times, torch.ones(3, 97, dtype=torch.bool))
    with torch.no_grad():
        expected = predictor.trained.network({"audio": {"audio.mfcc": steps}}).predicted["traits"]
    np.testing.assert_allclose(outputs[0], expected.numpy(), atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"faces__detector": "yunet"}, r"faces\.detector = 'yunet'; allowed with --chain: mtcnn"),
        ({"faces__identity": "sface"}, r"faces\.identity = 'sface'; allowed with --chain: none"),
    ],
)
def test_chain_names_settings_that_it_does_not_support(changes: dict[str, Any], message: str) -> None:
    values = small_parameters(**changes)
    with pytest.raises(InputError, match=message):
        export_chain.describe_arguments("faces", StreamInfo(values["faces"], {}))


def test_chain_names_streams_that_it_does_not_support() -> None:
    with pytest.raises(InputError, match=r"the stream voice, .* allowed with --chain: frames, faces, flow, audio"):
        export_chain.describe_arguments("voice", StreamInfo({}, {}))


def test_chain_rejects_a_folder_that_is_not_empty(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"--chain .* exists; allowed: a new or an empty folder"):
        call_main(tools.export, "a.mp4", "--chain", tmp_path)
