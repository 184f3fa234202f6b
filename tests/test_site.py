"""The documentation builds as a site without a warning, and contains every page."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tests.test_documents import PAGES


def pages_in(entry: object) -> list[str]:
    """Return the paths of the pages in a part of the navigation."""
    if isinstance(entry, str):
        return [entry]
    return [page for part in (entry.values() if isinstance(entry, dict) else entry) for page in pages_in(part)]


def test_navigation_has_every_page() -> None:
    navigation = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    assert sorted(pages_in(navigation)) == sorted(str(page.relative_to(ROOT / "docs")) for page in PAGES)


def test_site_builds_without_warnings(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="pip install -r requirements-docs.txt")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "site/reference/parameters.html").stat().st_size > 10_000
