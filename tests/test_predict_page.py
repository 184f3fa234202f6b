"""The page that predicts: real uploads in a browser, on a phone and on a screen, and by its API."""

import csv
import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from playwright.sync_api import Browser, Page

import tools.page
from lib.media.writing import write_video
from lib.model import checkpoint
from lib.model.checkpoint import Reference, TrainingSummary
from lib.serving.predictor import Predictor
from lib.sources.demo.head import SAMPLE_RATE, Identity, Performance, render
from tests.video_files import Track, numbered, write
from tools.benchmarks.predict import model_of_chance

pytestmark = pytest.mark.skipif(find_spec("gradio") is None, reason="requirements-page.txt is not installed")
CPU = torch.device("cpu")
MAX_SECONDS = 20


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("clips")
    names = ("head", "long", "nobody", "text", "large", "hours")
    paths = {name: folder / f"{name}.mp4" for name in names}
    for name, seconds in (("head", 2.0), ("long", 5.0)):
        frames, voice = render(Identity(1), Performance(0.5, 1.0, 0.0, 1), seconds, 15)
        write_video(paths[name], frames, 15, voice, SAMPLE_RATE)
    write(paths["nobody"], Track(numbered(30)))
    write(paths["hours"], Track(numbered(30), times=[0.75 * at for at in range(30)]))
    paths["text"].write_text("no film")
    with paths["large"].open("wb") as file:
        file.truncate(200 * 2**20)
    return paths


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path, Predictor]]:
    """The page's address, the folder of its files, and its predictor: of chance, trained on the demo by what it says."""
    folder = tmp_path_factory.mktemp("served")
    of = checkpoint.load(model_of_chance("demo", folder / "chance.pt"), CPU)
    reference = {"traits": Reference(torch.linspace(0, 1, 101)[:, None].expand(-1, 5), torch.full((5,), 0.1))}
    checkpoint.save(folder / "model.pt", of.network.state_dict(), of.settings, of.targets, of.streams,
                    TrainingSummary(["demo"], seconds=[2, 3], references=reference))  # fmt: skip
    environment, files = dict(os.environ), folder / "files"
    files.mkdir()
    gradio, predictor = tools.page.offline(files), Predictor(folder / "model.pt", CPU)
    blocks = tools.page.page(gradio, predictor, files, MAX_SECONDS, 100)
    yield tools.page.launch(blocks, files, "127.0.0.1", None, 100), files, predictor
    blocks.close()
    os.environ.clear()
    os.environ.update(environment)


class Visit:
    """A page in a browser, what it asked for and what its console said."""

    def __init__(self, browser: Browser, url: str, width: int) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 900})
        self.page: Page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.extend([message.text] * (message.type == "error")))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(url)
        self.page.get_by_role("button", name="Predict").wait_for()

    def upload(self, *paths: Path) -> None:
        self.page.locator("input[type=file]").first.set_input_files(paths)

    def predict(self, *paths: Path) -> None:
        self.upload(*paths)
        self.page.locator(".file-preview").first.wait_for()
        self.page.get_by_role("button", name="Predict").click()
        self.page.locator("section.clip").first.wait_for(timeout=120_000)


@pytest.mark.parametrize("width", [390, 1280])
def test_uploads_are_predicted(
    served: tuple[str, Path, Predictor],
    clips: dict[str, Path],
    browser: Browser,
    width: int,
) -> None:
    url, folder, predictor = served
    visit = Visit(browser, url, width)
    assert "what it says of a person means nothing" in visit.page.inner_text("body")
    assert "Not for judging a person" in visit.page.inner_text("body")
    chosen = [clips[name] for name in ("head", "long", "nobody", "text", "hours")]
    visit.predict(*chosen)
    sections = visit.page.locator("section.clip")
    texts = [section.inner_text() for section in sections.all()]
    assert [text.splitlines()[0] for text in texts] == [path.name for path in chosen]
    openness = predictor(clips["head"]).targets["traits"]["openness"]
    assert f"{openness.score:.2f}, {openness.low:.2f} to {openness.high:.2f}, above" in texts[0]
    assert "mean of" in texts[1]
    assert sections.nth(1).locator("polyline").count() == 5
    assert sections.nth(0).locator("polyline").count() == 0
    assert "Refused: faces: found in 0% of the frames" in texts[2]
    assert "Refused: frames: cannot be decoded" in texts[3]
    assert "Refused: takes 22 s; allowed: up to 20 s" in texts[4]
    film = sections.nth(0).locator("video")
    visit.page.wait_for_function("film => film.readyState > 0", arg=film.element_handle())
    assert film.evaluate("film => [film.videoWidth > 300, film.duration > 1.7]") == [True, True]
    with visit.page.expect_download() as download:
        visit.page.locator("a", has=visit.page.get_by_text("KB")).first.click()
    with download.value.path().open() as file:
        rows = list(csv.DictReader(file))
    assert download.value.suggested_filename == "scores.csv"
    assert float(rows[0]["openness"]) == pytest.approx(openness.score, abs=1e-4)
    assert [row["clip"] for row in rows if not row["start"]] == [path.name for path in chosen]
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
    assert not visit.said
    assert not [one for one in visit.asked if not one.startswith((url, "data:", "blob:"))]
    assert not [path for path in folder.rglob("*.mp4") if not path.parent.name.startswith("results-")]
    visit.context.close()


def test_a_recording_is_predicted(served: tuple[str, Path, Predictor], browser: Browser) -> None:
    visit = Visit(browser, served[0], 1280)
    visit.page.get_by_text("Record one").click()
    visit.page.get_by_text("Click to Access Webcam").click()
    visit.page.get_by_label("start recording").click()
    visit.page.wait_for_timeout(5000)
    visit.page.locator("button:visible", has_text="Stop").click()
    text = visit.page.locator("section.clip").inner_text(timeout=120_000)
    assert "Refused: faces: found in 0% of the frames" in text  # the camera shows a pie
    assert not visit.said
    assert not list(served[1].rglob("*.webm"))
    visit.context.close()


def test_what_is_too_large_or_missing_is_said(
    served: tuple[str, Path, Predictor],
    clips: dict[str, Path],
    browser: Browser,
) -> None:
    visit = Visit(browser, served[0], 1280)
    visit.page.get_by_role("button", name="Predict").click()
    visit.page.get_by_text("Add a clip first: drop it above or record one.").wait_for()
    visit.upload(clips["large"])
    visit.page.get_by_text("exceed the maximum allowed size of 100").wait_for()
    visit.context.close()


def test_the_api_gives_what_predict_gives(served: tuple[str, Path, Predictor], clips: dict[str, Path]) -> None:
    from gradio_client import Client, handle_file

    url, _, predictor = served
    client = Client(url, verbose=False, analytics_enabled=False)
    assert list(client.view_api(return_format="dict")["named_endpoints"]) == ["/predict"]
    found: list[dict[str, Any]] = client.predict(
        [handle_file(clips["head"]), handle_file(clips["text"])], api_name="/predict"
    )[0]
    assert [one["clip"] for one in found] == ["head.mp4", "text.mp4"]
    scores = [one["score"] for one in found[0]["targets"]["traits"].values()]
    expected = [one.score for one in predictor(clips["head"]).targets["traits"].values()]
    assert np.array(scores) == pytest.approx(expected, abs=1e-5)
    assert found[1]["refused"]
