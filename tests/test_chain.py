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
from lib.data.inputs import list_streams
from lib.model.settings import Settings
from lib.serving import export_chain
from lib.serving.chain import Chain
from lib.serving.export import name_input
from lib.serving.predictor import Predictor
from lib.streams import base
from lib.streams.base import Steps, StreamInfo
from tests.chain_models import run_without_torch, save_model, save_network, save_sound_model
from tests.code_blocks import find_code_blocks
from tests.compiled_flow import compile_flow
from tests.conftest import ROOT
from tests.rendered_corpus import render_corpus
from tests.run_tool import call_main
from tests.stage_parameters import small_parameters
from tools.parameters import merge_parameters, plain

pytest.importorskip("onnxscript", reason="requirements-export.txt is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="requirements-export.txt is not installed")

CLIPS = 10
S2D = {
    "model__use": ["s2d", "flow", "features"], "model__fusion": "plain_concat", "model__encoders__s2d__landmarks": "points",
    "model__encoders__s2d__reads": ["faces", "landmarks"], "model__encoders__s2d__take": "all",
    "model__encoders__s2d__frames": 4, "model__encoders__s2d__steps": 4, "model__encoders__s2d__init": "reference",
    "model__encoders__features__reads": ["audio.mfcc"], "landmarks__enabled": True,
}  # fmt: skip
SMALL_AUDIO_VISUAL = [
    "model.encoders.audio.units=8", "model.encoders.audio.pool=8", "model.encoders.audio.width=16",
    "model.encoders.frames.backbone=vgg", "model.encoders.frames.filters=[[4],[8],[8]]",
    "model.encoders.frames.weights=null", "model.encoders.frames.frozen=0", "model.hidden=16",
]  # fmt: skip
SYSTEMS = [
    "fiv2", "audio_visual", "audio_visual_notebook", "s2d", "s2d_thesis", "traits_embeddings", "emotions", "multitask",
]  # fmt: skip
"""Parameters of the five published systems."""


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
    """The paths of a model with S2D, flow and MFCC, and of its chain, outside the repository, with compiled flow."""
    folder = tmp_path_factory.mktemp("exported")
    compile_flow()
    model = save_model(folder / "model.pt", **S2D)
    call_main(tools.export, clips[0], "--model", model, "--chain", folder / "chain")
    cache = folder / "chain/code/lib/streams/flow/__pycache__"
    cache.mkdir(exist_ok=True)
    for path in compile_flow():
        shutil.copy2(path, cache / path.name)
    return model, folder / "chain"


@pytest.fixture(scope="module")
def audio_visual(clips: list[Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The paths of a small model with the parameters of a published system, which has LSTMs, and of its chain."""
    folder = tmp_path_factory.mktemp("audio_visual")
    model = save_network(folder / "model.pt", plain(merge_parameters("audio_visual", SMALL_AUDIO_VISUAL)))
    call_main(tools.export, *clips[:2], "--model", model, "--chain", folder / "chain")
    return model, folder / "chain"


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
    exported = Chain(tmp_path / "chain")(clips[0])["targets"]
    for group, estimates in printed.items():
        for column, estimate in estimates.items():
            assert exported[group][column]["score"] == pytest.approx(estimate["score"], abs=1e-4)


@pytest.mark.slow
def test_documented_program_predicts_as_the_audio_visual_chain(
    clips: list[Path], audio_visual: tuple[Path, Path], tmp_path: Path
) -> None:
    model, folder = audio_visual
    (chained,) = run_without_torch(folder, clips[2], "--save-inputs", tmp_path / "inputs.npz")
    shutil.copy2(folder / "network.onnx", tmp_path / "model.onnx")
    (program,) = (text for text in find_code_blocks(ROOT / "docs/predict.md", "python") if "onnxruntime" in text)
    (tmp_path / "program.py").write_text(program)
    line = [sys.executable, "-I", "program.py"]
    result = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=True)
    expected = Predictor(model, torch.device("cpu"))(clips[2]).targets["traits"]
    for text, (column, estimate) in zip(result.stdout.splitlines(), expected.items(), strict=True):
        name, *numbers = re.match(r"(\w+) (\S+), interval (\S+) to (\S+), percentile (\d+)$", text).groups()  # type: ignore[union-attr]
        assert name == column
        assert chained["targets"]["traits"][column]["score"] == pytest.approx(estimate.score, abs=1e-4)
        values = [estimate.score, estimate.low, estimate.high, estimate.percentile]
        for number, value, tolerance in zip(numbers, values, [1e-3, 1e-3, 1e-3, 0.6], strict=True):
            assert float(number) == pytest.approx(value, abs=tolerance)


def check_other_sizes(model: Path, network: Path, clips: int, steps: int) -> None:
    """Compare the exported network with the model's for random inputs of other sizes."""
    trained, session = Predictor(model, torch.device("cpu")).trained, onnxruntime.InferenceSession(network)
    shapes = {node.name: node.shape for node in session.get_inputs()}
    times, present = torch.arange(float(steps)).expand(clips, -1) / 5, torch.ones(clips, steps, dtype=torch.bool)
    arrays, inputs = dict[str, np.ndarray](), dict[str, dict[str, Steps]]()
    for name, encoder in trained.network.settings_by_encoder.items():
        for reference in encoder.reads:
            values = torch.rand(clips, steps, *shapes[name_input(name, reference, "values")][2:])
            inputs.setdefault(name, {})[reference] = Steps(values, times, present)
            arrays[name_input(name, reference, "values")] = values.numpy()
            arrays[name_input(name, reference, "times")] = times.numpy()
    outputs = session.run(["traits"], {node.name: arrays[node.name] for node in session.get_inputs()})
    with torch.no_grad():
        expected = trained.network(inputs).predicted["traits"].numpy()
    np.testing.assert_allclose(outputs[0], expected, atol=1e-4)


@pytest.mark.slow
def test_exported_lstm_takes_other_numbers_of_clips_and_steps(audio_visual: tuple[Path, Path]) -> None:
    model, folder = audio_visual
    check_other_sizes(model, folder / "network.onnx", 3, 40)


@pytest.mark.slow
def test_exported_s2d_takes_other_numbers_of_clips_and_windows(exported: tuple[Path, Path]) -> None:
    model, folder = exported
    for clips, steps in ((1, 4), (3, 9), (2, 3)):  # windows of 4 steps: one, three, and one that is not full
        check_other_sizes(model, folder / "network.onnx", clips, steps)


@pytest.mark.parametrize("name", SYSTEMS)
def test_documentation_lists_the_chains_of_published_systems(name: str) -> None:
    values = plain(merge_parameters(name, []))
    streams = [
        stream
        for read in list_streams(check(values["model"], Settings).settings_by_encoder())
        for stream in base.list_with_inputs(read, values)
    ]
    answer = "yes"
    if "embeddings" in streams:
        answer, message = (
            "no",
            r"PyTorch \(embeddings\.network\); allowed with --chain: frames, faces, landmarks, flow, audio",
        )
        with pytest.raises(InputError, match=message):
            export_chain.describe_arguments("embeddings", StreamInfo(values["embeddings"], {}))
    for stream in streams if answer == "yes" else ():
        export_chain.describe_arguments(stream, StreamInfo(values[stream], {}))
    (row,) = re.findall(rf"^\|.*`{name}`.*\| (yes|no) \|", (ROOT / "docs/predict.md").read_text(), re.MULTILINE)
    assert row == answer


def test_chain_says_what_prevents_each_other_stream() -> None:
    names = {path.stem for path in (ROOT / "lib/streams").iterdir() if not path.name.startswith("_")} - {
        "base",
        "build",
    }
    assert names == set(export_chain.PREVENTS) | {"frames", "faces", "landmarks", "flow", "audio"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"faces__detector": "yunet"}, r"faces\.detector = 'yunet'; allowed with --chain: mtcnn"),
        ({"landmarks__detector": "dlib"}, r"landmarks\.detector = 'dlib'; allowed with --chain: faces"),
        ({"faces__identity": "sface"}, r"faces\.identity = 'sface'; allowed with --chain: none"),
    ],
)
def test_chain_names_settings_that_it_does_not_support(changes: dict[str, Any], message: str) -> None:
    (stream,) = {name.partition("__")[0] for name in changes}
    with pytest.raises(InputError, match=message):
        export_chain.describe_arguments(stream, StreamInfo(small_parameters(**changes)[stream], {}))


def test_chain_names_streams_that_it_does_not_support() -> None:
    with pytest.raises(
        InputError, match=r"the stream voice: its extraction needs SciPy; allowed with --chain: frames, "
    ):
        export_chain.describe_arguments("voice", StreamInfo({}, {}))


def test_chain_rejects_a_folder_that_is_not_empty(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"--chain .* exists; allowed: a new or an empty folder"):
        call_main(tools.export, "a.mp4", "--chain", tmp_path)
