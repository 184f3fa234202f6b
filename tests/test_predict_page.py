"""tools/page.py: uploads in a browser, on a phone and on a screen, and its API."""

import csv
import os
import re
import socket
import threading
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from playwright.sync_api import Browser, Locator, Page, expect

import tools.page
from lib.core.errors import InputError
from lib.core.targets import TRAITS
from lib.model import checkpoint
from lib.model.checkpoint import LabelQuantiles, TrainingSummary
from lib.serving import jobs as jobs_module
from lib.serving.jobs import Jobs
from lib.serving.predictor import Predictor
from lib.serving.web import STEPS
from lib.sources.demo.head import Performance
from tests.video_files import Track, timed_frames, write_talking_head, write_video_file
from tools.benchmarks._predict import write_random_model

pytestmark = pytest.mark.skipif(find_spec("gradio") is None, reason="requirements-page.txt is not installed")
CPU = torch.device("cpu")
MAX_SECONDS = 20


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("clips")
    names = ("head", "long", "no_face", "text", "large", "hours")
    paths = {name: folder / f"{name}.mp4" for name in names}
    for name, seconds in (("head", 2.0), ("long", 5.0)):
        write_talking_head(paths[name], 1, Performance(0.5, 1.0, 0.0, 1), seconds)
    write_video_file(paths["no_face"], Track(timed_frames(30)))
    write_video_file(paths["hours"], Track(timed_frames(30), times=[0.75 * number for number in range(30)]))
    paths["text"].write_text("no film")
    with paths["large"].open("wb") as file:
        file.truncate(200 * 2**20)
    return paths


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Jobs]]:
    """The page's address and its jobs. The model has random weights, and its file names the demo as training corpus."""
    folder = tmp_path_factory.mktemp("served")
    random_model = checkpoint.load(write_random_model("demo", folder / "chance.pt"), CPU)
    reference = {"traits": LabelQuantiles(torch.linspace(0, 1, 101)[:, None].expand(-1, 5), torch.full((5,), 0.1))}
    checkpoint.save(
        folder / "model.pt",
        random_model.network.state_dict(),
        random_model.settings,
        random_model.targets,
        random_model.streams,
        TrainingSummary(["demo"], seconds=[2, 3], references=reference),
    )
    environment, files = dict(os.environ), folder / "files"
    files.mkdir()
    gradio = tools.page.offline(files)
    jobs = Jobs(Predictor(folder / "model.pt", CPU), files, MAX_SECONDS)
    blocks = tools.page.make_page(gradio, jobs, 100)
    yield tools.page.launch(blocks, files, "127.0.0.1", None, 100), jobs
    blocks.close()
    os.environ.clear()
    os.environ.update(environment)


def test_page_starts_although_a_busy_machine_answers_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gradio = pytest.importorskip("gradio")
    monkeypatch.setattr(gradio.networking, "url_ok", lambda url: False)  # as after Gradio's 3 s
    with gradio.Blocks(analytics_enabled=False) as blocks:
        gradio.HTML("the page")
    address = tools.page.launch(blocks, tmp_path, "127.0.0.1", None, 1)
    try:
        assert urllib.request.urlopen(address).status == 200
    finally:
        blocks.close()


class Visit:
    """A page in a browser, its requests and the errors in its console."""

    def __init__(self, browser: Browser, url: str, width: int = 1280) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 900})
        self.page: Page = self.context.new_page()
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.errors.extend([message.text] * (message.type == "error")))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(url)
        self.button.wait_for()

    @property
    def button(self) -> Locator:
        return self.page.get_by_role("button", name="Predict", exact=False)

    def upload(self, *paths: Path) -> None:
        self.page.locator("input[type=file]").first.set_input_files(paths)

    def predict(self, *paths: Path) -> None:
        self.upload(*paths)
        expect(self.button).to_be_enabled(timeout=30_000)
        self.button.click()
        self.page.locator("section.clip").first.wait_for(timeout=120_000)


