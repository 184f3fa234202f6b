"""The figures, drawn from tables and attention weights alone; each function returns one matplotlib figure."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lib.core.targets import TRAITS

mpl.rcParams |= {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "savefig.bbox": "tight",
    "pdf.fonttype": 42,
    "svg.hashsalt": "0",
}

_CALIBRATION = {
    "std_ratio": "std ratio",
    "regression_to_mean": "regression to the mean",
    "calibration_slope": "calibration slope",
}
_COLOURS = ("#4477aa", "#ee6677", "#228833")  # Paul Tol's bright scheme, safe for colour-blind readers


def learning_curve(history: pd.DataFrame) -> Figure:
    """Training and validation loss by epoch, the kept epoch marked."""
    figure, axes = _figure(4.5, 3)
    axes.plot(history["epoch"], history["training_loss"], color=_COLOURS[0], label="training")
    axes.plot(history["epoch"], history["validation_loss"], color=_COLOURS[1], label="validation")
    best = history.loc[history["validation_loss"].idxmin(), "epoch"]
    axes.axvline(best, color="grey", linestyle=":", label=f"kept: epoch {best:.0f}")
    axes.set(xlabel="epoch", ylabel="loss", yscale="log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False)
    return figure


def predicted_against_actual(predictions: pd.DataFrame) -> Figure:
    """A scatter for each trait, clips of seen and of unseen videos apart, with the line of perfect prediction."""
    figure = Figure(figsize=(12, 2.9), layout="constrained")
    for axes, trait in zip(figure.subplots(1, len(TRAITS), sharex=True, sharey=True), TRAITS, strict=True):
        rows = predictions[predictions["trait"] == trait]
        for seen, colour, label in ((True, _COLOURS[0], "seen"), (False, _COLOURS[1], "unseen")):
            part = rows[rows["seen"] == seen]
            axes.scatter(
                part["actual"], part["predicted"], s=9, alpha=0.7, color=colour, linewidths=0,
                label=f"video {label} in training ({len(part)})",
            )  # fmt: skip
        _unit_square(axes, trait, "actual score")
    figure.axes[0].set_ylabel("predicted score")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    return figure


def quantiles(predictions: pd.DataFrame, scores: pd.DataFrame) -> Figure:
    """For each trait the quantiles (1 to 99 %) of the predicted against those of the actual scores: on the line both have
    the same distribution, whether or not clip by clip. `scores` as in data/scores.csv."""
    chosen = (scores["group"] == "all") & (scores["predictor"] == "model")
    of_model = scores[chosen].set_index(["score", "trait"])["value"]
    shares = np.linspace(0.01, 0.99, 99)
    figure = Figure(figsize=(12, 2.9), layout="constrained")
    for axes, trait in zip(figure.subplots(1, len(TRAITS), sharex=True, sharey=True), TRAITS, strict=True):
        rows = predictions[predictions["trait"] == trait]
        axes.plot(rows["actual"].quantile(shares), rows["predicted"].quantile(shares), color=_COLOURS[0])
        about = "\n".join(f"{label} {of_model[score, trait]:z.2f}" for score, label in _CALIBRATION.items())  # z: no -0
        axes.text(0.98, 0.03, about, transform=axes.transAxes, ha="right", va="bottom", fontsize=7)
        _unit_square(axes, trait, "actual score's quantile")
    figure.axes[0].set_ylabel("predicted score's quantile")
    return figure


def error_distribution(predictions: pd.DataFrame) -> Figure:
    """The signed errors of each trait as box plots: whiskers from the 5th to the 95th percentile."""
    figure, axes = _figure(5.5, 3)
    errors = [rows["predicted"] - rows["actual"] for _, rows in predictions.groupby("trait")[["predicted", "actual"]]]
    names = [name for name, _ in predictions.groupby("trait")]
    order = [names.index(trait) for trait in TRAITS]
    axes.boxplot(
        [errors[i] for i in order],
        tick_labels=TRAITS,
        whis=(5, 95),
        showfliers=False,
        medianprops={"color": _COLOURS[1]},
    )
    axes.axhline(0, color="grey", linewidth=0.8)
    axes.set_ylabel("predicted − actual score")
    axes.tick_params(axis="x", rotation=20)
    return figure


def attention_over_time(clips: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """For each clip, where in time either stream's tokens look in the other: the mean over heads and queries, summed over
    places; uniform attention lies at the dotted line."""
    if not any(clips.values()):
        return _no_attention()
    figure = Figure(figsize=(3 * len(clips), 2.8), layout="constrained")
    grid = figure.subplots(1, len(clips), sharey=True, squeeze=False)[0]
    for axes, (name, clip) in zip(grid, clips.items(), strict=True):
        for key, colour, label in (
            ("dynamic", _COLOURS[0], "static stream's look at the flow"),
            ("static", _COLOURS[1], "dynamic stream's look at the faces"),
        ):
            query = "static" if key == "dynamic" else "dynamic"
            if f"{query}_to_{key}" not in clip:
                continue  # cross-attention in one direction
            times = clip[f"{key}_times"]
            weights = clip[f"{query}_to_{key}"].mean((0, 1)).reshape(len(times), -1).sum(1)
            axes.plot(times, 100 * weights, marker="o", markersize=3, color=colour, label=label)
            axes.axhline(100 / len(times), color=colour, linestyle=":", linewidth=0.8)
        axes.set(title=name, xlabel="time in the clip (s)")
    grid[0].set_ylim(0, 1.1 * max(axes.get_ylim()[1] for axes in grid))
    grid[0].set_ylabel("attention (% of a stream's total)")
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    return figure


def attention_on_face(clips: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """A row for each clip: on each face that the static stream saw, how much the flow's tokens look at its places; last, on
    the middle face, at which places of the flow the faces' tokens look, summed over time. Mean over heads and queries, in
    multiples of uniform attention; a cell is a token."""
    if not any(clips.values()):
        return _no_attention()
    columns = 1 + max(len(clip["faces"]) for clip in clips.values())
    figure = Figure(figsize=(1.3 * columns, 1.45 * len(clips)), layout="constrained")
    grid = figure.subplots(len(clips), columns, squeeze=False)
    for row, (name, clip) in zip(grid, clips.items(), strict=True):
        faces = clip["faces"]
        looks: Sequence[np.ndarray | None] = [None] * len(faces)
        if "dynamic_to_static" in clip:
            looks = list(_places(clip["dynamic_to_static"], len(faces)))
        titles = [f"face at {at:.1f} s" for at in clip["static_times"]]
        maps = list(zip(faces, titles, looks, strict=True))
        if "static_to_dynamic" in clip:
            look = _places(clip["static_to_dynamic"], len(clip["dynamic_times"])).mean(0)
            maps.append((faces[len(faces) // 2], "flow, all times", look))
        for axes in row:
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        for axes, (face, title, look) in zip(row, maps, strict=False):
            axes.imshow(face.mean(-1), cmap="gray", vmin=0, vmax=255, extent=(0, 1, 1, 0))
            if look is not None:
                shown = axes.imshow(look, cmap="magma", vmin=0, vmax=2, alpha=0.5, extent=(0, 1, 1, 0))
            axes.set_title(title, fontsize=7)
        row[0].set_ylabel(name, fontsize=6)
    figure.colorbar(shown, ax=grid, label="attention, multiples of uniform", shrink=0.8, extend="max")
    return figure


def _unit_square(axes, trait: str, xlabel: str) -> None:  # type: ignore[no-untyped-def]  # matplotlib's
    """Title and limits of a trait's panel, and the line on which predicted equals actual."""
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
    axes.set(title=trait, xlabel=xlabel, xlim=(0, 1), ylim=(0, 1), aspect="equal")


