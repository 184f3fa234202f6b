"""The cost of stages: measured time and energy, the log, and the sentence in report and card."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pynvml
import pytest

from lib.core import command, cost
from lib.core.artifacts import COST
from lib.core.cost import Cost, Meter
from lib.core.errors import InputError

WORK = "import time; began = time.process_time()\nwhile time.process_time() - began < 0.3: pass"


@pytest.mark.slow
def test_meter_counts_this_process_and_its_children() -> None:
    meter = Meter()
    subprocess.run([sys.executable, "-c", WORK], check=True)
    exec(WORK)
    used = meter.read()
    assert used.cpu_seconds >= 0.6
    assert used.seconds >= 0.3
    assert used.gpu_seconds == 0


@pytest.mark.parametrize(("after", "joules"), [(5_000_000, 4.0), (500_000, 9.5)], ids=["later", "begins again"])
def test_meter_reads_energy_counters(tmp_path: Path, after: int, joules: float) -> None:
    folder = tmp_path / "intel-rapl:0"
    folder.mkdir()
    (folder / "max_energy_range_uj").write_text("10000000\n")
    (folder / "energy_uj").write_text("1000000\n")
    (tmp_path / "intel-rapl:1").mkdir()  # whose counter only root can read
    meter = Meter(tmp_path)
    (folder / "energy_uj").write_text(f"{after}\n")
    assert meter.read().kwh == pytest.approx(joules / 3.6e6, abs=1e-6)
    assert cost.sum_differences({"a": (1.0, 10.0)}, {"a": (after / 1e6, 10.0)}) == pytest.approx(joules)
    assert Meter(tmp_path / "none").read().kwh is None


def test_each_run_of_a_stage_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["stage"])

    def fail() -> None:
        raise InputError("wrong")

    command.run_stage(lambda: time.sleep(0.1), "faces")
    with pytest.raises(SystemExit):
        command.run_stage(fail, "faces")
    lines = [json.loads(line) for line in COST.read_text().splitlines()]
    assert [(line["stage"], line["ended"]) for line in lines] == [("faces", "done"), ("faces", "SystemExit")]
    assert lines[0]["largest_process_mib"] > 10
    with COST.open("a") as file:
        file.write('{"stage": "tr')
    costs = cost.read_costs()
    assert costs.keys() == {"faces"}
    assert costs["faces"].seconds == pytest.approx(lines[0]["seconds"] + lines[1]["seconds"])


def test_cost_is_described_in_a_sentence() -> None:
    costs = {"faces": Cost(30.0, 3600.0, 0.0, None), "train": Cost(90.0, 3600.0, 1800.0, 0.5)}
    assert cost.describe(costs) == (
        "2.0 minutes, 2.00 CPU hours, 0.50 GPU hours, 0.500 kWh of the processors (measured by RAPL), energy of the GPUs not"
        " reported by this machine, over all runs of the stages in this folder"
        " (train 90 s / 1.00 CPU h / 0.50 GPU h, faces 30 s / 1.00 CPU h)"
    )
    silent = cost.describe({"faces": costs["faces"]})
    assert "energy of the processors not reported by this machine" in silent
    assert "kWh" not in silent
    assert "0.250 kWh of the GPUs (measured by NVML)" in cost.describe({"train": costs["train"]._replace(gpu_kwh=0.25)})
    assert cost.describe({}) == ""


def test_meter_reads_the_counters_of_used_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    counters = {"GPU-a": (1000.0, 1e9), "GPU-b": (0.0, 1e9)}
    monkeypatch.setattr(cost, "_read_gpu_counters", lambda: dict(counters))
    monkeypatch.setattr(cost, "_find_gpus", lambda: ["GPU-a"])
    meter = Meter()
    counters["GPU-a"], counters["GPU-b"] = (1000.0 + 3.6e6, 1e9), (5e6, 1e9)
    assert meter.read().gpu_kwh == 1
    monkeypatch.setattr(cost, "_find_gpus", lambda: ["GPU-a", "GPU-of-an-older-driver"])
    assert meter.read().gpu_kwh is None


def test_driver_reports_the_energy_of_each_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cost._read_gpu_counters() == {} or cost.GPU_DRIVER.exists()
    monkeypatch.setattr(cost, "GPU_DRIVER", tmp_path)
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: 2)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", lambda index: index)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetUUID", lambda handle: f"GPU-{handle}")
    monkeypatch.setattr(pynvml, "nvmlDeviceGetTotalEnergyConsumption", lambda handle: 5000 + handle)
    assert {name: value for name, (value, _) in cost._read_gpu_counters().items()} == {"GPU-0": 5.0, "GPU-1": 5.001}

    def fail(handle: int) -> int:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    monkeypatch.setattr(pynvml, "nvmlDeviceGetTotalEnergyConsumption", fail)
    assert cost._read_gpu_counters() == {}


def test_costs_of_training_survive_as_json(tmp_path: Path) -> None:
    path = tmp_path / "cost.jsonl"
    lines = [{"stage": stage, "seconds": 2.0, "cpu_seconds": 3.0, "gpu_seconds": 0.0, "kwh": None} for stage in
             ("faces", "train", "evaluate")]  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    table = json.loads(json.dumps(cost.tabulate(cost.read_training_costs(path))))
    energies = dict.fromkeys(("kwh", "gpu_kwh", "estimated_kwh", "co2_grams"))
    assert table["all"] == {"seconds": 4.0, "cpu_seconds": 6.0, "gpu_seconds": 0.0, **energies}
    assert [*cost.parse(table)] == ["faces", "train"]
    assert cost.describe(cost.parse(table), "in another folder").endswith(
        "in another folder (faces 2 s / 0.00 CPU h, train 2 s / 0.00 CPU h)"
    )