@pytest.mark.parametrize("width", [390, 1280])
def test_uploads_are_predicted(served: tuple[str, Jobs], clips: dict[str, Path], browser: Browser, width: int) -> None:
    url, jobs = served
    visit = Visit(browser, url, width)
    chosen = [clips[name] for name in ("head", "long", "no_face", "text", "hours")]
    visit.predict(*chosen)
    sections = visit.page.locator("section.clip")
    texts = [section.inner_text() for section in sections.all()]
    assert [text.splitlines()[0] for text in texts] == [path.name for path in chosen]
    openness = jobs.predictor(clips["head"]).targets["traits"]["openness"]
    rank = rf"higher than {openness.percentile:.0f} % of training clips"
    assert f"{openness.score:.2f} ({openness.low:.2f} to {openness.high:.2f}), {rank}" in texts[0]
    assert "means of" in texts[1]
    assert "No score: faces: found in 0% of the frames" in texts[2]
    assert "No score: frames: cannot be decoded" in texts[3]
    assert "No score: takes 22 s; allowed: up to 20 s" in texts[4]
    video, sheet = sections.nth(0).locator("video"), sections.nth(0).locator("img")
    visit.page.wait_for_function("video => video.readyState > 0", arg=video.element_handle())
    assert video.evaluate("video => [video.videoWidth > 300, video.duration > 1.7]") == [True, True]
    assert visit.page.request.get(f"{url.rstrip('/')}{video.get_attribute('poster')}").body()[:3] == b"\xff\xd8\xff"
    sheet.scroll_into_view_if_needed()
    visit.page.wait_for_function("image => image.naturalWidth > 900", arg=sheet.element_handle())
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
    assert not visit.errors
    assert not [request for request in visit.requests if not request.startswith((url, "data:", "blob:"))]
    assert not [path for path in jobs.folder.rglob("*.mp4") if not path.parent.name.startswith("results-")]
    visit.context.close()


def test_page_begins_with_purpose_and_one_line_of_warning(served: tuple[str, Jobs], browser: Browser) -> None:
    visit = Visit(browser, served[0])
    text = visit.page.inner_text("body")
    assert text.startswith("Predict ratings from video clips\n")
    assert "how people would rate the person in a clip: extraversion, agreeableness, " in text
    line = visit.page.get_by_text("⚠")
    assert "its scores of real people mean nothing. Do not use it to judge people, least of all in hiring." in (
        line.inner_text()
    )
    assert line.evaluate("line => line.getClientRects().length && line.clientHeight") < 40  # pixels
    law = visit.page.get_by_text("Regulation 2024/1689")
    assert not law.is_visible()
    visit.page.get_by_text("What the scores mean, and the law").click()
    assert law.is_visible()
    visit.context.close()


def test_scores_of_several_clips_begin_with_a_table(
    served: tuple[str, Jobs], clips: dict[str, Path], browser: Browser
) -> None:
    visit = Visit(browser, served[0])
    visit.predict(clips["head"])
    assert visit.page.locator("table.clips").count() == 0
    visit.predict(clips["head"], clips["no_face"])
    rows = visit.page.locator("table.clips tr")
    expect(rows).to_have_count(3)
    score = served[1].predictor(clips["head"]).targets["traits"]["extraversion"]
    assert rows.nth(0).inner_text().split() == ["clip", *TRAITS]
    cell = rows.nth(1).locator("td").nth(1).inner_text().split("\n")
    assert cell[:2] == [f"{score.score:.2f}", f"{score.low:.2f} to {score.high:.2f}"]
    assert rows.nth(2).inner_text().split("\t") == ["no_face.mp4", "no score: see below"]
    table, section = (
        visit.page.locator("table.clips").bounding_box(),
        visit.page.locator("section").first.bounding_box(),
    )
    assert table
    assert section
    assert table["y"] < section["y"]
    visit.context.close()


