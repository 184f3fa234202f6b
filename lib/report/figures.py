"""The figures, drawn from tables, attention weights and a few clips' samples alone; each function returns one matplotlib
figure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, product
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lib.core.clips import SPLITS
from lib.core.targets import TargetGroup, Targets
from lib.report.words import CALIBRATION, accuracy, scale
from lib.scoring.scores import MIN_VIDEOS

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

_OF_SPLIT = dict(zip(SPLITS, COLOURS, strict=False))
_BINS = 20  # over a target's range
_OCTAVES = tuple(125 * 2**octave for octave in range(1, 9))  # Hz
_LOUDNESS = 80  # dB below the loudest that are told apart
_A_ROW = 6  # panels
_PICTURES = 6  # of an encoder, spread over its times
_PARTS = 10  # of a reliability diagram
_RANKS = {2: ["lowest", "highest"], 3: ["lowest", "median", "highest"]}


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


class Steps(NamedTuple):
    """Of a clip: values (T, ...), seconds (T,), whether the network reads them, and points (T, P, 2) in pictures' pixels."""

    values: np.ndarray
    times: np.ndarray
    read: bool
    points: np.ndarray | None = None


class Sample(NamedTuple):
    """A clip as the network's streams hold it, by name: pictures uint8 (t, H, W, 3), sound (T, D), and the centres (mels,)
    in Hz of the bands of log_mel, where there is any."""

    pictures: Mapping[str, Steps]
    sound: Mapping[str, Steps]
    frequencies: np.ndarray


def read_samples(file: Mapping[str, Any]) -> dict[str, Sample]:
    """Return what data/samples.h5 holds (an open h5py.File), by clip."""

    def steps(of: Mapping[str, Any]) -> dict[str, Steps]:
        return {
            name: Steps(
                one["values"][()],
                one["times"][()],
                bool(one.attrs["read"]),
                one["points"][()] if "points" in one else None,
            )
            for name, one in of.items()
        }

    return {
        clip: Sample(
            steps(group.get("pictures", {})),
            steps(group.get("sound", {})),
            np.array(group.get("sound/log_mel/frequencies", [])),
        )
        for clip, group in file.items()
    }


def learning_curve(history: pd.DataFrame, targets: Targets) -> Figure:
    """By epoch the loss and each target group's accuracy, of training and validation, the kept epoch marked."""
    figure = Figure(figsize=(8.5, 4), layout="constrained")
    loss, right = figure.subplots(1, 2)
    best = history.loc[history["validation_loss"].idxmin(), "epoch"]
    for split, about in (("training", "training, during the epoch"), ("validation", "validation, after it")):
        loss.plot(history["epoch"], history[f"{split}_loss"], color=_OF_SPLIT[split], label=about)
        for name, style in zip(targets, cycle(("-", "--", "-.", (0, (1, 1)))), strict=False):
            label = f"{name}: {about}" if len(targets) > 1 else about
            values = history[f"{split}_accuracy_{name}"]
            right.plot(history["epoch"], values, color=_OF_SPLIT[split], linestyle=style, label=label)
    for axes in (loss, right):
        axes.axvline(best, color="grey", linestyle=":", label=f"kept: epoch {best:.0f}")
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.15))
    names = {accuracy(group) for group in targets.values()}
    loss.set(ylabel="loss", yscale="log")
    right.set_ylabel(names.pop() if len(names) == 1 else "1 − MAE / width of the range")
    return figure


def target_distributions(clips: pd.DataFrame, group: TargetGroup) -> Figure:
    """A histogram for each target of a group over its range, of each split's clips that know it. `clips`: the rows of
    data/clips.csv."""
    known = clips.dropna(subset=group.columns, how="all")
    known = known.melt(["clip", "split"], group.columns, "target", "actual").dropna(subset="actual")
    figure, panels = _panels(group)
    for target, axes in panels.items():
        rows = known[known["target"] == target]
        for split, colour in _OF_SPLIT.items():
            values = rows.loc[rows["split"] == split, "actual"]
            count, edges = np.histogram(values, _BINS, (group.range[0], group.range[1]))
            clips_ = known.loc[known["split"] == split, "clip"].nunique()
            look: dict[str, Any] = {"fill": True, "alpha": 0.35} if split == "training" else {"linewidth": 1.5}
            share = 100 * count / max(len(values), 1)
            axes.stairs(share, edges, color=colour, label=f"{split} ({clips_} clips)", **look)
        axes.set(title=_title(target, rows, known), xlabel=f"actual ({scale(group)})", xlim=group.range)
        axes.tick_params(labelbottom=True)
    _label_left(panels, "share of the split's clips (%)")
    _legend_below(figure, panels)
    return figure


