"""The cost of each stage: seconds, CPU and GPU hours, memory, and energy where the machine reports it.

Each run of a stage adds a line to logs/cost.jsonl. DVC does not watch this file: the cost of a run changes no result, and
must not start a stage again.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from lib.core.artifacts import COST

POWER = Path("/sys/class/powercap")
"""Linux' folder with the energy counters of processors (RAPL). By default only root can read them."""
_HOUR = 3600.0
_JOULES_PER_KWH = 3.6e6


class Cost(NamedTuple):
    """What a stage, or several, used. GPU seconds: seconds times number of GPUs. kwh: None if no counter can be read."""

    seconds: float
    cpu_seconds: float
    gpu_seconds: float
    kwh: float | None


class Meter:
    """Measures this process and its ended children from its creation on. Work on other machines (Dask) is not counted.

    Energy is that of all processors of the machine, also for other programs, and without GPUs.
    """

    def __init__(self, power: Path = POWER) -> None:
        self._power = power
        self._began, self._cpu, self._energy = time.monotonic(), _read_cpu_seconds(), _read_counters(power)

    def read(self) -> Cost:
        """Return the cost so far."""
        seconds = time.monotonic() - self._began
        joules = sum_differences(self._energy, _read_counters(self._power))
        return Cost(
            round(seconds, 2),
            round(_read_cpu_seconds() - self._cpu, 2),
            round(seconds * _count_gpus(), 2),
            None if joules is None else round(joules / _JOULES_PER_KWH, 6),
        )


def record(stage: str, cost: Cost, ended: str) -> None:
    """Add a stage's run to logs/cost.jsonl, unless the disk is full. ended: "done", or the name of the exception.

    Of a training on several devices, the first process records the others, which are its children.
    """
    if os.environ.get("LOCAL_RANK", "0") != "0":
        return
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    line = {"stage": stage, "time": datetime.now(UTC).isoformat(timespec="seconds"), "ended": ended, **cost._asdict()}
    try:
        COST.parent.mkdir(exist_ok=True)
        with COST.open("a") as file:
            file.write(json.dumps(line | {"largest_process_mib": round(peak / 1024)}) + "\n")
    except OSError:  # a log must not end a stage
        return


def read_costs(path: Path = COST) -> dict[str, Cost]:
    """Return the cost of each stage, summed over all runs in this folder, also of interrupted and repeated ones."""
    if not path.exists():
        return {}
    runs: dict[str, list[Cost]] = {}
    for text in path.read_text().splitlines():
        try:
            line: dict[str, Any] = json.loads(text)
            runs.setdefault(line["stage"], []).append(Cost(*(line[name] for name in Cost._fields)))
        except (ValueError, KeyError, TypeError):  # the line was not written completely
            continue
    return {stage: add(costs) for stage, costs in runs.items()}


def add(costs: Iterable[Cost]) -> Cost:
    """Return the sum of costs. Its energy is that of the costs that have one."""
    rows = [*costs]
    energies = [cost.kwh for cost in rows if cost.kwh is not None]
    seconds, cpu_seconds, gpu_seconds = (
        sum(getattr(cost, name) for cost in rows) for name in ("seconds", "cpu_seconds", "gpu_seconds")
    )
    return Cost(seconds, cpu_seconds, gpu_seconds, sum(energies) if energies else None)


def describe(costs: dict[str, Cost]) -> str:
    """Return a sentence with the cost of all stages and the stages that cost most; empty if nothing was recorded."""
    if not costs:
        return ""
    total = add(costs.values())
    parts = [f"{total.seconds / 60:.1f} minutes", f"{total.cpu_seconds / _HOUR:.2f} CPU hours"]
    parts += [f"{total.gpu_seconds / _HOUR:.2f} GPU hours"] if total.gpu_seconds else []
    parts += [
        f"{total.kwh:.3f} kWh of the processors" if total.kwh is not None else "energy not reported by this machine"
    ]
    largest = sorted(costs, key=lambda stage: -costs[stage].seconds)[:4]
    stages = ", ".join(f"{stage} {costs[stage].seconds:.0f} s" for stage in largest)
    return f"{', '.join(parts)}, over all runs of the stages in this folder ({stages})"


def describe_bytes(size: float) -> str:
    """Return a size as text, in GB or MB."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{max(size / 1e6, 0.1):.1f} MB"


def sum_differences(before: dict[str, tuple[float, float]], after: dict[str, tuple[float, float]]) -> float | None:
    """Return the joules between two readings of counters, by name (value, largest value before it begins at 0 again).

    None without a counter.
    """
    names = before.keys() & after.keys()
    return sum((after[name][0] - before[name][0]) % after[name][1] for name in names) if names else None


def _read_cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _count_gpus() -> int:
    """Return the number of GPUs on which this process has allocated memory, without loading PyTorch."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return 0
    return sum(torch.cuda.max_memory_allocated(index) > 0 for index in range(torch.cuda.device_count()))


def _read_counters(power: Path) -> dict[str, tuple[float, float]]:
    """Return the energy counters of the processors in joules, by name: value, and largest value."""
    counters: dict[str, tuple[float, float]] = {}
    for folder in sorted(power.glob("intel-rapl:?")) if os.access(power, os.R_OK) else []:
        try:
            value, most = (int((folder / name).read_text()) / 1e6 for name in ("energy_uj", "max_energy_range_uj"))
        except (OSError, ValueError):  # only root can read it
            continue
        counters[folder.name] = value, most
    return counters
