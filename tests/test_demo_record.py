"""dvc.lock and metrics/ are those of the demo with these stages and parameters. Scores are compared by .ci/run."""

import copy
import hashlib
import json
from typing import Any

import pytest
from dvc.utils.serialize import load_yaml

from tests.compare_demo import SCORES, TOLERANCES, find_differences, list_scores
from tests.conftest import ROOT

AGAIN = "run `dvc repro && git add dvc.lock metrics` and commit (CONTRIBUTING.md)"
if not (ROOT / "dvc.lock").exists() or not (ROOT / SCORES).exists():
    pytest.skip(f"no run of the demo is recorded: {AGAIN}", allow_module_level=True)
STAGES: dict[str, Any] = load_yaml(ROOT / "dvc.yaml")["stages"]
LOCK: dict[str, Any] = load_yaml(ROOT / "dvc.lock")["stages"]
PARAMETERS: dict[str, Any] = load_yaml(ROOT / "params.yaml")


def get_parameter(name: str) -> Any:
    """Return the value of a key of params.yaml, such as evaluate.split."""
    value: Any = PARAMETERS
    for part in name.split("."):
        value = value[part]
    return value


def list_paths(entries: list[Any]) -> list[str]:
    """Return the sorted paths of entries of dvc.yaml, which are paths or {path: options}."""
    return sorted(path for entry in entries for path in ([entry] if isinstance(entry, str) else entry))


def test_lock_has_the_stages_of_dvc_yaml() -> None:
    assert LOCK.keys() == STAGES.keys(), AGAIN


@pytest.mark.parametrize("name", STAGES)
def test_lock_of_a_stage_fits_dvc_yaml_and_params_yaml(name: str) -> None:
    locked, stage = LOCK[name], STAGES[name]
    assert locked["cmd"] == stage["cmd"], AGAIN
    assert sorted(entry["path"] for entry in locked["deps"]) == list_paths(stage["deps"]), AGAIN
    outputs = list_paths(stage["outs"]) + list_paths(stage.get("metrics", []))
    assert sorted(entry["path"] for entry in locked["outs"]) == sorted(outputs), AGAIN
    expected = {key: get_parameter(key) for key in stage["params"]}
    assert locked["params"]["params.yaml"] == expected, AGAIN


@pytest.mark.parametrize("name", STAGES)
def test_committed_metrics_are_those_of_the_lock(name: str) -> None:
    checksums = {entry["path"]: entry["md5"] for entry in LOCK[name]["outs"]}
    for path in list_paths(STAGES[name].get("metrics", [])):
        assert hashlib.md5((ROOT / path).read_bytes()).hexdigest() == checksums[path], AGAIN


def test_comparison_of_the_demo_finds_lost_causes() -> None:
    committed = json.loads((ROOT / SCORES).read_text())
    assert [*list_scores(committed)]
    assert find_differences(committed, committed) == []
    measured = copy.deepcopy(committed)
    model = measured["test"]["traits"]["all"]["model"]
    model["accuracy"] += TOLERANCES["accuracy"] / 2
    assert find_differences(committed, measured) == []
    model["r2"] -= 2 * TOLERANCES["r2"]
    assert [line.partition(":")[0] for line in find_differences(committed, measured)] == ["test.traits.all.model.r2"]
    del model["ccc"]
    assert len(find_differences(committed, measured)) == 2
