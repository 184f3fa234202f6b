"""Run tasks in processes of this machine or on the machines of a Dask cluster."""

import ctypes
import os
import queue
import signal
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Executor
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from typing import Annotated, Literal, TypeVar

from pydantic import Field
from tqdm import tqdm

from lib.core import threads
from lib.core.errors import InputError, SettingError
from lib.core.parameters import Section

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Parallel(Section):
    """The section `parallel` of params.yaml."""

    engine: Literal["loky", "dask"]
    workers: Annotated[int, Field(ge=0, le=1024)]


@contextmanager
def start_executor(settings: Parallel, gpu: bool) -> Iterator[Executor]:
    """Give an executor whose tasks run in other processes. After an error, tasks that have not started are dropped.

    gpu: whether a task uses a GPU if available. Then loky has one worker per GPU. Raises InputError if Dask's scheduler does
    not answer.
    """
    if settings.engine == "dask":
        with _dask() as dask:
            yield dask
        return
    from joblib.externals import loky  # a prediction in one process starts sooner without it

    cores = threads.count_cpus()
    workers = count_workers(settings, gpu)
    share = str(max(1, cores // workers))
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    # a worker whose memory has grown is replaced; its task is not lost
    warnings.filterwarnings("ignore", message="A worker stopped while some jobs were given to the executor")
    environment = dict.fromkeys(names, share)
    pool = loky.get_reusable_executor(workers, timeout=300, initializer=_start_worker, env=environment)
    resource_tracker.ensure_running()  # loky starts it, and its start would unblock Ctrl-C within the next block
    try:
        with _interrupts_held():
            pool.submit(int)  # starts all workers
        yield pool
    finally:
        with _interrupts_held():  # a second Ctrl-C must not keep the workers alive
            with suppress(queue.Empty):
                while True:  # loky's manager would look for tasks that it has dropped, and end with a traceback
                    pool._work_ids.get_nowait()
            pool.shutdown(kill_workers=True)


def count_workers(settings: Parallel, gpu: bool) -> int:
    """Return loky's number of processes; 1 for Dask, whose number of workers can change."""
    if settings.engine == "dask":
        return 1
    return settings.workers or (_gpus() if gpu else 0) or threads.count_cpus()


def map_in_order(pool: Executor, function: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[_Result]:
    """Yield the results of `function` for each item, in order, from the processes of an executor.

    Unlike Executor.map it cancels nothing when it is closed early: loky's manager ends with a traceback at a cancelled task,
    and its workers then wait forever. The executor's own end drops what has not begun.
    """
    futures = deque(pool.submit(function, item) for item in items)
    while futures:
        yield futures.popleft().result()


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Delay Ctrl-C until the end of the block. Threads and processes that start in it inherit the mask and never get it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker() -> None:
    """Let a worker ignore Ctrl-C, which its parent handles, end with its parent, and leak no semaphore when it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    tqdm.set_lock(threading.RLock())  # the default is a semaphore of the system


def end_with_parent() -> None:
    """Let the system end this process as soon as its parent process ends, for whatever reason (Linux)."""
    set_death_signal = 1  # PR_SET_PDEATHSIG of <sys/prctl.h>
    ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)


def _gpus() -> int:
    import torch  # the other stages' workers start sooner without it

    return torch.cuda.device_count()


@contextmanager
def _dask() -> Iterator[Executor]:
    from distributed import Client  # an optional package that loads slowly

    address = os.environ.get("DASK_SCHEDULER_ADDRESS")
    if not address:
        raise SettingError(
            "parallel.engine = 'dask' needs the environment variable DASK_SCHEDULER_ADDRESS, for example"
            " tcp://HOST:8786; or set it to 'loky'"
        )
    try:
        client = Client(address, timeout="30s")
    except (OSError, ValueError) as error:
        raise InputError(
            f"no Dask scheduler answers at DASK_SCHEDULER_ADDRESS={address} ({error}); start it, or correct the address"
        ) from None
    dask = client.get_executor(retries=2)
    try:
        yield dask
    finally:
        dask.shutdown(wait=False)  # cancels what has not ended
        client.close()


def is_worker_death(error: Exception) -> bool:
    """Return whether a task failed because its worker was killed, as the system does when memory runs out."""
    by_loky_or_dask = type(error).__name__ in ("TerminatedWorkerError", "KilledWorker")
    return by_loky_or_dask or isinstance(error, CancelledError)
