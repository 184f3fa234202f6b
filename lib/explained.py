"""What a prediction rests on, to look at: a sheet of a clip, and the clip with what was found in it."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import av
import cv2
import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lib.core.targets import TargetGroup
from lib.model.explain import coloured, pictures_seen
from lib.predict import Prediction, Predictor, Seen
from lib.report.figures.attention_on_the_face import looks_at
from lib.report.figures.base import COLOURS, blank
from lib.report.figures.read import Attention
from lib.streams import base
from lib.streams.faces.align import TEMPLATE, similarity

_HEIGHT, _STRIP = 480, 22  # pixels: of the film, and of a line of text below it
_MOMENTS = 6  # on a sheet
_FULL = 3.0  # pixels of displacement at which the colour wheel is full
_CAPTION = (
    "face: as it is cut out; attention: where the other encoders' tokens look, dark none, light twice uniform or more, upon"
    " the nearest picture that the encoder saw;\nflow: to the next frame, the hue is its direction"
)
_FOUND = (68, 119, 170), (238, 102, 119)  # colours of the box and of the points


class Moment(NamedTuple):
    """A time of a clip in seconds: the frame, RGB uint8 (H, W, 3), with box and points where a face was found, and the
    panels beside it, by title: (S, S, 3)."""

    time: float
    frame: np.ndarray
    panels: dict[str, np.ndarray]


def explain(predictor: Predictor, clip: Path, to: Path) -> Prediction:
    """Predict a clip and write `to`.png, its sheet, and `to`.mp4, the clip at the rate at which faces are looked for, with
    the square that is cut out, the five points, optical flow, attention and the scores of each time; nothing of a clip that
    is refused, and no film for a model without frames.

    Flow is in the colours of Baker et al. 2011 (A database and evaluation methodology for optical flow): the hue is the
    direction, full at 3 pixels of the aligned face from a frame to the next.
    """
    begins = [begin for begin, _ in predictor.spans(clip)] or [0.0]
    each = {begins[at] for at in np.linspace(0, len(begins) - 1, _MOMENTS).round().astype(int)}
    kept: list[Moment] = []
    with _Film(to.with_name(f"{to.name}.mp4")) as film:

        def watch(seen: Seen) -> None:
            begin = seen.span[0] if seen.span else 0.0
            there = [one for one in moments(seen) if one.time > film.until]  # windows overlap
            for moment in there:
                film.show(moment, seen)
            if begin in each and there:
                few = np.linspace(0, len(there) - 1, 2 + _MOMENTS // len(each)).round().astype(int)[1:-1]
                kept.extend(there[at] for at in few)

        prediction = predictor(clip, watch)
    if not prediction.refused:
        sheet(prediction, predictor, kept).savefig(to.with_name(f"{to.name}.png"), dpi=110)
    return prediction


def moments(seen: Seen) -> Iterator[Moment]:
    """Yield what was seen at each time of the stream of frames, if the model has it; times count from the clip's begin."""
    frames, faces, flow = (seen.records.get(name) for name in ("frames", "faces", "flow"))
    if frames is None or frames.refused:
        return
    attention = _attention(seen)
    looks = {key: look for key in attention.grids if (look := looks_at(attention, key)) is not None}
    begin = seen.span[0] if seen.span else 0.0
    for at, time in enumerate(base.step_times(frames)):
        picture = np.ascontiguousarray(base.load("frames").read_steps(frames, np.array([at]))[0].transpose(1, 2, 0))
        panels: dict[str, np.ndarray] = {}
        aligned = None
        if faces is not None and not faces.refused and faces.arrays["found"][at]:
            aligned = faces.arrays["faces"][at]
            _mark(picture, faces.arrays["landmarks"][at])
            panels["face"] = aligned
        for key, look in looks.items():
            nearest = int(np.argmin(np.abs(attention.times[key] - time)))
            upon = attention.pictures[key][nearest] if key in attention.pictures else aligned
            if upon is not None:
                panels[f"attention, {key}"] = _heat(upon, look[nearest])
        if flow is not None and not flow.refused and at < len(flow.arrays["valid"]) and flow.arrays["valid"][at]:
            panels["flow"] = _coloured(base.load("flow").read_steps(flow, np.array([at])))[0]
        yield Moment(begin + float(time), picture, panels)


