"""What several tests need: the real material where it is there, and small synthetic pictures."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: tests, and what they start, run side by side

import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
from playwright.sync_api import Browser, sync_playwright

from lib.core import imports

imports.import_librosa()  # before torchmetrics, which loads it as tests are collected: by one process at a time

ROOT = Path(__file__).parent.parent
REAL = ROOT.parent / "shared" / "fiv2"
ODD = ROOT.parent / "shared" / "clips"

SLOW = (
    "test_pipeline",
    "test_fiv2",
    "test_extending",
    "test_archives",
    "test_own_clips",
    "test_odd_clips",
    "test_predict",
    "test_shards",
    "test_multitask",
    "test_ablate",
    "test_pictures",
    "test_words",
    "test_predict_page",
    "test_interrupts",
    "test_page",
    "test_new",
    "test_tutorials",
    "test_examples",
)
"""Modules of which every test is slow: they run stages or tools on videos. The first are the slowest."""

NUMERIC = ("test_s2d", "test_model", "test_masks", "test_audio_visual", "test_embeddings", "test_heads", "test_losses")
"""Modules that compare what networks compute: they pass with any instructions of the CPU and any number of threads."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of slow modules, and begin with the slowest module: none is left for one process at the end."""
    for item in items:
        if item.path.stem in SLOW:
            item.add_marker(pytest.mark.slow)
        if item.path.stem in NUMERIC:
            item.add_marker(pytest.mark.numeric)
    items.sort(key=lambda item: SLOW.index(item.path.stem) if item.path.stem in SLOW else len(SLOW))


needs_real_clips = pytest.mark.skipif(not REAL.is_dir(), reason="the real FIV2 sample is not here")


_CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_OFFLINE = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
            "--disable-sync", "--no-first-run"]  # fmt: skip
_CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser that asks nobody, with a camera that shows no face."""
    if _CHROMIUM is None:
        pytest.skip("no chromium, chromium-browser or google-chrome is installed")
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=_CHROMIUM, args=_OFFLINE + _CAMERA)


@pytest.fixture
def face() -> np.ndarray:
    """A real face, grey float32 (112, 112)."""
    picture = cv2.cvtColor(skimage.data.astronaut(), cv2.COLOR_RGB2GRAY)
    return picture[50:190, 155:295][14:126, 14:126].astype(np.float32)
