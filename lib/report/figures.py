"""The figures, drawn from tables and attention weights alone; each function returns one matplotlib figure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lib.core.targets import TargetGroup
from lib.report.words import CALIBRATION, scale

mpl.rcParams |= {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "savefig.bbox": "tight",
    "pdf.fonttype": 42,
    "svg.hashsalt": "0",
}

COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377")
"""Paul Tol's bright scheme, safe for colour-blind readers."""

_A_ROW = 6  # panels
_PICTURES = 6  # of an encoder, spread over its times


class Attention(NamedTuple):
    """A clip's attention weights: looks[query, key] (heads, queries, keys); of each encoder its tokens' times (t,) and
    their grid (h, w) at each; and what it sees, where that is pictures: uint8 (t, H, W, 3)."""

    looks: Mapping[tuple[str, str], np.ndarray]
    times: Mapping[str, np.ndarray]
    grids: Mapping[str, tuple[int, int]]
    pictures: Mapping[str, np.ndarray]


def read_attention(file: Mapping[str, Any]) -> dict[str, Attention]:
    """Return what data/attention.h5 holds (an open h5py.File), by clip; only clips with weights."""
    found = {}
    for clip, group in file.items():
        tokens, weights = group["tokens"], group["attention"]
        looks = {
            (query, key): weights[f"{query}_to_{key}"][()]
            for query, key in product(tokens, tokens)
            if f"{query}_to_{key}" in weights
        }
        if looks:
            found[clip] = Attention(
                looks,
                {name: of["times"][()] for name, of in tokens.items()},
                {name: (int(of["grid"][0]), int(of["grid"][1])) for name, of in tokens.items()},
                {name: of[()] for name, of in group["pictures"].items()} if "pictures" in group else {},
            )
    return found


def learning_curve(history: pd.DataFrame) -> Figure:
    """Training and validation loss by epoch, the kept epoch marked."""
    figure, axes = _figure(4.5, 3)
    axes.plot(history["epoch"], history["training_loss"], color=COLOURS[0], label="training")
    axes.plot(history["epoch"], history["validation_loss"], color=COLOURS[1], label="validation")
    best = history.loc[history["validation_loss"].idxmin(), "epoch"]
    axes.axvline(best, color="grey", linestyle=":", label=f"kept: epoch {best:.0f}")
    axes.set(xlabel="epoch", ylabel="loss", yscale="log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False)
    return figure


def predicted_against_actual(predictions: pd.DataFrame, group: TargetGroup) -> Figure:
    """A scatter for each target of a group, clips of seen and of unseen videos apart, with the line of perfect prediction.

    `predictions`: the group's rows of data/predictions.csv; clips whose target is unknown are not in its panel.
    """
    known = predictions.dropna(subset="actual")
    figure, panels = _panels(group)
    for target, axes in panels.items():
        rows = known[known["target"] == target]
        for seen, colour, label in ((True, COLOURS[0], "seen"), (False, COLOURS[1], "unseen")):
            part = rows[rows["seen"] == seen]
            clips = known.loc[known["seen"] == seen, "clip"].nunique()
            axes.scatter(
                part["actual"], part["predicted"], s=9, alpha=0.7, color=colour, linewidths=0, clip_on=False, zorder=3,
                label=f"video {label} in training ({clips})",
            )  # fmt: skip
        _square(axes, known, group, _title(target, rows, known), "actual")
    _label_left(panels, f"predicted ({scale(group)})")
    handles = next(iter(panels.values())).get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=min(2, len(panels)), frameon=False)
    return figure


def quantiles(predictions: pd.DataFrame, scores: pd.DataFrame, group: TargetGroup) -> Figure:
    """For each target of a group the quantiles (1 to 99 %) of the predicted against those of the actual values: on the line
    both have the same distribution, whether or not clip by clip. `predictions` and `scores`: the group's rows of
    data/predictions.csv and data/scores.csv."""
    known = predictions.dropna(subset="actual")
    chosen = (scores["subset"] == "all") & (scores["predictor"] == "model")
    of_model = scores[chosen].set_index(["score", "target"])["value"]
    shares = np.linspace(0.01, 0.99, 99)
    figure, panels = _panels(group)
    for target, axes in panels.items():
        rows = known[known["target"] == target]
        axes.plot(rows["actual"].quantile(shares), rows["predicted"].quantile(shares), color=COLOURS[0])
        about = "\n".join(f"{label} {_two_digits(of_model[score, target])}" for score, label in CALIBRATION.items())
        axes.text(0.98, 0.03, about, transform=axes.transAxes, ha="right", va="bottom", fontsize=7)
        _square(axes, known, group, _title(target, rows, known), "quantile of the actual")
    _label_left(panels, f"quantile of the predicted ({scale(group)})")
    return figure


