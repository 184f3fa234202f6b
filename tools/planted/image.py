"""The first table of docs/benchmarks/planted_signals.md (R² by predictor and target) as an image."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib.report.figures import make_figure

_PAGE, _PICTURE = Path("docs/benchmarks/planted_signals.md"), Path("docs/benchmarks/planted.png")


def run() -> None:
    """Draw the table as docs/benchmarks/planted.png."""
    draw(read(_PAGE)).savefig(_PICTURE, dpi=100)
    print(f"written: {_PICTURE}")


def read(page: Path) -> pd.DataFrame:
    """Return the text of the page's first table, with predictors as rows and targets as columns."""
    first = next(part for part in page.read_text().split("\n\n") if part.startswith("| "))
    lines = [line.strip("| \n").split(" | ") for line in first.splitlines() if line.startswith("| ")]
    return pd.DataFrame([cells[1:] for cells in lines[1:]], [cells[0] for cells in lines[1:]], lines[0][1:])


def draw(table: pd.DataFrame) -> Figure:
    """Return a figure with a cell for each R²: blue for values above 0, red for values below 0."""
    values = table.map(lambda cell: float(cell.split(" ± ")[0].replace("−", "-"))).to_numpy()
    figure, axes = make_figure(8.5, 0.6 + 0.26 * len(table))
    axes.imshow(values, cmap="RdBu", vmin=-1, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        colour = "white" if value > 0.6 else "black"
        axes.text(column, row, table.iat[row, column], ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(len(table.columns)), [name.replace(" (", "\n(") for name in table.columns], fontsize=8)
    axes.set_yticks(range(len(table)), table.index, fontsize=8)
    axes.tick_params(length=0, top=False, labeltop=True, bottom=False, labelbottom=False)
    axes.spines[:].set_visible(False)
    return figure
