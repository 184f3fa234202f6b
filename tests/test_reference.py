"""The generated pages of the reference are up to date and complete."""

import re
from pathlib import Path

import pytest

from lib.core.weight_files import WEIGHT_SETS
from tests.conftest import ROOT
from tools.reference import api, commands, licences, parameters, schema
from tools.reference.__main__ import PARAMETERS_PAGE, pages


@pytest.fixture
def generated(monkeypatch: pytest.MonkeyPatch) -> dict[Path, str]:
    monkeypatch.chdir(ROOT)
    return pages()


def test_reference_pages_are_up_to_date(generated: dict[Path, str]) -> None:
    for path, text in generated.items():
        assert path.read_text() == text, f"{path} is out of date; run `python -m tools.reference`"


def test_reference_has_allowed_values_of_each_parameter(generated: dict[Path, str]) -> None:
    rows = [line.split(" | ") for line in generated[PARAMETERS_PAGE].splitlines() if line.startswith("| `")]
    assert len(rows) > 200
    assert [row[0] for row in rows if not row[2].strip()] == []


def test_comment_belongs_to_the_key_below_it() -> None:
    text = "# of the file\n\na:\n  # two\n  # lines\n  b: 1\n  c: 2\n# of d\nd:\n  b: 3\n"
    assert parameters.read_comments(text) == {"a.b": "two lines", "d": "of d"}


def test_schema_describes_a_range_in_words() -> None:
    allowed = {"anyOf": [{"type": "integer", "minimum": 1, "maximum": 64}, {"type": "null"}]}
    assert schema.in_words(allowed, {}) == "integer, 1 to 64 or `null`"


def test_signature_keeps_default_paths() -> None:
    def load(path: Path = Path("data/model.pt")) -> None: ...

    assert api.signature("load", load) == "load(path: Path = Path('data/model.pt')) -> None"


def test_licences_list_every_dependency(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    table = licences.LICENCES_PAGE.read_text().split(licences.BEGIN)[1].split(licences.END)[0]
    rows = [line.split(" | ") for line in table.splitlines() if line.startswith("| ")][1:]
    assert {row[0].strip("| "): row[1].strip("`") for row in rows} == licences.dependencies()
    assert all(row[2].strip(" |") not in ("", "None") for row in rows)


def test_licences_list_every_set_of_weights(generated: dict[Path, str]) -> None:
    table = generated[licences.LICENCES_PAGE].split(licences.WEIGHTS_BEGIN)[1].split(licences.WEIGHTS_END)[0]
    assert re.findall(r"^\| `(.*?)` \|", table, re.MULTILINE) == list(WEIGHT_SETS)


def test_stages_page_lists_every_tool(generated: dict[Path, str]) -> None:
    rows = dict(
        re.findall(r"^\| `python -m (tools\.[\w.]+)` \| (.+) \|$", generated[commands.STAGES_PAGE], re.MULTILINE)
    )
    programs = {
        re.sub(r"^tools\.benchmarks\.\w+", "tools.benchmarks.NAME", name)
        for path in (ROOT / "tools").rglob("*.py")
        for name in re.findall(r'prog="python -m ([\w.]+)"', path.read_text())
    }
    assert {"tools.new", "tools.ablate", "tools.benchmarks.NAME"} < programs
    assert set(rows) == programs
    assert all(sentence.endswith(".") for sentence in rows.values())
