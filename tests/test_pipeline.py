"""The complete pipeline in a copy of the project, with a demo of a few clips."""

import io
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import h5py
import pandas as pd
import pytest

from lib.report.figures import FIGURES, is_drawn
from lib.scoring import baselines
from tests.project_copy import Project, run_python, stages_run
from tests.published_files import FaceSearch, read_images, read_texts

STAGES = [
    "download",
    "frames",
    "audio",
    "waveform",
    "speech",
    "features",
    "text",
    "pictures",
    "faces",
    "landmarks",
    "flow",
    "embeddings",
    "scenes",
    "descriptors",
    "behaviour",
    "voice",
    "sound_descriptors",
    "train",
    "evaluate",
    "analyse",
    "figures",
]


FACES_IN = (
    "samples",
    "attention_on_the_face",
    "mean_attention",
    "importance_on_the_face",
    "report",
)
"""Files with images of faces."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("project"), rendered=True)
    project.edit({"GPUs\n  workers: 1": "GPUs\n  workers: 0"})
    project.commit("several workers")
    printed = project.dvc("repro")
    assert sorted(stages_run(printed)) == sorted(STAGES)
    assert "is empty" not in printed  # DVC's warning about folders of disabled streams
    project.commit("demo")
    return project


def test_shared_report_has_no_names_and_faces(project: Project, tmp_path: Path) -> None:
    copy, search = tmp_path / "copy", FaceSearch()
    shutil.copytree(project.folder, copy, symlinks=True)
    clips = pd.read_csv(copy / "data/clips.csv")
    names = {Path(clip).stem for clip in clips["clip"]} | set(clips["video"])

    def search_files(folder: Path) -> tuple[set[str], Iterator[int]]:
        """Return the names in generated files, and the numbers of faces in the files of FACES_IN."""
        generated = [path for path in (folder / "plots").rglob("*.*") if path.is_file()]
        generated += [folder / "docs/model_card.md", folder / "docs/data_sheet.md"]
        texts = "\n".join(map(read_texts, generated))
        with_images = [path for path in generated if path.stem in FACES_IN]
        return {name for name in names if name in texts}, (search.count(read_images(path)) for path in with_images)

    shown, faces = search_files(project.folder)
    assert shown
    assert any(faces)
    text = (copy / "params.yaml").read_text()
    (copy / "params.yaml").write_text(
        text.replace("  faces: show\n", "  faces: blur\n").replace("  names: clip\n", "  names: pseudonym\n")
    )
    run_python(copy, "-m", "stages.figures")
    shown, faces = search_files(copy)
    assert not shown
    assert not any(faces)


def test_repro_runs_all_stages_from_clips_to_report(project: Project) -> None:
    drawn = {name: module for name, module in FIGURES.items() if name != "confusion" and not hasattr(module, "applies")}
    for name in (name if is_drawn(module, None) else f"traits/{name}" for name, module in drawn.items()):
        assert (project.folder / f"plots/figures/{name}.png").stat().st_size > 5000
        assert (project.folder / f"plots/pdf/{name}.pdf").stat().st_size > 5000
    predictions = pd.read_csv(project.folder / "data/predictions.csv")
    assert predictions["split"].value_counts().to_dict() == {"training": 60, "validation": 20, "test": 20}
    predictions = predictions[predictions["split"] == "test"]
    assert predictions["predicted"].between(0, 1).all()
    assert (predictions.groupby("target")["predicted"].nunique() > 1).all()
    errors = (predictions["predicted"] - predictions["actual"]).abs().groupby(predictions["clip"]).mean()
    with h5py.File(project.folder / "data/samples.h5") as file:
        assert list(file) == errors.sort_values().index[[0, 1, 3]].tolist()
    split_scores = pd.read_csv(project.folder / "data/split_scores.csv").set_index("split")
    assert split_scores["clips"].groupby("split").first().to_dict() == {"training": 12, "validation": 4, "test": 4}
    scores = pd.read_csv(project.folder / "data/scores.csv")
    is_chosen = (
        (scores["subset"] == "all") & (scores["predictor"] == "model") & scores["score"].isin(["accuracy", "r2"])
    )
    assert split_scores.loc["test", "value"].to_numpy() == pytest.approx(scores.loc[is_chosen, "value"], nan_ok=True)
    history = pd.read_csv(project.folder / "plots/history.csv").set_index("epoch")
    best_epoch = json.loads((project.folder / "metrics/train.json").read_text())["best_epoch"]
    validation_scores = split_scores.loc["validation"].set_index(["score", "target"])["value"]
    for score in ("accuracy", "r2"):
        assert validation_scores[score, "mean"] == pytest.approx(
            history.loc[best_epoch, f"validation_{score}_traits"], abs=2e-6
        )
    page = (project.folder / "plots/report.html").read_text()
    assert "planted labels" in page
    for caption in ("Headline", "Clips used", "Target distributions", "Scores by split", "Samples", "Learning curve"):
        assert f"<strong>{caption}.</strong>" in page
    assert "On all clips (4 clips, " in page
    assert "<tr><td>download.demo.clips</td><td>200</td><td>20</td></tr>" in page
    start_commit = project.run("git", "rev-parse", "HEAD~1").stdout.strip()
    provenance = json.loads((project.folder / "data/provenance.json").read_text())
    assert provenance["commit"].startswith(start_commit)
    assert provenance["clips"] == {"training": 12, "validation": 4}
    start_date = project.run("git", "log", "-1", "--format=%cI", start_commit).stdout.strip()
    assert (provenance["newest_input"], provenance["commit_date"]) == ("", start_date)  # rendered clips have no date
    assert "(date of the commit, because rendered clips have no date)" in page
    assert "cores" in provenance["hardware"] or "NVIDIA" in provenance["hardware"]
    card = (project.folder / "docs/model_card.md").read_text()
    assert "2 encoders, fused by `cross_attention`" in card
    headline = json.loads((project.folder / "metrics/scores.json").read_text())["test"]["traits"]["all"]
    assert f"| mean | {headline['model']['accuracy']:.4f} | " in card  # no interval: too few videos
    assert "Scored are 4 of 4 clips" in card
    lengths = json.loads((project.folder / "metrics/lengths.json").read_text())
    assert lengths["faces"]["training"]["clips"] == 12
    assert "Lengths of the clips" in page
    assert stages_run(project.dvc("repro")) == []


def test_predict_gives_the_evaluated_scores(project: Project) -> None:
    clips = sorted((project.folder / "data/raw/demo/test80_01").glob("*.mp4"))
    result = subprocess.run(
        [sys.executable, "-m", "tools.predict", *map(str, clips)],
        cwd=project.folder, env=project.environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    rows = pd.read_csv(io.StringIO(result.stdout), keep_default_na=False)
    predictions = pd.read_csv(project.folder / "data/predictions.csv")
    evaluated = predictions.pivot(index="clip", columns="target", values="predicted")
    assert rows["clip"].tolist() == [*map(str, clips)]
    assert (rows["rejected"] == "").all()
    assert rows["warnings"].str.startswith("the model was trained on rendered clips, so its scores").all()
    assert result.stderr.startswith("warning: the model was trained on rendered clips")
    for row in rows.itertuples():
        values = rows.loc[row.Index, evaluated.columns].astype(float)
        assert values.to_numpy() == pytest.approx(evaluated.loc[Path(row.clip).name].to_numpy(), abs=1e-4)


def test_experiment_runs_only_changed_stages_and_dvc_plots(project: Project) -> None:
    assert project.run_experiment("model.fusion=concat", "train.clips=8") == ["train", "evaluate"]
    split_scores = pd.read_csv(project.folder / "data/split_scores.csv").set_index("split")
    assert 5 <= split_scores.loc["training", "clips"].iloc[0] <= 8
    assert "traits.all.model.accuracy" in project.dvc("metrics", "diff")
    project.dvc("plots", "show")
    page = (project.folder / "dvc_plots/index.html").read_text()
    assert "vegaEmbed" in page
    assert 'src="http' not in page
    assert "loss" in page


def test_text_of_the_demo_is_a_stream_for_a_model(project: Project) -> None:
    changes = ("text.enabled=true", "model.use=[text]", "model.fusion=plain_concat", "train.epochs=1")
    assert project.run_experiment(*changes) == ["text", "train", "evaluate"]
    assert json.loads((project.folder / "metrics/text.json").read_text())["clips"] == 20
    scores = pd.read_csv(project.folder / "data/scores.csv")
    assert {"model", "ridge_text", "ridge_descriptors"} <= set(scores["predictor"])
    assert project.run("git", "checkout", "-q", "--", "params.yaml").returncode == 0


def test_ablate_reuses_finished_runs_and_writes_the_table(project: Project) -> None:
    ablate = f"{sys.executable} -m tools.ablate --seeds 0 --resamples 500 --baseline faces --variants".split()
    parameters = (project.folder / "params.yaml").read_bytes()
    first = project.run(*ablate, "faces")
    assert first.returncode == 0, first.stdout
    second = project.run(*ablate, "faces", "late_average")
    assert second.returncode == 0, second.stdout
    assert "1 of 2: ablation-faces-seed0 is there" in second.stdout
    assert stages_run(second.stdout) == ["train", "evaluate"]
    assert "| against faces | mean |" in second.stdout
    table = pd.read_csv(project.folder / "plots/ablation.csv")
    assert {"faces", "late_average", *baselines.NAMES, "ridge_audio"} <= set(table["predictor"])
    assert (project.folder / "params.yaml").read_bytes() == parameters
    project.edit({"patience: 10": "patience: 9"})
    third = project.run(*ablate, "faces")
    assert third.returncode == 1
    assert "ablation-faces-seed0 was made with another section 'train' than params.yaml now has" in third.stdout
    project.edit({"patience: 9": "patience: 10"})


def test_invalid_parameters_give_messages_and_keep_results(project: Project) -> None:
    unknown = project.run("dvc", "exp", "run", "-S", "model.fusion=sum")
    assert unknown.returncode != 0
    assert "model.fusion = 'sum'; allowed: cross_attention, concat, plain_concat, late_average" in unknown.stdout
    mistyped = project.run("dvc", "exp", "run", "-S", "model.fusoin=concat")
    assert mistyped.returncode != 0
    assert "fusoin" in mistyped.stdout
    assert project.run("git", "checkout", "-q", "--", "params.yaml").returncode == 0
    rerun = {"train", "evaluate", "analyse", "figures"}  # DVC's run cache may have all of them
    assert set(stages_run(project.dvc("repro"))) <= rerun
    assert (project.folder / "data/model.pt").exists()
    download = project.run("dvc", "repro", "-s", "download")
    assert download.returncode == 0
    project.edit({"sources: [demo]": "sources: [fiv2]"})
    no_archives = project.run("dvc", "repro", "download")
    assert no_archives.returncode != 0
    assert "data/archives/ is empty" in no_archives.stdout
    project.edit({"sources: [fiv2]": "sources: [demo]"})
    assert stages_run(project.dvc("repro", "flow")) == []


def test_disjoint_split_shares_no_video(project: Project) -> None:
    shared_videos = json.loads((project.folder / "metrics/data.json").read_text())["videos_shared_with_training"]
    assert max(shared_videos.values()) > 0
    project.edit({"split: official": "split: disjoint"})
    assert stages_run(project.dvc("repro", "download")) == ["download"]
    summary = json.loads((project.folder / "metrics/data.json").read_text())
    assert summary["videos_shared_with_training"] == {"validation": 0, "test": 0}
    assert summary["clips"] == {"training": 12, "validation": 4, "test": 4}
