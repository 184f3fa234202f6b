"""GPU memory and utilisation per epoch."""

import itertools

import pytest
import torch

from lib.training.gpu import GpuMeter


def test_gpu_meter_reads_peak_and_mean_of_each_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    peaks, percents, resets = iter([3 * 2**30, 2**29]), iter([40, 80, 10]), []
    clock = itertools.count(step=0.6)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: next(peaks))
    monkeypatch.setattr(torch.cuda, "utilization", lambda device: next(percents))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", resets.append)
    monkeypatch.setattr("lib.training.gpu.time.monotonic", lambda: next(clock))
    device = torch.device("cuda")
    meter = GpuMeter(device)
    for _ in range(3):  # the second sample comes less than a second after the first
        meter.sample()
    assert meter.read() == {"gpu_peak_gib": 3.0, "gpu_percent": 60.0}
    assert resets == [device]
    meter.sample()
    meter.sample()
    assert meter.read() == {"gpu_peak_gib": 0.5, "gpu_percent": 10.0}


def test_gpu_meter_without_driver_reports_memory_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(device: torch.device) -> int:
        raise ModuleNotFoundError("nvidia-ml-py")

    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 2**30)
    monkeypatch.setattr(torch.cuda, "utilization", fail)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
    meter = GpuMeter(torch.device("cuda"))
    meter.sample()
    assert meter.read() == {"gpu_peak_gib": 1.0}


def test_gpu_meter_measures_nothing_on_cpu() -> None:
    meter = GpuMeter(torch.device("cpu"))
    meter.sample()
    assert meter.read() == {}
