"""FIV2 in the pipeline: a corpus in its layout with person groups, and two of its real clips."""

from pathlib import Path

import pandas as pd
import pytest

from lib.sources.demo import corpus
from tests.conftest import REAL, needs_real_clips
from tests.project_copy import ANALYSES, Project, stages_run
from tests.rendered_corpus import copy_corpus
from tests.stage_runs import StageRuns

UNUSED = "audio", "flow", "descriptors"
"""Streams that the model of the test does not read."""


def test_person_groups_are_scored_without_retraining(tmp_path: Path) -> None:
    project = Project(tmp_path, compiled_flow=False)
    copy_corpus(project.folder / "data/archives/corpus")
    project.list_archives()
    project.environment |= {"FIV2_KEY_A": corpus.KEY_A, "FIV2_KEY_B": corpus.KEY_B}
    project.edit({f"{key}: {number}": f"{key}: 0" for key, number in ANALYSES.items()})
    project.edit({"sources: [demo]": "sources: [fiv2]", "use: [faces, flow]": "use: [faces]"})
    project.edit({f"\n{name}:\n  enabled: true": f"\n{name}:\n  enabled: false" for name in UNUSED})
    assert "train" in stages_run(project.dvc("repro", "evaluate"))
    assert pd.read_csv(project.folder / "data/group_scores.csv").empty
    clips = pd.read_csv(project.folder / "data/clips.csv")["clip"]
    persons = pd.DataFrame({"VideoName": clips, "Ethnicity": 2, "Gender": [1, 2] * (len(clips) // 2)})
    persons.to_csv(project.folder / "data/archives/eth_gender_annotations_dev.csv", sep=";", index=False)
    project.list_archives()
    output = project.dvc("repro", "evaluate")
    StageRuns.in_copy(project).run_stages(first="analyse")
    assert "flow" not in stages_run(output)
    assert "train: the cached model is valid: code, settings and data are unchanged" in output
    assert "faces: 3 shards are reused, 0 are to be built" in output
    table = pd.read_csv(project.folder / "data/group_scores.csv")
    assert set(table.loc[(table["kind"] == "gender") & (table["what"] == "difference"), "group"]) == {"male", "female"}
    scores = table[table["predictor"] == "model"].set_index(["kind", "what", "group", "score", "target"])
    of_model = pd.read_csv(project.folder / "data/scores.csv").query("predictor == 'model' and subset == 'all'")
    overall = of_model.set_index(["score", "target"])["value"]["accuracy", "openness"]
    everybody = scores.loc[("ethnicity", "value", "Caucasian", "accuracy", "openness"), "value"]
    assert everybody == pytest.approx(overall, abs=1e-4)
    for path in ("docs/model_card.md", "plots/report.html"):
        text = (project.folder / path).read_text()
        assert "not shown, because they have fewer than" in text.lower()
        assert "gives gender" not in text


@needs_real_clips
def test_two_real_clips_run_through_the_stages(tmp_path: Path) -> None:
    project = Project(tmp_path)
    for path in (*REAL.glob("*.pkl"), *REAL.glob("*.mp4")):
        (project.folder / "data/archives" / path.name).symlink_to(path)
    project.list_archives()
    project.edit({"sources: [demo]": "sources: [fiv2]"})
    failed = project.run("dvc", "repro", "download")
    assert failed.returncode != 0
    assert "of the annotated clips are missing or rejected" in failed.stdout
    project.edit({"allow_missing: 0.0": "allow_missing: 1.0"})
    output = project.dvc("repro", "flow")
    assert stages_run(output) == ["download", "frames", "faces", "flow"]
    assert "8000 clips are annotated; 7998 of them have no file" in output
    table = pd.read_csv(project.folder / "data/clips.csv")
    assert len(table) == 8000
    assert table["reason"].isna().sum() == 2
