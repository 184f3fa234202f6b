"""The paths of artifacts are those of dvc.yaml."""

from pathlib import Path

import pytest
import yaml

from lib.core import artifacts
from lib.streams import base
from tests.conftest import ROOT

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def paths_of(entries: list[str | dict]) -> set[Path]:
    return {Path(entry if isinstance(entry, str) else next(iter(entry))) for entry in entries}


@pytest.mark.parametrize("stage", STAGES)
def test_outputs_are_the_outs_and_metrics_of_dvc_yaml(stage: str) -> None:
    written = paths_of(STAGES[stage].get("outs", [])) | paths_of(STAGES[stage].get("metrics", []))
    expected = artifacts.stream_outputs(stage) if stage in base.list_names() else artifacts.OUTPUTS[stage]
    assert written == {*expected}


def test_each_output_belongs_to_one_stage() -> None:
    all_outputs = [path for outputs in artifacts.OUTPUTS.values() for path in outputs]
    assert len(all_outputs) == len(set(all_outputs))
    assert artifacts.OUTPUTS.keys() | {*base.list_names()} == STAGES.keys()


def test_other_modules_do_not_repeat_artifact_paths() -> None:
    paths = (path for path in vars(artifacts).values() if isinstance(path, Path))
    named = {path.as_posix() for path in paths if len(path.parts) > 1 and path.parts[0] != "params"}
    for folder in ("lib", "stages", "tools"):
        for file in (ROOT / folder).rglob("*.py"):
            paths_in_code = [path for path in named if f'Path("{path}")' in file.read_text()]
            assert not paths_in_code or file.name == "artifacts.py", f"{file} names {paths_in_code}"
