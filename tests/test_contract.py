"""dvc.yaml, params.yaml and the code agree."""

import ast
import importlib
import re
from functools import cache
from io import StringIO
from pathlib import Path

import pytest
import yaml
from dvc.utils.serialize import load_yaml

from lib import analysis
from lib.core import parameters, resume
from lib.core.errors import SettingError
from lib.core.parameters import Section
from lib.core.registry import list_members
from lib.model.settings import find_module_name, list_kinds
from lib.report.figures import FIGURES
from lib.sources import base as sources
from lib.streams import base, build
from tests.conftest import ROOT
from tools import parameters as written

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


ORDER = [
    "core",
    "media",
    "sources",
    "streams",
    "data",
    "model",
    "regression",
    "scoring",
    "analysis",
    "training",
    "report",
    "serving",
]
"""Packages of lib; each imports from itself and from those before it."""


MAX_LINES, MAX_PARAMETERS, MAX_POSITIONAL = 60, 8, 6
"""Limits: lines and parameters of a function, positional arguments of a call."""


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def file_of(module: str) -> str:
    path = Path(module.replace(".", "/"))
    return f"{path}/__init__.py" if (ROOT / path).is_dir() else f"{path}.py"


def script_and_stream(stage: str) -> tuple[str, str]:
    """Return the module that a stage's command in dvc.yaml runs, and the stream that it extracts, if it extracts one."""
    python, option, script, *arguments = STAGES[stage]["cmd"].split()
    assert (python, option) == ("python", "-m")
    if script == "stages.stream":
        return script, arguments[0]
    assert not arguments
    return script, stage if stage in base.list_names() else ""


@pytest.mark.parametrize("stage", STAGES)
def test_stage_is_named_as_its_script_or_stream(stage: str) -> None:
    script, stream = script_and_stream(stage)
    assert stage == (stream or script.removeprefix("stages."))
    assert (ROOT / file_of(script)).exists()


def test_stages_are_scripts_of_at_most_40_lines() -> None:
    written = {path.stem: len(path.read_text().splitlines()) for path in (ROOT / "stages").glob("[!_]*.py")}
    assert not {name for name, lines in written.items() if lines > 40}
    assert set(written) == {script_and_stream(stage)[0].removeprefix("stages.") for stage in STAGES}


@pytest.mark.parametrize("folder", ["lib", "stages", "tools"])
def test_functions_and_calls_are_small(folder: str) -> None:
    too_large = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(parse(path)):
            place = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines, count = (node.end_lineno or 0) - node.lineno + 1, count_parameters(node.args)
                if lines > MAX_LINES or count > MAX_PARAMETERS:
                    too_large.append(f"{place}: {node.name} has {lines} lines and {count} parameters")
            elif isinstance(node, ast.Call) and len(node.args) > MAX_POSITIONAL:
                too_large.append(f"{place}: {len(node.args)} positional arguments")
    assert not too_large


def test_files_are_short() -> None:
    limits = dict.fromkeys(("lib", "tools", "stages", "apparent_personality"), 300) | {"tests": 600}
    for folder, limit in limits.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            lines = len(path.read_text().splitlines())
            assert lines <= limit, f"{path.relative_to(ROOT)} has {lines} lines; allowed: {limit}. Split it"


def test_library_errors_name_settings_and_no_file() -> None:
    for path in (ROOT / "lib").rglob("*.py"):
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Error"):
                assert "params.yaml" not in ast.unparse(node), f"{path}:{node.lineno}: name only the setting"


def count_parameters(arguments: ast.arguments) -> int:
    """Return the number of a function's parameters, without the object or class of a method."""
    named = [*arguments.posonlyargs, *arguments.args]
    bound = bool(named) and named[0].arg in ("self", "cls")
    return len(named) - bound + len(arguments.kwonlyargs) + bool(arguments.vararg) + bool(arguments.kwarg)


def test_packages_import_downward_only() -> None:
    assert {
        path.stem for path in (ROOT / "lib").iterdir() if not path.name.startswith("__") and path.suffix != ".typed"
    } <= set(ORDER)
    for path in (ROOT / "lib").rglob("*.py"):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for node in ast.walk(parse(path)):
            assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}: relative import"
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                is_above = name.split(".")[0] in ("stages", "tools", "tests")
                assert not is_above, f"{module} imports {name}"
                if name.startswith("lib."):
                    own_position, imported_position = (
                        ORDER.index(module_name.split(".")[1]) for module_name in (module, name)
                    )
                    assert imported_position <= own_position, f"{module} imports {name}"


def test_modules_have_no_circular_imports() -> None:
    modules = {module_at(path): path for path in (ROOT / "lib").rglob("*.py")}
    imports = {name: imported_by(path) & set(modules) - {name} for name, path in modules.items()}
    while free := [name for name, needs in imports.items() if not needs & set(imports)]:
        for name in free:
            del imports[name]
    assert not imports, "these modules import each other, or are imported by such"


