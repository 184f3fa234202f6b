"""The device that a process computes on."""

import ctypes
import fcntl
import functools
import os
import platform
import re
import tempfile
from pathlib import Path

import torch


@functools.cache
def best_device() -> torch.device:
    """Return the first CUDA device that no other process of the user has reserved, and reserve it for this process.

    If all devices are reserved, return the first one; without CUDA, the CPU.
    """
    for index in range(torch.cuda.device_count()):
        lock = os.open(Path(tempfile.gettempdir(), f"cuda-{os.getuid()}-{index}.lock"), os.O_CREAT | os.O_RDWR)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # until the process ends
        except BlockingIOError:
            os.close(lock)
            continue
        return torch.device("cuda", index)
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def describe_device(device: torch.device) -> str:
    """Return the name of the GPU, or the name of the processor and its number of cores."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    path = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*:\s*(.+)", path.read_text()) if path.exists() else None
    return f"{named[1].strip() if named else platform.machine()}, {os.cpu_count()} cores"


def ran_out_of_memory(error: Exception) -> bool:
    """Return whether an error of PyTorch or NumPy is a lack of memory, of a GPU or of the machine."""
    texts = ("not enough memory", "can't allocate memory")  # of PyTorch on a CPU
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(text in str(error) for text in texts)


def return_freed_memory() -> None:
    """Return freed memory from the C library to the system, because large tensors do not fit into its gaps."""
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):  # only in glibc
        trim(0)