def error_distribution(predictions: pd.DataFrame, group: TargetGroup) -> Figure:
    """The signed errors of each target of a group as box plots: whiskers from the 5th to the 95th percentile."""
    known = predictions.dropna(subset="actual")
    figure, axes = _figure(max(3, 1.1 * len(group.columns)), 3)
    errors = [rows["predicted"] - rows["actual"] for _, rows in _by_target(known, group)]
    axes.boxplot(errors, tick_labels=group.columns, whis=(5, 95), showfliers=False, medianprops={"color": COLOURS[1]})
    axes.axhline(0, color="grey", linewidth=0.8)
    axes.set_ylabel(f"predicted − actual (range {scale(group)})")
    axes.tick_params(axis="x", rotation=20)
    return figure


def attention_over_time(clips: Mapping[str, Attention]) -> Figure:
    """A row for each encoder that is looked at, a column for each clip: where in time the other encoders' tokens look, the
    mean over heads and queries, summed over places; uniform attention lies at the dotted line."""
    keys = list(dict.fromkeys(key for clip in clips.values() for _, key in clip.looks))
    if not keys:
        return _no_attention("no attention weights: the fusion has none, or evaluate.attention_clips is 0")
    encoders = list(dict.fromkeys(name for clip in clips.values() for name in clip.times))
    colours = {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(encoders)}
    figure = Figure(figsize=(max(3 * len(clips), 4.5), 0.6 + 2.2 * len(keys)), layout="constrained")
    grid = figure.subplots(len(keys), len(clips), sharex="col", sharey="row", squeeze=False)
    for row, key in zip(grid, keys, strict=True):
        for axes, clip in zip(row, clips.values(), strict=True):
            for (query, looked_at), weights in clip.looks.items():
                if looked_at == key:
                    times = clip.times[key]
                    shares = 100 * weights.mean((0, 1)).reshape(len(times), -1).sum(1)
                    label = f"tokens of {query}"
                    axes.plot(times, shares, marker="o", markersize=3, color=colours[query], label=label)
                    axes.axhline(100 / len(times), color="grey", linestyle=":", linewidth=0.8)
        row[0].set_ylim(0, 1.1 * max(axes.get_ylim()[1] for axes in row))
        row[0].set_ylabel(f"attention to {key}\n(% of its total)")
    for top, bottom, name in zip(grid[0], grid[-1], clips, strict=True):
        top.set_title(name)
        bottom.set_xlabel("time in the clip (s)")
    handles = {
        label: handle for axes in grid.flat for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=len(handles),
        frameon=False,
        title="looking:",
    )
    return figure


def attention_on_face(clips: Mapping[str, Attention]) -> Figure:
    """A row for each clip: how much the other encoders' tokens look at the places of each encoder that has any. On the
    pictures that the encoder saw; for one that saw none on the middle picture of another, summed over time. Mean over
    encoders, heads and queries, in multiples of uniform attention; a cell is a token."""
    maps = {name: _maps(clip) for name, clip in clips.items()}
    if not any(maps.values()):
        return _no_attention("no attention to places: no encoder with places is looked at, or there are no weights")
    columns = max(map(len, maps.values()))
    figure = Figure(figsize=(1.3 * columns + 1, 1.45 * len(clips)), layout="constrained")
    grid = figure.subplots(len(clips), columns, squeeze=False)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    for row, (name, of_clip) in zip(grid, maps.items(), strict=True):
        for axes, (title, picture, look) in zip(row, of_clip, strict=False):
            height, width = look.shape if picture is None else picture.shape[:2]
            if picture is not None:
                axes.imshow(picture.mean(-1), cmap="gray", vmin=0, vmax=255, extent=(0, width, height, 0))
            opacity = 1 if picture is None else 0.5
            shown = axes.imshow(look, cmap="magma", vmin=0, vmax=2, alpha=opacity, extent=(0, width, height, 0))
            axes.set_title(title, fontsize=7)
        row[0].set_ylabel(name, fontsize=6)
    figure.colorbar(shown, ax=grid, label="attention, multiples of uniform", shrink=0.8, extend="max")
    return figure