def module_at(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported_by(path: Path) -> set[str]:
    """Return the modules that a file imports. For `from package import name`, the package counts only if `name` is not a
    module.
    """
    modules: set[str] = set()
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            inner = {name for name in names if (ROOT / file_of(name)).exists()}
            modules |= inner | ({node.module} if inner != names else set())
    return modules


@pytest.mark.parametrize("name", sources.list_names())
def test_source_declares_all_names_of_the_interface(name: str) -> None:
    members = {*sources.Source.__annotations__, *(key for key in vars(sources.Source) if key[0] != "_")}
    assert members >= {"Settings", "bring", "rows"}
    assert not {member for member in members if not hasattr(sources.load(name), member)}


def test_registry_omits_helpers_and_shared_modules(tmp_path: Path) -> None:
    for name in ("b.py", "a.py", "_helper.py", "base.py", "notes.txt", "folder/data.txt", "package/__init__.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert list_members(tmp_path, ["base"]) == ["a", "b", "package"]


@pytest.mark.parametrize("stage", STAGES)
def test_stage_deps_cover_all_imported_modules(stage: str) -> None:
    listed = [path for path in STAGES[stage]["deps"] if path.startswith(("lib/", "stages/"))]
    script, stream = script_and_stream(stage)
    modules = [script, *([f"lib.streams.{stream}"] if stream else [])]
    if stage in ("train", "evaluate", "analyse"):  # these import by names in the parameters
        modules += [f"lib.streams.{name}" for name in base.list_names()]
        modules += [find_module_name(kind) for kind in list_kinds()]
    if stage == "figures":
        modules += [f"lib.report.figures.{name}" for name in FIGURES]
    if stage == "analyse":
        modules += [f"lib.analysis.{name}" for name in analysis.list_names()]
    elif stage == "download":
        modules += [f"lib.sources.{name}" for name in sources.list_names()]
    files = {file_of(name) for name in resume.find_imported_modules(modules)}
    used_files = {file for file in files if len(parse(ROOT / file).body) > 1}  # not only a docstring
    for file in used_files:
        assert any(file == path or file.startswith(f"{path}/") for path in listed), f"{stage} lacks {file}"
    for path in listed:
        assert any(file == path or file.startswith(f"{path}/") for file in used_files), f"{stage} does not use {path}"


def test_train_uses_no_bootstrap_and_no_baseline() -> None:
    scoring = {path for path in STAGES["train"]["deps"] if path.startswith("lib/scoring")}
    assert scoring == {"lib/scoring/conformal.py", "lib/scoring/reliability.py", "lib/scoring/scores.py"}


def parameters_of(stage: str) -> type[Section]:
    """Return the model of the sections of params.yaml that a stage reads."""
    script, stream = script_and_stream(stage)
    return build.make_parameters_model(stream) if stream else importlib.import_module(script).Parameters


@pytest.mark.parametrize("stage", STAGES)
def test_stage_reads_exactly_the_sections_dvc_watches(stage: str) -> None:
    assert sorted(parameters_of(stage).model_fields) == sorted({name.split(".")[0] for name in STAGES[stage]["params"]})


@pytest.mark.parametrize("path", sorted((ROOT / "params").glob("*.yaml")), ids=lambda path: path.name)
def test_shipped_parameters_are_valid(path: Path) -> None:
    written.check(written.merge_parameters(path.stem, []))


def test_params_yaml_equals_params_demo_yaml() -> None:
    assert (ROOT / "params.yaml").read_bytes() == (ROOT / "params/demo.yaml").read_bytes()
    text = StringIO()
    written.dump(written.merge_parameters("demo", []), text)
    assert text.getvalue() == (ROOT / "params/demo.yaml").read_text()


def test_parameter_names_are_not_ignored_by_dvcs_run_cache() -> None:
    def keys(values: object) -> set[str]:
        if not isinstance(values, dict):
            return set()
        return set(values).union(*map(keys, values.values()))

    assert keys(load_yaml(ROOT / "params.yaml")) >= {"side", "fps"}
    assert not keys(load_yaml(ROOT / "params.yaml")) & {"size", "nfiles"}


def test_each_package_has_a_docstring() -> None:
    for path in (ROOT / "lib").rglob("__init__.py"):
        if path.parent != ROOT / "lib":
            assert ast.get_docstring(parse(path)), path


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("train", "epochs", 1.5, "train.epochs = 1.5"),
        ("model", "missing", "ignore", "'drop' or 'keep'"),
        ("model", "fusoin", "concat", "unknown key model.fusoin"),
    ],
)
def test_invalid_parameter_is_named(section: str, key: str, value: object, message: str) -> None:
    values = {name: load_yaml(ROOT / "params.yaml")[name] for name in STAGES["train"]["params"]}
    values[section] = dict(values[section]) | {key: value}
    with pytest.raises(SettingError, match=re.escape(message)):
        parameters.check(values, importlib.import_module("stages.train").Parameters)


def test_missing_parameter_is_named() -> None:
    values = {name: dict(load_yaml(ROOT / "params.yaml")[name]) for name in STAGES["train"]["params"]}
    del values["train"]["epochs"]
    with pytest.raises(SettingError, match=r"^train\.epochs is missing; params/demo\.yaml"):
        parameters.check(values, importlib.import_module("stages.train").Parameters)
