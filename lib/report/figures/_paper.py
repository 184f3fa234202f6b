"""Fit figures to the columns of a paper."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator

COLUMNS = 3.5, 7.2
"""Widths of one and of two columns of a journal's page in inches."""
_NARROW = 5.0  # inches; wider figures take two columns
_TICKS_PER_INCH, _MANY_TICKS = 2, 5  # on paper: panels with room for fewer labels on the x axis get fewer
_POINTS = 7, 9


def fit_to_paper(figure: Figure) -> bool:
    """Scale a figure to the width of one or two columns (COLUMNS), with text of 7 to 9 points; return whether it takes two
    columns."""
    width, height = figure.get_size_inches()
    wide = bool(width > _NARROW)
    scale = COLUMNS[wide] / width
    figure.set_size_inches(COLUMNS[wide], height * min(1, scale**0.5))  # text shrinks less than panels
    for text in figure.findobj(Text):
        text.set_fontsize(float(np.clip(text.get_fontsize() * scale, *_POINTS)))
    for axes in figure.axes:
        spec, locator = axes.get_subplotspec(), axes.xaxis.get_major_locator()
        if spec is not None and isinstance(locator, MaxNLocator):
            count = int(_TICKS_PER_INCH * COLUMNS[wide] / spec.get_gridspec().ncols)
            if count < _MANY_TICKS:
                locator.set_params(nbins=max(2, count))
    return wide
