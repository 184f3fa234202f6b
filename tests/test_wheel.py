"""The installed package: a wheel in an environment of its own, without the repository, and the build's rewriting."""

import os
import re
import subprocess
import sys
import sysconfig
import venv
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import apparent_personality
import setup
from apparent_personality.__main__ import COMMANDS
from lib.serving import publish
from lib.serving.predictor import Predictor
from lib.sources.demo.head import Performance
from tests.code_blocks import find_code_blocks
from tests.conftest import ROOT
from tests.project_copy import copy_files
from tests.test_packaging import PROJECT
from tests.test_publish import CPU, save_model, write_evaluation
from tests.video_files import write_talking_head

NAME = "apparent_personality"


class Installed:
    """A folder with a wheel, a published model and a clip, and an environment in which the commands of docs/predict.md ran.

    The environment sees the packages of this one through a .pth file. pip therefore checks the wheel's requirements, and
    installs nothing but the wheel. printed: the output of the commands.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.bin = folder, folder / ".venv/bin"
        (self.wheel,) = (folder / "dist").glob("*.whl")
        venv.create(folder / ".venv")
        self.packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder / ".venv")}))
        (self.packages / "below.pth").write_text(sysconfig.get_path("purelib"))
        (self.bin / "pip").write_text(f'#!/bin/sh\nexec "{self.bin}/python" -m pip "$@"\n')
        (self.bin / "pip").chmod(0o755)
        os.link(self.wheel, folder / self.wheel.name)
        (self.block,) = (
            block for block in find_code_blocks(ROOT / "docs/predict.md", "bash") if "pip install apparent" in block
        )
        self.printed = self.run(self.block)

    def run(self, script: str) -> str:
        """Run a script of bash in the folder, assert that it succeeds, and return what it prints."""
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        environment |= {"PATH": f"{self.bin}:{os.environ['PATH']}", "CUDA_VISIBLE_DEVICES": ""}
        environment |= {"PIP_NO_INDEX": "1", "PIP_NO_COMPILE": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        done = subprocess.run(
            ["bash", "-ec", script], cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("wheel")
    model = save_model(folder / "model.pt", flow={"backend": "opencv"})
    write_evaluation(folder, model)
    publish.publish(model, folder / "card.md", folder / "provenance.json", folder / "published")
    write_talking_head(folder / "talk.mp4", 2, Performance(0.0, 1.0, 0.0, 2), 2.0, 15)
    source = folder / "source"
    copy_files(source, except_for=("docs/", "plots/", "tests/"))
    build = ["wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(folder / "dist"), str(source)]
    subprocess.run([sys.executable, "-m", "pip", *build], check=True, capture_output=True)
    return Installed(folder)


def test_documented_commands_predict_with_wheel_and_folder(installed: Installed) -> None:
    assert len(installed.block.splitlines()) == 2
    prediction = Predictor(installed.folder / "published", CPU)(installed.folder / "talk.mp4")
    scores = {name: f"{estimate.score:.6f}" for name, estimate in prediction.targets["traits"].items()}
    columns, row = (line.split(",") for line in installed.printed.splitlines()[-2:])
    assert {name: dict(zip(columns, row, strict=False))[name] for name in scores} == scores


def test_wheel_installs_no_other_name(installed: Installed) -> None:
    names = {path.name for path in list_installed(installed.packages)}
    assert {name for name in names if not name.endswith(".dist-info")} == {NAME}
    script = "import importlib.util as u; print([n for n in ('lib', 'tools', 'stages') if u.find_spec(n)])"
    assert installed.run(f'python -P -c "{script}"') == "[]\n"
    (distribution,) = metadata.distributions(name=NAME, path=[str(installed.packages)])
    required = {str(Requirement(line)) for line in distribution.requires or () if "extra ==" not in line}
    assert required == {str(Requirement(line)) for line in PROJECT["dependencies"]}
    assert {*(distribution.metadata.get_all("Provides-Extra") or ())} == {*PROJECT["optional-dependencies"]}


def list_installed(packages: Path) -> list[Path]:
    """Return the files and folders of an environment besides the path file."""
    return [path for path in packages.iterdir() if path.name != "below.pth" and path.name != "__pycache__"]


def list_source_files(folder: Path) -> set[Path]:
    """Return the relative paths of a folder's files, without what Python and Numba compile."""
    return {
        path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts
    }


def test_wheel_contains_code_and_data_files(installed: Installed) -> None:
    package = installed.packages / NAME
    assert list_source_files(package / "lib") == list_source_files(ROOT / "lib")
    texts = [path.read_text() for path in package.rglob("*.py")]
    assert not [text for text in texts if "-r requirements-" in text]
    tools = "|".join(COMMANDS)
    assert not [text for text in texts if re.search(rf"python -m tools\.({tools})\b", text)]
    for name in ("page", "weights"):
        assert installed.run(f"apparent-personality {name} --help").startswith(f"usage: apparent-personality {name}")


def test_package_imports_without_an_installation() -> None:
    assert apparent_personality.Predictor is Predictor
    assert all(getattr(apparent_personality, name) for name in apparent_personality.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'Predicter'"):
        getattr(apparent_personality, "Predicter")  # noqa: B009


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("from lib.core import clips\n", f"from {NAME}.lib.core import clips\n"),
        ("if 1:\n    from tools.weights import fetch\n", f"if 1:\n    from {NAME}.tools.weights import fetch\n"),
        ('load(f"lib.sources.{name}")\n', f'load(f"{NAME}.lib.sources.{{name}}")\n'),
        ('"run python -m tools.weights yunet"\n', '"run apparent-personality weights yunet"\n'),
        ('"run python -m tools.archives"\n', '"run python -m tools.archives"\n'),
        ('"pip install -r requirements-page.txt"\n', '"pip install apparent-personality[page]"\n'),
        ('"in lib/core"; "lib"\n', '"in lib/core"; "lib"\n'),
    ],
)
def test_build_rewrites_names_of_modules(before: str, after: str) -> None:
    assert setup.rewrite(before) == after


def test_build_rejects_an_import_that_it_cannot_rewrite() -> None:
    with pytest.raises(ValueError, match=r"line 2 imports lib\.core; allowed: `from lib"):
        setup.rewrite("import os\nimport lib.core\n")


def test_package_leaves_out_tools_of_the_pipeline() -> None:
    assert setup.list_packages()[0] == NAME
    assert {f"{NAME}.lib.streams.faces", f"{NAME}.tools.weights"} < {*setup.list_packages()}
    assert f"{NAME}.tools.ablate" not in setup.list_packages()
