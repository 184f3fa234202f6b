"""The one exception for mistakes in what the user gave, and how a script ends on it."""

import argparse
import sys
from collections.abc import Callable


class InputError(ValueError):
    """A mistake in the input; its text says what was seen, what is allowed and where to change it."""


def run(main: Callable[[], None]) -> None:
    """Run a script's `main`; an InputError becomes one line on standard error and exit status 1."""
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")


def run_stage(main: Callable[[], None]) -> None:
    """Run a stage's `main`, which takes everything from params.yaml; `--help` says what the stage does."""
    argparse.ArgumentParser(
        description=sys.modules["__main__"].__doc__, epilog="Everything is set in params.yaml; `dvc repro` runs it."
    ).parse_args()
    run(main)
