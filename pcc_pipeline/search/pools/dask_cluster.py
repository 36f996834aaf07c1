"""A cluster of Dask distributed: one that stands, or processes that are started here. Dask is an extra."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from pcc_pipeline.config.schema import ComputeParams
from pcc_pipeline.errors import ComputeError, ConfigError
from pcc_pipeline.masking import masked, quotable
from pcc_pipeline.processes import available_cores

# Seconds in which a scheduler must answer, and its first worker be there.
_PATIENCE = 30
# Seconds between looks for workers; looks that find none before it is told; seconds until it is told again; and seconds
# that a look may take.
_LOOK, _LOOKS, _AGAIN, _ANSWER = 10.0, 2, 300.0, 10.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DaskCluster:
    """Where work goes.

    Attributes:
        address: of the scheduler, such as tcp://host:8786; None starts `workers` processes of one thread on this
            machine.
    """

    address: str | None
    workers: int

    @classmethod
    def of(cls, settings: ComputeParams) -> DaskCluster:
        """The one that `compute` names."""
        return cls(settings.address, available_cores() if settings.workers == -1 else settings.workers)

    @contextmanager
    def client(self) -> Iterator[Any]:
        """A client of Dask's; within, Dask itself is quiet.

        Raises:
            ConfigError: Dask is not installed, or no scheduler answers.
        """
        distributed = _distributed()
        with _quiet(), self._started(distributed) as address, self._connected(distributed, address) as client:
            yield client

    def gone(self, error: BaseException) -> ComputeError:
        """What to tell of a scheduler that is no more."""
        return ComputeError(
            f"the scheduler of Dask is gone, or gave a task up ({type(error).__name__})",
            where=masked(self.address or "compute.engine: dask"),
            fix="begin the same run again: what stands stays, and it goes on with the rest",
        )

    @contextmanager
    def scheduler_gone(self) -> Iterator[None]:
        """Within, what Dask raises then becomes one ComputeError."""
        distributed = _distributed()
        try:
            yield
        except (distributed.comm.core.CommClosedError, CancelledError, TimeoutError, OSError) as error:
            raise self.gone(error) from error

    @contextmanager
    def watched(self, client: Any, waits: Callable[[], bool]) -> Iterator[None]:
        """Within, it is told once and then every few minutes that the last worker went, and the work waits for another.

        Dask itself says nothing then, and a cluster that grows with its work may have none for a while.

        Args:
            waits: whether there is work under way.
        """
        ended = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(client, waits, ended), name="pcc-dask-watch", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            # Before the client closes; a scheduler that is gone is told of by whoever waits for its results.
            watcher.join(_ANSWER)

    def _watch(self, client: Any, waits: Callable[[], bool], ended: threading.Event) -> None:
        distributed = _distributed()
        address, without, warned_at = self.address or client.scheduler.address, 0, -math.inf
        while not ended.wait(_LOOK):
            try:
                workers = client.nthreads(callback_timeout=_ANSWER) if waits() else None
            except (distributed.comm.core.CommClosedError, CancelledError, TimeoutError, OSError, RuntimeError):
                continue
            # One that is started anew is away for a moment.
            without = without + 1 if workers == {} else 0
            if without >= _LOOKS and time.monotonic() - warned_at >= _AGAIN:
                warned_at = time.monotonic()
                logger.warning(
                    "the cluster at %s has no worker any more, and this waits for the next one that comes: start one "
                    "with: dask worker %s --nthreads 1",
                    address,
                    address,
                )
            elif workers and warned_at > -math.inf:
                warned_at = -math.inf
                logger.info("the cluster at %s has a worker again, and it goes on", address)

    def _started(self, distributed: Any) -> AbstractContextManager[Any]:
        """What a client connects to."""
        if self.address is not None:
            return nullcontext(self.address)
        cluster: AbstractContextManager[Any] = distributed.LocalCluster(
            n_workers=self.workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            # Its HTTP server stands all the same: on a port of its own, and for this machine alone.
            scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
            silence_logs=logging.CRITICAL,
        )
        return cluster

    def _connected(self, distributed: Any, address: Any) -> AbstractContextManager[Any]:
        try:
            client: AbstractContextManager[Any] = distributed.Client(address, set_as_default=False, timeout=_PATIENCE)
        except (OSError, ValueError) as error:
            reason = quotable(str(error), self.address or "") or type(error).__name__
            raise ConfigError(
                f"no scheduler of Dask answers: {reason}",
                where=f"compute.address: {masked(self.address or 'none')}",
                fix="start one with: dask scheduler, and workers with: dask worker ADDRESS --nthreads 1",
            ) from error
        return client

    def threads(self, client: Any) -> int:
        """How many tasks the workers do at a time; of a cluster without workers, once the first is there.

        Raises:
            ComputeError: none comes.
        """
        try:
            client.wait_for_workers(1, timeout=_PATIENCE)
        except TimeoutError as error:
            raise ComputeError(
                f"the cluster has no worker, and none came within {_PATIENCE} s",
                where=f"compute.address: {masked(self.address or 'none')}",
                fix="start workers with: dask worker ADDRESS --nthreads 1",
            ) from error
        return max(1, sum(int(threads) for threads in client.nthreads().values()))


def demand_cluster(settings: ComputeParams) -> None:
    """See that there is the cluster that `compute` names, if it names one, before anything slow begins.

    Raises:
        ConfigError: Dask is not installed, or no scheduler answers.
    """
    if settings.address is not None:
        with DaskCluster.of(settings).client():
            pass
    elif settings.engine == "dask":
        _distributed()


def _distributed() -> Any:
    try:
        import distributed
    except ImportError as error:
        raise ConfigError(
            "Dask is not installed",
            where="compute.engine: dask",
            fix="install it with: pip install -c constraints.txt -e '.[dask]'; or set compute.engine to local",
        ) from error
    return distributed


@contextmanager
def _quiet() -> Iterator[None]:
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
