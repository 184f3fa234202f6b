"""Predict a clip from its video file, with the same functions as the pipeline's stages."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from tqdm import tqdm

from lib.core import pretrained
from lib.core.artifacts import MODEL
from lib.core.clips import SYNTHETIC
from lib.core.device import best_device, return_freed_memory
from lib.core.errors import InputError, describe_internal_error, log_once
from lib.core.estimates import average_usable_fractions, check_usable_fraction
from lib.core.parameters import check
from lib.core.records import Record, measure_usable_fraction
from lib.data.batch import Inputs, Sample, collate
from lib.data.dataset import make_inputs
from lib.data.inputs import list_streams
from lib.data.loading import to_device
from lib.media.packets import Span
from lib.model import checkpoint
from lib.model.folding import fold_batch_norm
from lib.model.heads import average_predictions
from lib.serving.checks import find_warnings, warn_of_short_windows
from lib.serving.clips import check_file, to_path
from lib.serving.estimates import estimate, summarise_labels
from lib.serving.persons import Observers, Scene, check_person
from lib.serving.pool import Predict, predict_many
from lib.serving.results import NETWORK, Evidence, Prediction, Report, Values, Watch
from lib.serving.scores import Window
from lib.serving.windows import (
    describe_windows,
    measure_clip_seconds,
    merge_warnings,
    split_by_request,
    split_long_clip,
    warn_of_cut,
)
from lib.streams import base, faces, frames
from lib.streams._extraction import extract_clip
from lib.streams.base import RAW, TRACEBACK, Raw
from lib.streams.faces.constants import ALL, MAIN

if TYPE_CHECKING:
    from lib.streams.faces.everyone import EveryoneTracker

MIN_USABLE = 0.5
_PLANTED = "the model was trained on rendered clips, so its scores of real people mean nothing"
_Options = tuple[Path, torch.device, str, float | None, float]


class Predictor:
    """A trained model that predicts clips. The model and the streams' networks are loaded once.

    model: path of a model.pt or of the folder of a published model. device: where the network runs; by default a GPU if one
    is available. person: face to track if there are several: "main" as in training, "left", "right", "largest", or a number
    N as text, the Nth from the left, starting at 1; "all" predicts each person, with `predict_all` or `many`. window: length
    in seconds of the windows of longer clips; None uses the length of the longest training clip, and no windows for clips of
    about that length. min_usable: a clip is rejected if a smaller fraction of it can be used. Raises InputError if the file
    can't be used, or if `person` is given for a model without faces.
    """

    def __init__(
        self,
        model: Path | str = MODEL,
        device: torch.device | None = None,
        person: str = MAIN,
        window: float | None = None,
        min_usable: float = MIN_USABLE,
    ) -> None:
        if window is not None and not 0 < window < math.inf:
            raise InputError(f"window = {window}; allowed: seconds above 0")
        if not 0 <= min_usable <= 1:
            raise InputError(f"min_usable = {min_usable}; allowed: a fraction from 0 to 1")
        self.person, self.window, self.min_usable = person, window, min_usable
        self._device = best_device() if device is None else device
        self.path = to_path("model", model)
        self._options: _Options = self.path.absolute(), self._device, person, window, min_usable
        self.trained = checkpoint.load(self.path, self._device)
        if self._device.type == "cpu":
            fold_batch_norm(self.trained.network)
        self.labels = summarise_labels(self.trained)
        self.extractors = base.make_extractors(self.trained.streams)
        check_person(person)
        self.tracker: EveryoneTracker | None = None
        if "faces" in self.extractors:
            settings = check(self.trained.streams["faces"].settings, faces.Settings, "faces")
            settings = settings.model_copy(update={"persons": MAIN})
            self.extractors["faces"] = faces.make_extractor(settings, MAIN if person == ALL else person)
            self.tracker = faces.make_tracker(settings) if person == ALL else None
        elif person != MAIN:
            raise InputError(f"person = {person!r}, but the model {self.path} does not use faces; allowed: {MAIN}")
        self._settings = {name: info.settings for name, info in self.trained.streams.items()}
        self.warnings: tuple[str, ...] = ()
        """Warnings about every prediction of this model."""
        if not {*SYNTHETIC}.isdisjoint(self.trained.training.corpora):
            self.warnings = (_PLANTED,)

    @classmethod
    def from_pretrained(cls, name: Path | str, revision: str | None = None, **options: Any) -> Self:
        """Return a predictor of a published model: a folder that tools.publish wrote, or a name of the Hugging Face hub.

        The hub needs requirements-transformers.txt. revision: commit, tag or branch on the hub. options: the other arguments
        of `Predictor`. Nothing is unpickled, and no code of the folder runs. Raises InputError if the folder is missing, or
        does not fit the installed packages.
        """
        path = to_path("name", name)
        if path.is_file():
            raise InputError(
                f"name = {str(name)!r} is a file; allowed: a folder that python -m tools.publish wrote, or a name of the"
                f" hub; for a model.pt use Predictor({str(name)!r})"
            )
        return cls(pretrained.find_folder(str(name), revision=revision, download=True, setting="name"), **options)

    def many(
        self, clips: Iterable[Path | str], predict: "Predict[Self] | None" = None, workers: int = 1
    ) -> Iterator[Prediction]:
        """Yield the predictions of clips in their order, with a progress bar on a terminal; of each person with
        `person = "all"`.

        predict: a function that predicts a clip with a predictor; by default `predict_all`. workers: number of processes on
        this machine, each with a predictor. Raises InputError if a worker was killed.
        """
        paths = [to_path("clip", clip) for clip in clips]
        make = partial(type(self), *self._options)
        yield from predict_many(self, make, predict or type(self).predict_all, paths, workers)

    def __call__(self, clip: Path | str, watch: Watch | None = None, report: Report | None = None) -> Prediction:
        """Return a clip's prediction. A model trained with missing = "keep" rejects it only if no encoder has an input.

        `watch` is called with the evidence of each window, or of the complete clip if it has no windows. `report` is called
        before each step of a window with the step's name: a stream's name, or "network". An unexpected exception also
        rejects the clip; its traceback is logged. Raises InputError if all persons are to be predicted.
        """
        if self.person == ALL:
            raise InputError(
                f"person = {ALL!r} gives a prediction for each person; call predict_all, or choose {MAIN!r}"
            )
        return self._guard(to_path("clip", clip), Observers(watch, report))

    def predict_all(
        self, clip: Path | str, watch: Watch | None = None, report: Report | None = None
    ) -> list[Prediction]:
        """Return the prediction of each person in a clip, from left to right, if `person` is "all", otherwise one.

        The arguments are those of a call. The video is decoded once, and `watch` is called for one person after the other.
        A clip that can't be used, or without a face, has one prediction, without person.
        """
        clip, observers = to_path("clip", clip), Observers(watch, report)
        if self.tracker is None:
            return [self._guard(clip, observers)]
        try:
            check_file(clip)
            scene = Scene(self.tracker, self.extractors["frames"], Raw(clip.name, clip, None), observers.begin)
        except Exception as error:
            return [self._reject(clip, error)]
        predictions = []
        for person in scene.persons:
            prediction = self._guard(clip, observers._replace(scene=person))
            shared = person.describe_shared(list_streams(self.trained.network.settings_by_encoder))
            warnings = (*prediction.warnings, *(shared if prediction.targets else ()))
            predictions.append(replace(prediction, person=person.person, warnings=warnings))
        return predictions

    def _guard(self, clip: Path, observers: Observers) -> Prediction:
        """Return a prediction; if it fails, the reason why the clip is rejected."""
        try:
            return self._predict(clip, observers)
        except Exception as error:
            return self._reject(clip, error)

    def _reject(self, clip: Path, error: Exception) -> Prediction:
        if isinstance(error, InputError):
            return Prediction(clip, {}, str(error), self.warnings)
        reason, trace = describe_internal_error(error)
        log_once("predict", trace)
        return Prediction(clip, {}, reason, self.warnings)

    def spans(self, clip: Path) -> list[Span]:
        """Return the windows of a clip that is clearly longer than the longest training clip; an empty list otherwise."""
        return split_long_clip(measure_clip_seconds(clip), self.trained.training.seconds, self.window)

    def _predict(self, clip: Path, observers: Observers) -> Prediction:
        check_file(clip)
        seconds, cut = measure_clip_seconds(clip), warn_of_cut(clip)
        if spans := split_long_clip(seconds, self.trained.training.seconds, self.window):
            return self._predict_long(clip, spans, observers, cut)
        values = self._run(clip, None, observers)
        (usable_fraction,) = average_usable_fractions([values.usable_fractions])
        check_usable_fraction(usable_fraction, self.min_usable, 1, 1, "")
        spans = split_by_request(seconds, self.window)
        windows, _, warnings = self._predict_windows(clip, spans, Observers(scene=observers.scene))
        bias = list(warn_of_short_windows(self.trained, self.window)) if windows else []
        warnings = [*self.warnings, *cut, *values.warnings, *bias, *warnings]
        targets = estimate(self.trained, values.groups)
        return Prediction(clip, targets, "", tuple(warnings), windows, usable_fraction, labels=self.labels)

    def _predict_long(self, clip: Path, spans: Sequence[Span], observers: Observers, cut: Sequence[str]) -> Prediction:
        """Return the prediction of a clip that is longer than the training clips: the mean over its windows."""
        windows, usable, warnings = self._predict_windows(clip, spans, observers)
        reason = next((window.rejected for window in windows if window.rejected), "")
        if not usable:
            raise InputError(reason)
        weights = average_usable_fractions([values.usable_fractions for values in usable])
        usable_fraction = sum(weights) / len(spans)
        check_usable_fraction(usable_fraction, self.min_usable, len(usable), len(spans), reason)
        mean = {
            name: average_predictions([values.groups[name] for values in usable], weights) for name in usable[0].groups
        }
        window_warnings = [describe_windows(spans, self.trained.training.seconds[1], len(usable), reason)]
        window_warnings += warn_of_short_windows(self.trained, self.window)
        targets = estimate(self.trained, mean, interval=len(spans) == 1)
        warnings = [*self.warnings, *cut, *window_warnings, *warnings]
        return Prediction(clip, targets, "", tuple(warnings), windows, usable_fraction, labels=self.labels)

    def _predict_windows(
        self, clip: Path, spans: Sequence[Span], observers: Observers
    ) -> tuple[tuple[Window, ...], list[Values], list[str]]:
        """Return the prediction of each window, the values of the usable windows, and warnings."""
        windows, usable, warnings = [], [], list[tuple[Span, str]]()
        calibrated = not any(True for _ in warn_of_short_windows(self.trained, self.window))
        observers = observers._replace(frames=self._read_windows(clip, spans, observers))
        for span in tqdm(spans, desc=clip.name, unit="window", leave=False, disable=None):
            try:
                values = self._run(clip, span, observers)
            except InputError as error:
                windows.append(Window(*span, {}, 0.0, str(error)))
                continue
            usable.append(values)
            targets = estimate(self.trained, values.groups, calibrated)
            windows.append(Window(*span, targets, 0.0, ""))
            warnings += [(span, warning) for warning in values.warnings]
        # which streams the clip has is known after all windows
        fractions = iter(average_usable_fractions([values.usable_fractions for values in usable]) if usable else [])
        rated = (window if window.rejected else replace(window, usable_fraction=next(fractions)) for window in windows)
        return tuple(rated), usable, merge_warnings(warnings)

    def _read_windows(self, clip: Path, spans: Sequence[Span], observers: Observers) -> Iterator[Record]:
        """Return the frames of windows, which are decoded in one pass; none if each window decodes its frames."""
        if "frames" not in self.extractors or observers.scene is not None:
            return iter(())
        settings = check(self._settings["frames"], frames.Settings, "frames")
        return frames.extract_windows(settings, Raw(clip.name, clip, None), spans)

    @torch.no_grad()
    def _run(self, clip: Path, span: Span | None, observers: Observers) -> Values:
        """Run the network on a clip, or on a window if `span` is given. Raises InputError if the clip can't be used."""
        records = self._records(clip, span, observers)
        network = self.trained.network
        inputs = make_inputs(records, network.settings_by_encoder, self.trained.streams, seed=None)
        rejected = list(dict.fromkeys(record.rejected for record in records.values() if record.rejected))
        if not self._enough(inputs):
            raise InputError("; ".join(rejected))
        batch = to_device(collate([Sample(inputs, {}, 0)]), self._device)
        if span is not None:
            return_freed_memory()
        observers.begin(NETWORK)
        output = network(batch.inputs, attend=observers.watch is not None)
        if not all(values.isfinite().all() for values in output.predicted.values()):
            raise InputError("the model's prediction is not a finite number")
        values = {name: prediction.clip_arrays(0) for name, prediction in output.predictions.items()}
        if observers.watch is not None:
            evidence = Evidence(span, records, batch.inputs, output, estimate(self.trained, values))
            observers.watch(evidence if observers.scene is None else observers.scene.describe(evidence))
        warnings = [f"{reason}; predicted without it" for reason in rejected]
        warnings += find_warnings(self.trained, records, span)
        return Values(
            values,
            {name: measure_usable_fraction(records[name]) for name in list_streams(network.settings_by_encoder)},
            warnings,
        )

    def _enough(self, inputs: Inputs) -> bool:
        """Return whether the clip has time steps for all encoders. If the model was trained with missing = "keep", one
        encoder is enough."""
        has_steps = [all(len(steps.times) for steps in streams.values()) for streams in inputs.values()]
        return any(has_steps) if self.trained.settings.missing == "keep" else all(has_steps)

    def _records(self, clip: Path, span: Span | None, observers: Observers) -> dict[str, Record]:
        """Return the clip's records of all streams that the model uses, each computed after its inputs."""
        raw = Raw(clip.name, clip, None, span)
        records: dict[str, Record] = {} if observers.scene is None else observers.scene.cut(span)
        for name, extract in self.extractors.items():
            if name in records:
                continue
            observers.begin(name)
            input_names = base.load(name).inputs_of(self.trained.streams[name].settings)
            inputs = [raw if input_name == RAW else records[input_name] for input_name in input_names]
            of_window = next(observers.frames, None) if name == "frames" else None
            records[name] = of_window or extract_clip(extract, inputs)
            if trace := records[name].attributes.get(TRACEBACK):
                log_once("predict", trace)
            if observers.scene is not None and "faces" not in base.list_with_inputs(name, self._settings):
                observers.scene.share(span, name, records[name])
        return records
