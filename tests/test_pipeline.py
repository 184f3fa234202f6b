"""The whole pipeline in a copy of the project, on a demo of a few clips."""

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import pandas as pd
import pytest

from lib.report.figures import FIGURES, is_drawn
from lib.scoring import baselines
from tests.compiled import share_compiled_flow
from tests.conftest import ROOT

STAGES = [
    "download",
    "frames",
    "audio",
    "features",
    "text",
    "pictures",
    "faces",
    "landmarks",
    "flow",
    "embeddings",
    "descriptors",
    "sound_descriptors",
    "train",
    "evaluate",
    "analyse",
    "figures",
]
WITHOUT_VIDEO = [
    "download.videos=false", "frames.enabled=false", "faces.enabled=false", "flow.enabled=false", "audio.enabled=false",
    "descriptors.enabled=false",
]  # fmt: skip
SMALLER = {
    "clips: 200": "clips: 20", "seconds: 4.0": "seconds: 2.0", "epochs: 30": "epochs: 2",
    "importance_clips: 12": "importance_clips: 2", "robustness_clips: 24": "robustness_clips: 2",
    "control_repeats: 5": "control_repeats: 2", "resamples: 2000": "resamples: 200",
}  # fmt: skip
ANALYSES = {"attention_clips": 4, "control_clips": 20, "importance_clips": 2, "robustness_clips": 2, "map_clips": 500}
"""Keys that disable an analysis by 0, for tests of something else, and what the copies have."""


class Project:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            **{f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
        }
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        for name in subprocess.run(listed, cwd=ROOT, capture_output=True, check=True, text=True).stdout.split("\0"):
            if (ROOT / name).is_file() and not name.startswith(("dvc.lock", "metrics/")):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, folder / name)
        share_compiled_flow(folder)
        self.edit(SMALLER)
        for command in (["git", "init", "-q"], ["git", "add", "-A"], ["git", "commit", "-qm", "start"]):
            assert self.run(*command).returncode == 0

    def edit(self, changes: dict[str, str]) -> None:
        path = self.folder / "params.yaml"
        text = path.read_text()
        for before, after in changes.items():
            assert before in text
            text = text.replace(before, after)
        path.write_text(text)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, text=True, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def experiment(self, *changes: str) -> list[str]:
        """Run an experiment with these parameters changed, without analyses; return the stages that ran."""
        settings = [part for change in (*changes, *(f"analyse.{key}=0" for key in ANALYSES)) for part in ("-S", change)]
        return ran(self.dvc("exp", "run", *settings))

    def list_archives(self) -> None:
        done = self.run(sys.executable, "-m", "tools.archives")
        assert done.returncode == 0, done.stdout

    def own_table(self, table: pd.DataFrame, *changes: str) -> None:
        """Take labels of one's own, beside what else is in data/archives/, with these parameters changed."""
        table.to_csv(self.folder / "data/archives/clips.csv", index=False)
        self.list_archives()
        written = self.run(sys.executable, "-m", "tools.parameters", "table", *changes)
        assert written.returncode == 0, written.stdout

    def dvc(self, *arguments: str) -> str:
        done = self.run("dvc", *arguments)
        assert done.returncode == 0, done.stdout
        return done.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("project"))
    assert sorted(ran(project.dvc("repro"))) == sorted(STAGES)
    assert project.run("git", "add", "-A").returncode == 0
    assert project.run("git", "commit", "-qm", "demo").returncode == 0
    return project


def ran(output: str) -> list[str]:
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage '")]


def test_from_clips_to_figures(project: Project) -> None:
    for name in (name if is_drawn(module, None) else f"traits/{name}" for name, module in FIGURES.items()):
        if name == "traits/confusion":
            continue
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
    of_splits = pd.read_csv(project.folder / "data/split_scores.csv").set_index("split")
    assert of_splits["clips"].groupby("split").first().to_dict() == {"training": 12, "validation": 4, "test": 4}
    scores = pd.read_csv(project.folder / "data/scores.csv")
    chosen = (scores["subset"] == "all") & (scores["predictor"] == "model") & scores["score"].isin(["accuracy", "r2"])
    assert of_splits.loc["test", "value"].to_numpy() == pytest.approx(scores.loc[chosen, "value"], nan_ok=True)
    history = pd.read_csv(project.folder / "plots/history.csv").set_index("epoch")
    kept = json.loads((project.folder / "metrics/train.json").read_text())["kept_epoch"]
    of_validation = of_splits.loc["validation"].set_index(["score", "target"])["value"]
    for score in ("accuracy", "r2"):
        assert of_validation[score, "mean"] == pytest.approx(history.loc[kept, f"validation_{score}_traits"], abs=2e-6)
    page = (project.folder / "plots/report.html").read_text()
    assert "planted labels" in page
    for caption in ("Headline", "Clips used", "Target distributions", "Scores by split", "Samples", "Learning curve"):
        assert f"<strong>{caption}.</strong>" in page
    assert "On all clips (4 clips, " in page
    assert "<tr><td>download.demo.clips</td><td>200</td><td>20</td></tr>" in page
    start = project.run("git", "rev-parse", "HEAD~1").stdout.strip()
    provenance = json.loads((project.folder / "data/provenance.json").read_text())
    assert provenance["commit"].startswith(start)
    assert provenance["clips"] == {"training": 12, "validation": 4}
    date = project.run("git", "log", "-1", "--format=%cI", start).stdout.strip()
    assert (provenance["newest_input"], provenance["commit_date"]) == ("", date)  # all is rendered
    assert "<td>the commit of " in page
    assert "cores" in provenance["hardware"] or "NVIDIA" in provenance["hardware"]
    card = (project.folder / "docs/model_card.md").read_text()
    assert "2 encoders, fused by `cross_attention`" in card
    accuracy = json.loads((project.folder / "metrics/test.json").read_text())["traits"]["all"]["model"]["accuracy"]
    assert f"| mean | {accuracy:.4f} | " in card  # no interval: too few videos
    assert "Scored are 4 of 4 clips" in card
    assert ran(project.dvc("repro")) == []