def _places(weights: np.ndarray, steps: int) -> np.ndarray:
    """Weights (heads, queries, keys) of keys over `steps` times and a square grid, to (steps, h, w); 1 is uniform."""
    over_keys = weights.mean((0, 1)) * weights.shape[-1]
    side = round((len(over_keys) / steps) ** 0.5)
    return over_keys.reshape(steps, side, side)


def _no_attention() -> Figure:
    figure, axes = _figure(4.5, 1.2)
    axes.axis("off")
    reason = "No attention weights: the fusion has none, or evaluate.attention_clips is 0."
    axes.text(0.5, 0.5, reason, ha="center", va="center")
    return figure


def differences(table: pd.DataFrame, baseline: str) -> Figure:
    """Each predictor's gain in accuracy over the baseline and its 95 % interval, for the mean and each trait."""
    columns, names = list(dict.fromkeys(table["trait"])), list(dict.fromkeys(table["predictor"]))
    figure = Figure(figsize=(2.2 * len(columns), 1.1 + 0.3 * len(names)), layout="constrained")
    for axes, column in zip(figure.subplots(1, len(columns), sharey=True, sharex=True), columns, strict=True):
        rows = table[table["trait"] == column].set_index("predictor").loc[names]
        reach = np.maximum([rows["difference"] - rows["low"], rows["high"] - rows["difference"]], 0)  # rounding
        axes.errorbar(
            rows["difference"], range(len(names)), xerr=reach, fmt="o", markersize=4, color=_COLOURS[0], capsize=2
        )
        axes.axvline(0, color="grey", linewidth=0.8)
        axes.set(title=column, yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -0.5))
    figure.supxlabel(f"accuracy (1 − MAE) less that of {baseline}; 95 % interval over videos", fontsize=9)
    return figure


def _figure(width: float, height: float):  # type: ignore[no-untyped-def]  # a pair of matplotlib's
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()
