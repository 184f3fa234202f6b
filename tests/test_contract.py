"""dvc.yaml, params.yaml and the code say the same."""

import ast
import importlib
from pathlib import Path

import pytest
import yaml
from dvc.utils.serialize import load_yaml

from lib.core import parameters, resume
from lib.core.errors import InputError
from tests.conftest import ROOT

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


ORDER = ["core", "media", "sources", "streams", "data", "model", "scoring", "training", "report", "predict"]
"""Packages of lib; each imports from itself and from those before it."""


def file_of(module: str) -> str:
    path = Path(module.replace(".", "/"))
    return f"{path}/__init__.py" if (ROOT / path).is_dir() else f"{path}.py"


def test_packages_import_downward_only() -> None:
    assert {path.stem for path in (ROOT / "lib").iterdir() if not path.name.startswith("__")} <= set(ORDER)
    for path in (ROOT / "lib").rglob("*.py"):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text())):
            assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}: relative import"
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                above = name.split(".")[0] in ("stages", "tools", "tests")
                assert not above, f"{module} imports {name}"
                if name.startswith("lib."):
                    here, there = (ORDER.index(one.split(".")[1]) for one in (module, name))
                    assert there <= here, f"{module} imports {name}"


@pytest.mark.parametrize("stage", STAGES)
def test_folders_cover_the_import_closure(stage: str) -> None:
    listed = [path for path in STAGES[stage]["deps"] if path.startswith(("lib/", "stages/"))]
    used = {file_of(name) for name in resume.closure([f"stages.{stage}"])} - {"stages/__init__.py", "lib/__init__.py"}
    for file in used:
        assert any(file == path or file.startswith(f"{path}/") for path in listed), f"{stage} lacks {file}"
    for path in listed:
        assert any(file == path or file.startswith(f"{path}/") for file in used), f"{stage} does not use {path}"


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
