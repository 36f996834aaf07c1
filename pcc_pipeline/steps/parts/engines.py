"""What does the tasks of a data set in parts: this process, worker processes of this machine, or workers of Dask.

A task is a function of one input that may be done twice. One whose worker died is done again, by another.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol, TypeVar

from pcc_pipeline.config.schema import ComputeParams
from pcc_pipeline.errors import ComputeError, ConfigError, PccError
from pcc_pipeline.processes import available_cores
from pcc_pipeline.search.workers import WorkerDied, WorkerPool

T = TypeVar("T")
Results = Iterator[tuple[str, T | PccError]]
# How often a task is begun whose workers die.
_TRIES = 3
# Of Dask: tasks that are handed over ahead of the workers, for each of them.
_AHEAD = 4

logger = logging.getLogger(__name__)


class Engine(Protocol):
    """Does tasks, in whatever order."""

    def run(self, task: Callable[[str], T], inputs: Sequence[str]) -> Results[T]:
        """Each input with what the task returned, or the PccError that it raised, as they come.

        Raises:
            PccError: the engine itself fails.
        """
        ...


def engine_of(settings: ComputeParams) -> Engine:
    """The one that `compute` names."""
    if settings.engine == "dask":
        return DaskEngine(settings.address, settings.workers)
    return LocalEngine(settings.workers)


class LocalEngine:
    """This process, or several on this machine.

    Args:
        workers: 1 is this process; -1 is one for each core.
    """

    def __init__(self, workers: int) -> None:
        self.workers = available_cores() if workers == -1 else workers

    def run(self, task: Callable[[str], T], inputs: Sequence[str]) -> Results[T]:
        """See Engine."""
        waiting, tries = deque(inputs), dict.fromkeys(inputs, 0)
        running: dict[Future[T], str] = {}
        with WorkerPool(self.workers) as pool:
            while waiting or running:
                while waiting and pool.has_room and len(running) < self.workers:
                    one = waiting.popleft()
                    tries[one] += 1
                    running[pool.submit(task, one)] = one
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    one = running.pop(future)
                    error = future.exception()
                    if isinstance(error, WorkerDied) and tries[one] < _TRIES:
                        logger.warning("a worker process was killed at %s (out of memory?); it is done again", one)
                        waiting.append(one)
                    elif isinstance(error, WorkerDied):
                        yield one, _given_up(one, f"lower compute.workers, {self.workers} now, or split the file")
                    elif isinstance(error, PccError):
                        yield one, error
                    else:
                        yield one, future.result()


class DaskEngine:
    """Workers of Dask distributed: of a cluster, or processes that it starts here.

    Args:
        address: of the scheduler, such as tcp://host:8786; None starts `workers` processes of one thread on this
            machine.
    """

    def __init__(self, address: str | None, workers: int) -> None:
        self.address, self.workers = address, available_cores() if workers == -1 else workers

    def run(self, task: Callable[[str], T], inputs: Sequence[str]) -> Results[T]:
        """See Engine."""
        try:
            import distributed
        except ImportError as error:
            raise ConfigError(
                "Dask is not installed",
                where="compute.engine: dask",
                fix="install it with: pip install -c constraints.txt -e '.[dask]'; or set compute.engine to local",
            ) from error
        with _quiet_dask(), self._cluster(distributed) as address, self._client(distributed, address) as client:
            yield from self._results(distributed, client, task, inputs)

    def _cluster(self, distributed: Any) -> AbstractContextManager[Any]:
        """What a client connects to."""
        if self.address is not None:
            return nullcontext(self.address)
        cluster: AbstractContextManager[Any] = distributed.LocalCluster(
            n_workers=self.workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            silence_logs=logging.CRITICAL,
        )
        return cluster

    def _client(self, distributed: Any, address: Any) -> AbstractContextManager[Any]:
        try:
            client: AbstractContextManager[Any] = distributed.Client(address, set_as_default=False, timeout=30)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"no scheduler of Dask answers: {error}",
                where=f"compute.address: {self.address}",
                fix="start one with: dask scheduler, and workers with: dask worker ADDRESS --nthreads 1",
            ) from error
        return client

    def _results(self, distributed: Any, client: Any, task: Callable[[str], T], inputs: Sequence[str]) -> Results[T]:
        waiting, running = deque(inputs), dict[Any, str]()
        ready = distributed.as_completed(loop=client.loop, raise_errors=False)

        def hand_over() -> None:
            room = _AHEAD * max(1, sum(client.nthreads().values()))
            while waiting and len(running) < room:
                one = waiting.popleft()
                future = client.submit(task, one, pure=False)
                running[future] = one
                ready.add(future)

        def next_one() -> tuple[str, Any]:
            future = next(ready)
            one = running.pop(future)
            if future.status not in ("finished", "error"):
                raise distributed.comm.core.CommClosedError("the task was given up")
            result = future.result() if future.status == "finished" else future.exception()
            future.release()
            hand_over()
            return one, result

        with self._scheduler_gone(distributed):
            hand_over()
        while running:
            with self._scheduler_gone(distributed):
                one, result = next_one()
            if isinstance(result, distributed.scheduler.KilledWorker):
                result = _given_up(one, "see the workers' logs; give them more memory, or split the file")
            elif isinstance(result, BaseException) and not isinstance(result, PccError):
                raise result
            yield one, result

    @contextmanager
    def _scheduler_gone(self, distributed: Any) -> Iterator[None]:
        try:
            yield
        except (distributed.comm.core.CommClosedError, CancelledError, TimeoutError, OSError) as error:
            raise ComputeError(
                f"the scheduler of Dask is gone, or gave a task up ({type(error).__name__})",
                where=self.address or "compute.engine: dask",
                fix="begin the same run again: the parts that stand stay, and it goes on with the others",
            ) from error


def _given_up(source: str, fix: str) -> PccError:
    return ComputeError(f"{_TRIES} workers died at this file: out of memory?", where=source, fix=fix)


@contextmanager
def _quiet_dask() -> Iterator[None]:
    """Without Dask's own words and tracebacks: workers come and go, and what ends a run is told as an error."""
    names = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] == "distributed"]
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
