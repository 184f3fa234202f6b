"""Several GPUs, one worker each."""

import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch

from lib.core import device


def claimed(folder: str) -> str:
    tempfile.tempdir = folder
    torch.cuda.device_count = lambda: 2
    torch.cuda.is_available = lambda: True
    name = str(device.best_device())
    Path(folder, f"{os.getpid()}.here").touch()
    while len(list(Path(folder).glob("*.here"))) < 3:  # all hold theirs at the same time
        time.sleep(0.01)
    return name


def test_each_worker_takes_a_gpu_of_its_own_and_one_too_many_shares(tmp_path: Path) -> None:
    with ProcessPoolExecutor(3, multiprocessing.get_context("spawn")) as workers:
        names = workers.map(claimed, [str(tmp_path)] * 3)
        assert sorted(names) == ["cuda:0", "cuda:0", "cuda:1"]