def test_predict_is_inactive_without_clips_and_while_it_runs(
    served: tuple[str, Jobs], clips: dict[str, Path], browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, predict = threading.Event(), jobs_module.predict_clip
    monkeypatch.setattr(jobs_module, "predict_clip", lambda *arguments: (go_on.wait(60), predict(*arguments))[1])
    visit = Visit(browser, served[0])
    expect(visit.button).to_be_disabled()
    before = visit.page.locator(".block", has=visit.page.locator("input[type=file]")).first.bounding_box()
    visit.upload(clips["head"])
    expect(visit.button).to_be_enabled()
    visit.button.click()
    expect(visit.button).to_have_text("Predicting …")
    expect(visit.button).to_be_disabled()
    go_on.set()
    visit.page.locator("section.clip").wait_for(timeout=120_000)
    expect(visit.button).to_have_text("Predict")
    expect(visit.button).to_be_disabled()
    after = visit.page.locator(".block", has=visit.page.locator("input[type=file]")).first.bounding_box()
    assert before
    assert after
    assert after["height"] < 0.7 * before["height"]
    visit.context.close()


def test_files_are_a_row_per_clip_and_a_row_per_window(
    served: tuple[str, Jobs], clips: dict[str, Path], browser: Browser
) -> None:
    visit, tables = Visit(browser, served[0]), {}
    visit.predict(clips["head"], clips["long"])
    for name in ("scores", "windows"):
        with visit.page.expect_download() as download:
            visit.page.locator(f"a[download='{name}.csv']").first.click()
        with download.value.path().open() as file:
            tables[name] = list(csv.DictReader(file))
    long = served[1].predictor(clips["long"])
    assert [row["clip"] for row in tables["scores"]] == ["head.mp4", "long.mp4"]
    assert [(row["clip"], float(row["start"]), float(row["openness"])) for row in tables["windows"]] == [
        (
            "long.mp4",
            pytest.approx(window.start, abs=1e-3),
            pytest.approx(window.targets["traits"]["openness"].score, abs=1e-4),
        )
        for window in long.windows
    ]
    assert {len(row["model"]) for rows in tables.values() for row in rows} == {12}
    visit.context.close()


def test_long_clip_has_a_curve_with_axes_and_labels(
    served: tuple[str, Jobs], clips: dict[str, Path], browser: Browser
) -> None:
    visit = Visit(browser, served[0])
    visit.predict(clips["long"])
    curve = visit.page.locator(".curve")
    windows = len(served[1].predictor(clips["long"]).windows)
    assert (curve.locator("polyline").count(), curve.locator("line.dot").count()) == (5, 5 * windows)
    assert [text.strip() for text in curve.locator(".names span").all_inner_texts()] == [*TRAITS]
    positions = sorted(
        box["y"] for box in (name_label.bounding_box() for name_label in curve.locator(".names span").all()) if box
    )
    assert min(np.diff(positions)) > 10  # pixels
    scores = [float(text) for text in curve.locator(".scores span").all_inner_texts()]
    assert scores == sorted(scores)
    assert len(scores) >= 2
    seconds = curve.locator(".seconds span").all_inner_texts()
    assert (seconds[0], seconds[-1]) == ("0", "middle of the window (s)")
    visit.context.close()


def test_progress_names_the_step(served: tuple[str, Jobs], clips: dict[str, Path]) -> None:
    reports: list[tuple[float, str]] = []
    copies = [clips["head"].with_name("copy.mp4"), clips["long"].with_name("second.mp4")]
    for copy, name in zip(copies, ("head", "long"), strict=True):
        copy.write_bytes(clips[name].read_bytes())
    served[1].predict(copies, lambda fraction, text: reports.append((fraction, text)))
    steps = [*served[1].predictor.extractors, "network"]
    assert [text for _, text in reports[: len(steps)]] == [f"1 of 2, copy.mp4: {STEPS[step]}" for step in steps]
    assert {"decoding", "finding faces", "measuring optical flow", "running the network"} <= {*STEPS.values()}
    windows = len(served[1].predictor(clips["long"]).windows)
    assert len(reports) == len(steps) * (1 + windows)
    fractions = [fraction for fraction, _ in reports]
    assert fractions == sorted(fractions)
    assert fractions[0] == 0
    assert 0.5 <= fractions[len(steps)] < fractions[-1] < 1


def test_example_clip_is_predicted(served: tuple[str, Jobs], browser: Browser) -> None:
    visit = Visit(browser, served[0])
    visit.page.get_by_role("button", name="Use an example clip").click()
    expect(visit.button).to_be_enabled(timeout=30_000)
    visit.button.click()
    text = visit.page.locator("section.clip").inner_text(timeout=120_000)
    assert re.search(r"^example\.mp4\n(.*\n)*extraversion\n0\.\d\d \(", text)
    assert not visit.errors
    visit.context.close()


def test_two_visitors_may_upload_the_same_file(
    served: tuple[str, Jobs], clips: dict[str, Path], browser: Browser
) -> None:
    first, second = Visit(browser, served[0]), Visit(browser, served[0])
    for visit in (first, second):
        visit.upload(clips["head"])
        expect(visit.button).to_be_enabled(timeout=30_000)
    for visit in (first, second):
        visit.button.click()
    texts = [visit.page.locator("section.clip").inner_text(timeout=120_000) for visit in (first, second)]
    assert texts[0] == texts[1]
    assert "extraversion" in texts[0]
    video = second.page.locator("video")
    second.page.wait_for_function("video => video.readyState > 0", arg=video.element_handle())
    for visit in (first, second):
        visit.context.close()


def test_two_visitors_may_upload_files_of_one_name(
    served: tuple[str, Jobs], clips: dict[str, Path], browser: Browser, tmp_path: Path
) -> None:
    (tmp_path / "head.mp4").write_bytes(clips["long"].read_bytes())
    first, second = Visit(browser, served[0]), Visit(browser, served[0])
    first.upload(clips["head"])
    second.upload(tmp_path / "head.mp4")
    for visit in (first, second):
        expect(visit.button).to_be_enabled(timeout=30_000)
        visit.button.click()
    texts = [visit.page.locator("section.clip").inner_text(timeout=120_000) for visit in (first, second)]
    assert ["means of" in text for text in texts] == [False, True]
    for visit in (first, second):
        visit.context.close()


def test_recording_is_predicted(served: tuple[str, Jobs], browser: Browser) -> None:
    visit = Visit(browser, served[0])
    visit.page.get_by_text("Record a clip").click()
    visit.page.get_by_text("Click to Access Webcam").click()
    visit.page.get_by_label("start recording").click()
    visit.page.wait_for_timeout(5000)
    visit.page.locator("button:visible", has_text="Stop").click()
    text = visit.page.locator("section.clip").inner_text(timeout=120_000)
    assert "No score: faces: found in 0% of the frames" in text  # the camera shows a pie
    assert not visit.errors
    assert not list(served[1].folder.rglob("*.webm"))
    visit.context.close()


def test_upload_follows_a_file_that_is_too_large(
    served: tuple[str, Jobs], clips: dict[str, Path], browser: Browser
) -> None:
    visit = Visit(browser, served[0])
    visit.upload(clips["large"])
    visit.page.get_by_text("exceed the maximum allowed size of 100").first.wait_for()
    expect(visit.button).to_be_disabled()
    visit.predict(clips["head"])
    visit.context.close()


def test_too_many_clips_are_reported_before_prediction(
    served: tuple[str, Jobs], clips: dict[str, Path], browser: Browser, tmp_path: Path
) -> None:
    many = [tmp_path / f"{number}.mp4" for number in range(21)]
    for path in many:
        path.write_bytes(path.name.encode())
    visit = Visit(browser, served[0])
    visit.upload(*many)
    visit.page.get_by_text("21 clips; allowed: up to 20. Remove some").wait_for()
    expect(visit.button).to_be_disabled()
    visit.context.close()


def test_api_returns_the_objects_of_predict(served: tuple[str, Jobs], clips: dict[str, Path]) -> None:
    from gradio_client import Client, handle_file

    url, jobs = served
    client = Client(url, verbose=False, analytics_enabled=False)
    endpoints = client.view_api(return_format="dict")["named_endpoints"]
    assert list(endpoints) == ["/predict"]
    assert [item["parameter_name"] for item in endpoints["/predict"]["parameters"]] == ["clips"]
    labels = [item["label"] for item in endpoints["/predict"]["returns"]]
    assert labels[:2] == ["Predictions, one object per clip", "Scores as HTML"]
    assert labels[2].startswith("Downloads: scores.csv (a row per clip)")
    predictions: list[dict[str, Any]] = client.predict(
        clips=[handle_file(clips["head"]), handle_file(clips["text"])], api_name="/predict"
    )[0]
    assert [item["clip"] for item in predictions] == ["head.mp4", "text.mp4"]
    scores = [item["score"] for item in predictions[0]["targets"]["traits"].values()]
    expected = [item.score for item in jobs.predictor(clips["head"]).targets["traits"].values()]
    assert np.array(scores) == pytest.approx(expected, abs=1e-5)
    assert predictions[1]["rejected"]


def test_port_in_use_is_reported() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(
            InputError, match=rf"--port {port} is in use, perhaps by another page; .*such as --port \d+$"
        ):
            tools.page.check_address("127.0.0.1", port)
    tools.page.check_address("127.0.0.1", port)


@pytest.mark.parametrize(
    ("host", "port", "message"),
    [
        ("127.0.0.1", 70000, r"--port 70000; allowed: 1 to 65535"),
        (
            "192.0.2.1",
            7860,
            r"--host 192\.0\.2\.1 --port 7860 is not an address of this machine .*; allowed: 127\.0\.0\.1",
        ),
    ],
)
def test_address_that_is_not_available_is_rejected(host: str, port: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        tools.page.check_address(host, port)
