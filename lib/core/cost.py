"""The cost of each stage: seconds, CPU and GPU hours, memory, and energy where the machine reports it or the user asks
for an estimate.

Each run of a stage adds a line to logs/cost.jsonl. DVC does not watch this file: the cost of a run changes no result, and
must not start a stage again.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from lib.core.artifacts import COST
from lib.core.energy import Estimate, Estimator

POWER = Path("/sys/class/powercap")
"""Linux' folder with the energy counters of processors (RAPL). By default only root can read them."""
GPU_DRIVER = Path("/dev/nvidiactl")
"""The file of NVIDIA's driver. Without it, stages start without the library that asks the driver."""
_ALL = "all"
_AFTER_TRAINING = ("evaluate", "analyse", "figures")
_HOUR = 3600.0
_JOULES_PER_KWH = 3.6e6


class Cost(NamedTuple):
    """What a stage, or several, used. GPU seconds: seconds times number of GPUs. kwh, gpu_kwh: measured energy of the
    processors and of the GPUs; None if no counter can be read. estimated_kwh: the processors' energy by codecarbon, if no
    counter can be read. co2_grams: of these energies, None if one of them or the intensity of the grid is missing."""

    seconds: float
    cpu_seconds: float
    gpu_seconds: float
    kwh: float | None
    gpu_kwh: float | None = None
    estimated_kwh: float | None = None
    co2_grams: float | None = None


_ENERGIES = ("kwh", "gpu_kwh", "estimated_kwh", "co2_grams")


class Meter:
    """Measures this process and its ended children from its creation on. Work on other machines (Dask) is not counted.

    Energy is that of all processors of the machine and of the GPUs that this process uses, also for other programs.
    """

    def __init__(self, power: Path = POWER, estimator: Estimator | None = None) -> None:
        """power: the folder with the processors' counters. estimator: used if it has none that can be read, and for CO2."""
        self._power, self._gpus, self._estimator = power, _read_gpu_counters(), estimator
        self._began, self._cpu, self._energy = time.monotonic(), _read_cpu_seconds(), _read_counters(power)

    def read(self) -> Cost:
        """Return the cost so far. Ends the estimate."""
        seconds = time.monotonic() - self._began
        joules = sum_differences(self._energy, _read_counters(self._power))
        gpus = _find_gpus()
        before = {name: value for name, value in self._gpus.items() if name in gpus}
        cost = Cost(
            round(seconds, 2),
            round(_read_cpu_seconds() - self._cpu, 2),
            round(seconds * len(gpus), 2),
            _to_kwh(joules),
            _to_kwh(sum_differences(before, _read_gpu_counters())) if len(before) == len(gpus) else None,
        )
        return cost if self._estimator is None else _add_estimate(cost, self._estimator.stop())


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
            runs.setdefault(line["stage"], []).append(_parse(line))
        except (ValueError, KeyError, TypeError):  # the line was not written completely
            continue
    return {stage: add(costs) for stage, costs in runs.items()}


def read_training_costs(path: Path = COST) -> dict[str, Cost]:
    """Return the costs of the stages up to train, which a run of a later stage does not change."""
    return {stage: cost for stage, cost in read_costs(path).items() if stage not in _AFTER_TRAINING}


def add(costs: Iterable[Cost]) -> Cost:
    """Return the sum of costs. Its energy is that of the costs that have one."""
    rows = [*costs]
    columns = ([getattr(cost, name) for cost in rows] for name in _ENERGIES)
    energies = [
        sum(present) if (present := [value for value in column if value is not None]) else None for column in columns
    ]
    seconds, cpu_seconds, gpu_seconds = (
        round(sum(getattr(cost, name) for cost in rows), 2) for name in ("seconds", "cpu_seconds", "gpu_seconds")
    )
    return Cost(seconds, cpu_seconds, gpu_seconds, *energies)


def tabulate(costs: Mapping[str, Cost]) -> dict[str, dict[str, float | None]]:
    """Return the cost of each stage and of all as plain numbers, for JSON; None: the machine does not report it."""
    return {stage: cost._asdict() for stage, cost in costs.items()} | {_ALL: add(costs.values())._asdict()}


def parse(table: Mapping[str, Mapping[str, Any]]) -> dict[str, Cost]:
    """Return the costs from the result of `tabulate`."""
    return {stage: _parse(cost) for stage, cost in table.items() if stage != _ALL}


