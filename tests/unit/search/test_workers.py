"""Worker processes: one BLAS thread, shared arrays, and no orphans."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import wait
from contextlib import suppress
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest

from pcc_pipeline.errors import SearchError
from pcc_pipeline.interruption import SIGNALS
from pcc_pipeline.processes import available_cores
from pcc_pipeline.search.pools.workers import WorkerDied, WorkerPool

cloudpickle.register_pickle_by_value(sys.modules[__name__])


class Stop(BaseException):
    """As raised by a handler of SIGTERM."""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def stand_still() -> None:
    signal.pause()


def test_one_job_works_in_this_process_and_minus_one_means_every_core() -> None:
    with WorkerPool(1) as pool:
        assert pool.submit(os.getpid).result() == os.getpid()
        with pool.sharing(value := object()) as shared:
            assert pool.submit(lambda given: given, shared).result() is value
    assert WorkerPool(-1).n_jobs == available_cores() >= 1
    with pytest.raises(ValueError, match="expected n_jobs to be -1, or 1 or more, got 0"):
        WorkerPool(0)


def test_an_inline_task_may_raise_into_its_future_and_an_interrupt_passes_on() -> None:
    def fail(kind: type[BaseException]) -> None:
        raise kind

    pool = WorkerPool(1)
    assert isinstance(pool.submit(fail, ValueError).exception(), ValueError)
    with pytest.raises(KeyboardInterrupt):
        pool.submit(fail, KeyboardInterrupt)


def test_workers_have_one_blas_thread_ignore_signals_that_end_and_share_arrays_they_may_write() -> None:
    def look(shared: dict[str, Any]) -> tuple[Any, ...]:
        rows = shared["rows"]
        total = float(rows.sum())
        rows[0] = -1
        threads = os.environ["OMP_NUM_THREADS"], os.environ["OPENBLAS_NUM_THREADS"]
        ignored = {signal.getsignal(number) for number in SIGNALS} == {signal.SIG_IGN}
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        return total, rows.flags["OWNDATA"], threads, ignored and not blocked

    rows = np.ones((1000, 50), dtype=np.float32)
    shared = {"rows": rows, "empty": np.empty((0, 3)), "texts": ["a", "b"]}
    with WorkerPool(2) as pool, pool.sharing(shared) as token:
        futures = [pool.submit(look, token), pool.submit(look, token)]
        assert not pool.has_room
        with pytest.raises(RuntimeError, match="all 2 workers are busy"):
            pool.submit(look, token)
        assert [future.result() for future in futures] == [(50_000.0, False, ("1", "1"), True)] * 2
        assert rows.min() == 1
        assert pool.submit(look, token).result()[0] == 50_000, "what a task writes is its own"
        assert len(cloudpickle.dumps(token)) < 1000


def test_a_killed_worker_takes_nobody_with_it_and_is_replaced() -> None:
    with WorkerPool(2) as pool:
        doomed, other = pool.submit(stand_still), pool.submit(os.getpid)
        other_pid = other.result()
        pids = {process for slot in pool._slots for process in slot._executor._processes} - {other_pid}
        survivor = pool.submit(stand_still)
        os.kill(pids.pop(), signal.SIGKILL)
        assert isinstance(doomed.exception(), WorkerDied)
        assert not survivor.done()
        assert pool.submit(os.getpid).result() not in (other_pid, os.getpid())
        pool.shutdown(kill=True)
    assert not alive(other_pid)


def test_a_worker_that_is_killed_while_it_has_nothing_to_do_is_replaced_too() -> None:
    """As between the folds and the search: handing over the next task ended the whole search."""
    with WorkerPool(2) as pool:
        idle = [future.result() for future in [pool.submit(os.getpid), pool.submit(os.getpid)]]
        for worker in idle:
            os.kill(worker, signal.SIGKILL)
        until = time.monotonic() + 20
        while any(alive(worker) for worker in idle):
            assert time.monotonic() < until
            time.sleep(0.05)
        time.sleep(1)  # until loky knows it, too
        others = {pool.submit(os.getpid).result(), *pool.run_all(os.getpid, [(), ()], "counting")}
        assert others
        assert not others & {*idle, os.getpid()}


def test_a_task_whose_worker_is_killed_is_done_once_more_and_then_told_with_advice(tmp_path: Path) -> None:
    def square(number: int, deaths: int) -> int:
        for death in range(deaths):
            with suppress(FileExistsError):
                (tmp_path / f"{number}-{death}").touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)
        return number * number

    with WorkerPool(2) as pool:
        assert pool.run_all(square, [(1, 0), (2, 1), (3, 0), (4, 1)], "squaring") == [1, 4, 9, 16]
    message = "(?s)killed twice while squaring.*out of memory.*lower search.n_jobs"
    with pytest.raises(SearchError, match=message), WorkerPool(2) as pool:
        pool.run_all(square, [(5, 0), (6, 2)], "squaring")


def test_a_signal_to_the_whole_group_ends_no_worker_though_it_has_just_begun(tmp_path: Path) -> None:
    """The parent decides what becomes of its workers; one that is still importing cannot ignore a signal yet."""
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, signal, sys, threading, time\n"
        "from pcc_pipeline.search.pools.workers import WorkerPool\n"
        "for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):\n"
        "    signal.signal(number, lambda *_: None)\n"
        "def send():\n"
        "    while not done.wait(0.02):\n"
        "        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):\n"
        "            os.killpg(0, number)\n"
        "done = threading.Event()\n"
        "sender = threading.Thread(target=send)\n"
        "sender.start()\n"
        "with WorkerPool(2) as pool:\n"
        "    futures = [pool.submit(os.getpid), pool.submit(os.getpid)]\n"
        "    print([future.exception() for future in futures])\n"
        "done.set()\n"
        "sender.join()\n"
    )
    command = [sys.executable, "-W", "ignore", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, start_new_session=True)
    assert (done.returncode, done.stdout) == (0, "[None, None]\n"), done.stderr


@pytest.mark.parametrize("error", [KeyboardInterrupt, Stop, ValueError])
def test_leaving_by_an_exception_kills_workers_that_are_busy(error: type[BaseException]) -> None:
    pids: list[int] = []

    def leave() -> None:
        with WorkerPool(2) as pool:
            pids.append(pool.submit(os.getpid).result())
            pool.submit(stand_still)
            pool.submit(stand_still)
            pids.extend(process for slot in pool._slots for process in slot._executor._processes)
            raise error

    with pytest.raises(error):
        leave()
    assert len(set(pids)) == 2
    assert not any(alive(pid) for pid in pids)


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, signal\n"
        "from pcc_pipeline.search.pools.workers import WorkerPool\n"
        "pool = WorkerPool(2)\n"
        "print(pool.submit(os.getpid).result(), flush=True)\n"
        "pool.submit(signal.pause)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    pid = int(done.stdout)
    # A worker looks for its parent twice a second; the suite's own time limit ends this loop if it does not.
    while alive(pid):
        signal.sigtimedwait([], 0.05)


def test_a_task_that_cannot_be_read_by_the_worker_is_a_defect_and_no_death() -> None:
    class Unreadable:
        def __reduce__(self) -> Any:
            return (int, ("not a number",))

    with WorkerPool(2) as pool:
        future = pool.submit(print, Unreadable())
        wait([future])
        assert future.exception() is not None
        assert not isinstance(future.exception(), WorkerDied)