def scores_by_split(scores: pd.DataFrame, group: TargetGroup) -> Figure:
    """R² and accuracy on each split with the kept weights, of each target of a group and their mean, with intervals.
    `scores`: the group's rows of data/split_scores.csv."""
    targets = ["mean", *group.columns] if len(group.columns) > 1 else group.columns
    figure = Figure(figsize=(max(4.5, 1.1 * len(targets)), 5), layout="constrained")
    panels = figure.subplots(2, 1, sharex=True)
    for axes, score, label in zip(panels, ("r2", "accuracy"), ("R²", accuracy(group)), strict=True):
        for offset, (split, colour) in zip((-0.2, 0, 0.2), _OF_SPLIT.items(), strict=True):
            rows = scores[(scores["split"] == split) & (scores["score"] == score)].set_index("target").reindex(targets)
            if rows["clips"].isna().all():
                continue
            about = f"{split} ({rows['clips'].iloc[0]:.0f} clips of {rows['videos'].iloc[0]:.0f} videos)"
            places = np.arange(len(targets)) + offset
            axes.plot(places, rows["value"], marker="o", markersize=4, linestyle="", color=colour, label=about)
            axes.vlines(places, rows["low"], rows["high"], color=colour)
        axes.set(xlim=(-0.5, len(targets) - 0.5), ylabel=label)
    panels[0].axhline(0, color="grey", linestyle=":", linewidth=0.8)
    panels[1].set_xticks(range(len(targets)), targets, rotation=20)
    about = f"lines: 95 % intervals, bootstrap over videos, from {MIN_VIDEOS} videos on"
    handles = panels[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", frameon=False, title=about)
    return figure


def samples(clips: Mapping[str, Sample], predictions: pd.DataFrame, targets: Targets) -> Figure:
    """A row for each clip: pictures, log-mel spectrogram and MFCC, as far as the network's streams have them, and of each
    target group the actual and the predicted values. `predictions`: the rows of data/predictions.csv."""
    pictures = list(dict.fromkeys(name for clip in clips.values() for name in clip.pictures))
    sound = list(dict.fromkeys(name for clip in clips.values() for name in clip.sound))
    if not pictures and not sound:
        return _nothing("no pictures and no sound: the network reads other streams alone")
    widths = [1.9] * len(pictures) + [3.0] * len(sound) + [2.6] * len(targets)
    height = max(2.2, 0.6 + 0.14 * max(len(group.columns) for group in targets.values()))
    figure = Figure(figsize=(sum(widths), height * len(clips)), layout="constrained")
    grid = figure.subplots(len(clips), len(widths), width_ratios=widths, squeeze=False)
    errors = (predictions["predicted"] - predictions["actual"]).abs()
    first = next(iter(targets))
    ranks = _RANKS.get(len(clips), [""] * len(clips))
    for row, (name, clip), rank in zip(grid, clips.items(), ranks, strict=True):
        rows = predictions[predictions["clip"] == name]
        error = errors[rows.index][rows["targets"] == first].mean()
        row[0].set_title(f"{name}: {rank} error, {error:.3f}", loc="left").set_in_layout(False)  # wider than its panel
        row[-1].set_title(" ")  # keeps its place
        panels = iter(row)
        for stream in pictures:
            _picture(next(panels), stream, clip.pictures.get(stream))
        for array in sound:
            every = [one.sound[array] for one in clips.values() if array in one.sound]
            _sound(figure, next(panels), array, clip, every)
        for targets_, group in targets.items():
            _labels(next(panels), rows[rows["targets"] == targets_], targets_, group)
    handles, title = grid[0, -1].get_legend_handles_labels(), f"error: mean absolute error of {first}"
    figure.legend(*handles, loc="outside lower center", ncols=2, frameon=False, title=title)
    return figure


def _picture(axes: Axes, stream: str, shown: Steps | None) -> None:
    """Pictures side by side in rows, and their seconds."""
    if shown is None:
        _blank(axes, f"no {stream}")
        return
    pictures, times, read, points = shown
    across = int(np.ceil(np.sqrt(len(pictures))))
    blank = np.full_like(pictures, 255, shape=(-len(pictures) % across, *pictures.shape[1:]))
    _, height, width, _ = pictures.shape
    tiled = np.concatenate([pictures, blank]).reshape(-1, across, height, width, 3).swapaxes(1, 2)
    axes.imshow(tiled.reshape(-1, across * width, 3))
    for index, of_picture in enumerate([] if points is None else points):
        left, top = index % across * width, index // across * height
        axes.scatter(of_picture[:, 0] + left, of_picture[:, 1] + top, s=2, color=COLOURS[3], linewidths=0)
    axes.set_anchor("NW")
    _blank(axes, f"{stream}{_note(read)} at\n{', '.join(f'{time:.1f}' for time in times)} s")


def _note(read: bool) -> str:
    return "" if read else "\n(not read by the model)"


def _blank(axes: Axes, label: str) -> None:
    axes.set(xticks=[], yticks=[], xlabel=label)
    axes.spines[:].set_visible(False)


def _sound(figure: Figure, axes: Axes, array: str, clip: Sample, every: Sequence[Steps]) -> None:
    """A clip's log_mel or mfcc over time; `every`: those of all clips that are shown, which have a scale in common."""
    if array not in clip.sound:
        _blank(axes, "no sound")
        return
    values, times, read, _ = clip.sound[array]
    together = np.concatenate([one.values for one in every])
    if array == "log_mel":
        high = together.max()
        low, colours, extend, label = high - _LOUDNESS, "magma", "min", "log-mel power (dB)"
        bands = clip.frequencies
        octaves = [octave for octave in _OCTAVES if bands[0] <= octave <= bands[-1]]
        axes.set_yticks(np.interp(octaves, bands, np.arange(len(bands))), octaves)
        axes.set_ylabel("frequency (Hz)")
    else:  # coefficient 0 is the level: its values would leave the others no colour
        high = max(1e-6, np.percentile(np.abs(together[:, min(1, together.shape[1] - 1) :]), 99))
        low, colours, extend, label = -high, "RdBu_r", "both", "value"
        axes.set_ylabel("MFCC")
    half = (times[-1] - times[0]) / max(len(times) - 1, 1) / 2 or 0.5
    extent = (times[0] - half, times[-1] + half, -0.5, values.shape[1] - 0.5)
    image = axes.imshow(values.T, colours, aspect="auto", origin="lower", vmin=low, vmax=high, extent=extent)
    begin, end = min(one.times[0] for one in every), max(one.times[-1] for one in every)
    axes.set(xlim=(begin - half, end + half), xlabel=f"time (s){_note(read)}")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    figure.colorbar(image, ax=axes, label=label, extend=extend)


def _labels(axes: Axes, rows: pd.DataFrame, name: str, group: TargetGroup) -> None:
    """A clip's actual and predicted values of a target group."""
    rows = rows.set_index("target").loc[group.columns]
    places = np.arange(len(rows))
    axes.hlines(places, rows["actual"], rows["predicted"], color="lightgrey", zorder=0)
    for column, marker, colour in (("actual", "o", COLOURS[0]), ("predicted", "D", COLOURS[1])):
        axes.plot(rows[column], places, marker, color=colour, markersize=4, clip_on=False, label=column)
    axes.set_yticks(places, group.columns, fontsize=8)
    axes.set_xlim(min(group.range[0], rows["predicted"].min()), max(group.range[1], rows["predicted"].max()))
    axes.set(ylim=(len(rows) - 0.5, -0.5), xlabel=f"{name} ({scale(group)})")


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
    _legend_below(figure, panels)
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


def reliability(predictions: pd.DataFrame, group: TargetGroup) -> Figure:
    """For each target of a group the mean of the actual over the mean of the predicted values of clips, in up to ten parts
    of as many each in the order of what is predicted: on the line what is predicted holds on average (Murphy and Winkler
    1977).
    `predictions`: the group's rows of data/predictions.csv."""
    known = predictions.dropna(subset="actual")
    figure, panels = _panels(group)
    for target, axes in panels.items():
        rows = known[known["target"] == target].sort_values("predicted", kind="stable")
        if len(rows):
            part = np.arange(len(rows)) * min(_PARTS, len(rows)) // len(rows)
            of_part = rows.groupby(part)[["predicted", "actual"]].mean()
            axes.plot(
                of_part["predicted"], of_part["actual"], marker="o", markersize=4, color=COLOURS[0], clip_on=False
            )
        _square(axes, known, group, _title(target, rows, known), "mean predicted")
    _label_left(panels, f"mean actual ({scale(group)})")
    return figure


def confusion(predictions: pd.DataFrame, group: TargetGroup) -> Figure:
    """Of the clips whose largest share is each of a group's targets, how many have which largest share predicted; where
    several are largest it is the first. `predictions`: the group's rows of data/predictions.csv."""
    actual, predicted = (
        predictions.pivot(index="clip", columns="target", values=values)[group.columns]
        for values in ("actual", "predicted")
    )
    whole = actual.notna().all(axis=1)
    if not whole.any():
        return _nothing("no clip whose shares are all known")
    count = len(group.columns)
    pairs = [of[whole].to_numpy().argmax(1) for of in (actual, predicted)]
    counts = np.bincount(np.ravel_multi_index(pairs, (count, count)), minlength=count**2).reshape(count, count)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure, axes = _figure(1.6 + 0.75 * count, 1.0 + 0.65 * count)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in product(range(count), range(count)):
        colour = "white" if shares[row, column] > 0.5 else "black"
        text = f"{shares[row, column]:.0%}\n{counts[row, column]}"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=7)
    axes.set_xticks(range(count), group.columns, rotation=30, ha="right")
    axes.set_yticks(
        range(count), [f"{name} ({total})" for name, total in zip(group.columns, counts.sum(1), strict=True)]
    )
    axes.set(xlabel="largest predicted share", ylabel="largest actual share (clips)")
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, label="part of the row's clips", shrink=0.8)
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
        return _nothing("no attention weights: the fusion has none, or evaluate.attention_clips is 0")
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
        return _nothing("no attention to places: no encoder with places is looked at, or there are no weights")
    columns = max(map(len, maps.values()))
    figure = Figure(figsize=(1.3 * columns + 1, 1.45 * len(clips)), layout="constrained")
    grid = figure.subplots(len(clips), columns, squeeze=False)
    for axes in grid.flat:
        _blank(axes, "")
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


