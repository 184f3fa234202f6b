"""Several GPUs, with one worker each."""

import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import torch

from lib.core import device


def claim_device(folder: str) -> str:
    tempfile.tempdir = folder
    torch.cuda.device_count = lambda: 2
    torch.cuda.is_available = lambda: True
    name = str(device.best_device())
    Path(folder, f"{os.getpid()}.here").touch()
    while len(list(Path(folder).glob("*.here"))) < 3:  # all workers hold their devices at the same time
        time.sleep(0.01)
    return name


@pytest.mark.slow
def test_workers_take_separate_gpus_and_share_if_too_few(tmp_path: Path) -> None:
    with ProcessPoolExecutor(3, multiprocessing.get_context("spawn")) as workers:
        names = workers.map(claim_device, [str(tmp_path)] * 3)
        assert sorted(names) == ["cuda:0", "cuda:0", "cuda:1"]
