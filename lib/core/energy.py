"""Estimates of the processors' energy and of carbon by codecarbon, for users who turn them on. Nothing uses a network.

An estimate differs from a measurement: codecarbon takes the processors' design power from a table (4 W per
thread if it is not there) and scales it with the load of all programs (10 % when idle, then with the cube of the load).
"""

import logging
import math
import os
from importlib.util import find_spec
from typing import Any, NamedTuple

from lib.core.errors import InputError

SETTING = "APPARENT_PERSONALITY_ENERGY"
"""The environment variable that turns estimates on: `on`, a country's ISO 3166 code of three letters, or g CO2e per kWh."""
_ALLOWED = "allowed: on, a country's code of three letters such as FRA, or grams of CO2e per kWh such as 56"
_SECONDS = 15


class Estimate(NamedTuple):
    """kwh: the processors' energy. intensity: g CO2e per kWh; None if the user set no country and no intensity."""

    kwh: float
    intensity: float | None


class Estimator:
    """Estimates the energy that all processors of the machine use from its creation on, also for other programs."""

    def __init__(self, intensity: float | None = None, country: str | None = None) -> None:
        """Start codecarbon. intensity: g CO2e per kWh. country: its code in codecarbon's table."""
        logging.getLogger("codecarbon").setLevel(logging.ERROR)  # it warns before it reads log_level
        import codecarbon

        self._intensity, self._country = intensity, country
        # a user's .codecarbon.config can't make it send data, write files or estimate in another way
        self._tracker = codecarbon.OfflineEmissionsTracker(
            country_iso_code=country,
            force_carbon_intensity_g_co2e_kwh=None if country else 0,
            measure_power_secs=_SECONDS,
            output_methods=[],
            output_handlers=[],
            emissions_endpoint=False,
            electricitymaps_api_token="",
            tracking_mode="machine",
            force_mode_cpu_load=True,
            allow_multiple_runs=True,
            cloud_provider=None,
            region=None,
            pue=1.0,
            log_level="error",
        )
        self._tracker.start()

    def stop(self) -> Estimate:
        """Return the estimate, and end codecarbon's threads."""
        self._tracker.stop()
        data: Any = self._tracker.final_emissions_data
        if self._country is not None:
            self._intensity = 1e3 * data.emissions / data.energy_consumed
        return Estimate(float(data.cpu_energy), self._intensity)


def start_estimator() -> Estimator | None:
    """Return a running estimator, or None if the user did not turn estimates on.

    Raises InputError if the environment variable has another value, or codecarbon is not installed.
    """
    value = os.environ.get(SETTING, "").strip()
    is_first = os.environ.get("LOCAL_RANK", "0") == "0"  # of the processes of a training on several devices
    if not value or not is_first:
        return None
    if find_spec("codecarbon") is None:
        raise InputError(
            f"environment: {SETTING} = {value} needs codecarbon; run pip install -r requirements-energy.txt, or unset it"
        )
    if value == "on":
        return Estimator()
    try:
        intensity = float(value)
    except ValueError:
        return Estimator(country=_find_country(value))
    if not 0 <= intensity < math.inf:
        raise InputError(f"environment: {SETTING} = {value} is negative or not finite; {_ALLOWED}; correct or unset it")
    return Estimator(intensity)


def _find_country(code: str) -> str:
    from codecarbon.input import DataSource

    if code not in DataSource().get_global_energy_mix_data():
        raise InputError(f"environment: {SETTING} = {code} is unknown to codecarbon; {_ALLOWED}; correct or unset it")
    return code
