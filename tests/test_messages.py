"""The page of messages that tests provoke."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.mark.slow
def test_messages_lists_errors_with_their_tests(tmp_path: Path) -> None:
    page = tmp_path / "messages.md"
    provoking = "tests/test_split.py"
    options = ["-p", "tests.messages", "--messages", page, "-q", "-n", "2", "-p", "no:cacheprovider"]
    subprocess.run([sys.executable, "-m", "pytest", *options, provoking, "-k", "fractions"], cwd=ROOT, check=True)
    text = page.read_text()
    assert f"`{provoking}::" in text
    assert "error: " in text
    assert "split_fractions = [0.6, 0.2, 0.3]" in text
    assert not list(tmp_path.glob("*.part"))
