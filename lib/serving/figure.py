"""Draw scores with their intervals on the training labels."""

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lib.report.figures import COLOURS
from lib.report.names import MOST, shorten
from lib.serving.scores import Estimate, Estimates, Labels, describe_rank


def draw_groups(targets: Estimates, labels: Mapping[str, Labels]) -> Figure:
    """Return a figure with a panel for each target group. labels: by target group."""
    heights = [0.9 + 0.32 * min(len(estimates), MOST) for estimates in targets.values()]
    figure = Figure(figsize=(9, sum(heights)), layout="constrained")
    panels = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (group, estimates) in zip(panels, targets.items(), strict=True):
        draw_scores(axes, group, estimates, labels.get(group))
    return figure


def draw_scores(axes: Axes, group: str, estimates: Mapping[str, Estimate], labels: Labels | None) -> None:
    """Draw a group's scores with their intervals over the distribution of the training labels."""
    columns = list(estimates)[:MOST]
    for row, estimate in enumerate(estimates[column] for column in columns):
        if labels is not None and columns[row] in labels.quantiles:
            low, lower, middle, upper, high = labels.quantiles[columns[row]]
            axes.barh(row, high - low, left=low, height=0.6, color="0.92")
            axes.barh(row, upper - lower, left=lower, height=0.6, color="0.82")
            axes.plot([middle, middle], [row - 0.3, row + 0.3], color="0.5", linewidth=1)
        if estimate.low is not None and estimate.high is not None:
            axes.plot([estimate.low, estimate.high], [row, row], color=COLOURS[0], linewidth=2)
        axes.plot(estimate.score, row, "o", color=COLOURS[0])
        rank = "" if estimate.percentile is None else f", {describe_rank(estimate.percentile)}"
        axes.text(
            1.01, row, f"{estimate.score:.2f}{rank}", transform=axes.get_yaxis_transform(), va="center", fontsize=8
        )
    axes.set_yticks(range(len(columns)), [shorten(column) for column in columns])
    axes.invert_yaxis()
    axes.set_xlabel(f"{group}: score{_describe_limit(len(estimates))}")
    if labels is not None:
        axes.set_xlim(labels.range)
    handles = [
        Line2D(
            [], [], color=COLOURS[0], marker="o", linewidth=2, label=f"score and {estimates[columns[0]].interval_name}"
        ),
        Line2D([], [], color="0.82", linewidth=6, label="50 % of the training labels"),
        Line2D([], [], color="0.92", linewidth=6, label="90 % of the training labels"),
    ]
    if labels is not None and labels.quantiles:
        axes.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, frameon=False, fontsize=8)


def _describe_limit(count: int) -> str:
    return f" (the first {MOST} of {count} targets)" if count > MOST else ""
