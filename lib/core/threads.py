"""The number of CPUs that a process may use, and the way its threads wait for each other on a busy machine."""

import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path

SPINS = "3000"
"""How often a thread looks for work before it sleeps, a fraction of a millisecond. GNU OpenMP's default is 300,000: a thread
then waits for milliseconds on a core that another process needs, and every step waits for the slowest thread."""

_SAMPLES, _PAUSE = 5, 0.004  # seconds between them
_LOAD = Path("/proc/loadavg")
_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")


def set_environment(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set the environment variables of OpenMP, which PyTorch, oneDNN and MKL use, unless the user has set them.

    Threads sleep at once where other processes need the CPUs, else after SPINS looks. The number of threads follows the CPUs
    that may be used, never the load: results depend on it. OpenMP reads the variables once, as PyTorch is imported.
    Processes started later inherit them.
    """
    if "torch" in sys.modules:
        return
    cpus = count_cpus(environment)
    if "OMP_NUM_THREADS" not in environment and cpus < len(os.sched_getaffinity(0)):
        environment["OMP_NUM_THREADS"] = str(cpus)
    if environment.get("OMP_NUM_THREADS") == "1" or {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(environment):
        return
    if count_busy() + cpus > (os.cpu_count() or 1):
        environment["OMP_WAIT_POLICY"] = "PASSIVE"
    else:
        environment["GOMP_SPINCOUNT"] = SPINS


def count_busy(load: Path = _LOAD) -> int:
    """Return the number of other running processes and threads of this machine, the smallest of a few counts in 16 ms. It is
    0 if the system does not count them."""
    if not load.exists():
        return 0
    counts = []
    for sample in range(_SAMPLES):
        time.sleep(_PAUSE if sample else 0)
        counts.append(int(load.read_text().split()[3].split("/")[0]) - 1)  # without this one
    return max(0, min(counts))


def count_cpus(
    environment: Mapping[str, str] = os.environ, cgroups: Path = _CGROUPS, own_cgroups: Path = _OWN_CGROUPS
) -> int:
    """Return the number of CPUs that this process may use: the smallest of its affinity, its control groups' quotas, rounded
    up, and what SLURM allots; at least 1."""
    allowed = [len(os.sched_getaffinity(0)), *(int(-(-quota // 1)) for quota in _quotas(cgroups, own_cgroups))]
    slurm = environment.get("SLURM_CPUS_PER_TASK") or environment.get("SLURM_CPUS_ON_NODE", "")
    if slurm.isdecimal():
        allowed.append(int(slurm))
    return max(1, min(allowed))


def _quotas(cgroups: Path, own_cgroups: Path) -> Iterator[float]:
    """Yield the quotas, in CPUs, of the process' control groups and of those above them (versions 1 and 2)."""
    for folder in _folders(cgroups, own_cgroups):
        for quota, period in (
            (folder / "cpu.max", None),
            (folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us"),
        ):
            try:
                text = quota.read_text() + (f" {period.read_text()}" if period else "")
            except OSError:  # not of this version, or no quota at this level
                continue
            limit = re.fullmatch(r"(\d+)\s+(\d+)\s*", text)  # "max" and -1 are without limit
            if limit and int(limit[2]):
                yield int(limit[1]) / int(limit[2])


def _folders(cgroups: Path, own_cgroups: Path) -> Iterator[Path]:
    """Yield the folders of the process' CPU control group and of those above it."""
    lines = own_cgroups.read_text().splitlines() if own_cgroups.exists() else []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers or "cpu" in controllers.split(","):
            root = cgroups / controllers if controllers else cgroups
            group = root / path.lstrip("/")
            yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(root))
