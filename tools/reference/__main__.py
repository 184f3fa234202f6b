"""Write parameters.md, python_api.md and behaviour.md in docs/reference/, the table of tools in stages.md, and the tables of
weights and dependencies in docs/licences.md.

The parameters come from params/demo.yaml (values and comments) and the settings classes (types and ranges), the Python API
from signatures and docstrings, the measures of behaviour from their modules, the weights from lib/core/weight_files.py,
the tools from the first sentences of their docstrings. Run this command after a change of any of them;
tests/test_reference.py compares.
"""

import argparse
from pathlib import Path

from lib.core import command, interrupts

PARAMETERS_PAGE, API_PAGE = Path("docs/reference/parameters.md"), Path("docs/reference/python_api.md")


def main() -> None:
    argparse.ArgumentParser(
        prog="python -m tools.reference", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    for page, text in pages().items():
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(text)
        print(f"written: {page}")


def pages() -> dict[Path, str]:
    """Return the text of each generated page by its path."""
    with interrupts.loading():  # they take seconds to load, and --help needs none of them
        from tools.reference import api, commands, licences, measures, parameters

    return {
        PARAMETERS_PAGE: parameters.describe_parameters(),
        API_PAGE: api.describe_api(),
        measures.MEASURES_PAGE: measures.describe_measures(),
        commands.STAGES_PAGE: commands.replace_table(commands.STAGES_PAGE.read_text()),
        licences.LICENCES_PAGE: licences.replace_tables(licences.LICENCES_PAGE.read_text()),
    }


if __name__ == "__main__":
    command.run(main)
