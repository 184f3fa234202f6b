"""Loggers: programs and services that show the parameters, curves and results of a run. `train.loggers` chooses them.

The stage train begins a run, and the stage figures adds its results. LOG / RUNS has the identifiers of the last runs.
"""

import importlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, cast

from lib.core.errors import SettingError

LOG = Path("logs")
RUNS = "runs.json"
_PROJECT = "apparent-personality"


class LoggedResults(NamedTuple):
    """The results of a run that a logger receives.

    scores: by name, such as `test/traits/r2/mean`. figures: PNG files by name. model: model.pt.
    """

    scores: Mapping[str, float]
    figures: Mapping[str, Path]
    model: Path


class Logger:
    """Receives a run. Read this before writing a logger, then add it to LOGGERS.

    A subclass implements all methods but `__init__`. The package of a service is imported in `begin`. parameters: sections
    of params.yaml. run: identifier of an earlier run, which `begin` then continues; None for a new one, which sets it.
    """

    def __init__(self, parameters: Mapping[str, Any], run: str | None = None) -> None:
        self.parameters, self.run = parameters, run

    def begin(self) -> None:
        """Begin a run with the parameters, or continue one."""
        raise NotImplementedError

    def log_epoch(self, values: Mapping[str, float], epoch: int) -> None:
        """Add an epoch to the curves, which have the names of the columns of plots/history.csv."""
        raise NotImplementedError

    def log_results(self, results: LoggedResults) -> None:
        """Add the results."""
        raise NotImplementedError

    def end(self) -> None:
        """Write what is left."""
        raise NotImplementedError


class TensorBoard(Logger):
    """TensorBoard: a folder logs/tensorboard/version_N for each run, which also has a copy of the model."""

    def begin(self) -> None:
        from torch.utils.tensorboard import SummaryWriter  # loads slowly
        from torch.utils.tensorboard.summary import hparams

        folder, is_new = LOG / "tensorboard", self.run is None
        self.run = self.run or f"version_{_count_versions(folder)}"
        self._folder = folder / self.run
        self._writer = writer = cast(Any, SummaryWriter(str(self._folder)))
        if is_new:
            for summary in hparams(dict(flatten(self.parameters)), {}):
                writer.file_writer.add_summary(summary)
            self._writer.add_text("parameters", f"```\n{json.dumps(self.parameters, indent=2)}\n```")

    def log_epoch(self, values: Mapping[str, float], epoch: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, epoch)

    def log_results(self, results: LoggedResults) -> None:
        import numpy as np
        from PIL import Image

        for name, value in results.scores.items():
            self._writer.add_scalar(name, value, 0)
        for name, path in results.figures.items():
            self._writer.add_image(name, np.asarray(Image.open(path).convert("RGB")), 0, dataformats="HWC")
        shutil.copyfile(results.model, self._folder / results.model.name)

    def end(self) -> None:
        self._writer.close()


class Wandb(Logger):
    """Weights & Biases, in the folder logs/. WANDB_MODE=offline keeps a run on this machine."""

    def begin(self) -> None:
        import wandb  # loads slowly

        project = os.environ.get("WANDB_PROJECT", _PROJECT)
        self._run = wandb.init(
            project=project,
            dir=str(LOG),
            config=dict(self.parameters),
            id=self.run,
            resume=None if self.run is None else "allow",
        )
        self.run = self._run.id

    def log_epoch(self, values: Mapping[str, float], epoch: int) -> None:
        self._run.log(dict(values), step=epoch)

    def log_results(self, results: LoggedResults) -> None:
        import wandb

        self._run.summary.update(dict(results.scores))
        self._run.log({name: wandb.Image(str(path)) for name, path in results.figures.items()})
        artifact = wandb.Artifact("model", type="model")
        artifact.add_file(str(results.model))
        self._run.log_artifact(artifact)

    def end(self) -> None:
        self._run.finish()


