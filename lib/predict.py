"""From a clip's file to predictions, through the same functions as the pipeline's stages."""

import ctypes
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from lib.core import parallel
from lib.core.clips import SYNTHETIC
from lib.core.device import best_device
from lib.core.errors import InputError, internal, log_once
from lib.core.parallel import Parallel
from lib.core.parameters import check
from lib.core.shards import Record
from lib.data.batch import Inputs, Sample, collate
from lib.data.dataset import inputs_of, streams_of
from lib.data.loading import to_device
from lib.media import video
from lib.media.video import Span
from lib.model import checkpoint
from lib.model.network import Output
from lib.streams import base, faces
from lib.streams.base import RAW, TRACEBACK, Raw
from lib.streams.faces import ASKED, MAIN

_PLANTED = "the model was trained on rendered clips with planted labels: what it says of a person means nothing"
_NEARLY = 0.1  # of a length, or another condition


@dataclass(frozen=True)
class Target:
    """A prediction, in the label's own units.

    low, high: the ends of its interval, which holds the label of nine clips in ten that are like the validation clips
    (lib/scoring/conformal.py), None where too few of these knew it. percentile: which part of the training clips has a lower
    label, in per cent, None where none is known.
    """

    score: float
    low: float | None
    high: float | None
    percentile: float | None


Targets = Mapping[str, Mapping[str, Target]]
"""By target group and column."""


@dataclass(frozen=True)
class Window:
    """What is predicted of a part of a clip, from `start` to `end` in seconds; seen: the share of its times at which what
    the model reads, a face for instance, was found, the mean over streams; no targets and the reason in `refused` where that
    is too little."""

    start: float
    end: float
    targets: Targets
    seen: float
    refused: str


@dataclass(frozen=True)
class Prediction:
    """What is predicted of a clip; nothing, and the reason in `refused`, for a clip that can't be used.

    windows: the clip's parts. Of one clearly longer than those that the model was trained on the targets are their mean,
    weighted by what was seen; another has them if it was asked for. warnings: what makes the targets doubtful.
    """

    clip: Path
    targets: Targets
    refused: str
    warnings: tuple[str, ...]
    windows: tuple[Window, ...] = ()


class Seen(NamedTuple):
    """What the network was given of a clip, or of the part of it between two times in seconds, and what it made of it, its
    attention weights included: a batch of one."""

    span: Span | None
    records: Mapping[str, Record]
    inputs: Inputs
    output: Output
    targets: Targets


Watch = Callable[[Seen], None]


