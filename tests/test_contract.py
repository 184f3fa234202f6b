"""dvc.yaml, params.yaml and the code say the same."""

import ast
import importlib
from pathlib import Path

import pytest
import yaml
from dvc.utils.serialize import load_yaml

from lib import parameters
from lib.errors import InputError
from tests.conftest import ROOT

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def import_closure(script: Path) -> set[str]:
    found: set[str] = set()
    todo = [script]
    while todo:
        path = todo.pop()
        if str(path) in found:
            continue
        found.add(str(path))
        for node in ast.walk(ast.parse((ROOT / path).read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: relative import"
                names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
            modules = [Path(name.replace(".", "/")).with_suffix(".py") for name in names]
            todo += [module for module in modules if (ROOT / module).is_file()]
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_dependencies_are_the_import_closure(stage: str) -> None:
    listed = {path for path in STAGES[stage]["deps"] if path.endswith(".py")}
    assert listed == import_closure(Path(f"stages/{stage}.py"))


@pytest.mark.parametrize("stage", STAGES)
def test_stage_reads_exactly_the_sections_dvc_watches(stage: str) -> None:
    model = importlib.import_module(f"stages.{stage}").Parameters
    assert sorted(model.model_fields) == sorted(STAGES[stage]["params"])


@pytest.mark.parametrize(
    "path", [ROOT / "params.yaml", *sorted((ROOT / "params").glob("*.yaml"))], ids=lambda p: p.name
)
def test_shipped_parameters_are_valid(path: Path) -> None:
    values = load_yaml(path)
    for stage in STAGES:
        model = importlib.import_module(f"stages.{stage}").Parameters
        parameters.check({name: values[name] for name in model.model_fields}, model)


@pytest.mark.parametrize(
    ("section", "key", "value", "said"),
    [
        ("train", "epochs", 1.5, "train.epochs = 1.5"),
        ("model", "fusion", "crossattention", "'cross_attention', 'static_to_dynamic', "),
        ("model", "fusoin", "concat", "unknown key model.fusoin"),
    ],
)
def test_wrong_parameter_is_named(section: str, key: str, value: object, said: str) -> None:
    values = {name: load_yaml(ROOT / "params.yaml")[name] for name in STAGES["train"]["params"]}
    values[section] = dict(values[section]) | {key: value}
    with pytest.raises(InputError, match=r"params\.yaml") as caught:
        parameters.check(values, importlib.import_module("stages.train").Parameters)
    assert said in str(caught.value)


def test_missing_parameter_is_named() -> None:
    values = {name: dict(load_yaml(ROOT / "params.yaml")[name]) for name in STAGES["train"]["params"]}
    del values["train"]["epochs"]
    with pytest.raises(InputError, match=r"lacks train\.epochs"):
        parameters.check(values, importlib.import_module("stages.train").Parameters)
