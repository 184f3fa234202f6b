"""The header of the model card: valid YAML with tags, data sets, and scores with their intervals."""

import numpy as np
import yaml
from huggingface_hub import ModelCard

from lib.report.card_header import make_header
from tests.report_data import WARMTH, score_model
from tests.test_report import make_run

NAMES = WARMTH.model_copy(update={"columns": ["warm: yes", "# cold"]})


def make_scores(unseen: int = 20) -> str:
    scores, _ = score_model(NAMES, 0.1, unseen)
    return make_header(scores.assign(targets="warmth"), {"warmth": NAMES}, make_run("fiv2", "table"))


def test_header_has_tags_and_scores_with_intervals() -> None:
    text = make_scores()
    assert text.startswith("---\nlicense: unknown\n")
    header = yaml.safe_load(text.strip("-\n"))
    assert header["datasets"] == ["fiv2", "table"]
    assert {"apparent-personality", "warmth", "faces"} <= {*header["tags"]}
    ((result,),) = (entry["results"] for entry in header["model-index"])
    assert result["dataset"]["split"] == "test"
    by_name = {metric["name"]: metric for metric in result["metrics"]}
    assert len(by_name) == len(result["metrics"]) == 2 * 3 * 3
    metric = by_name["mean absolute error, warm: yes, all clips"]
    assert metric["type"] == "mae"
    low, high = metric["interval_95"]
    assert low < metric["value"] < high
    scores, _ = score_model(NAMES, 0.1)
    chosen = scores.query("predictor == 'model' and subset == 'all' and score == 'mae' and target == 'warm: yes'")
    assert np.isclose(metric["value"], chosen["value"].item(), atol=1e-4)


def test_hub_library_reads_the_header() -> None:
    data = ModelCard(f"{make_scores()}\n# Model card\n").data
    assert data.pipeline_tag == "video-classification"
    assert {result.metric_type for result in data.eval_results} == {"mae", "r2", "ccc"}
    assert {result.dataset_name for result in data.eval_results} == {"fiv2 and table"}