class Predictor:
    """A trained model that predicts clips; what it loads is loaded once.

    model: the path of a model.pt; device: where it computes, by default a GPU if there is one. person: who is followed where
    several are seen: "main", as in training; "left", "right", "largest", or N, as text, the Nth from the left, from 1 on.
    window: seconds of the windows of longer clips; None: as long as the longest training clip, and no windows of clips
    about as long as those. Raises InputError if the file can't be used, or knows no persons.
    """

    def __init__(
        self,
        model: Path | str = Path("data/model.pt"),
        device: torch.device | None = None,
        person: str = MAIN,
        window: float | None = None,
    ) -> None:
        if window is not None and not 0 < window < math.inf:
            raise InputError(f"window = {window}; allowed: seconds above 0")
        self.window = window
        self._device = best_device() if device is None else device
        self._made_of = Path(model).absolute(), self._device, person, window
        self.served = checkpoint.load(Path(model), self._device)
        self.makers = base.make_extractors(self.served.streams)
        if person not in ASKED and not (person.isdecimal() and int(person)):
            raise InputError(f"person = {person!r}; allowed: {', '.join(ASKED)}, or a number from 1 on, from the left")
        if "faces" in self.makers:
            settings = check(self.served.streams["faces"].settings, faces.Settings, "faces")
            self.makers["faces"] = faces.make_extractor(settings, person)
        elif person != MAIN:
            raise InputError(f"person = {person!r}, but {model} sees no faces; allowed: {MAIN}")
        self.warnings: tuple[str, ...] = ()
        """What is to be said of every prediction."""
        if not {*SYNTHETIC}.isdisjoint(self.served.corpora):
            self.warnings = (_PLANTED,)

    def many(self, clips: Iterable[Path | str], by: "By | None" = None, workers: int = 1) -> Iterator[Prediction]:
        """Yield the prediction of each clip, in their order, with a progress bar on a terminal; `by` predicts a clip with a
        predictor, in place of a call of it. Several `workers` are processes of this machine, each with a predictor.

        Raises InputError if one of them was killed.
        """
        every = list(clips)
        with ExitStack() as stack:
            found: Iterable[Prediction] = ((by or Predictor.__call__)(self, clip) for clip in every)
            if workers > 1:
                pool = stack.enter_context(parallel.executor(Parallel(engine="loky", workers=workers), gpu=False))
                found = pool.map(partial(_elsewhere, self._made_of, by), every)
            try:
                yield from tqdm(found, desc="predict", total=len(every), unit="clip", disable=None)
            except Exception as error:
                if not parallel.died(error):
                    raise
                raise InputError("a worker was killed; if memory ran out, ask for fewer") from None

    def __call__(self, clip: Path | str, watch: Watch | None = None) -> Prediction:
        """Return a clip's prediction; with missing = "keep" it is refused only if no encoder can read it. `watch` is shown
        each window, or the whole of a clip without any.

        What goes wrong in the program itself is a reason to refuse it too; its traceback is logged.
        """
        clip = Path(clip)
        try:
            return self._predict(clip, watch)
        except InputError as error:
            return Prediction(clip, {}, str(error), self.warnings)
        except Exception as error:
            reason, trace = internal(error)
            log_once("predict", trace)
            return Prediction(clip, {}, reason, self.warnings)

    def _predict(self, clip: Path, watch: Watch | None) -> Prediction:
        if not os.path.isfile(clip):  # noqa: PTH113 (Path's raises at too long a name)
            raise InputError(f"{clip} is no file")
        whole = seconds_of(clip)
        spans = self._long(whole)
        if not spans:
            values, _, warnings = self._values(clip, None, watch)
            windows, _, of_windows = self._windows(clip, self._parts(whole), None)
            return Prediction(clip, self._targets(values), "", (*self.warnings, *warnings, *of_windows), windows)
        windows, found, said = self._windows(clip, spans, watch)
        if not found:
            raise InputError(windows[0].refused)
        weights = np.array([seen for _, seen in found])
        mean = {name: np.average([of[name] for of, _ in found], 0, weights) for name in found[0][0]}
        about = (
            f"it takes {spans[-1][1]:.1f} s, the training clips up to {self.served.seconds[1]:.1f} s: the mean of"
            f" {len(found)} windows"
        )
        if len(found) < len(spans):
            about += f" of {len(spans)}, the others are refused ({next(one.refused for one in windows if one.refused)})"
        return Prediction(clip, self._targets(mean), "", (*self.warnings, about, *said), windows)

    def _windows(
        self, clip: Path, spans: Sequence[Span], watch: Watch | None
    ) -> tuple[tuple[Window, ...], list[tuple[dict[str, np.ndarray], float]], list[str]]:
        """Return what is predicted of each part of a clip, of those that aren't refused the values and what was seen, and
        warnings."""
        windows, found, said = [], [], dict[str, list[tuple[Span, str]]]()
        for span in tqdm(spans, desc=clip.name, unit="window", leave=False, disable=None):
            try:
                values, seen, warnings = self._values(clip, span, watch)
            except InputError as error:
                windows.append(Window(*span, {}, 0.0, str(error)))
                continue
            found.append((values, seen))
            windows.append(Window(*span, self._targets(values), seen, ""))
            for warning in warnings:
                said.setdefault(re.sub(r"\d+(\.\d+)?", "", warning), []).append((span, warning))
        return tuple(windows), found, [_of_windows(alike) for alike in said.values()]

    def spans(self, clip: Path) -> list[Span]:
        """Return windows as long as the longest training clip, or as was asked for, that cover a clip that is clearly longer
        than it; none for another clip."""
        return self._long(seconds_of(clip))

    def _long(self, whole: float) -> list[Span]:
        """Return `spans` of a clip of so many seconds."""
        if not self.served.seconds or not (1 + _NEARLY) * self.served.seconds[1] + 1 < whole < math.inf:
            return []
        return _covering(whole, min(self.window or self.served.seconds[1], whole))

    def _parts(self, whole: float) -> list[Span]:
        """Return the windows that were asked for of a clip that is longer, and not clearly longer than those of training."""
        return _covering(whole, self.window) if self.window and self.window < whole < math.inf else []

    @torch.no_grad()
    def _values(
        self, clip: Path, span: Span | None, watch: Watch | None
    ) -> tuple[dict[str, np.ndarray], float, list[str]]:
        """Return of a clip or a part of it the values (K,) of each group, in units of its range, in which share of the
        times the streams that are read have a step, and warnings."""
        records = self._records(clip, span)
        network, streams = self.served.network, self.served.streams
        inputs = inputs_of(records, network.readings, streams, seed=None)
        read = [all(len(steps.times) for steps in of.values()) for of in inputs.values()]
        refused = list(dict.fromkeys(one.refused for one in records.values() if one.refused))
        if not (any(read) if self.served.settings.missing == "keep" else all(read)):
            raise InputError("; ".join(refused))
        batch = to_device(collate([Sample(inputs, {}, 0)]), self._device)
        if span is not None:
            _give_back()
        output = network(batch.inputs, attend=watch is not None)
        predicted = output.predicted
        if not all(values.isfinite().all() for values in predicted.values()):
            raise InputError("the model predicts no number of it")
        found = {name: values[0].double().cpu().numpy() for name, values in predicted.items()}
        if watch is not None:
            watch(Seen(span, records, batch.inputs, output, self._targets(found)))
        read_of = [records[name] for name in streams_of(network.readings)]
        seen = np.mean(
            [0 if one.refused else len(base.present_steps(one)) / len(base.step_times(one)) for one in read_of]
        )
        warnings = [f"{reason}; predicted without it" for reason in refused]
        return found, float(seen), [*warnings, *self._about(records, span)]

    def _targets(self, values: Mapping[str, np.ndarray]) -> dict[str, dict[str, Target]]:
        return {name: self._of_group(name, of) for name, of in values.items()}

    def _of_group(self, name: str, values: np.ndarray) -> dict[str, Target]:
        """A group's values (K,), in units of its range, as predictions."""
        group, reference = self.served.targets[name], self.served.references.get(name)
        scores = group.from_unit(values)
        if reference is None:
            alone = (Target(float(score), None, None, None) for score in scores)
            return dict(zip(group.columns, alone, strict=True))
        found = {}
        for column, score, width, quantiles in zip(
            group.columns, scores, reference.half_widths.numpy(), reference.quantiles.numpy().T, strict=True
        ):
            ends = (score - width, score + width)
            if group.activation != "linear":  # a score within the range, and so is the label
                ends = max(ends[0], group.range[0]), min(ends[1], group.range[1])
            known = np.isfinite(quantiles).all()
            below = float(np.interp(score, quantiles, np.linspace(0, 100, len(quantiles)))) if known else None
            low, high = map(float, ends) if np.isfinite(width) else (None, None)
            found[column] = Target(float(score), low, high, below)
        return found

    def _about(self, records: Mapping[str, Record], span: Span | None) -> Iterator[str]:
        """Yield what is odd about a clip, and in which ways it is unlike those that were trained on."""
        for name, record in records.items():
            if not record.refused:
                yield from base.load(name).warnings(record)
                yield from self._unlike(name, base.load(name).statistics(record))
        lasts = [float(times[-1]) for one in records.values() if len(times := one.arrays.get("times", ()))]
        if not self.served.seconds or not lasts or span is not None:
            return
        (shortest, longest), seconds = self.served.seconds, max(lasts)
        if not (1 - _NEARLY) * shortest - 1 <= seconds <= (1 + _NEARLY) * longest + 1:
            yield f"it takes {seconds:.1f} s, the training clips {shortest:.1f} to {longest:.1f} s"

    def _unlike(self, stream: str, conditions: Mapping[str, float]) -> Iterator[str]:
        known = self.served.ranges.get(stream, {})
        for what, value in conditions.items():
            low, high = known.get(what, (-math.inf, math.inf))
            if not (1 - _NEARLY) * low <= value <= (1 + _NEARLY) * high:
                yield f"{stream}: {what}: {value:.3g}, in the training clips {low:.3g} to {high:.3g}"

    def _records(self, clip: Path, span: Span | None) -> dict[str, Record]:
        """Make the streams that the model reads, in the order in which they are made from each other."""
        raw = Raw(clip.name, clip, None, span)
        records: dict[str, Record] = {}
        for name, make in self.makers.items():
            above = [raw if one == RAW else records[one] for one in base.load(name).inputs]
            records[name] = base.extract(make, above)
            if trace := records[name].attributes.get(TRACEBACK):
                log_once("predict", trace)
        return records