def _legend_below(figure: Figure, panels: Mapping[str, Axes]) -> None:
    handles = next(iter(panels.values())).get_legend_handles_labels()
    columns = min(len(handles[0]), len(panels))
    figure.legend(*handles, loc="outside lower center", ncols=columns, frameon=False)


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


def _nothing(reason: str) -> Figure:
    figure, axes = _figure(4.5, 1.2)
    axes.axis("off")
    axes.text(0.5, 0.5, reason[0].upper() + reason[1:] + ".", ha="center", va="center")
    return figure


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


@dataclass(frozen=True)
class Results:
    """What figures are drawn from: the tables plots/history.csv, data/clips.csv, data/predictions.csv, data/scores.csv and
    data/split_scores.csv, `read_attention`, `read_samples`, and the target groups that are predicted."""

    history: pd.DataFrame
    clips: pd.DataFrame
    predictions: pd.DataFrame
    scores: pd.DataFrame
    split_scores: pd.DataFrame
    attention: Mapping[str, Attention]
    samples: Mapping[str, Sample]
    targets: Targets

    def of(self, targets: str) -> "Results":
        """Those of one target group."""
        tables = {name: getattr(self, name) for name in ("predictions", "scores", "split_scores")}
        return replace(self, **{name: table[table["targets"] == targets] for name, table in tables.items()})


