"""What several tests share: marks, paths of real clips (if they exist), a browser and an image of a face."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: tests and their processes run in parallel

import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).parent.parent
REAL = ROOT.parent / "shared" / "fiv2"
ODD = ROOT.parent / "shared" / "clips"

SLOW = (
    "test_pipeline",
    "test_extending",
    "test_fiv2",
    "test_archives",
    "test_checkouts",
    "test_predict",
    "test_predict_command",
    "test_stages",
    "test_analysis_outputs",
    "test_publish",
    "test_wheel",
    "test_serve",
    "test_ablate",
    "test_interrupts",
    "test_predict_page",
    "test_shards",
    "test_foundation",
    "test_own_clips",
    "test_examples",
    "test_new",
    "test_tutorials",
    "test_odd_clips",
    "test_multitask",
    "test_page",
    "test_words",
    "test_pictures",
)
"""Modules whose tests are all slow, because they run stages or tools on videos; the slowest come first."""

NUMERIC = (
    "test_s2d",
    "test_s2d_weights",
    "test_model",
    "test_encoders",
    "test_vectors",
    "test_checkpoint",
    "test_missing_data",
    "test_audio_visual",
    "test_embeddings",
    "test_heads",
    "test_losses",
)
"""Modules that compare the outputs of networks. They pass with all CPU instruction sets and numbers of threads."""


CHOSEN = {"not slow": lambda name: name not in SLOW, "numeric and not slow": lambda name: name in NUMERIC}
"""Whether a module can have tests that `pytest -m EXPRESSION` runs, by expression and name of the module."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out modules without a chosen test, unless the command names them. Their imports take seconds per process."""
    name, can_have_tests = collection_path.stem, CHOSEN.get(config.option.markexpr)
    if can_have_tests is None or not name.startswith("test_") or any(name in argument for argument in config.args):
        return None
    return None if can_have_tests(name) else True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of slow modules, and start with the slowest modules so that test processes end together.

    Modules with some slow tests come after those of SLOW, and all others at the end.
    """
    for item in items:
        if item.path.stem in SLOW:
            item.add_marker(pytest.mark.slow)
        if item.path.stem in NUMERIC:
            item.add_marker(pytest.mark.numeric)
    partly_slow = {item.path for item in items if item.get_closest_marker("slow")}
    order = {name: number for number, name in enumerate(SLOW)}
    items.sort(key=lambda item: order.get(item.path.stem, len(SLOW) + (item.path not in partly_slow)))


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # the process that prints, not one that only runs tests
        config.pluginmanager.register(FailureLines(config))


class FailureLines:
    """Prints a line with the name and the error of each failed test at once; pytest prints tracebacks after all tests."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            lines = str(crash.message if crash else report.longrepr).strip().splitlines() or [""]
            terminal = self.config.pluginmanager.get_plugin("terminalreporter")
            terminal.write_line(f"\n{report.outcome} at {report.when}: {report.nodeid}: {lines[0]}", red=True)


needs_real_clips = pytest.mark.skipif(not REAL.is_dir(), reason="the real FIV2 sample is missing")


_CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_OFFLINE = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
            "--disable-sync", "--no-first-run"]  # fmt: skip
_CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser without network access and permission dialogs, with a fake camera that shows no face."""
    if _CHROMIUM is None:
        pytest.skip("no chromium, chromium-browser or google-chrome is installed")
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=_CHROMIUM, args=_OFFLINE + _CAMERA)


@pytest.fixture
def face() -> np.ndarray:
    """An image of a real face, grey float32 (112, 112)."""
    image = cv2.cvtColor(skimage.data.astronaut(), cv2.COLOR_RGB2GRAY)
    return image[50:190, 155:295][14:126, 14:126].astype(np.float32)
