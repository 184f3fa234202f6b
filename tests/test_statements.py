"""docs/tutorials/statements.md: each key and file in its tables exists. tests/test_commands.py checks its commands."""

import re

import pytest
import yaml

from tests.conftest import ROOT

PAGE = ROOT / "docs/tutorials/statements.md"
NAMES = sorted(set(re.findall(r"`([^`\n]+)`", "\n".join(re.findall(r"(?m)^\|[^|]+\|(.+)\|$", PAGE.read_text())))))
OWN_FILES = ("training_gt.csv",)  # files of users


@pytest.mark.parametrize("name", NAMES)
def test_statement_names_a_key_or_a_file(name: str) -> None:
    key, _, value = name.partition(": ")
    if "/" in name:
        assert (ROOT / name).exists()
    elif name not in OWN_FILES:
        section = yaml.safe_load((ROOT / "params/demo.yaml").read_text())
        for part in key.split("."):
            assert part in section, f"{part} of {name}"
            section = section[part]
        assert not value or value in (ROOT / "params/demo.yaml").read_text()


def test_page_has_a_table_and_commands_for_each_system() -> None:
    sections = PAGE.read_text().split("\n## ")[1:]
    assert len(sections) == 5
    assert all("| statement |" in section and "```bash" in section for section in sections)
    assert len(NAMES) > 20
