"""Trials that Optuna suggests. The same command suggests the same trials, so that it continues an interrupted search."""

from typing import Any, Literal

from lib.core.errors import InputError
from tools.experiments import ParameterChanges
from tools.search.space import Range, Space
from tools.search.trials import LOWER_IS_BETTER, Search, is_valid


def run(search: Search, space: Space, count: int, seed: int) -> None:
    """Run `count` trials, `search.jobs` at a time. The sampler knows the scores of all trials before these.

    Trials that a stage would reject are not run; the sampler counts them as failed. Raises InputError without Optuna.
    """
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise InputError(f"{error.name} is not installed; run `pip install -r requirements-search.txt`") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=search.jobs > 1)
    direction: Literal["minimize", "maximize"] = "minimize" if search.metric in LOWER_IS_BETTER else "maximize"
    study = optuna.create_study(sampler=sampler, direction=direction)
    ranges = {key: _make_distribution(values) for key, values in space.items()}
    while (done := len(study.trials)) < count:
        print(f"trials {done + 1} to {min(done + search.jobs, count)} of {count}", flush=True)
        asked = [study.ask(ranges) for _ in range(min(search.jobs, count - done))]
        suggested = [_read_changes(trial.params, space) for trial in asked]
        valid = [changes for changes in suggested if is_valid(changes, search.shared)]
        values = iter(search.run(valid) if valid else [])
        for trial, changes in zip(asked, suggested, strict=True):
            value = next(values) if changes in valid else None
            failed = optuna.trial.TrialState.FAIL
            study.tell(trial, value) if value is not None else study.tell(trial, state=failed)


def _make_distribution(values: Any) -> Any:
    """Return Optuna's distribution of a parameter; for single values, that of their indices, because values can be lists."""
    from optuna import distributions

    if not isinstance(values, Range):
        return distributions.CategoricalDistribution(range(len(values.values)))
    if isinstance(values.low, int) and isinstance(values.high, int):
        return distributions.IntDistribution(values.low, values.high, log=values.log)
    return distributions.FloatDistribution(values.low, values.high, log=values.log)


def _read_changes(params: dict[str, Any], space: Space) -> ParameterChanges:
    """Return the changes of params.yaml for the suggested numbers and indices."""
    return {
        key: params[key] if isinstance(values, Range) else values.values[params[key]] for key, values in space.items()
    }
