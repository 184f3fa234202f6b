"""Settings are checked without slow packages. Only one process at a time loads librosa: Numba's cache stays complete."""

import fcntl
import json
import subprocess
import sys

import pytest

from lib.core import imports
from tests.conftest import ROOT

SCRIPT = (
    "import sys; from lib.core import imports; imports.import_librosa(); print('librosa.util.utils' in sys.modules)"
)


@pytest.mark.slow
def test_import_librosa_waits_for_another_process() -> None:
    with imports.lock_file().open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        other = subprocess.Popen([sys.executable, "-c", SCRIPT], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(5)
        fcntl.flock(file, fcntl.LOCK_UN)
        assert other.communicate(timeout=300)[0] == "True\n"
    assert other.returncode == 0


IMPORT_STAGES = """
import importlib, json, sys
from lib.core import parameters
from lib.streams import base, build
from tools.parameters import check, merge_parameters

imported = {}

def watch(step):
    slow = {"torch", "torchvision", "pandas", "scipy", "sklearn", "matplotlib", "joblib"}
    imported[step] = sorted(slow & sys.modules.keys())

for stage, entry in parameters.read_stages().items():
    importlib.import_module(entry["cmd"].split()[2])
    if stage in base.list_names():
        build.make_parameters_model(stage)
    watch(stage)
for name in sys.argv[1:]:
    check(merge_parameters(name, []))
    watch(name)
print(json.dumps(imported))
"""


def test_settings_of_stages_are_checked_without_slow_packages() -> None:
    names = sorted(path.stem for path in (ROOT / "params").glob("*.yaml"))
    line = [sys.executable, "-c", IMPORT_STAGES, *names]
    output = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    imported = json.loads(output)
    assert len(imported) > len(names)
    assert not any(imported.values()), imported
