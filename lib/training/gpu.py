"""Memory and utilization of the GPU during an epoch."""

import time

import torch

_INTERVAL = 1.0  # seconds between two readings of the driver


class GpuMeter:
    """Measures one epoch after another. On a CPU it measures nothing."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._percents: list[float] = []
        self._next = 0.0

    def sample(self) -> None:
        """Read the utilization of the GPU, at most once a second. Called after each step."""
        if self._device.type != "cuda" or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _INTERVAL
        try:
            self._percents.append(float(torch.cuda.utilization(self._device)))
        except (ModuleNotFoundError, RuntimeError):  # without nvidia-ml-py, or with a driver that does not report it
            self._next = float("inf")

    def read(self) -> dict[str, float]:
        """Return the epoch's peak of allocated memory and the mean of the samples, and start the next epoch."""
        if self._device.type != "cuda":
            return {}
        row = {"gpu_peak_gib": round(torch.cuda.max_memory_allocated(self._device) / 2**30, 3)}
        if self._percents:
            row["gpu_percent"] = round(sum(self._percents) / len(self._percents), 1)
        torch.cuda.reset_peak_memory_stats(self._device)
        self._percents = []
        return row
