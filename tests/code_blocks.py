"""Code blocks of the documentation's pages."""

import re
from pathlib import Path


def find_code_blocks(page: Path, language: str) -> list[str]:
    """Return the text of a page's code blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