def test_a_served_clip_is_as_evaluated(project: Project) -> None:
    clips = sorted((project.folder / "data/raw/demo/test80_01").glob("*.mp4"))
    done = subprocess.run(
        [sys.executable, "-m", "tools.predict", *map(str, clips)],
        cwd=project.folder, env=project.environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    rows = pd.read_csv(io.StringIO(done.stdout), keep_default_na=False)
    predictions = pd.read_csv(project.folder / "data/predictions.csv")
    evaluated = predictions.pivot(index="clip", columns="target", values="predicted")
    assert rows["clip"].tolist() == [*map(str, clips)]
    assert (rows["refused"] == "").all()
    assert rows["warnings"].str.startswith("the model was trained on rendered clips with planted labels").all()
    assert done.stderr.startswith("warning: the model was trained on rendered clips")
    for row in rows.itertuples():
        values = rows.loc[row.Index, evaluated.columns].astype(float)
        assert values.to_numpy() == pytest.approx(evaluated.loc[Path(row.clip).name].to_numpy(), abs=1e-4)


def test_an_ablation_runs_what_it_must_and_shows(project: Project) -> None:
    assert project.experiment("model.fusion=concat", "train.clips=8") == ["train", "evaluate", "analyse", "figures"]
    of_splits = pd.read_csv(project.folder / "data/split_scores.csv").set_index("split")
    assert 5 <= of_splits.loc["training", "clips"].iloc[0] <= 8
    assert "traits.all.model.accuracy" in project.dvc("metrics", "diff")
    project.dvc("plots", "show")
    page = (project.folder / "dvc_plots/index.html").read_text()
    assert "vegaEmbed" in page
    assert 'src="http' not in page
    assert "loss" in page


def test_the_demos_words_are_a_stream_that_a_model_reads(project: Project) -> None:
    changes = ("text.enabled=true", "model.use=[text]", "model.fusion=plain_concat", "train.epochs=1")
    assert project.experiment(*changes) == ["text", "train", "evaluate", "analyse", "figures"]
    assert json.loads((project.folder / "metrics/text.json").read_text())["clips"] == 20
    scores = pd.read_csv(project.folder / "data/scores.csv")
    assert {"model", "ridge_text", "ridge_descriptors"} <= set(scores["predictor"])
    assert project.run("git", "checkout", "-q", "--", "params.yaml").returncode == 0


def test_an_interrupted_ablation_goes_on_and_ends_in_the_table(project: Project) -> None:
    ablate = (
        sys.executable,
        "-m",
        "tools.ablate",
        "--seeds",
        "0",
        "--resamples",
        "500",
        "--baseline",
        "faces",
        "--variants",
    )
    parameters = (project.folder / "params.yaml").read_bytes()
    first = project.run(*ablate, "faces")
    assert first.returncode == 0, first.stdout
    again = project.run(*ablate, "faces", "late_average")
    assert again.returncode == 0, again.stdout
    assert "1 of 2: ablation-faces-seed0 is there" in again.stdout
    assert ran(again.stdout) == ["train", "evaluate"]
    assert "| against faces | mean |" in again.stdout
    table = pd.read_csv(project.folder / "plots/ablation.csv")
    assert {"faces", "late_average", *baselines.NAMES, "ridge_audio"} <= set(table["predictor"])
    assert (project.folder / "params.yaml").read_bytes() == parameters
    project.edit({"patience: 10": "patience: 9"})
    other = project.run(*ablate, "faces")
    assert other.returncode == 1
    assert "ablation-faces-seed0 was made with another section 'train' than params.yaml now has" in other.stdout
    project.edit({"patience: 9": "patience: 10"})


def test_mistakes_are_named_and_nothing_is_lost(project: Project) -> None:
    unknown = project.run("dvc", "exp", "run", "-S", "model.fusion=sum")
    assert unknown.returncode != 0
    assert "model.fusion = 'sum'; allowed: cross_attention, concat, plain_concat, late_average" in unknown.stdout
    mistyped = project.run("dvc", "exp", "run", "-S", "model.fusoin=concat")
    assert mistyped.returncode != 0
    assert "fusoin" in mistyped.stdout
    assert project.run("git", "checkout", "-q", "--", "params.yaml").returncode == 0
    assert ran(project.dvc("repro")) in (
        [],
        ["train", "evaluate", "analyse", "figures"],
    )  # from the run cache, or at most these
    assert (project.folder / "data/model.pt").exists()
    empty = project.run("dvc", "repro", "-s", "download")
    assert empty.returncode == 0
    project.edit({"sources: [demo]": "sources: [fiv2]"})
    missing = project.run("dvc", "repro", "download")
    assert missing.returncode != 0
    assert "data/archives/ is empty" in missing.stdout
    project.edit({"sources: [fiv2]": "sources: [demo]"})
    assert ran(project.dvc("repro", "flow")) == []


def test_a_disjoint_split_shares_no_video(project: Project) -> None:
    shared = json.loads((project.folder / "metrics/data.json").read_text())["videos_shared_with_training"]
    assert max(shared.values()) > 0
    project.edit({"split: official": "split: disjoint"})
    assert ran(project.dvc("repro", "download")) == ["download"]
    found = json.loads((project.folder / "metrics/data.json").read_text())
    assert found["videos_shared_with_training"] == {"validation": 0, "test": 0}
    assert found["clips"] == {"training": 12, "validation": 4, "test": 4}
