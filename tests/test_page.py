"""The report page: its headline, its description of the run, and its layout in a browser of a phone and of a screen."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import Browser

from lib.report import figures, latex, page, verdict
from lib.report.figures import FigureInputs
from lib.report.figures.clips_used import count_by_step
from lib.report.lengths import COLUMNS
from lib.scoring.bootstrap import Bootstrap
from lib.scoring.tables import ScoredClips, group_table
from tests.report_data import CLIPS_AND_VIDEOS, DATA, FIVE_TRAITS, TRAINING_SUMMARY, WARMTH, score_model

LOST = pd.DataFrame(
    [("faces", "found in 0%", "training", 3), ("faces", "found in 0%", "test", 1), ("flow", "", "", 0)],
    columns=["step", "reason", "split", "clips"],
)
SHIPPED = {"train": {"seed": 0, "augment": {"mirror": True}}, "parallel": {"workers": 1}, "model": {"use": ["a", "b"]}}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report page about two target groups with wide and narrow figures, long tables and person groups."""
    folder = tmp_path_factory.mktemp("page")
    rng = np.random.default_rng(0)
    targets = {"warmth": WARMTH, "traits": FIVE_TRAITS}
    tables: dict[str, list[pd.DataFrame]] = {"scores": [], "comparisons": [], "persons": [], "predictions": []}
    for name, group in targets.items():
        scores, comparisons = score_model(group, 0.05)
        actual = rng.uniform(*group.range, (60, len(group.columns)))
        predictions_of_models = {"model": actual + 0.1, "mean_predictor": np.full_like(actual, 0.5)}
        gender = pd.DataFrame({"gender": np.tile(["female", "male"], 30)})
        videos, is_seen = CLIPS_AND_VIDEOS["video"].to_numpy(), np.ones(60, bool)
        person_scores = group_table(
            ScoredClips(actual, predictions_of_models, videos, is_seen, group, Bootstrap(100, 0)), gender
        )
        rows = CLIPS_AND_VIDEOS.loc[CLIPS_AND_VIDEOS.index.repeat(len(group.columns))].assign(
            video_in_training=True, target=group.columns * 60
        )
        rows = rows.assign(actual=actual.ravel(), predicted=actual.ravel() + 0.1)
        for table, rows_of_group in zip(tables.values(), (scores, comparisons, person_scores, rows), strict=True):
            table.append(rows_of_group.assign(targets=name))
    clips = pd.DataFrame(rng.uniform(1, 1, (100, 7)), columns=[*WARMTH.columns, *FIVE_TRAITS.columns])
    clips = clips.assign(clip=range(100), split=np.repeat(["training", "validation", "test"], [30, 10, 60]))
    scores, comparisons, persons, predictions = map(pd.concat, tables.values())
    results = FigureInputs(clips=clips, predictions=predictions, scores=scores, targets=targets, data=DATA, lost=LOST)
    report_figures = []
    for name in ("headline", "clips_used", "target_distributions", "predicted_against_actual", "attention_over_time"):
        module = figures.FIGURES[name]
        for rows_of_group in targets if figures.is_drawn(module, WARMTH) else [""]:
            figure = (
                module.draw(results.select_targets(rows_of_group), targets[rows_of_group])
                if rows_of_group
                else module.draw(results)
            )
            figure.savefig(folder / f"{rows_of_group}{name}.png", dpi=150)
            report_figures.append(
                page.ReportFigure(
                    rows_of_group, module.SECTION, name, module.CAPTION, folder / f"{rows_of_group}{name}.png"
                )
            )
    model = {"use": ["look"], "encoders": {"look": {"kind": "images", "reads": ["faces"]}}}
    current_parameters = SHIPPED | {
        "train": {"seed": 3, "augment": {"mirror": True}},
        "model": model,
        "parallel": {"workers": 9},
    }
    run = page.PipelineRun(
        {"commit": "f00+", "versions": {"torch": "2.11.0"}, **TRAINING_SUMMARY},
        DATA,
        "test",
        current_parameters,
        SHIPPED,
        lengths={"faces": {"training": {"clips": 3, "mean": 6.25} | dict.fromkeys(list(COLUMNS)[2:], 6)}},
    )
    path = folder / "report.html"
    path.write_text(page.render_report(scores, comparisons, persons, clips, targets, report_figures, run, 150))
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(390, 844), (1280, 900)])
def test_report_page_fits_phone_and_screen(
    report: Path, browser: Browser, width: int, height: int, scheme: str
) -> None:
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    browser_page, errors, requested = context.new_page(), [], []
    browser_page.on("console", lambda message: errors.append(message.text))
    browser_page.on("pageerror", lambda error: errors.append(str(error)))
    browser_page.on("request", lambda request: requested.append(request.url))
    browser_page.goto(report.as_uri())
    assert not errors
    assert [url for url in requested if not url.startswith("data:")] == [report.as_uri()]
    assert browser_page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    assert browser_page.evaluate("document.images.length") == 8
    assert browser_page.evaluate("document.documentElement.scrollWidth") <= width
    browser_page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert browser_page.evaluate("document.documentElement.scrollWidth") <= width  # long tables scroll within
    browser_page.evaluate("document.querySelectorAll('details').forEach(one => one.open = false)")
    headline = browser_page.locator(".findings").first.bounding_box()
    assert browser_page.locator("h1").bounding_box()["y"] < headline["y"]
    assert headline["y"] + headline["height"] <= height
    assert browser_page.evaluate(
        "[...document.querySelectorAll('.findings')].every(one => one.offsetWidth <= innerWidth - 32)"
    )
    assert browser_page.evaluate(
        "[...document.querySelectorAll('.scores th:first-child')].every(one => one.offsetWidth < 180)"
    )
    names = "[...document.querySelectorAll('.scores thead th')].filter(one => /^[a-z]+$/.test(one.textContent))"
    assert browser_page.evaluate(f"{names}.length") >= 10
    assert browser_page.evaluate(f"{names}.every(one => one.clientHeight < 45)")  # no name of one word is broken
    background = browser_page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")
    links = [link.get_attribute("href") for link in browser_page.locator("nav a").all()]
    assert len(links) > 5
    assert all(browser_page.locator(link).count() == 1 for link in links)
    browser_page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert browser_page.evaluate("[...document.querySelectorAll('details')].every(one => one.open)")
    browser_page.emulate_media(media="print")
    assert browser_page.evaluate(
        "[...document.querySelectorAll('.headline')].every(one => getComputedStyle(one).display == 'block')"
    )
    assert browser_page.pdf().startswith(b"%PDF")
    context.close()