def _maps(clip: Attention) -> list[tuple[str, np.ndarray | None, np.ndarray]]:
    """A clip's panels: title, picture (H, W, 3) if there is one, and look (h, w), 1 where uniform."""
    found: list[tuple[str, np.ndarray | None, np.ndarray]] = []
    for key, (height, width) in clip.grids.items():
        weights = [of.mean((0, 1)) * of.shape[-1] for (_, looked_at), of in clip.looks.items() if looked_at == key]
        if height * width == 1 or not weights:
            continue
        looks = np.mean(weights, 0).reshape(len(clip.times[key]), height, width)
        if key in clip.pictures:
            steps = np.unique(np.linspace(0, len(looks) - 1, min(_PICTURES, len(looks))).round().astype(int))
            found += [(f"{key} at {clip.times[key][at]:.1f} s", clip.pictures[key][at], looks[at]) for at in steps]
        else:
            picture = next((of[len(of) // 2] for of in clip.pictures.values()), None)
            found.append((f"{key}, all times", picture, looks.mean(0)))
    return found


def _by_target(rows: pd.DataFrame, group: TargetGroup) -> list[tuple[str, pd.DataFrame]]:
    return [(target, rows[rows["target"] == target]) for target in group.columns]


def _panels(group: TargetGroup) -> tuple[Figure, dict[str, Axes]]:
    """A figure with a panel for each target of a group."""
    columns = min(_A_ROW, len(group.columns))
    rows = -(-len(group.columns) // columns)
    height = 2.9 if rows == 1 else 3.2
    # compressed keeps rows of squares apart
    figure = Figure(figsize=(2.4 * columns, height * rows), layout="constrained" if rows == 1 else "compressed")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes in grid[len(group.columns) :]:
        axes.set_visible(False)
    return figure, dict(zip(group.columns, grid, strict=False))


def _label_left(panels: Mapping[str, Axes], label: str) -> None:
    for axes in list(panels.values())[::_A_ROW]:
        axes.set_ylabel(label)


def _title(target: str, rows: pd.DataFrame, known: pd.DataFrame) -> str:
    clips = known["clip"].nunique()
    return target if len(rows) == clips else f"{target}\n({len(rows)} of {clips} known)"


def _square(axes: Axes, known: pd.DataFrame, group: TargetGroup, title: str, label: str) -> None:
    """Title and limits of a target's panel, the range or all that is predicted, and the line on which both are equal."""
    low = min(group.range[0], known["predicted"].min())
    high = max(group.range[1], known["predicted"].max())
    axes.plot([low, high], [low, high], color="grey", linewidth=0.8)
    axes.set_title(title)
    axes.tick_params(labelbottom=True)  # the last row may be shorter than the others
    axes.set(xlabel=f"{label} ({scale(group)})", xlim=(low, high), ylim=(low, high), aspect="equal")


def _two_digits(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:z.2f}"  # z: no -0


def _no_attention(reason: str) -> Figure:
    figure, axes = _figure(4.5, 1.2)
    axes.axis("off")
    axes.text(0.5, 0.5, reason[0].upper() + reason[1:] + ".", ha="center", va="center")
    return figure


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


@dataclass(frozen=True)
class Results:
    """What figures are drawn from: plots/history.csv, data/predictions.csv, data/scores.csv, and `read_attention`."""

    history: pd.DataFrame
    predictions: pd.DataFrame
    scores: pd.DataFrame
    attention: Mapping[str, Attention]

    def of(self, targets: str) -> "Results":
        """Those of one target group."""
        predictions, scores = (table[table["targets"] == targets] for table in (self.predictions, self.scores))
        return replace(self, predictions=predictions, scores=scores)


FIGURES: dict[str, Callable[[Results], Figure]] = {
    "learning_curve": lambda of: learning_curve(of.history),
    "attention_over_time": lambda of: attention_over_time(of.attention),
    "attention_on_the_face": lambda of: attention_on_face(of.attention),
}
"""What is drawn once a run, by the file's name."""

GROUP_FIGURES: dict[str, Callable[[Results, TargetGroup], Figure]] = {
    "predicted_against_actual": lambda of, group: predicted_against_actual(of.predictions, group),
    "error_distribution": lambda of, group: error_distribution(of.predictions, group),
    "quantiles": lambda of, group: quantiles(of.predictions, of.scores, group),
}
"""What is drawn for each target group."""
