"""The front page is short, its pages are found from it, and no link of them is broken."""

import re
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from tests.conftest import ROOT
from tools import planted

PAGES = sorted(
    path for path in (ROOT / "docs").glob("*.md") if path.name not in ("model_card.md", "data_sheet.md")
)  # the pipeline writes these
FILES = [ROOT / "README.md", *PAGES, ROOT / "data/README.md", ROOT / "data/archives/README.md"]


def links(file: Path) -> list[str]:
    """The relative links and pictures of a page, without what is code."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", file.read_text(), flags=re.DOTALL)
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"[a-z]+:", link)]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_links_resolve(file: Path) -> None:
    for link in links(file):
        path, _, anchor = link.partition("#")
        there = file.parent / path if path else file
        assert there.is_file(), f"{file}: {link}"
        headings = re.findall(r"^#+ (.*)$", there.read_text(), re.MULTILINE) if anchor else []
        names = {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}
        assert not anchor or anchor in names, f"{file}: {link}"


def test_the_front_page_is_short_and_links_each_page_once() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120
    linked = [link for link in links(ROOT / "README.md") if link.startswith("docs/") and link.endswith(".md")]
    assert sorted(linked) == [f"docs/{path.name}" for path in PAGES]


def test_pages_that_code_and_parameters_name_are_there() -> None:
    files = [
        path for name in ("lib", "stages", "tools", "params") for path in (ROOT / name).rglob("*") if path.is_file()
    ]
    named = {
        name
        for path in files
        if path.suffix in (".py", ".yaml")
        for name in re.findall(r"docs/\w+\.md", path.read_text())
    }
    assert named
    assert {ROOT / name for name in named} <= {*PAGES, ROOT / "docs/model_card.md", ROOT / "docs/data_sheet.md"}


def test_the_picture_of_the_front_page_is_the_table_as_it_stands(tmp_path: Path) -> None:
    table = planted.read(ROOT / "docs/planted.md")
    assert table.loc["flow", "extraversion (motion)"] == "0.67 ± 0.01"
    assert len(table) == 16
    planted.draw(table).savefig(tmp_path / "now.png", dpi=100)
    now, kept = (matplotlib.image.imread(path) for path in (tmp_path / "now.png", ROOT / "docs/planted.png"))
    assert now.shape == kept.shape
    assert (np.abs(now - kept) > 0.1).mean() < 1e-5  # a digit is more
