"""The generated table of commands in docs/reference/stages.md: the first sentence of each tool's docstring."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

STAGES_PAGE = Path("docs/reference/stages.md")
BEGIN, END = "<!-- tools -->", "<!-- end of tools -->"
_TOOLS = Path("tools")


def replace_table(page: str) -> str:
    """Return the page with its table of commands brought up to date."""
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    lines = ["| command | what it does |", "|---|---|"]
    lines += [f"| `python -m {name}` | {sentence} |" for name, sentence in sorted(_list_commands())]
    return f"{before}{BEGIN}\n\n" + "\n".join(lines) + f"\n\n{END}{after}"


def _list_commands() -> Iterator[tuple[str, str]]:
    """Yield the module of each command, and what it does. A folder of commands is one row, FOLDER.NAME."""
    for path in [*_TOOLS.glob("*.py"), *_TOOLS.glob("*/__main__.py")]:
        if _is_command(path):
            yield (
                ".".join(path.parent.parts if path.stem == "__main__" else path.with_suffix("").parts),
                _describe(path),
            )
    for path in _TOOLS.glob("*/__init__.py"):
        if not (path.parent / "__main__.py").exists() and any(map(_is_command, path.parent.glob("*.py"))):
            yield f"{'.'.join(path.parent.parts)}.NAME", _describe(path)


def _is_command(path: Path) -> bool:
    return 'if __name__ == "__main__":' in path.read_text()


def _describe(path: Path) -> str:
    """Return the first sentence of a module's docstring, with paths and settings as code."""
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    sentence = " ".join(re.split(r"(?<=\.)\s", docstring, maxsplit=1)[0].split())
    return re.sub(r"(?<![`\w./])(\w+/(?:[\w./]*[\w/])?|\w+\.(?:yaml|csv|md))(?![`\w/])", r"`\1`", sentence)
