"""The registry of analyses, their outputs and their settings."""

from pathlib import Path

import pytest
from dvc.utils.serialize import load_yaml

from lib import analysis
from lib.analysis._settings import settings_model
from lib.core import artifacts, parameters
from lib.core.errors import InputError
from stages import evaluate
from tests.conftest import ROOT


def test_analyses_write_the_outputs_of_the_stage_once_each() -> None:
    written = [path for name in analysis.list_names() for path in analysis.load(name).OUTPUTS]
    assert sorted(written) == sorted(artifacts.OUTPUTS["analyse"])


def test_names_leave_helpers_out() -> None:
    assert {"attention", "controls", "importance", "probes"} <= set(analysis.list_names())
    assert not [name for name in analysis.list_names() if name.startswith("_")]
    assert all(Path(analysis.__file__).with_name(f"{name}.py").exists() for name in analysis.list_names())


def test_settings_are_the_keys_of_params_yaml() -> None:
    assert set(settings_model().model_fields) == set(load_yaml(ROOT / "params.yaml")["analyse"])


@pytest.mark.parametrize("key", ["attention_clips", "control_repeats", "map_clips"])
def test_moved_key_names_its_new_place(key: str) -> None:
    values = {"evaluate": load_yaml(ROOT / "params.yaml")["evaluate"] | {key: 3}}
    with pytest.raises(InputError, match=f"evaluate.{key} = 3 is now analyse.{key}; move it there"):
        parameters.check(values, evaluate.Parameters)