def describe(costs: Mapping[str, Cost], scope: str = "over all runs of the stages in this folder") -> str:
    """Return a sentence with the cost of all stages and of each that took a second; empty if nothing was recorded."""
    if not costs:
        return ""
    total = add(costs.values())
    parts = [f"{total.seconds / 60:.1f} minutes", f"{total.cpu_seconds / _HOUR:.2f} CPU hours"]
    parts += [f"{total.gpu_seconds / _HOUR:.2f} GPU hours"] if total.gpu_seconds else []
    parts += [f"{total.kwh:.3f} kWh of the processors (measured by RAPL)"] if total.kwh is not None else []
    parts += [f"{total.gpu_kwh:.3f} kWh of the GPUs (measured by NVML)"] if total.gpu_kwh is not None else []
    if total.estimated_kwh is not None:
        parts += [
            f"{total.estimated_kwh:.4f} kWh of the processors (estimated by codecarbon from design power and load)"
        ]
    if total.co2_grams is not None:
        parts += [f"{total.co2_grams:.1f} g CO2e (energy times the grid's intensity, of runs that set it)"]
    silent = ["the processors"] if total.kwh is None else []
    silent += ["the GPUs"] if total.gpu_seconds and total.gpu_kwh is None else []
    parts += [f"energy of {' and '.join(silent)} not reported by this machine"] if silent else []
    largest = sorted((stage for stage in costs if costs[stage].seconds >= 1), key=lambda stage: -costs[stage].seconds)
    stages = ", ".join(f"{stage} {_describe_stage(costs[stage])}" for stage in largest)
    return f"{', '.join(parts)}, {scope}" + (f" ({stages})" if stages else "")


def _describe_stage(cost: Cost) -> str:
    hours = [f"{cost.cpu_seconds / _HOUR:.2f} CPU h"]
    hours += [f"{cost.gpu_seconds / _HOUR:.2f} GPU h"] if cost.gpu_seconds else []
    return f"{cost.seconds:.0f} s / {' / '.join(hours)}"


def _parse(line: Mapping[str, Any]) -> Cost:
    """Return the cost of a line of the log. Lines of earlier versions lack some energies."""
    return Cost(line["seconds"], line["cpu_seconds"], line["gpu_seconds"], *(line.get(name) for name in _ENERGIES))


def _add_estimate(cost: Cost, estimate: Estimate) -> Cost:
    estimated = round(estimate.kwh, 9) if cost.kwh is None else None
    energies = [estimate.kwh if cost.kwh is None else cost.kwh] + ([cost.gpu_kwh] if cost.gpu_seconds else [])
    present = [energy for energy in energies if energy is not None]
    has_all = len(present) == len(energies)
    co2 = round(sum(present) * estimate.intensity, 6) if has_all and estimate.intensity is not None else None
    return cost._replace(estimated_kwh=estimated, co2_grams=co2)


def _to_kwh(joules: float | None) -> float | None:
    return None if joules is None else round(joules / _JOULES_PER_KWH, 6)


def sum_differences(before: dict[str, tuple[float, float]], after: dict[str, tuple[float, float]]) -> float | None:
    """Return the joules between two readings of counters, by name (value, largest value before it begins at 0 again).

    None without a counter.
    """
    names = before.keys() & after.keys()
    return sum((after[name][0] - before[name][0]) % after[name][1] for name in names) if names else None


def _read_cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _find_gpus() -> list[str]:
    """Return the driver's names of the GPUs on which this process has allocated memory, without loading PyTorch."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return []
    indices = [index for index in range(torch.cuda.device_count()) if torch.cuda.max_memory_allocated(index) > 0]
    return [f"GPU-{torch.cuda.get_device_properties(index).uuid}" for index in indices]


def _read_gpu_counters() -> dict[str, tuple[float, float]]:
    """Return the energy counters of the GPUs (Volta or newer) in joules, by the driver's name: value, and largest value."""
    if not GPU_DRIVER.exists():
        return {}
    counters: dict[str, tuple[float, float]] = {}
    import pynvml

    try:
        pynvml.nvmlInit()
        for index in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            millijoules = pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
            counters[str(pynvml.nvmlDeviceGetUUID(handle))] = millijoules / 1e3, 2**64 / 1e3
    except pynvml.NVMLError:  # an older GPU has no counter
        return counters
    return counters


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