def test_headline_agrees_with_significance_tests() -> None:
    better, similar, worse = (
        verdict.describe_headline(*score_model(WARMTH, noise), WARMTH) for noise in (0.05, 0.31, 1)
    )
    assert re.search(r"is significantly higher than that of the training mean \(0\.\d{3}, p < 0\.00\d+\)", better[0])
    assert "does not differ significantly from that of the training mean (0." in similar[0]
    assert "is significantly lower than that of the training mean (" in worse[0]
    assert "and the video look-up (" in worse[0]
    assert better[0].startswith("On all clips (60 clips, 30 videos) accuracy (1 − MAE / 6) is 0.9")
    assert better[1].startswith("On unseen videos (20 clips, 10 videos) accuracy is 0.9")
    few = verdict.describe_headline(*score_model(WARMTH, 0.05, unseen=18), WARMTH)[1]
    assert re.search(
        r"^On unseen videos \(18 clips, 9 videos: too few to test\) accuracy is 0\.\d+; the training mean reac", few
    )
    assert "p =" not in few
    assert "was not measured" in verdict.describe_headline(*score_model(WARMTH, 0.05, unseen=0), WARMTH)[1]


def test_headline_of_unseen_videos_is_given_once() -> None:
    scores, compared = score_model(WARMTH, 0.05, unseen=60)
    (sentence,) = verdict.describe_headline(scores, compared, WARMTH)
    assert sentence.startswith("On all clips, all of unseen videos (60 clips, 30 videos) accuracy")
    assert "unseen" not in latex.tabulate_headline(scores, WARMTH, "test")
    figure = figures.headline.draw(FigureInputs(scores=scores), WARMTH)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["all clips, all of unseen videos"]


def test_comparison_table_compares_accuracies_with_holm_p() -> None:
    scores, compared = score_model(WARMTH, 0.05)
    compared = compared[compared["subset"] == "all"].set_index(["predictor", "target"])
    rows = compared.xs("mean", level="target")
    assert rows.loc["mean_predictor", "p_holm"] == pytest.approx(2 * rows.loc["mean_predictor", "p"])
    assert rows.loc["mean_predictor", "low"] > 0
    assert rows.loc["video_lookup", "high"] < 0.2
    scores = scores[(scores["subset"] == "all") & (scores["score"] == "accuracy")]
    values = scores.set_index(["predictor", "target"])["value"]
    for other in ("mean_predictor", "video_lookup"):
        for target in ("mean", "warm", "cold"):
            difference = values["model", target] - values[other, target]
            assert compared.loc[(other, target), "difference"] == pytest.approx(difference)


def test_page_shows_setup_changes_and_lost_clips(report: Path) -> None:
    text = report.read_text()
    assert "<td>f00, with changed files</td>" in text
    assert "<td>100 training clips and 20 validation clips</td>" in text
    assert "<td>a processor, 2 cores</td>" in text
    assert "<tr><td>train.seed</td><td>0</td><td>3</td></tr>" in text
    assert "parallel.workers" not in text
    assert "augment.mirror" not in text
    assert "20 of the 30 test videos also have clips in training. On their clips the video look-up gains " in text
    assert 'href="../docs/model_card.md">model card</a>' in text
    assert 'href="../data/scores.csv">scores</a>' in text
    steps, used_clips = count_by_step(DATA, LOST)
    assert steps == [
        ("annotated", 110, {}),
        ("found", 103, {"no file in data/archives": 7}),
        ("verified", 100, {"too short": 2, "duplicate": 1}),
        ("with faces", 96, {"found in 0%": 4}),
        ("with flow", 96, {}),
    ]
    assert used_clips == {"training": 27, "validation": 10, "test": 59}
