"""The page: what it says first, what it says of the run, and how it behaves in a browser, on a phone and on a screen."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import Browser

from lib.core.targets import TargetGroup
from lib.report import figures, page, verdict
from lib.report.figures import Results
from lib.report.figures.clips_used import count_by_step
from lib.scoring.scores import Bootstrap
from lib.scoring.tables import ScoredClips, comparison_table, group_table, score_table
from tests.test_report import FIVE, TRAINED, WARMTH

DATA = {
    "sources": ["demo"], "split": "official", "annotated": 110, "files": 104, "usable": 100, "hours": 0.5,
    "refused": {"no file in data/archives": 7, "no annotation": 1, "too short": 2, "duplicate": 1},
    "clips": {"training": 30, "validation": 10, "test": 60}, "videos": {"training": 20, "validation": 5, "test": 30},
    "videos_shared_with_training": {"validation": 5, "test": 20},
}  # fmt: skip
LOST = pd.DataFrame(
    [("faces", "found in 0%", "training", 3), ("faces", "found in 0%", "test", 1), ("flow", "", "", 0)],
    columns=["step", "reason", "split", "clips"],
)
SHIPPED = {"train": {"seed": 0, "augment": {"mirror": True}}, "parallel": {"workers": 1}, "model": {"use": ["a", "b"]}}
CLIPS = pd.DataFrame({"clip": [f"c{index:02d}" for index in range(60)], "video": np.repeat(np.arange(30), 2)})


def judged(group: TargetGroup, noise: float, unseen: int = 20) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores and comparisons of a model with errors of this size, on 60 clips of 30 videos, beside the mean and a look-up
    that is exact where it knows the video."""
    rng = np.random.default_rng(0)
    seen = np.arange(60) >= unseen
    actual = rng.uniform(*group.range, (60, len(group.columns)))
    mean = np.full_like(actual, np.mean(group.range))
    given = {
        "model": actual + rng.normal(0, noise * group.span, actual.shape),
        "mean_predictor": mean,
        "video_lookup": np.where(seen[:, None], actual, mean),
    }
    scored = ScoredClips(actual, given, CLIPS["video"].to_numpy(), seen, group, Bootstrap(500, 0))
    return score_table(scored), comparison_table(scored)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page about two target groups with wide and narrow figures, long tables and groups of persons."""
    folder = tmp_path_factory.mktemp("page")
    rng = np.random.default_rng(0)
    targets = {"warmth": WARMTH, "traits": FIVE}
    tables: dict[str, list[pd.DataFrame]] = {"scores": [], "comparisons": [], "persons": [], "predictions": []}
    for name, group in targets.items():
        scores, comparisons = judged(group, 0.05)
        actual = rng.uniform(*group.range, (60, len(group.columns)))
        given = {"model": actual + 0.1, "mean_predictor": np.full_like(actual, 0.5)}
        gender = pd.DataFrame({"gender": np.tile(["female", "male"], 30)})
        videos, seen = CLIPS["video"].to_numpy(), np.ones(60, bool)
        of_persons = group_table(ScoredClips(actual, given, videos, seen, group, Bootstrap(100, 0)), gender)
        rows = CLIPS.loc[CLIPS.index.repeat(len(group.columns))].assign(seen=True, target=group.columns * 60)
        rows = rows.assign(actual=actual.ravel(), predicted=actual.ravel() + 0.1)
        for table, of in zip(tables.values(), (scores, comparisons, of_persons, rows), strict=True):
            table.append(of.assign(targets=name))
    clips = pd.DataFrame(rng.uniform(1, 1, (100, 7)), columns=[*WARMTH.columns, *FIVE.columns])
    clips = clips.assign(clip=range(100), split=np.repeat(["training", "validation", "test"], [30, 10, 60]))
    scores, comparisons, persons, predictions = map(pd.concat, tables.values())
    results = Results(clips=clips, predictions=predictions, scores=scores, targets=targets, data=DATA, lost=LOST)
    shown = []
    for name in ("headline", "clips_used", "target_distributions", "predicted_against_actual", "attention_over_time"):
        kind = figures.FIGURES[name]
        for of in targets if figures.is_drawn(kind, WARMTH) else [""]:
            drawn = kind.draw(results.of(of), targets[of]) if of else kind.draw(results)
            drawn.savefig(folder / f"{of}{name}.png", dpi=150)
            shown.append(page.ReportFigure(of, kind.SECTION, name, kind.CAPTION, folder / f"{of}{name}.png"))
    model = {"use": ["look"], "encoders": {"look": {"kind": "images", "reads": ["faces"]}}}
    here = SHIPPED | {"train": {"seed": 3, "augment": {"mirror": True}}, "model": model, "parallel": {"workers": 9}}
    run = page.Run({"commit": "f00+", "versions": {"torch": "2.11.0"}, **TRAINED}, DATA, "test", here, SHIPPED)
    path = folder / "report.html"
    path.write_text(page.render_report(scores, comparisons, persons, clips, targets, shown, run, 150))
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(390, 844), (1280, 900)])
def test_it_reads_well_in_a_browser(report: Path, browser: Browser, width: int, height: int, scheme: str) -> None:
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    shown, errors, asked = context.new_page(), [], []
    shown.on("console", lambda message: errors.append(message.text))
    shown.on("pageerror", lambda error: errors.append(str(error)))
    shown.on("request", lambda request: asked.append(request.url))
    shown.goto(report.as_uri())
    assert not errors
    assert [url for url in asked if not url.startswith("data:")] == [report.as_uri()]
    assert shown.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    assert shown.evaluate("document.images.length") == 8
    assert shown.evaluate("document.documentElement.scrollWidth") <= width
    shown.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert shown.evaluate("document.documentElement.scrollWidth") <= width  # long tables scroll within
    shown.evaluate("document.querySelectorAll('details').forEach(one => one.open = false)")
    first = shown.locator(".findings").first.bounding_box()
    assert shown.locator("h1").bounding_box()["y"] < first["y"]
    assert first["y"] + first["height"] <= height
    assert shown.evaluate(
        "[...document.querySelectorAll('.findings')].every(one => one.offsetWidth <= innerWidth - 32)"
    )
    assert shown.evaluate(
        "[...document.querySelectorAll('.scores th:first-child')].every(one => one.offsetWidth < 180)"
    )
    background = shown.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")
    links = [link.get_attribute("href") for link in shown.locator("nav a").all()]
    assert len(links) > 5
    assert all(shown.locator(link).count() == 1 for link in links)
    shown.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert shown.evaluate("[...document.querySelectorAll('details')].every(one => one.open)")
    shown.emulate_media(media="print")
    assert shown.evaluate(
        "[...document.querySelectorAll('.headline')].every(one => getComputedStyle(one).display == 'block')"
    )
    assert shown.pdf().startswith(b"%PDF")
    context.close()


def test_headline_agrees_with_the_tests() -> None:
    better, alike, worse = (verdict.describe_headline(*judged(WARMTH, noise), WARMTH) for noise in (0.05, 0.31, 1))
    assert re.search(r"is significantly higher than that of the training mean \(0\.\d{3}, p = 0\.00\d+\)", better[0])
    assert "does not differ significantly from that of the training mean (0." in alike[0]
    assert "is significantly lower than that of the training mean (" in worse[0]
    assert "and the video look-up (" in worse[0]
    assert better[0].startswith("On all clips (60 clips, 30 videos) accuracy (1 − MAE / 6) is 0.9")
    assert better[1].startswith("On unseen videos (20 clips, 10 videos) accuracy is 0.9")
    few = verdict.describe_headline(*judged(WARMTH, 0.05, unseen=18), WARMTH)[1]
    assert re.search(
        r"^On unseen videos \(18 clips, 9 videos: too few to test\) accuracy is 0\.\d+; the training mean reac", few
    )
    assert "p =" not in few
    assert "was not measured" in verdict.describe_headline(*judged(WARMTH, 0.05, unseen=0), WARMTH)[1]


def test_a_comparison_is_of_accuracies_and_holms_over_all_baselines() -> None:
    scores, compared = judged(WARMTH, 0.05)
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
    assert "20 of the 30 test videos have clips in training too. On their clips the video look-up gains " in text
    assert 'href="../docs/model_card.md">model card</a>' in text
    assert 'href="../data/scores.csv">scores</a>' in text
    steps, used = count_by_step(DATA, LOST)
    assert steps == [
        ("annotated", 110, {}),
        ("found", 103, {"no file in data/archives": 7}),
        ("verified", 100, {"too short": 2, "duplicate": 1}),
        ("with faces", 96, {"found in 0%": 4}),
        ("with flow", 96, {}),
    ]
    assert used == {"training": 27, "validation": 10, "test": 59}