def _give_back() -> None:
    """Give freed memory back to the system, which a C library keeps: the large tensors of a network find no place in it."""
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):  # glibc's
        trim(0)


def seconds_of(clip: Path) -> float:
    """Return how long a clip is shown, 0 if that can't be told: the streams say what is wrong."""
    try:
        return video.seconds(clip)
    except video.VideoError:
        return 0.0


def _covering(whole: float, window: float) -> list[Span]:
    """Return windows of so many seconds, each half over the one before, or more, that cover `whole` seconds."""
    count = math.ceil((whole - window) / (window / 2)) + 1
    return [(float(start), float(start) + window) for start in np.linspace(0, whole - window, count)]


By = Callable[[Predictor, Path | str], Prediction]


_predictor = cache(Predictor)


def _elsewhere(made_of: tuple[Path, torch.device, str, float | None], by: By | None, clip: Path | str) -> Prediction:
    """Predict in a worker, which loads its predictor once."""
    return (by or Predictor.__call__)(_predictor(*made_of), clip)


def _of_windows(alike: Sequence[tuple[Span, str]]) -> str:
    """Say in one line what was said, with other numbers, of some windows of a clip."""
    (start, end), first = alike[0]
    others = len(alike) - 1
    return f"{first} (from {start:.0f} to {end:.0f} s" + (f", and alike in {others} more windows)" if others else ")")
