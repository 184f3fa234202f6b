"""The cost of stages: measured time and energy, the log, and the sentence in report and card."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lib.core import command, cost
from lib.core.artifacts import COST
from lib.core.cost import Cost, Meter
from lib.core.errors import InputError

WORK = "import time; began = time.process_time()\nwhile time.process_time() - began < 0.3: pass"


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
        "2.0 minutes, 2.00 CPU hours, 0.50 GPU hours, 0.500 kWh of the processors, over all runs of the stages in this"
        " folder (train 90 s, faces 30 s)"
    )
    assert "energy not reported by this machine" in cost.describe({"faces": costs["faces"]})
    assert cost.describe({}) == ""
