"""Several corpora: a common scale, held-out corpora, scores on each, the drop, and leave-one-corpus-out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lib.core.errors import InputError, SettingError
from lib.core.targets import TRAITS, TargetGroup
from lib.report import figures
from lib.report.figures import FigureInputs
from lib.scoring import corpus_scores
from lib.scoring.bootstrap import Bootstrap
from lib.scoring.corpus_scores import CorpusClips, align_ranks, permute_correlation, score_corpus
from lib.sources import _across
from lib.sources import settings as sources
from tests.conftest import ROOT
from tests.project_copy import WITHOUT_VIDEO
from tests.stage_runs import StageRuns
from tests.test_download import RunDownload, run_download, write_fiv2_annotations
from tests.test_vlogs import write_corpus
from tools import parameters as written

__all__ = ["run_download"]

SETTINGS = written.plain(written.merge_parameters("fiv2_vlogs", []))
BOOTSTRAP = Bootstrap(300, 0)


def check_settings(**changes: Any) -> dict[str, list[str]]:
    """The columns that are scored on each corpus with changes SECTION__KEY=value of params/fiv2_vlogs.yaml."""
    parameters = json.loads(json.dumps(SETTINGS))
    for path, value in changes.items():
        section, _, key = path.partition("__")
        parameters[section][key] = value
    settings = sources.Parameters.model_validate({"download": parameters["download"]}).download
    sources.check_targets(parameters, settings)
    return sources.find_scored(parameters, settings)


def test_shipped_parameters_score_traits_on_both_corpora() -> None:
    assert check_settings() == {"fiv2": [*TRAITS], "vlogs": [*TRAITS]}
    assert check_settings(evaluate__on=[]) == {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"evaluate__on": ["fiv2", "mosei"]},
            "evaluate.on has 'mosei'; allowed: corpora of download.sources, fiv2, vlogs",
        ),
        (
            {"download__sources": ["fiv2", "mosei"], "download__held_out": [], "evaluate__on": ["mosei"]},
            "evaluate.on has 'mosei', whose targets are sentiment, neutral, .*; allowed: corpora with targets of",
        ),
        (
            {"download__scale": "original"},
            r"evaluate.on has 'vlogs', whose extraversion ranges from 1 to 7; allowed: targets.traits.range = \[0, 1\]. Set",
        ),
        ({"download__held_out": ["demo"]}, "download.held_out has 'demo'; allowed: corpora of download.sources, fiv2"),
        ({"download__held_out": ["vlogs", "fiv2"]}, "has every corpus of download.sources; leave one for training"),
    ],
)
def test_unsuitable_corpora_are_rejected(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        check_settings(**changes)


def test_held_out_corpus_has_no_split_and_the_unit_scale(
    run_download: RunDownload, capsys: pytest.CaptureFixture[str]
) -> None:
    write_corpus(Path("data/archives/vlogs"))
    write_fiv2_annotations({"training": 40, "validation": 20})
    table = run_download(**SETTINGS["download"]).set_index("corpus")
    assert set(table.loc["fiv2", "split"]) == {"training", "validation", "test"}
    assert (table.loc["vlogs", "split"] == "").all()
    scores = pd.read_csv("data/archives/vlogs/YouTube-Personality-Personality_impression_scores.csv", sep=" ")
    vlogs = table.loc["vlogs"].set_index("clip")["openness"]
    expected = scores.set_index("vlogId")["Open"].sub(1).div(6)
    np.testing.assert_allclose(vlogs[expected.index], expected, atol=1e-9)
    assert table.loc["fiv2", "openness"].max() == pytest.approx(39 / 90)
    assert "30 clips of vlogs are held out: no model is trained on them, and evaluate.on" in capsys.readouterr().out
    data = json.loads(Path("metrics/data.json").read_text())
    assert data["held_out"] == {"vlogs": 30}
    assert "left_out" not in data
    with pytest.raises(
        InputError, match="'vlogs', but none of its 30 usable clips has a label of openness; add labels"
    ):
        _across.require_labels(table.reset_index().assign(openness=np.nan), {"vlogs": ["openness"]})


def test_unit_scale_divides_deviations_between_raters() -> None:
    table = pd.DataFrame({"warm": [1.0, 7.0], "warm_n": [5, 5], "warm_sd": [0.6, 1.2]})
    unit = _across.to_unit(table, {"warm": (1, 7)})
    assert unit.to_dict("list") == {"warm": [0, 1], "warm_n": [5, 5], "warm_sd": pytest.approx([0.1, 0.2])}


def test_rank_alignment_maps_to_training_quantiles() -> None:
    labels = np.array([[5.0, 2], [1, np.nan], [3, 1]])
    training = np.column_stack([np.linspace(0, 1, 101), np.full(101, np.nan)])
    np.testing.assert_allclose(
        align_ranks(labels, training), [[5 / 6, 2], [1 / 6, np.nan], [0.5, 1]]
    )  # a column without training labels stays


def make_clips(noise: float, count: int = 120) -> CorpusClips:
    """Labels of two targets; the model's errors are larger than those of the regression within the corpus."""
    rng = np.random.default_rng(0)
    actual = rng.uniform(size=(count, 2))
    model, within = (0.5 + 0.5 * (actual - 0.5) + rng.normal(0, std, actual.shape) for std in (noise, 0.05))
    videos = np.repeat([f"v{number}" for number in range(count // 2)], 2)
    return CorpusClips(["warm", "cold"], actual, videos, {"model": model}, {"model": within}, trained=False, span=1.0)


def test_drop_is_the_difference_of_the_scores() -> None:
    table = score_corpus(make_clips(0.3), BOOTSTRAP).set_index(["fit", "score", "target"])
    values = table["value"]
    for score in corpus_scores.SCORES:
        for target in ("mean", "warm", "cold"):
            difference = values["within_corpus", score, target] - values["training", score, target]
            assert values["drop", score, target] == pytest.approx(difference)
            assert table.loc[("drop", score, target), "low"] > 0
    p = table["p"].dropna()
    assert set(p.index.get_level_values("score")) == {"pearson"}
    assert p["within_corpus", "pearson", "warm"] == pytest.approx(1 / 301)
    assert table["clips"].eq(120).all()
    assert table["videos"].eq(60).all()


def test_permutation_of_videos_rejects_only_related_predictions() -> None:
    clips = make_clips(0.1)
    noise = np.random.default_rng(1).uniform(size=clips.actual.shape)
    predicted = np.column_stack([clips.predictions["model"][:, 0], noise[:, 1]])
    _, related, unrelated = permute_correlation(clips.actual, predicted, clips.videos, BOOTSTRAP)
    assert related == pytest.approx(1 / 301)
    assert unrelated > 0.05


def test_figure_pairs_the_fits_and_caption_states_the_drop() -> None:
    group = TargetGroup(columns=["warm", "cold"], range=[0, 1], head="sigmoid", loss="mse", weight=1)
    table = score_corpus(make_clips(0.3), BOOTSTRAP).assign(targets="own", corpus="vlogs", trained=False)
    results, module = FigureInputs(corpus_scores=table), figures.FIGURES["across_corpora"]
    figure = module.draw(results, group)
    assert len(figure.axes) == 3 * 3
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "trained on the training clips",
        "corpus itself",
    ]
    means = table[(table["target"] == "mean") & (table["score"] == "pearson")].set_index("fit")
    (line,) = figure.axes[3].collections[0].get_segments()
    assert sorted(line[:, 0]) == pytest.approx(sorted(means.loc[["training", "within_corpus"], "value"]))
    cells = {fit: "{:.2f} [{:.2f}, {:.2f}]".format(*means.loc[fit, ["value", "low", "high"]]) for fit in means.index}
    assert figures.make_caption(module, results, group) == (
        f"{module.CAPTION} Here mean r of the model is {cells['training']} on vlogs (120 clips, none in training),"
        f" {cells['drop']} below that of ridge fitted to vlogs itself."
    )
    assert not module.applies(FigureInputs())
    assert module.describe(FigureInputs(), group) == ""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> StageRuns:
    """FIV2's layout with 80 clips and 30 vlogs. One feature is openness in both corpora; no other trait has one."""
    project, rng = StageRuns(tmp_path_factory.mktemp("across")), np.random.default_rng(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project.folder)
        write_fiv2_annotations({"training": 60, "validation": 20})
        write_corpus(Path("data/archives/vlogs"))
        labels = {f"{split}{number:03d}.000.mp4": 7 * number % 40 / 90 for split, count in
                  (("training", 60), ("validation", 20)) for number in range(count)}  # fmt: skip
        path = Path("data/archives/vlogs/YouTube-Personality-Personality_impression_scores.csv")
        vlogs = pd.read_csv(path, sep=" ").set_index("vlogId")["Open"]
        labels |= ((vlogs - 1) / 6).to_dict()
        table = pd.DataFrame({"clip": [*labels], "level": [*labels.values()], "noise": rng.normal(size=len(labels))})
        table.to_csv("data/archives/measures.csv", index=False)
    project.list_archives()
    project.run_module(
        "tools.parameters", "fiv2_vlogs", *WITHOUT_VIDEO, "text.enabled=false", "features.enabled=true",
        "features.files=[measures.csv]", "model.use=[features]", "train.epochs=2", "evaluate.resamples=200",
    )  # fmt: skip
    project.run_stages(last="evaluate")
    return project


@pytest.mark.slow
def test_model_is_scored_on_a_corpus_it_never_read(project: StageRuns) -> None:
    table = pd.read_csv(project.folder / "data/corpus_scores.csv")
    model = table[table["predictor"] == "model"].set_index(["corpus", "fit", "score", "target"]).sort_index()
    assert model["trained"].groupby(level="corpus").first().to_dict() == {"fiv2": True, "vlogs": False}
    assert model.loc["vlogs", "clips"].eq(30).all()
    ridge = table[table["predictor"] == "ridge_features"].set_index(["corpus", "fit", "score", "target"]).sort_index()
    assert ridge.loc[("vlogs", "training", "pearson", "openness"), "value"] > 0.9  # ridge limits inputs
    assert ridge.loc[("vlogs", "training", "pearson", "openness"), "p"] == pytest.approx(1 / 201, abs=1e-6)
    assert set(ridge.loc["vlogs"].index.levels[0]) >= {"training", "within_corpus", "drop"}
    assert set(ridge.loc["fiv2"].index.get_level_values("fit")) == {"training"}
    predictions = pd.read_csv(project.folder / "data/predictions.csv")
    assert set(predictions["corpus"]) == {"fiv2"}


@pytest.mark.slow
def test_evaluate_rejects_a_corpus_without_clips(project: StageRuns) -> None:
    text = (project.folder / "params.yaml").read_text()
    project.edit({"on: [fiv2, vlogs]": "on: [demo]"})
    with pytest.raises(SettingError, match=r"^evaluate\.on has 'demo', which has no usable clip; allowed: corpora"):
        project.run_stages(first="evaluate", last="evaluate")
    (project.folder / "params.yaml").write_text(text)


def test_parameters_and_benchmark_page_agree() -> None:
    page = (ROOT / "docs/benchmarks/across_corpora.md").read_text()
    assert "python -m tools.parameters fiv2_vlogs" in page
    assert "docs/benchmarks/across_corpora.md" in (ROOT / "params/fiv2_vlogs.yaml").read_text()
