"""Measures candidates on the workers of a cluster of Dask, behind the interface of a pool of this machine.

Only folds travel: numbers and class indices, no texts. A fold goes to the cluster once; a worker that needs it and
lacks it gets it from another one, once. A worker that dies costs the folds that it had under way: others do them again.
"""

from __future__ import annotations

import logging
import platform
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

from pcc_pipeline.config.schema import ComputeParams
from pcc_pipeline.errors import ComputeError, PccError
from pcc_pipeline.search.libraries import library_versions
from pcc_pipeline.search.plan import MeasuringPool, Objective
from pcc_pipeline.search.pools.dask_cluster import DaskCluster
from pcc_pipeline.search.pools.workers import WorkerDied

# How often a measurement is handed over whose fold the cluster lost.
_TRIES = 3
_PAUSE_SECONDS = 0.5

logger = logging.getLogger(__name__)


@contextmanager
def measuring_by(settings: ComputeParams, local: MeasuringPool) -> Iterator[MeasuringPool]:
    """Who measures: the pool of this machine, or the cluster that `compute` names.

    Raises:
        ConfigError: the cluster cannot be reached.
        ComputeError: it has no workers.
    """
    if settings.engine == "local":
        yield local
        return
    cluster = DaskCluster.of(settings)
    with cluster.client() as client:
        pool = DaskPool(cluster, client)
        logger.info("candidates are measured by Dask, %d at a time", pool.n_jobs)
        with cluster.watched(client, lambda: pool.measures):
            yield pool


class DaskPool:
    """See `MeasuringPool`; objectives must have `carried(fold)`, the same objective with that fold's rows in it.

    Args:
        client: of the cluster; whoever opened it closes it.
    """

    def __init__(self, cluster: DaskCluster, client: Any) -> None:
        self._cluster, self._client = cluster, client
        with cluster.scheduler_gone():
            self.n_jobs = cluster.threads(client)
        self._lock = threading.Lock()
        self._under_way = 0
        # A lock of its own: while a fold waits for the first worker that comes, others ask what is under way.
        self._bringing = threading.Lock()
        self._folds: dict[int, Any] = {}

    @property
    def has_room(self) -> bool:
        with self._lock:
            return self._under_way < self.n_jobs

    @property
    def measures(self) -> bool:
        """Whether anything is under way."""
        with self._lock:
            return self._under_way > 0

    def submit(self, task: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
        answer: Future[Any] = Future()
        answer.set_running_or_notify_cancel()
        with self._lock:
            self._under_way += 1
        self._hand_over(answer, task, arguments, 1)
        return answer

    def _hand_over(self, answer: Future[Any], task: Callable[..., Any], arguments: tuple[Any, ...], tries: int) -> None:
        objective, hyperparameters, fold = arguments
        try:
            with self._cluster.scheduler_gone():
                carried = self._carried(objective, fold)
                what = (task, carried, hyperparameters, fold, library_versions())
                there = self._client.submit(_measure, *what, pure=False)
                there.add_done_callback(lambda done: self._ended(done, answer, task, arguments, (tries, carried)))
        except PccError as error:
            self._answered(answer, error)

    def _carried(self, objective: Any, fold: int) -> Any:
        """The fold in the cluster; brought there when it is first needed, or lost."""
        with self._bringing:
            carried = self._folds.get(fold)
            if carried is None or carried.status != "finished":
                carried = self._folds[fold] = self._brought(objective.carried(fold))
            return carried

    def _brought(self, measures: Any) -> Any:
        """In the cluster; if all workers died, once one is there."""
        while True:
            try:
                # By its own bytes' name a fold that was lost would be taken for one that is still there.
                return self._client.scatter(measures, hash=False)
            except OSError:  # of which TimeoutError is one
                # There is no worker, or the one that was to have it has just died; unless it is the scheduler.
                if self._client.status != "running":
                    raise
                time.sleep(_PAUSE_SECONDS)

    def _lost(self, fold: int, carried: Any) -> None:
        """Have the fold brought again: of one whose worker died, Dask may say for a while that it is there."""
        with self._bringing:
            if self._folds.get(fold) is carried:
                del self._folds[fold]

    def _ended(
        self, done: Any, answer: Future[Any], task: Callable[..., Any], arguments: tuple[Any, ...], by: tuple[int, Any]
    ) -> None:
        """In a thread of Dask's. `by`: how often it was handed over, and with which fold of the cluster."""
        tries, carried = by
        if done.status == "finished":
            try:
                with self._cluster.scheduler_gone():
                    self._answered(answer, None, done.result())
            except PccError as error:
                self._answered(answer, error)
        elif done.status == "error":
            self._answered(answer, _as_here(done.exception()))
        elif tries < _TRIES and self._client.status == "running":
            # The worker that had the fold died before another had asked for it.
            self._lost(arguments[2], carried)
            self._hand_over(answer, task, arguments, tries + 1)
        else:
            self._answered(answer, self._cluster.gone(ConnectionError()))

    def _answered(self, answer: Future[Any], error: BaseException | None, result: Any = None) -> None:
        with self._lock:
            self._under_way -= 1
        if error is None:
            answer.set_result(result)
        else:
            answer.set_exception(error)


def _measure(
    task: Callable[..., Any], objective: Objective, hyperparameters: dict[str, Any], fold: int, versions: dict[str, str]
) -> Any:
    """On a worker."""
    here = library_versions()
    different = [f"{name} {here[name]}, not {versions[name]}" for name in versions if here[name] != versions[name]]
    if different:
        raise ComputeError(
            f"a worker of the cluster measures by other libraries: {'; '.join(different)}",
            where=platform.node(),
            fix="install the same versions there: scores of the same candidate would differ",
        )
    return task(objective, hyperparameters, fold)


def _as_here(error: Any) -> BaseException:
    """What the pool of this machine would raise. What a candidate itself raises never comes here: see `measure`."""
    if isinstance(error, PccError):
        return error
    if type(error).__name__ == "KilledWorker":
        died: BaseException = WorkerDied("several workers died of it")
        return died
    return ComputeError(
        f"a worker of the cluster cannot measure a candidate ({type(error).__name__})",
        where="compute.engine: dask",
        fix="install pcc_pipeline with its constraints.txt where the workers run, and see their logs",
    )
