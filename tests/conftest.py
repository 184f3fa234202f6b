"""What several tests need: the real material where it is there, and small synthetic pictures."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: tests, and what they start, run side by side

from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data

ROOT = Path(__file__).parent.parent
REAL = ROOT.parent / "shared" / "fiv2"

needs_real_clips = pytest.mark.skipif(not REAL.is_dir(), reason="the real FIV2 sample is not here")


@pytest.fixture
def face() -> np.ndarray:
    """A real face, grey float32 (112, 112)."""
    picture = cv2.cvtColor(skimage.data.astronaut(), cv2.COLOR_RGB2GRAY)
    return picture[50:190, 155:295][14:126, 14:126].astype(np.float32)
