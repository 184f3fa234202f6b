"""Estimates of energy and carbon: off by default, offline, never called a measurement, and clear messages."""

import json
import logging
import os
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from lib.core import command, cost, energy
from lib.core.artifacts import COST
from lib.core.cost import Cost, Meter
from lib.core.errors import InputError
from tests.conftest import ROOT

needs_codecarbon = pytest.mark.skipif(
    find_spec("codecarbon") is None, reason="requirements-energy.txt is not installed"
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty working folder, in which a connection to another machine fails the test."""

    def refuse(self: socket.socket, address: object) -> None:
        raise AssertionError(f"a connection to {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["stage"])
    monkeypatch.delenv(energy.SETTING, raising=False)
    return tmp_path


def measure(folder: Path) -> Cost:
    """Return the cost of half a second of work on a machine without counters."""
    meter = Meter(folder / "none", energy.start_estimator())
    began = time.process_time()
    while time.process_time() - began < 0.5:
        pass
    return meter.read()


def test_estimates_that_are_off_import_nothing() -> None:
    code = "import sys; from lib.core import energy; print(energy.start_estimator(), 'codecarbon' in sys.modules)"
    environment = {key: value for key, value in os.environ.items() if key != energy.SETTING}
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert result.stdout == "None False\n"


@needs_codecarbon
@pytest.mark.parametrize(("setting", "least", "most"), [("FRA", 10, 150), ("POL", 400, 1200), ("56", 56, 56)])
def test_estimate_uses_the_intensity_of_the_setting(
    folder: Path, monkeypatch: pytest.MonkeyPatch, setting: str, least: float, most: float
) -> None:
    monkeypatch.setenv(energy.SETTING, setting)
    estimator = energy.start_estimator()
    assert estimator is not None
    time.sleep(0.2)
    estimate = estimator.stop()
    assert 0 < estimate.kwh < 0.001  # less than 18 kW
    assert estimate.intensity is not None
    assert least <= estimate.intensity <= most


@needs_codecarbon
def test_estimate_without_a_country_has_no_carbon(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / ".codecarbon.config").write_text(
        "[codecarbon]\noutput_methods = csv,api\nemissions_endpoint = http://192.0.2.1\nelectricitymaps_api_token = a\n"
    )
    monkeypatch.setenv(energy.SETTING, "on")
    used = measure(folder)
    assert used.estimated_kwh is not None
    assert used.estimated_kwh > 0
    assert (used.kwh, used.co2_grams) == (None, None)
    assert not caplog.records
    assert [path.name for path in folder.iterdir()] == [".codecarbon.config"]


class StillEstimator(energy.Estimator):
    """Estimates 2 kWh, at 50 g CO2e per kWh, without codecarbon."""

    def __init__(self) -> None:
        pass

    def stop(self) -> energy.Estimate:
        return energy.Estimate(2.0, 50.0)


@pytest.mark.parametrize(
    ("joules", "gpus", "expected"),
    [
        (None, {}, (None, None, 2.0, 100.0)),
        (3.6e6, {}, (1.0, None, None, 50.0)),
        (None, {"GPU-a": 7.2e6}, (None, 2.0, 2.0, 200.0)),
        (None, {"GPU-a": None}, (None, None, 2.0, None)),
    ],
    ids=["estimate", "measured", "with a GPU", "GPU without a counter"],
)
def test_counters_replace_the_estimate(
    folder: Path, monkeypatch: pytest.MonkeyPatch, joules: float | None, gpus: dict[str, float], expected: tuple[float]
) -> None:
    readings = {"processors": 0.0, "gpus": 0.0}
    monkeypatch.setattr(
        cost, "_read_counters", lambda power: {} if joules is None else {"a": (readings["processors"], 1e12)}
    )
    monkeypatch.setattr(cost, "_find_gpus", lambda: [*gpus])
    monkeypatch.setattr(
        cost, "_read_gpu_counters", lambda: {name: (readings["gpus"], 1e12) for name in gpus if gpus[name]}
    )
    meter = Meter(folder, StillEstimator())
    time.sleep(0.02)  # seconds are rounded to hundredths
    readings |= {"processors": joules or 0.0, "gpus": gpus.get("GPU-a") or 0.0}
    used = meter.read()
    assert (used.kwh, used.gpu_kwh, used.estimated_kwh, used.co2_grams) == expected


def test_sentence_separates_estimates_from_measurements() -> None:
    used = cost.describe({"faces": Cost(60.0, 60.0, 0.0, None, None, 0.0123, 2.5), "train": Cost(60.0, 0.0, 0.0, 0.5)})
    assert "0.500 kWh of the processors (measured by RAPL)" in used
    assert "0.0123 kWh of the processors (estimated by codecarbon from design power and load)" in used
    assert "2.5 g CO2e (energy times the grid's intensity, of runs that set it)" in used


@needs_codecarbon
@pytest.mark.parametrize("value", ["France", "XXX", "-1", "nan", "inf"])
def test_wrong_setting_names_what_is_allowed(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(energy.SETTING, value)
    with pytest.raises(InputError, match=rf"^environment: {energy.SETTING} = {value} is .*; allowed: on, .*unset it$"):
        energy.start_estimator()


def test_missing_package_ends_the_stage_with_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(energy.SETTING, "on")
    monkeypatch.setattr(energy, "find_spec", lambda name: None)
    with pytest.raises(
        SystemExit, match=r"^error: environment: .* needs codecarbon; run pip install -r requirements-e"
    ):
        command.run_stage(lambda: None, "faces")


@needs_codecarbon
def test_stage_records_its_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(energy.SETTING, "56")
    monkeypatch.setattr(cost, "_read_counters", lambda power: {})
    command.run_stage(lambda: time.sleep(0.2), "faces")
    line = json.loads(COST.read_text())
    assert line["kwh"] is None
    assert line["estimated_kwh"] > 0
    assert line["co2_grams"] == pytest.approx(56 * line["estimated_kwh"], abs=1e-6)
    assert logging.getLogger("codecarbon").level >= logging.ERROR
