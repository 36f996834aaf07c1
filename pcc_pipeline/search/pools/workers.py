"""Worker processes that die with their parent, one task each, so that a worker's death is one task's and no other's."""

from __future__ import annotations

import gc
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from multiprocessing import resource_tracker
from types import TracebackType
from typing import Any, Self

from loky.process_executor import ProcessPoolExecutor, TerminatedWorkerError

from pcc_pipeline.errors import SearchError
from pcc_pipeline.interruption import SIGNALS
from pcc_pipeline.processes import available_cores
from pcc_pipeline.search.pools.sharing import Mapped, SharedFile

# Workers share the cores already: threads inside each would only get in one another's way.
_ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)
# What a future raises when its worker was killed, for instance by the system for want of memory.
WorkerDied = TerminatedWorkerError

logger = logging.getLogger(__name__)


class WorkerPool:
    """Runs at most `n_jobs` tasks at a time; a context manager.

    Args:
        n_jobs: number of worker processes, started when first needed; -1 is one per available core. 1 works inline: a
            task is done when `submit` returns.

    Leaving the context by an exception kills the workers at once, whatever they are doing. A worker ignores the signals
    that end a process (the parent decides: they may go to the whole group) and ends when the parent does, even by
    SIGKILL.
    """

    def __init__(self, n_jobs: int) -> None:
        if n_jobs == 0 or n_jobs < -1:
            raise ValueError(f"expected n_jobs to be -1, or 1 or more, got {n_jobs}")
        self.n_jobs = available_cores() if n_jobs == -1 else n_jobs
        # An executor of one worker each: loky takes all workers of an executor down with the first that dies.
        self._slots: list[_Slot] = [_Slot() for _ in range(self.n_jobs if self.n_jobs > 1 else 0)]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown(kill=error is not None)

    @property
    def has_room(self) -> bool:
        """Whether `submit` would start a task now."""
        return not self._slots or any(slot.idle for slot in self._slots)

    @contextmanager
    def sharing(self, value: Any) -> Iterator[Any]:
        """Within: what to give to `submit` and `run_all` in place of a large object; the task is given the object."""
        if not self._slots:
            yield value
            return
        with SharedFile(value) as token:
            yield token

    def submit(self, task: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Start a task; its future raises what the task raised, or WorkerDied.

        Raises:
            RuntimeError: all workers are busy; the caller minds `has_room`.
        """
        if not self._slots:
            return _done(task, *arguments)
        for slot in self._slots:
            if slot.idle:
                return slot.start(task, *arguments)
        raise RuntimeError(f"all {self.n_jobs} workers are busy")

    def run_all(self, task: Callable[..., Any], argument_lists: Sequence[tuple[Any, ...]], what: str) -> list[Any]:
        """The results of `task(*arguments)` for each list of arguments, in order; raises what a task raised.

        A task whose worker was killed is done once more, when all others are done and it has the memory for itself.

        Args:
            what: the work as a message names it, such as "preparing the folds".

        Raises:
            SearchError: its worker was killed again.
        """
        futures: list[Future[Any]] = []
        for arguments in argument_lists:
            if not self.has_room:
                wait([future for future in futures if not future.done()], return_when=FIRST_COMPLETED)
            futures.append(self.submit(task, *arguments))
        wait(futures)
        return [
            self._alone(task, arguments, what) if isinstance(future.exception(), WorkerDied) else future.result()
            for future, arguments in zip(futures, argument_lists, strict=True)
        ]

    def _alone(self, task: Callable[..., Any], arguments: tuple[Any, ...], what: str) -> Any:
        logger.warning("a worker process was killed while %s (out of memory?); doing its part again, alone", what)
        try:
            return self.submit(task, *arguments).result()
        except WorkerDied as error:
            raise SearchError(
                f"A worker process was killed twice while {what}, the second time with no other beside it: out of "
                "memory?",
                where=f"search.n_jobs, {self.n_jobs} now",
                fix="give the process more memory, lower search.n_jobs (1 works without worker processes), or train on "
                "fewer rows",
            ) from error

    def shutdown(self, kill: bool = False) -> None:
        """End the workers: after their task, or at once."""
        for slot in self._slots:
            slot.stop(kill or not slot.idle)
        for slot in self._slots:
            slot.join()


class _Slot:
    """One worker and the task it has."""

    def __init__(self) -> None:
        self._executor: Any = None
        self._stopped: threading.Thread | None = None
        self._future: Future[Any] | None = None

    @property
    def idle(self) -> bool:
        return self._future is None or self._future.done()

    def start(self, task: Callable[..., Any], *arguments: Any) -> Future[Any]:
        if self._future is not None and isinstance(self._future.exception(), WorkerDied):
            self._give_up()
        with _starting_deaf():
            # Python's own tracker, which loky's workers use too, lets signals through again where it is started.
            resource_tracker.ensure_running()
        try:
            future = self._submitted(task, arguments)
        except WorkerDied:
            # It was killed while it had nothing to do, so nothing of this task was begun.
            self._give_up()
            future = self._submitted(task, arguments)
        self._future = future
        return future

    def _submitted(self, task: Callable[..., Any], arguments: tuple[Any, ...]) -> Future[Any]:
        with _starting_deaf():
            if self._executor is None:
                self._executor = ProcessPoolExecutor(1, initializer=_begin, initargs=(os.getpid(),), env=_ONE_THREAD)
            future: Future[Any] = self._executor.submit(_call, task, arguments)
        return future

    def _give_up(self) -> None:
        self._executor.shutdown(wait=True, kill_workers=True)
        self._executor = None

    def stop(self, kill: bool) -> None:
        if self._executor is not None:
            # In parallel with the other slots.
            self._stopped = threading.Thread(target=self._executor.shutdown, kwargs={"kill_workers": kill})
            self._stopped.start()
            self._executor = None

    def join(self) -> None:
        if self._stopped is not None:
            self._stopped.join()
            self._stopped = None


@contextmanager
def _starting_deaf() -> Iterator[None]:
    """A process that is started within holds signals back from its first moment on, before it could ignore them.

    A worker ignores them in `_begin`; the trackers of resources ignore two, and SIGHUP stays held back.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _done(task: Callable[..., Any], *arguments: Any) -> Future[Any]:
    future: Future[Any] = Future()
    try:
        future.set_result(task(*arguments))
    except Exception as error:  # the future's to raise, as in a worker; a KeyboardInterrupt passes on
        future.set_exception(error)
    return future


def _call(task: Callable[..., Any], arguments: Sequence[Any]) -> Any:
    if not gc.isenabled():
        # What was imported stays: no collection need look at it again.
        gc.freeze()
        gc.enable()
    return task(*(value.get() if isinstance(value, Mapped) else value for value in arguments))


def _begin(parent: int) -> None:
    """A worker's first act."""
    # Collections while the first task's libraries are imported take a fifth of that time and find nothing.
    gc.disable()
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    # A parent killed by SIGKILL cannot end its workers; PR_SET_PDEATHSIG would follow a thread, not the process.
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