class DvcLive(Logger):
    """DVCLive, in the folder logs/dvclive, for the DVC extension of VS Code and DVC Studio. It does not change dvc.yaml."""

    def begin(self) -> None:
        dvclive: Any = importlib.import_module("dvclive")  # an optional package
        options = {"dvcyaml": None, "monitor_system": False, "save_dvc_exp": False}
        self._live = dvclive.Live(str(LOG / "dvclive"), resume=self.run is not None, **options)
        if self.run is None:
            self._live.log_params(dict(flatten(self.parameters)))
        self.run = "dvclive"

    def log_epoch(self, values: Mapping[str, float], epoch: int) -> None:
        self._live.step = epoch
        for name, value in values.items():
            self._live.log_metric(name, value)
        self._live.make_summary()

    def log_results(self, results: LoggedResults) -> None:
        for name, value in results.scores.items():
            self._live.log_metric(name, value, plot=False)
        for name, path in results.figures.items():
            self._live.log_image(f"{name}.png", str(path))
        self._live.log_artifact(str(results.model), copy=True, cache=False)

    def end(self) -> None:
        self._live.end()


class Mlflow(Logger):
    """MLflow: a run on the server MLFLOW_TRACKING_URI, by default in the folder logs/mlflow."""

    _LONGEST = 500  # characters of a parameter's value, the limit of MLflow

    def begin(self) -> None:
        mlflow: Any = importlib.import_module("mlflow")  # an optional package
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # without it, version 3 refuses folders
        uri = os.environ.get("MLFLOW_TRACKING_URI", (LOG / "mlflow").absolute().as_uri())
        self._client: Any = mlflow.MlflowClient(uri)
        if self.run is None:
            experiment = self._client.get_experiment_by_name(_PROJECT)
            key = experiment.experiment_id if experiment else self._client.create_experiment(_PROJECT)
            self.run = self._client.create_run(key).info.run_id
            for name, value in flatten(self.parameters):
                self._client.log_param(self.run, _rename(name), str(value)[: self._LONGEST])

    def log_epoch(self, values: Mapping[str, float], epoch: int) -> None:
        for name, value in values.items():
            self._client.log_metric(self.run, _rename(name), value, step=epoch)

    def log_results(self, results: LoggedResults) -> None:
        for name, value in results.scores.items():
            self._client.log_metric(self.run, _rename(name), value)
        for name, path in results.figures.items():
            self._client.log_artifact(self.run, str(path), str(Path("figures", name).parent))
        self._client.log_artifact(self.run, str(results.model))

    def end(self) -> None:
        self._client.set_terminated(self.run)


LOGGERS: dict[str, type[Logger]] = {"tensorboard": TensorBoard, "wandb": Wandb, "dvclive": DvcLive, "mlflow": Mlflow}


def check_packages(names: Sequence[str]) -> None:
    """Raise SettingError if the package of a logger is not installed."""
    for name in names:
        if find_spec(name) is None:
            raise SettingError(
                f"train.loggers has {name}, which is not installed; run pip install -r requirements-{name}.txt, or remove it"
            )


def begin_runs(names: Sequence[str], parameters: Mapping[str, Any]) -> list[Logger]:
    """Begin a run of each logger, and write their identifiers."""
    loggers = [LOGGERS[name](parameters) for name in names]
    for logger in loggers:
        logger.begin()
    if loggers:
        LOG.mkdir(exist_ok=True)
        (LOG / RUNS).write_text(
            json.dumps({name: logger.run for name, logger in zip(names, loggers, strict=True)}) + "\n"
        )
    return loggers


def log_results(names: Sequence[str], parameters: Mapping[str, Any], results: LoggedResults) -> None:
    """Add the results to the last run of each logger, or to a new run without one."""
    path = LOG / RUNS
    runs = json.loads(path.read_text()) if path.is_file() else {}
    for name in names:
        logger = LOGGERS[name](parameters, runs.get(name))
        logger.begin()
        logger.log_results(results)
        logger.end()


def flatten(parameters: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the name SECTION.KEY and the value of each parameter; a list or null is a text."""
    for key, value in parameters.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, bool | int | float | str) else str(value)


def _count_versions(folder: Path) -> int:
    return max((int(path.name[8:]) + 1 for path in folder.glob("version_*") if path.name[8:].isdigit()), default=0)


def _rename(name: str) -> str:
    """Return a name with the characters that MLflow allows."""
    return re.sub(r"[^\w\-. /:]", "_", name)
