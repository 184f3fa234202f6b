"""Only one process at a time loads librosa, so that Numba's cache stays complete."""

import fcntl
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