FIGURES: dict[str, Callable[[Results], Figure]] = {
    "learning_curve": lambda of: learning_curve(of.history, of.targets),
    "samples": lambda of: samples(of.samples, of.predictions, of.targets),
    "attention_over_time": lambda of: attention_over_time(of.attention),
    "attention_on_the_face": lambda of: attention_on_face(of.attention),
}
"""What is drawn once a run, by the file's name."""

GROUP_FIGURES: dict[str, Callable[[Results, TargetGroup], Figure]] = {
    "target_distributions": lambda of, group: target_distributions(of.clips, group),
    "scores_by_split": lambda of, group: scores_by_split(of.split_scores, group),
    "predicted_against_actual": lambda of, group: predicted_against_actual(of.predictions, group),
    "error_distribution": lambda of, group: error_distribution(of.predictions, group),
    "quantiles": lambda of, group: quantiles(of.predictions, of.scores, group),
}
"""What is drawn for each target group."""

DETECTION_FIGURES: dict[str, Callable[[Results, TargetGroup], Figure]] = {
    "reliability": lambda of, group: reliability(of.predictions, group),
}
"""What is drawn as well for a group with targets that are detected."""

SHARE_FIGURES: dict[str, Callable[[Results, TargetGroup], Figure]] = {
    "confusion": lambda of, group: confusion(of.predictions, group),
}
"""What is drawn as well for a group whose targets are shares of a whole."""


def of_group(group: TargetGroup) -> dict[str, Callable[[Results, TargetGroup], Figure]]:
    """Return what is drawn for a target group."""
    shares = SHARE_FIGURES if group.activation == "softmax" else {}
    return GROUP_FIGURES | (DETECTION_FIGURES if group.detect else {}) | shares
