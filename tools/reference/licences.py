"""The generated tables in docs/licences.md: weights, from their registry; dependencies, from the requirements files and the
metadata of installed packages."""

import re
from pathlib import Path

from lib.core.weight_files import WEIGHT_SETS
from lib.report.licences import find_licence

LICENCES_PAGE = Path("docs/licences.md")
BEGIN, END = "<!-- dependencies -->", "<!-- end of dependencies -->"

WEIGHTS_BEGIN, WEIGHTS_END = "<!-- weights -->", "<!-- end of weights -->"


def replace_tables(page: str) -> str:
    """Return the page with its tables of weights and dependencies brought up to date.

    A package that isn't installed keeps its row.
    """
    before, rest = page.split(WEIGHTS_BEGIN)
    after = rest.split(WEIGHTS_END)[1]
    return _replace_dependencies(f"{before}{WEIGHTS_BEGIN}\n\n{_list_weights()}\n\n{WEIGHTS_END}{after}")


def _list_weights() -> str:
    lines = ["| weights | used by | source | MB | licence | allows |", "|---|---|---|---|---|---|"]
    for name, weights in WEIGHT_SETS.items():
        cells = (f"`{name}`", weights.use, weights.origin, f"{weights.megabytes:g}", weights.licence, weights.allows)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _replace_dependencies(page: str) -> str:
    before, rest = page.split(BEGIN)
    old, after = rest.split(END)
    rows = {match[1]: match[0] for match in re.finditer(r"^\| ([\w.-]+) \|.*$", old, re.MULTILINE)}
    lines = ["| package | file | licence in its metadata |", "|---|---|---|"]
    for name, file in dependencies().items():
        licence = find_licence(name)
        lines.append(rows[name] if licence is None and name in rows else f"| {name} | `{file}` | {licence} |")
    return f"{before}{BEGIN}\n\n" + "\n".join(lines) + f"\n\n{END}{after}"


def dependencies() -> dict[str, str]:
    """Return the name of each direct dependency and the requirements file that names it."""
    return {
        match[1]: path.name
        for path in sorted(Path().glob("requirements*.txt"))
        for match in re.finditer(r"^([\w.-]+)==", path.read_text(), re.MULTILINE)
    }
