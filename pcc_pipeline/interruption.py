"""Signals that end this process, raised where that harms nothing: Ctrl-C (SIGINT), SIGTERM and SIGHUP.

In ordinary code a signal raises `Interrupted` at once. Within `protected()` it is remembered, and raised at the
section's end, at the next `check()`, or at once where the section has `allowed()` it for a long wait. Protected is what
must not be left half done: a call that holds a transaction of MLflow's database, which an exception at an arbitrary
place would leave open and locked by this very process, and what is to be wholly done or not at all.

On the way out, while an `Interrupted` is handled or runs through `finally` and `with`, no further signal raises: runs
are closed, folders removed and workers ended however often somebody presses Ctrl-C. The third signal of one kind gives
all of that up and ends the process at once.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from pcc_pipeline.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# `mlflow run` answers one Ctrl-C with a SIGTERM of its own, so only signals of one kind are counted together.
_GIVES_UP_AT = 3


@dataclass
class _State:
    """What is known of signals in this process. Only the main thread reads and writes it: Python gives it the signals.

    Attributes:
        installed: whether our handler stands.
        depth: how many protected sections are open.
        received: the first signal that came.
        over: the work is done and its result is out, or it has been ended: nothing is left to interrupt.
    """

    installed: bool = False
    depth: int = 0
    received: signal.Signals | None = None
    counts: Counter[int] = field(default_factory=Counter)
    over: bool = False


_state = _State()


def install() -> None:
    """Handle the signals from here to the end of the process; one that is ignored, as by nohup, stays ignored."""
    global _state
    _state = _State(installed=True)
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _receive)
    sys.unraisablehook = _lost
    atexit.register(_ignore)


@contextmanager
def handled() -> Iterator[None]:
    """Within this, Ctrl-C is handled as in an entry point: for steps that are called from a notebook or a program.

    Other signals, and a Ctrl-C that somebody handles already, are left to them.
    """
    global _state
    free = signal.getsignal(signal.SIGINT) == signal.default_int_handler
    if _state.installed or not free or not _is_main_thread():
        yield
        return
    _state = _State(installed=True)
    signal.signal(signal.SIGINT, _receive)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _state = _State()


class protected:  # noqa: N801 # used as the function it would be, were a generator's exit not itself interruptible
    """A context in which a signal waits; it raises when the outermost such context ends without an error.

    In other threads than the main one, which get no signals, it does nothing.
    """

    def __enter__(self) -> Self:
        if _is_main_thread():
            self._around = _state.depth
            _state.depth += 1
        return self

    def lifted(self) -> allowed:
        """A context in this one where signals come as they do around it: only its two ends are protected."""
        return allowed(self._around if _is_main_thread() else 0)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not _is_main_thread():
            return
        _state.depth -= 1
        # An error goes its way; if somebody handles it and goes on, the next check raises.
        if kind is None and _state.depth == 0:
            check()


class allowed:  # noqa: N801 # as above
    """A context within a protected one in which a signal raises at once after all, such as a wait or a step's work.

    Args:
        within: protected sections that stay closed; only those that were opened after them are lifted.
    """

    def __init__(self, within: int = 0) -> None:
        self._within = within

    def __enter__(self) -> None:
        if _is_main_thread():
            if self._within == 0:
                check()
            self._depth, _state.depth = _state.depth, self._within

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if _is_main_thread():
            _state.depth = self._depth


def check() -> None:
    """Raise if a signal has come, also within a protected section: here is a good place to stop.

    Raises:
        Interrupted: it has, and this thread is not on its way out for it already.
    """
    if _state.received is not None and _is_main_thread() and not _state.over and not _on_the_way_out():
        raise Interrupted(_state.received)


def sleep(seconds: float) -> None:
    """Sleep; a signal ends it, also within a protected section."""
    with allowed():
        time.sleep(seconds)


def over() -> None:
    """The work has ended, well or not: signals are of no use any more, but for the third, which ends the process."""
    _state.over = True


@contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """A new folder that is removed at the end, whenever a signal comes: also while it is made or removed."""
    with protected() as section, tempfile.TemporaryDirectory(prefix=prefix) as name, section.lifted():
        yield Path(name)


class LogHandler(logging.StreamHandler):  # type: ignore[type-arg] # generic for type checkers only
    """Logs to standard error, with signals held back.

    One that raised just after the handler's lock was taken would leave all other threads waiting for that lock, and
    this one for those threads.
    """

    def handle(self, record: logging.LogRecord) -> bool:
        with protected():
            return bool(super().handle(record))


def _receive(number: int, _frame: object) -> None:
    _state.counts[number] += 1
    if _state.counts[number] >= _GIVES_UP_AT:
        _say("given up at once: the next run in this experiment closes as KILLED what is still open")
        os._exit(128 + number)
    if _state.received is None:
        _state.received = signal.Signals(number)
    if _state.over:
        return
    if _state.depth == 0 and not _on_the_way_out():
        raise Interrupted(_state.received)
    if _state.counts[number] == _GIVES_UP_AT - 1:
        _say("ending: what is open is being closed; once more gives that up")


def _lost(unraisable: sys.UnraisableHookArgs) -> None:
    """Python cannot raise out of a `__del__` or a weak reference's callback, and would print a traceback instead.

    A signal that came there is not forgotten: the next check raises it, or the next signal.
    """
    if unraisable.exc_type is not Interrupted:
        sys.__unraisablehook__(unraisable)


def _ignore() -> None:
    # Python itself takes handlers away at its very end, and a signal would then replace the exit code.
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _on_the_way_out() -> bool:
    """Whether an `Interrupted` is being handled here or further up, in `except`, `finally` or the end of a `with`.

    One that was raised and got lost, as in a `__del__`, is not: then the next signal, or the next check, raises again.
    """
    error = sys.exc_info()[1]
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__context__
    return False


def _is_main_thread() -> bool:
    return threading.get_ident() == threading.main_thread().ident


def _say(text: str) -> None:
    # Not print or logging, which this handler may have interrupted; and after a hang-up there is nobody to tell.
    with contextlib.suppress(OSError):
        os.write(2, f"\n{text}\n".encode())
