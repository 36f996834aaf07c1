"""What does the tasks of a data set in parts: this process, worker processes of this machine, or workers of Dask.

A task is a function of one input that may be done twice. One whose worker died is done again, by another.
"""

from __future__ import annotations

import importlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, Protocol, TypeVar

from pcc_pipeline.config.schema import ComputeParams
from pcc_pipeline.errors import ComputeError, PccError
from pcc_pipeline.processes import available_cores
from pcc_pipeline.search.pools.dask_cluster import DaskCluster
from pcc_pipeline.search.pools.workers import WorkerDied, WorkerPool

T = TypeVar("T")
Results = Iterator[tuple[str, T | PccError]]
# How often a task is begun whose workers die.
_TRIES = 3
# Of Dask: tasks that are handed over ahead of the workers, for each of them.
_AHEAD = 4
_TURN = threading.Lock()

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
        return DaskEngine(DaskCluster.of(settings))
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
    """Workers of Dask distributed, see `DaskCluster`."""

    def __init__(self, cluster: DaskCluster) -> None:
        self.cluster = cluster

    def run(self, task: Callable[[str], T], inputs: Sequence[str]) -> Results[T]:
        """See Engine."""
        with self.cluster.client() as client:
            yield from self._results(client, task, inputs)

    def _results(self, client: Any, task: Callable[[str], T], inputs: Sequence[str]) -> Results[T]:
        distributed: Any = importlib.import_module("distributed")
        waiting, running = deque(inputs), dict[Any, str]()
        ready = distributed.as_completed(loop=client.loop, raise_errors=False)

        def hand_over() -> None:
            room = _AHEAD * max(1, sum(client.nthreads().values()))
            while waiting and len(running) < room:
                one = waiting.popleft()
                future = client.submit(_in_turn, task, one, pure=False)
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

        with self.cluster.scheduler_gone():
            hand_over()  # first, as a cluster that grows with its work has no worker before there is any
            self.cluster.threads(client)  # says so where none comes, and nobody would ever do the tasks
        with self.cluster.watched(client, lambda: bool(running)):
            while running:
                with self.cluster.scheduler_gone():
                    one, result = next_one()
                if isinstance(result, distributed.scheduler.KilledWorker):
                    result = _given_up(one, "see the workers' logs; give them more memory, or split the file")
                elif isinstance(result, BaseException) and not isinstance(result, PccError):
                    raise result
                yield one, result


def _in_turn(task: Callable[[str], T], one: str) -> T:
    """A task in a worker of Dask, which may have several threads, as it has where nobody says otherwise.

    They share the folder that they work in, the model and its cache, so one works at a time: more would not be faster,
    since the encoder takes all cores that it is given.
    """
    with _TURN:
        return task(one)


def _given_up(source: str, fix: str) -> PccError:
    return ComputeError(f"{_TRIES} workers died at this file: out of memory?", where=source, fix=fix)