def sheet(prediction: Prediction, predictor: Predictor, kept: Sequence[Moment]) -> Figure:
    """Return a clip's sheet: moments of it, the scores with their intervals among the training labels, and, of windows, over
    time."""
    titles = list(dict.fromkeys(title for one in kept for title in one.panels))
    groups = prediction.targets
    rows = ["frame", *titles] if kept else []
    over_time = bool(prediction.windows)
    heights = [1.4 if row == "frame" else 1.6 for row in rows]
    scores = max(1.6, *(0.5 + 0.32 * len(of) for of in groups.values()))
    figure = Figure(figsize=(11, sum(heights) + (1 + over_time) * len(groups) * scores + 0.5), layout="constrained")
    parts = figure.subfigures(
        1 + bool(rows),
        1,
        height_ratios=[*([sum(heights)] if rows else []), (1 + over_time) * len(groups) * scores],
        squeeze=False,
    )[:, 0]
    figure.suptitle(
        prediction.clip.name + "".join(f"\n{one}" for one in prediction.warnings), fontsize=9, x=0.01, ha="left"
    )
    if rows:
        grid = parts[0].subplots(len(rows), len(kept), squeeze=False, height_ratios=heights)
        for column, moment in zip(grid.T, kept, strict=True):
            for axes, row in zip(column, rows, strict=True):
                picture = moment.frame if row == "frame" else moment.panels.get(row)
                blank(axes, f"{moment.time:.1f} s" if row == rows[-1] else "")
                if picture is not None:
                    axes.imshow(picture)
        for axes, row in zip(grid[:, 0], rows, strict=True):
            axes.set_ylabel(row)
        if "flow" in rows:
            wheel = grid[rows.index("flow"), -1].inset_axes((1.02, 0.3, 0.2, 0.4))
            blank(wheel, "")
            wheel.set_title(f"{_FULL:.0f} px", fontsize=7)
            wheel.imshow(_coloured(np.zeros((0, 2, 101, 101)))[-1])
        parts[0].supxlabel(_CAPTION, fontsize=8)
    below = parts[-1].subplots((1 + over_time) * len(groups), 1, squeeze=False)[:, 0]
    for at, name in enumerate(groups):
        marks(below[at], prediction, predictor, name)
        if over_time:
            _over_time(below[len(groups) + at], prediction, name, predictor.served.targets[name])
    return figure


def marks(axes: Axes, prediction: Prediction, predictor: Predictor, group: str) -> None:
    """Draw a group's scores with their intervals upon where the training labels lie."""
    of, reference = prediction.targets[group], predictor.served.references.get(group)
    for row, target in enumerate(of.values()):
        if reference is not None and bool(reference.quantiles[:, row].isfinite().all()):
            low, lower, middle, upper, high = reference.quantiles[[5, 25, 50, 75, 95], row].tolist()
            axes.barh(row, high - low, left=low, height=0.6, color="0.92")
            axes.barh(row, upper - lower, left=lower, height=0.6, color="0.82")
            axes.plot([middle, middle], [row - 0.3, row + 0.3], color="0.5", linewidth=1)
        if target.low is not None and target.high is not None:
            axes.plot([target.low, target.high], [row, row], color=COLOURS[0], linewidth=2)
        axes.plot(target.score, row, "o", color=COLOURS[0])
        rank = "" if target.percentile is None else f" (above {target.percentile:.0f} % of training)"
        axes.text(1.01, row, f"{target.score:.2f}{rank}", transform=axes.get_yaxis_transform(), va="center", fontsize=8)
    axes.set_yticks(range(len(of)), list(of))
    axes.invert_yaxis()
    axes.set(xlim=predictor.served.targets[group].range, xlabel=f"{group}: score")
    handles = [
        Line2D([], [], color=COLOURS[0], marker="o", linewidth=2, label="score and 90 % interval"),
        Line2D([], [], color="0.82", linewidth=6, label="half of the training labels"),
        Line2D([], [], color="0.92", linewidth=6, label="nine in ten of them"),
    ]
    if reference is not None:
        axes.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, frameon=False, fontsize=8)


def _over_time(axes: Axes, prediction: Prediction, group: str, of: TargetGroup) -> None:
    there = [one for one in prediction.windows if one.targets]
    middles = [(one.start + one.end) / 2 for one in there]
    for index, column in enumerate(of.columns):
        scores = [one.targets[group][column].score for one in there]
        axes.plot(middles, scores, marker="o", markersize=3, color=COLOURS[index % len(COLOURS)], label=column)
    axes.set(xlabel="middle of the window (s)", ylabel="score", xlim=(0, prediction.windows[-1].end))
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=8)


def _attention(seen: Seen) -> Attention:
    tokens = seen.output.tokens
    return Attention(
        {pair: weights[0].cpu().numpy() for pair, weights in seen.output.attention.items()},
        {name: of.times[0].cpu().numpy() for name, of in tokens.items()},
        {name: of.grid for name, of in tokens.items()},
        {name: pictures for name in tokens for pictures in pictures_seen(seen.inputs[name])},
    )


