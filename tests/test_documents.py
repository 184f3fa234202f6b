"""The documentation: links, reachability, length of the front page, graph of stages, and image of the planted signals."""

import re
from itertools import pairwise
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from lib.streams import base
from tests.conftest import ROOT
from tests.test_contract import STAGES
from tools.planted import image

GENERATED = {ROOT / "docs/model_card.md", ROOT / "docs/data_sheet.md"}  # the pipeline writes these
PAGES = sorted(path for path in (ROOT / "docs").rglob("*.md") if path not in GENERATED)
FRONT_PAGE = ROOT / "README.md"
OTHERS = sorted({*ROOT.glob("*.md"), *(ROOT / "examples").rglob("*.md"), *(ROOT / "data").glob("*.md")})
FILES = [*OTHERS, *PAGES, ROOT / "data/archives/README.md"]


def find_links(page: Path) -> list[str]:
    """Return the relative links and images of a page, without those in code."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(), flags=re.DOTALL)
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"[a-z]+:", link)]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", FILES, ids=name_of)
def test_page_links_resolve(page: Path) -> None:
    for link in find_links(page):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.is_file(), f"{page}: {link}"
        headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE) if anchor else []
        anchors = {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}
        assert not anchor or anchor in anchors, f"{page}: {link}"


@pytest.mark.parametrize("start", [FRONT_PAGE, ROOT / "docs/index.md"], ids=name_of)
def test_every_page_is_reachable(start: Path) -> None:
    reached, waiting = set[Path](), [start]
    while waiting:
        page = waiting.pop()
        if page in reached:
            continue
        reached.add(page)
        targets = ((page.parent / link.partition("#")[0]).resolve() for link in find_links(page))
        waiting += [target for target in targets if target.suffix == ".md"]
    assert {*PAGES} - {ROOT / "docs/index.md"} <= reached


def test_front_page_is_short() -> None:
    assert len(FRONT_PAGE.read_text().splitlines()) <= 130


def test_pages_named_in_code_exist() -> None:
    folders = ("lib", "stages", "tools", "params")
    files = [path for name in folders for path in (ROOT / name).rglob("*") if path.suffix in (".py", ".yaml")]
    named = {name for path in files for name in re.findall(r"docs/[\w/]+\.md", path.read_text())}
    assert named
    assert {ROOT / name for name in named} <= {*PAGES, *GENERATED}


def test_planted_image_equals_its_table(tmp_path: Path) -> None:
    folder = ROOT / "docs/benchmarks"
    table = image.read(folder / "planted_signals.md")
    assert table.loc["flow", "extraversion (motion)"] == "0.67 ± 0.01"
    assert len(table) == 10
    image.draw(table).savefig(tmp_path / "now.png", dpi=100)
    drawn, committed = (matplotlib.image.imread(path) for path in (tmp_path / "now.png", folder / "planted.png"))
    assert drawn.shape == committed.shape
    assert (np.abs(drawn - committed) > 0.1).mean() < 1e-5  # a changed digit exceeds this


def test_documented_graph_of_stages_is_that_of_dvc_yaml() -> None:
    graph = re.findall(r"^```mermaid\n(.*?)^```", (ROOT / "docs/reference/stages.md").read_text(), re.M | re.S)[0]
    drawn: dict[str, set[str]] = {stage: set() for stage in STAGES}
    for line in graph.splitlines()[1:]:
        groups = [group.split(" & ") for group in line.strip().split(" --> ")]
        for producers, consumers in pairwise(groups):
            for consumer in consumers:
                drawn[consumer] |= {*producers}
    writers = {
        path if isinstance(path, str) else next(iter(path)): stage for stage in STAGES for path in outputs_of(stage)
    }
    read = {stage: {writers[path] for path in STAGES[stage]["deps"] if path in writers} for stage in STAGES}
    for stage in STAGES:
        assert drawn[stage] <= read[stage], stage
        assert read[stage] <= find_earlier(drawn, stage), stage
        if stage in base.list_names():
            assert read[stage] - {"download"} == drawn[stage] - {"download"}, stage


def outputs_of(stage: str) -> list:
    return [path for kind in ("outs", "metrics", "plots") for path in STAGES[stage].get(kind, [])]


def find_earlier(drawn: dict[str, set[str]], stage: str) -> set[str]:
    """Return all stages from which arrows lead to a stage."""
    return drawn[stage].union(*(find_earlier(drawn, before) for before in drawn[stage]))
