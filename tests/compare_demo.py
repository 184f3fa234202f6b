"""Compare the demo's scores with the committed ones: `python -m tests.compare_demo` after `dvc repro`."""

import json
import math
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

SCORES = Path("metrics/scores.json")
TOLERANCES = {"accuracy": 0.01, "r2": 0.1, "ccc": 0.1}
"""Largest allowed difference between two processors: five times that of two of them, with accuracies of 0.9203 and 0.9221. A
model that loses a planted cause differs by more: the R² of that trait falls to 0, and the mean of five by over 0.1."""


def list_scores(metrics: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float | None]]:
    """Yield the name and the value of each score of the model, such as `test.traits.all.model.r2`."""
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            yield from list_scores(value, f"{prefix}{name}.")
        elif ".model." in prefix:
            yield f"{prefix}{name}", value


def find_differences(committed: Mapping[str, Any], measured: Mapping[str, Any]) -> list[str]:
    """Return a line for each score that is missing, or differs by more than its tolerance."""
    before, after = dict(list_scores(committed)), dict(list_scores(measured))
    lines = []
    for name in before | after:
        old, new = (math.nan if scores.get(name) is None else scores[name] for scores in (before, after))
        tolerance = TOLERANCES[name.rpartition(".")[2]]
        if (name in before) != (name in after) or math.isnan(old) != math.isnan(new) or abs(new - old) > tolerance:
            lines.append(f"{name}: committed {old}, measured {new}, tolerance {tolerance}")
    return lines


def main() -> None:
    result = subprocess.run(["git", "show", f"HEAD:{SCORES}"], capture_output=True, text=True, check=False)
    if result.returncode:
        print(f"{SCORES} is not committed: nothing to compare with")
        return
    committed = json.loads(result.stdout)
    if lines := find_differences(committed, json.loads(SCORES.read_text())):
        sys.exit("\n".join(["the demo's scores differ from the committed ones:", *lines]))
    print(f"the demo's scores equal the committed ones within {TOLERANCES}")


if __name__ == "__main__":
    main()
