"""Predict many clips, in this process or in several."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path
from typing import Protocol, TypeVar

from tqdm import tqdm

from lib.core import parallel
from lib.core.command import disk_is_full
from lib.core.errors import InputError, describe_internal_error, log_once
from lib.core.parallel import Parallel
from lib.serving.results import Prediction


class _Predictor(Protocol):
    """The part of a Predictor that this module uses."""

    warnings: tuple[str, ...]


PredictorT = TypeVar("PredictorT", bound=_Predictor)
Predict = Callable[[PredictorT, Path | str], Prediction | list[Prediction]]


def predict_many(
    predictor: PredictorT,
    make: "partial[PredictorT]",
    predict: Predict[PredictorT],
    paths: Sequence[Path],
    workers: int,
) -> Iterator[Prediction]:
    """Yield the predictions of clips in their order, with a progress bar on a terminal.

    make: returns a predictor; each of several worker processes calls it once. Raises InputError if a worker was killed.
    """
    with ExitStack() as stack:
        predictions: Iterable[list[Prediction]] = (_predict_safely(predictor, predict, path) for path in paths)
        if workers > 1:
            pool = stack.enter_context(parallel.start_executor(Parallel(engine="loky", workers=workers), gpu=False))
            predictions = parallel.map_in_order(pool, partial(_predict_in_worker, make, predict), paths)
        try:
            for of_clip in tqdm(predictions, desc="predict", total=len(paths), unit="clip", disable=None):
                yield from of_clip
        except Exception as error:
            if not parallel.is_worker_death(error):
                raise
            raise InputError("a worker was killed; if memory ran out, use fewer workers") from None


@cache
def _load_predictor(make_class: Callable[..., PredictorT], arguments: tuple[object, ...]) -> PredictorT:
    return make_class(*arguments)


def _predict_in_worker(make: "partial[PredictorT]", predict: Predict[PredictorT], clip: Path) -> list[Prediction]:
    """Predict a clip in a worker process, which loads its predictor once."""
    return _predict_safely(_load_predictor(make.func, make.args), predict, clip)


def _predict_safely(predictor: PredictorT, predict: Predict[PredictorT], clip: Path) -> list[Prediction]:
    """Predict a clip. An error that concerns only this clip, for instance in its sheet, becomes its result."""
    try:
        predictions = predict(predictor, clip)
        return [predictions] if isinstance(predictions, Prediction) else predictions
    except InputError:
        raise
    except Exception as error:
        if disk_is_full(error):
            raise
        reason, trace = describe_internal_error(error)
        log_once("predict", trace)
        return [Prediction(clip, {}, reason, predictor.warnings)]
