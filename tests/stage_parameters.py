"""Small parameters for the stages, and a way to run stages with them without DVC."""

import json
from typing import Any

import pytest
from dvc.utils.serialize import load_yaml

from lib.core import parameters
from tests.conftest import ROOT

WARMTH = {"columns": ["warm"], "range": [1, 7], "head": "linear", "loss": "mae", "weight": 1.0}


def small_parameters(**changes: Any) -> dict[str, Any]:
    """The parameters of params.yaml with smaller sizes and with changes SECTION__KEY=value."""
    values = json.loads(json.dumps(load_yaml(ROOT / "params.yaml")))
    small = {
        "download__allow_missing": 0.2,
        "flow__scales": 2, "flow__warps": 2, "flow__iterations": 10, "audio__mels": 16, "audio__mfcc": 6,
        "model__use": ["faces", "flow", "audio"], "model__width": 24, "model__targets": ["traits", "warmth"],
        "model__missing": "keep", "targets__warmth": {**WARMTH}, "train__epochs": 2, "train__batch_size": 4,
    }  # fmt: skip
    for path, value in (small | changes).items():
        *sections, key = path.split("__")
        target = values
        for section in sections:
            target = target[section]
        target[key] = value
    return values


def use_parameters(patch: pytest.MonkeyPatch, values: dict[str, Any]) -> None:
    """Make stages load these parameters, as if DVC passed them."""

    def load(stage: str, model: type[parameters.Section]) -> parameters.Section:
        return parameters.check({name: values[name] for name in model.model_fields}, model)

    patch.setattr(parameters, "load", load)