def _mark(picture: np.ndarray, points: np.ndarray) -> None:
    """Draw the square that is cut out and the five points (5, 2) into a picture."""
    corners = np.array([[0, 0], [112, 0], [112, 112], [0, 112]])
    from_template = similarity(TEMPLATE, points)
    square = corners @ from_template[:, :2].T + from_template[:, 2]
    thick = max(1, round(len(picture) / 180))
    cv2.polylines(picture, [square.round().astype(np.int32)], True, _FOUND[0], thick, cv2.LINE_AA)
    for x, y in points.round().astype(int).tolist():
        cv2.circle(picture, (x, y), 2 * thick, _FOUND[1], -1, cv2.LINE_AA)


def _heat(picture: np.ndarray, look: np.ndarray) -> np.ndarray:
    """Return attention (h, w), from 0 to twice uniform, upon a grey picture."""
    height, width = picture.shape[:2]
    smooth = cv2.resize(look.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    heat = mpl.colormaps["magma"](np.clip(smooth / 2, 0, 1))[..., :3] * 255
    return (0.5 * picture.mean(-1, keepdims=True) + 0.5 * heat).astype(np.uint8)


def _coloured(flow: np.ndarray) -> np.ndarray:
    """Return flow (T, 2, H, W) in colours, RGB uint8 (T + 1, H, W, 3), the last of which is their wheel."""
    return coloured(flow, _FULL)[0].transpose(0, 2, 3, 1)


class _Film:
    """A film that is written moment by moment; there is none until the first."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._container: av.container.OutputContainer | None = None
        self.until = -1.0
        """The last moment's time."""

    def __enter__(self) -> Self:
        return self

    def show(self, moment: Moment, seen: Seen) -> None:
        """Add a moment, with the scores of what it is part of below it."""
        picture = _composed(moment, seen)
        if self._container is None:
            self._container = av.open(str(self._path), "w", format="mp4")
            self._stream = self._container.add_stream("libx264", rate=25)
            self._stream.height, self._stream.width, self._stream.pix_fmt = *picture.shape[:2], "yuv420p"
            self._stream.time_base = self._stream.codec_context.time_base = Fraction(1, 1000)
            self._stream.options = {"crf": "23", "preset": "veryfast"}
        frame = av.VideoFrame.from_ndarray(picture[: self._stream.height, : self._stream.width], format="rgb24")
        frame.pts = max(round(1000 * moment.time), round(1000 * self.until) + 1)
        self.until = frame.pts / 1000
        frame.time_base = Fraction(1, 1000)
        self._container.mux(self._stream.encode(frame))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._container is not None:
            self._container.mux(self._stream.encode())
            self._container.close()


def _composed(moment: Moment, seen: Seen) -> np.ndarray:
    """Return the frame with three places for panels beside it and the scores below, RGB uint8, of even sides."""
    height, width = moment.frame.shape[:2]
    frame = cv2.resize(moment.frame, (max(2, round(width * _HEIGHT / height)), _HEIGHT), interpolation=cv2.INTER_AREA)
    side = _HEIGHT // 3
    beside = np.full((_HEIGHT, side, 3), 255, np.uint8)
    for at, (title, panel) in enumerate(list(moment.panels.items())[-3:]):
        panel = cv2.resize(panel, (side, side), interpolation=cv2.INTER_LINEAR)
        beside[at * side : (at + 1) * side] = _written(panel, title, 14)
    whole = np.concatenate([frame, beside], axis=1)
    cells = [f"{name} {one.score:.2f}" for of in seen.targets.values() for name, one in of.items()]
    widest = max(len(name) for of in seen.targets.values() for name in of) + 8
    a_line = max(1, whole.shape[1] // (8 * widest))  # the same at all times, whatever the numbers
    lines = ["   ".join(cells[at : at + a_line]) for at in range(0, len(cells), a_line)]
    when = f", scores of {seen.span[0]:.1f} to {seen.span[1]:.1f} s" if seen.span else ""
    strip = np.full((_STRIP * (len(lines) + 1), whole.shape[1], 3), 255, np.uint8)
    for at, line in enumerate([f"{moment.time:.1f} s{when}", *lines]):
        _written(strip, line, _STRIP * at + 16, shade=False)
    whole = np.concatenate([whole, strip])
    return np.ascontiguousarray(whole[: whole.shape[0] // 2 * 2, : whole.shape[1] // 2 * 2])


def _written(picture: np.ndarray, text: str, down: int, shade: bool = True) -> np.ndarray:
    for colour, thick in (((255, 255, 255), 3), ((0, 0, 0), 1))[not shade :]:
        cv2.putText(picture, text, (4, down), cv2.FONT_HERSHEY_SIMPLEX, 0.42, colour, thick, cv2.LINE_AA)
    return picture
