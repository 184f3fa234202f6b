"""params/fiv2_foundation.yaml on the demo's clips in FIV2's layout, with small random networks."""

import pickle
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest

from lib.sources.demo import corpus
from lib.sources.demo.head import Performance
from tests.pretrained_folders import make_image_folder, make_speech_folder, make_text_folder
from tests.rendered_corpus import copy_corpus
from tests.stage_runs import StageRuns
from tests.video_files import write_talking_head
from tools.benchmarks._foundation import measure
from tools.parameters import merge_parameters, plain

FROZEN = ["embeddings", "scenes", "speech", "sound_descriptors", "text"]
"""The streams of vectors that ridge regressions and the network read."""


def change_networks(networks: Path) -> list[str]:
    """Write small networks, and return changes KEY=VALUE of the parameters that name them and make everything smaller."""
    image = make_image_folder(networks / "image")
    changes = [
        f"embeddings.network={image}", f"scenes.network={image}", "embeddings.layers=mean", "frames.max_side=320",
        f"speech.network={make_speech_folder(networks / 'speech')}", f"text.network={make_text_folder(networks / 'text')}",
        "faces.side=64", "download.allow_missing=0.2", "model.width=24", "train.epochs=2", "train.batch_size=4",
        "evaluate.resamples=200", "analyse.control_clips=0", "analyse.importance_clips=0", "analyse.map_clips=0",
        "analyse.robustness_clips=2",
    ]  # fmt: skip
    if find_spec("opensmile") is None:
        changes += ["sound_descriptors.kinds=[prosody]", "model.encoders.prosody.reads=[sound_descriptors.prosody]"]
    return changes


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> StageRuns:
    project = StageRuns(tmp_path_factory.mktemp("project"))
    copy_corpus(project.folder / "data/archives/corpus")
    project.environment |= {"FIV2_KEY_A": corpus.KEY_A, "FIV2_KEY_B": corpus.KEY_B}
    project.list_archives()
    changes = change_networks(project.folder / "networks")
    project.run_module("tools.parameters", "fiv2_foundation", *changes)
    project.run_stages(last="analyse")
    return project


def test_network_ridge_and_stacked_baselines_are_scored(project: StageRuns) -> None:
    scores = pd.read_csv(project.folder / "data/scores.csv")
    assert {"model", "stacked_ridge", *(f"ridge_{name}" for name in FROZEN)} <= set(scores["predictor"])
    accuracies = scores[(scores["score"] == "accuracy") & (scores["subset"] == "all")].groupby("predictor")["value"]
    assert (accuracies.min() > 0.5).all()


def test_corrupted_faces_are_embedded_again(project: StageRuns) -> None:
    robustness = pd.read_csv(project.folder / "data/robustness.csv")
    assert "JPEG quality" in set(robustness["corruption"])
    assert robustness["accuracy"].notna().all()


def test_prediction_equals_the_one_of_the_pipeline(project: StageRuns) -> None:
    stored = pd.read_csv(project.folder / "data/predictions.csv")
    clip = next(path for path in (project.folder / "data/raw").rglob("*.mp4") if path.name in set(stored["clip"]))
    transcripts = [
        pickle.loads(path.read_bytes()) for path in (project.folder / "data/raw").rglob("transcription_*.pkl")
    ]
    words = next(texts[clip.name] for texts in transcripts if clip.name in texts)
    (project.folder / clip.name).write_bytes(clip.read_bytes())
    (project.folder / clip.name).with_suffix(".txt").write_text(words)
    project.run_module("tools.predict", clip.name, "--out", "predicted.csv")
    predicted = pd.read_csv(project.folder / "predicted.csv").iloc[0]
    expected = stored[stored["clip"] == clip.name].set_index("target")["predicted"]
    assert predicted[list(expected.index)].to_numpy(float) == pytest.approx(expected.to_numpy(), abs=1e-4)


def test_weights_of_a_network_rebuild_only_what_reads_them(project: StageRuns) -> None:
    def list_work() -> dict[str, set[str]]:
        """Return the names of the work files of each stage; they contain a hash of what the file depends on."""
        names = (*FROZEN, "frames", "faces", "train")
        return {name: {path.name for path in (project.folder / "data/.work" / name).iterdir()} for name in names}

    before = list_work()
    make_text_folder(project.folder / "networks/text", positions=80)
    project.run_stages(last="train")
    after = list_work()
    assert {name for name in before if before[name] != after[name]} == {"text", "train"}


def test_benchmark_measures_every_stream_and_a_training_step(tmp_path: Path) -> None:
    values = plain(merge_parameters("fiv2_foundation", change_networks(tmp_path / "networks")))
    write_talking_head(tmp_path / "a.mp4", 1, Performance(0.5, 1.5, 0.5, 2), 2.0)
    rows = [
        [cell.strip() for cell in row.split("|")] for row in measure(values, [tmp_path / "a.mp4"], tmp_path / "work")
    ]
    names = ["frames", "faces", "embeddings", "scenes", "speech", "audio", "sound_descriptors", "text", "training step"]
    assert [row[0] for row in rows] == names
    assert all(float(row[2]) >= 0 and 0.1 < float(row[4]) < 100 for row in rows)
    assert int(rows[2][3]) > 0
