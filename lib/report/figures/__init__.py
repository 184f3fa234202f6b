"""The figures, one per module. Modules with names `_name` are helpers."""

import importlib
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from matplotlib.figure import Figure

from lib.core.registry import list_members
from lib.core.targets import TargetGroup
from lib.report.figures import _read as read
from lib.report.figures._base import COLOURS as COLOURS
from lib.report.figures._base import FigureInputs as FigureInputs
from lib.report.figures._base import hide_axes as hide_axes
from lib.report.figures._base import is_empty as is_empty
from lib.report.figures._base import make_figure as make_figure
from lib.report.figures._paper import fit_to_paper as fit_to_paper
from lib.report.figures._read import ClipAttention as ClipAttention

__all__ = [
    "COLOURS",
    "FIGURES",
    "ClipAttention",
    "FigureInputs",
    "FigureModule",
    "draw_all",
    "fit_to_paper",
    "hide_axes",
    "is_empty",
    "make_caption",
    "make_figure",
    "read",
]


class FigureModule(Protocol):
    """The interface of a module of this folder: a figure of the report and the paper.

    To add a figure, write lib/report/figures/NAME.py with these names. The report, the captions and the paper find it by its
    file; NAME is the figure's file name and title.

    CAPTION: explains in plain text how to read the figure. SECTION: the section of the report, a key of
    `lib.report.page.SECTIONS`, or headline. ORDER: sort key of the figures of the report.

    draw(results) is called once in a run; draw(results, group) is called once for each target group, with only the group's
    results. It returns a matplotlib figure and uses no input except `results` (`FigureInputs`). If there is nothing to draw,
    it returns `make_empty_figure(REASON)`. Colours, panels and helpers that figures share are in `_base`.

    applies_to(group), optional: returns whether a target group has this figure; the default is True. applies(results),
    optional: returns whether a run has this figure, for figures of parts that few models have; the default is True.

    describe(results) or describe(results, group), optional: returns a sentence about this run's figure that is added to
    CAPTION, or an empty string.
    """

    CAPTION: str
    SECTION: str
    ORDER: int
    draw: Callable[..., Figure]


def _load() -> dict[str, Any]:
    modules = {name: importlib.import_module(f"{__name__}.{name}") for name in list_members(Path(__file__).parent)}
    return dict(sorted(modules.items(), key=lambda item: (item[1].ORDER, item[0])))


FIGURES: dict[str, Any] = _load()
"""Every `FigureModule` by name, in the order of the report."""


def is_drawn(module: Any, group: TargetGroup | None) -> bool:
    """Return whether a figure is drawn for a target group, or, if `group` is None, whether it is drawn once in a run."""
    by_group = len(inspect.signature(module.draw).parameters) > 1
    if group is None or not by_group:
        return group is None and not by_group
    return not hasattr(module, "applies_to") or bool(module.applies_to(group))


def make_caption(module: Any, results: FigureInputs, group: TargetGroup | None) -> str:
    """Return a figure's caption with the sentence about this run."""
    if not hasattr(module, "describe"):
        return str(module.CAPTION)
    text = module.describe(results) if group is None else module.describe(results, group)
    return f"{module.CAPTION} {text}".rstrip()


def draw_all(results: FigureInputs, group: TargetGroup | None) -> Iterator[tuple[str, Figure]]:
    """Yield the name and the figure of each figure of a target group, given the group's results.

    If `group` is None, yield the figures that are drawn once in a run.
    """
    for name, module in FIGURES.items():
        if is_drawn(module, group) and (not hasattr(module, "applies") or module.applies(results)):
            yield name, module.draw(results) if group is None else module.draw(results, group)
