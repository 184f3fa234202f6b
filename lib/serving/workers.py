"""Processes that each hold a predictor, for a service: when one dies, only the clip that it predicts is lost."""

import contextlib
import json
import math
import multiprocessing
import signal
import sys
from dataclasses import asdict, dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib.core.errors import InputError

if TYPE_CHECKING:  # the service's own process needs no PyTorch
    from lib.serving.predictor import Predictor

_CONTEXT = multiprocessing.get_context("spawn")
_READY, _WRONG, _DONE = "ready", "wrong", "done"


class TooLongError(Exception):
    """A clip is longer than the service allows."""


class WorkerError(Exception):
    """A worker ended, or was ended because it took too long, before it finished a clip."""


@dataclass(frozen=True)
class Work:
    """How workers predict: the model's path, the longest clip in seconds, and the most seconds for one prediction."""

    model: Path
    max_seconds: float
    timeout: float


class Worker:
    """A process that loads the model once and predicts one clip at a time. It is replaced when it dies."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.process, self._connection, self._about = self._start()

    def wait_ready(self) -> dict[str, Any]:
        """Wait until the model is loaded; return its description. Raises InputError if it can't be loaded."""
        if self._about is None:
            kind, value = self._receive(None)
            if kind == _WRONG:
                raise InputError(value)
            self._about = value
        return self._about

    def predict(self, clip: Path) -> dict[str, Any]:
        """Return a clip's prediction as in the lines of `tools.predict --format jsonl`.

        Raises TooLongError for a clip that is longer than `work.max_seconds`. Raises WorkerError if the process dies or
        needs more than `work.timeout` seconds; then another one has been started.
        """
        if not self.process.is_alive():  # it died while it had no clip
            self._replace()
        try:
            self.wait_ready()
            self._connection.send(clip)
            kind, value = self._receive(self.work.timeout)
        except (WorkerError, OSError) as error:
            self._replace()
            raise WorkerError(str(error)) from None
        if kind == _WRONG:
            raise TooLongError(value)
        return dict(value)

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        self.process.kill()
        self.process.join()

    def _replace(self) -> None:
        self.close()
        self.process, self._connection, self._about = self._start()

    def _start(self) -> tuple[Any, Connection, dict[str, Any] | None]:
        connection, other_end = _CONTEXT.Pipe()
        process = _CONTEXT.Process(target=run_worker, args=(other_end, self.work), daemon=True)
        process.start()
        other_end.close()  # so that the death of the process closes the pipe
        return process, connection, None

    def _receive(self, seconds: float | None) -> tuple[str, Any]:
        if not wait([self._connection], seconds):
            raise WorkerError(f"it took more than {seconds:.0f} s")
        try:
            kind, value = self._connection.recv()
        except (EOFError, OSError):
            self.process.join()
            raise WorkerError(f"its process ended with status {self.process.exitcode}") from None
        return kind, value


def run_worker(connection: Connection, work: Work) -> None:
    """Load the model, then answer each path of a clip with its prediction until the service closes the connection."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C goes to all processes of a terminal; the service ends this one
    from lib.serving.predictor import Predictor

    try:
        predictor = Predictor(work.model)
    except InputError as error:
        connection.send((_WRONG, str(error)))
        return
    model = describe_model(predictor)
    with contextlib.suppress(EOFError, OSError):  # the service has ended
        connection.send((_READY, model))
        while True:
            clip = connection.recv()
            try:
                prediction = predict_upload(predictor, clip, work.max_seconds)
                connection.send((_DONE, prediction | {name: model[name] for name in ("model", "options")}))
            except TooLongError as error:
                connection.send((_WRONG, str(error)))


def predict_upload(predictor: "Predictor", clip: Path, max_seconds: float) -> dict[str, Any]:
    """Return a prediction as a JSON-able dictionary. Raises TooLongError for a clip of more than `max_seconds`."""
    from lib.serving.output import to_json
    from lib.serving.windows import measure_clip_seconds

    seconds = measure_clip_seconds(clip)
    if max_seconds < seconds < math.inf:
        raise TooLongError(f"takes {seconds:.0f} s; allowed: up to {max_seconds:g} s; cut the clip")
    prediction = predictor(clip)
    prediction = replace(prediction, clip=Path(clip.name), rejected=prediction.rejected.replace(f"{clip}", clip.name))
    return to_json(prediction)


def describe_model(predictor: "Predictor") -> dict[str, Any]:
    """Return what the service reports about its model: checksum, options, targets, training, streams, warnings, versions."""
    from lib.serving.output import describe_origin

    trained = predictor.trained
    targets = {name: {"columns": group.columns, "range": list(group.range)} for name, group in trained.targets.items()}
    description = {
        **asdict(describe_origin(predictor)),
        "targets": targets,
        "corpora": list(trained.training.corpora),
        "training_seconds": list(trained.training.seconds),
        "streams": list(predictor.extractors),
        "warnings": list(predictor.warnings),
        "commit": trained.provenance.get("commit"),
        "versions": trained.provenance.get("versions", {}),
        "python": sys.version.split()[0],
    }
    return dict(json.loads(json.dumps(description)))
