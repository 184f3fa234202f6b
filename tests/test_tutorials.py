"""The code of the tutorials add_a_stream.md, add_an_encoder.md and add_a_fusion.md in docs/tutorials/ runs."""

import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from lib.core.errors import InputError
from lib.core.parameters import read_yaml
from lib.core.shards import Record
from tests.code_blocks import find_code_blocks
from tests.conftest import ROOT
from tests.project_copy import copy_files, run_python, run_tests
from tools import new

PAGE = ROOT / "docs/tutorials/add_a_stream.md"
ENCODER_PAGE = ROOT / "docs/tutorials/add_an_encoder.md"
FUSION_PAGE = ROOT / "docs/tutorials/add_a_fusion.md"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project after all steps of the tutorial."""
    folder = tmp_path_factory.mktemp("tutorial")
    copy_files(folder)
    (module,), (section, encoder, stage) = find_code_blocks(PAGE, "python"), find_code_blocks(PAGE, "yaml")
    (folder / "lib/streams/loudness.py").write_text(module)
    parameters = (ROOT / "params.yaml").read_text()
    parameters = parameters.replace("\nmodel:\n", f"\n{section}\nmodel:\n").replace(
        "\n    flow:\n", f"\n{encoder}    flow:\n"
    )
    for name in ("params.yaml", "params/demo.yaml"):
        (folder / name).write_text(parameters)
    pipeline = (ROOT / "dvc.yaml").read_text().replace("\n  train:\n", f"\n{stage}  train:\n")
    (folder / "dvc.yaml").write_text(
        pipeline.replace("    - data/flow\n    - data/desc", "    - data/flow\n    - data/loudness\n    - data/desc")
    )
    return folder


def test_new_stream_makes_a_record() -> None:
    scope: dict = {"__name__": "loudness"}
    exec(find_code_blocks(PAGE, "python")[0], scope)
    stream = scope["STREAM"]
    assert stream.inputs == ("audio",)
    audio = Record("a.mp4", {"log_mel": np.arange(12.0).reshape(3, 4), "times": np.arange(3.0)})
    extracted = stream.make_extractor(stream.settings(enabled=True, offset=1.0))(audio)
    assert stream.read_steps(extracted, np.array([0, 2])).tolist() == [[2.5], [10.5]]
    assert extracted.arrays["times"].tolist() == [0, 1, 2]


def test_new_stream_passes_the_contract(project: Path) -> None:
    run_python(project, "-m", "tools.parameters", "demo", "model.use=[faces,flow,audio,loudness]")
    run_python(project, "-m", "tools.parameters", "demo")
    run_tests(project, "tests/test_contract.py", "-k", "loudness or train")


def test_new_encoder_passes_its_tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, tests = find_code_blocks(ENCODER_PAGE, "python")
    module = ModuleType("lib.model.encoders.changes")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(code, module.__dict__)
    scope: dict = {"__name__": "test_encoder_changes"}
    exec(tests, scope)
    functions = [function for name, function in scope.items() if name.startswith("test_")]
    assert len(functions) == 2
    for function in functions:
        function()
    (tmp_path / "entry.yaml").write_text(find_code_blocks(ENCODER_PAGE, "yaml")[0])
    settings = module.Settings(**read_yaml(tmp_path / "entry.yaml")["changes"])
    assert module.Encoder(settings, [[13]]).output_dim == 24
    for shapes in ([[13], [2]], [[3, 64, 64]]):
        with pytest.raises(InputError, match="allowed for changes: one stream of vectors"):
            module.Encoder(settings, shapes)


def test_new_fusion_trains_with_its_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    code, option, tests = find_code_blocks(FUSION_PAGE, "python")
    (entry,) = find_code_blocks(FUSION_PAGE, "yaml")
    fusions, test, settings, *parameters = new.create("fusion", "attention_pooling")
    skeleton = re.search(r"class AttentionPooling.*?\n\n\n", fusions.read_text(), re.DOTALL)
    assert skeleton
    fusions.write_text(fusions.read_text().replace(skeleton[0], f"{code}\n\n"))
    last = re.search(r"    time_slope: .*\n", settings.read_text())
    assert last
    settings.write_text(settings.read_text().replace(last[0], f"{last[0]}    {option}"))
    for path in parameters:
        path.write_text(re.sub(r"(\n  fusion: .*\n)", rf"\1{entry}", path.read_text()))
    test.write_text(tests)
    run_python(tmp_path, "-m", "tools.parameters", "demo", "model.fusion=attention_pooling", "model.temperature=2.0")
    run_tests(tmp_path, str(test), "tests/test_model.py", "-k", "attention_pooling or fusion")
