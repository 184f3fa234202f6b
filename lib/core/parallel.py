"""Spread tasks over this machine's processes or over a Dask cluster's machines."""

import ctypes
import os
import signal
import warnings
from collections.abc import Iterator
from concurrent.futures import CancelledError, Executor
from contextlib import contextmanager
from typing import Annotated, Literal

from pydantic import Field

from lib.core.errors import InputError
from lib.core.parameters import Section


class Parallel(Section):
    """The section `parallel` of params.yaml."""

    engine: Literal["loky", "dask"]
    workers: Annotated[int, Field(ge=0, le=1024)]


@contextmanager
def executor(settings: Parallel, gpu: bool) -> Iterator[Executor]:
    """Give an executor whose tasks run in other processes; on an error tasks that have not begun are dropped.

    `gpu` tells that a task uses a GPU if there is one: then there is one loky worker for each GPU.
    Raises InputError if Dask's scheduler can't be reached.
    """
    if settings.engine == "dask":
        with _dask() as dask:
            yield dask
        return
    from joblib.externals import loky  # a prediction in one process starts sooner without it

    cores = loky.cpu_count()
    workers = settings.workers or (_gpus() if gpu else 0) or cores
    threads = str(max(1, cores // workers))
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    # a worker whose memory has grown is replaced; its task is not lost
    warnings.filterwarnings("ignore", message="A worker stopped while some jobs were given to the executor")
    pool = loky.get_reusable_executor(workers, timeout=300, env=dict.fromkeys(names, threads))
    try:
        yield pool
    finally:
        pool.shutdown(kill_workers=True)


def end_with_parent() -> None:
    """Let the system end this process as soon as the one that started it ends, in whatever way (Linux)."""
    set_death_signal = 1  # PR_SET_PDEATHSIG of <sys/prctl.h>
    ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)


def _gpus() -> int:
    import torch  # the other stages' workers start sooner without it

    return torch.cuda.device_count()


@contextmanager
def _dask() -> Iterator[Executor]:
    from distributed import Client  # only who uses it waits for it

    address = os.environ.get("DASK_SCHEDULER_ADDRESS")
    if not address:
        raise InputError(
            "params.yaml: parallel.engine = 'dask' needs the environment variable DASK_SCHEDULER_ADDRESS, for example"
            " tcp://HOST:8786; or set it to 'loky'"
        )
    try:
        client = Client(address, timeout="30s")
    except (OSError, ValueError) as error:
        raise InputError(f"no Dask scheduler answers at DASK_SCHEDULER_ADDRESS={address} ({error})") from None
    dask = client.get_executor(retries=2)
    try:
        yield dask
    finally:
        dask.shutdown(wait=False)  # cancels what has not ended
        client.close()


def died(error: Exception) -> bool:
    """Tell whether a task failed because its worker was killed, as the system does when memory runs out."""
    by_loky_or_dask = type(error).__name__ in ("TerminatedWorkerError", "KilledWorker")
    return by_loky_or_dask or isinstance(error, CancelledError)
