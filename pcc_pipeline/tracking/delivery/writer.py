"""Writes a process's operations to MLflow in their order; what it cannot write now it keeps and writes later."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pcc_pipeline import interruption
from pcc_pipeline.errors import TrackingError
from pcc_pipeline.tracking.delivery.journal import Journal
from pcc_pipeline.tracking.delivery.operations import Model, Operation, Registered, carry_out
from pcc_pipeline.tracking.delivery.outages import (
    ACCOUNT_FIX,
    is_account,
    is_outage,
    no_temporary_room,
    reason_of,
    server_answers,
)
from pcc_pipeline.tracking.registry.versions import shown_address
from pcc_pipeline.waiting import Patience, delays

T = TypeVar("T")
RESUME = "pcc models resume"
_RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
# A server that answered so lately is not asked for a sign of life before each write.
_FRESH_SECONDS = 5.0
_FIRST_WAIT, _LONGEST_WAIT = 1.0, 15.0
# What was kept is written between trials, so many at a time that the search hardly waits.
_AT_A_TIME = 20

logger = logging.getLogger(__name__)


class KeptError(TrackingError):
    """MLflow stayed away; what it should have been told, if there was anything yet, is on disk.

    Attributes:
        run_id: the run whose work is complete but for that; empty if there is none.
    """

    run_id = ""


class Writer:
    """Carries operations out in order.

    Args:
        patience: seconds to wait for MLflow where there is no going on without it.
    """

    def __init__(self, journal: Journal, patience: float) -> None:
        self._journal, self._patience = journal, patience
        self._pending = 0
        self._answered = time.monotonic()
        self._delays, self._next_try = delays(_FIRST_WAIT, _LONGEST_WAIT), 0.0
        self._error: BaseException | None = None
        # The run whose model was registered last: its work is done, however the process goes on.
        self.complete = ""

    def write(self, operation: Operation, files: Path | None = None) -> None:
        """Carry an operation out, or keep it for later if MLflow is away. Never waits for long.

        Args:
            files: the operation's folder, for those that have files; moved away if it is kept.

        Raises:
            MlflowException: MLflow refuses the operation.
            TrackingError: it cannot be kept either.
        """
        tried = False
        if self._is_due() and self._drain(_AT_A_TIME):
            tried = True
            try:
                self._carry_out(operation, files, again=False)
                return
            except Exception as error:  # `_note` raises what is no outage
                self._note(error)
        self._keep(operation, files)
        if tried:
            logger.warning(
                "%s; work goes on, and what MLflow misses is kept in %s", self._trouble, self._journal.folder
            )

    def demand(self, operation: Model, files: Path) -> Registered:
        """Carry an operation out whose result is needed, waiting for MLflow as long as `patience`.

        Raises:
            KeptError: it stayed away; the operation is kept.
            Interrupted: before the last step, so nothing is registered, now or later (if MLflow was away the model is
                kept); or in it or after it, and then the run is `complete`.
        """
        tried = False

        def placed() -> None:
            self.complete = operation.run_id

        def attempt() -> Registered:
            nonlocal tried
            again, tried = tried, True
            result = self._carry_out(operation, files, again=again, placed=placed)
            assert result is not None, "only an operation that registers a model is demanded"
            return result

        try:
            return self.patiently(attempt)
        except KeptError as error:
            self._keep(operation, files)
            kept = self._stayed_away()
            kept.run_id = operation.run_id
            raise kept from error
        except KeyboardInterrupt:
            if self._error is not None and self.complete != operation.run_id:
                self._keep(operation.model_copy(update={"ended": True}), files)
            raise

    def settle(self) -> None:
        """Write all that is kept, waiting for MLflow as long as `patience`.

        Raises:
            KeptError: it stayed away.
        """
        if self._pending:
            self.patiently(lambda: None)

    def patiently(self, attempt: Callable[[], T]) -> T:
        """What `attempt` returns, once all that is kept has been written; tried again while MLflow is away.

        Raises:
            KeptError: MLflow stayed away for longer than `patience`, or does not take this account any more.
        """
        patience = Patience(self._patience, first=_FIRST_WAIT, longest=_LONGEST_WAIT)
        warned = False
        while True:
            if self._drain(None):
                try:
                    return attempt()
                except Exception as error:  # the same
                    self._note(error)
            if self._error is not None and is_account(self._error):
                raise self._stayed_away()
            if not warned and patience.left > 0:
                warned = True
                logger.warning("%s: waiting up to %.0f s", self._trouble, patience.left)
            if not patience.wait():
                raise self._stayed_away()

    def try_once(self) -> None:
        """Write what is kept if MLflow answers now; for a process that has failed and will not wait."""
        self._drain(None)

    def close(self) -> None:
        self._journal.close()

    @property
    def kept(self) -> Path | None:
        """Where something is kept; None if MLflow was told everything."""
        return self._journal.folder if self._pending else None

    def _keep(self, operation: Operation, files: Path | None) -> None:
        with interruption.protected():
            self._journal.keep(operation, files)
            self._pending += 1

    def _is_due(self) -> bool:
        return not self._pending or time.monotonic() >= self._next_try

    def _drain(self, most: int | None) -> bool:
        """Write what is kept, at most so many operations; whether nothing is left and MLflow answers."""
        if not self._reachable():
            return False
        if not self._pending:
            return True
        entries = self._journal.entries
        for entry in entries[:most]:
            try:
                with brief_requests():
                    self._journal.carry_out(entry)
            except Exception as error:  # `_note` raises what is no outage
                self._note(error)
                return False
            self._pending -= 1
            self._has_answered()
        if self._pending:
            return False
        logger.warning("MLflow is back: all that was kept has been written")
        return True

    def _carry_out(
        self, operation: Operation, files: Path | None, *, again: bool, placed: Callable[[], None] = lambda: None
    ) -> Registered | None:
        with brief_requests():
            result = carry_out(operation, files or Path(os.devnull), again=again, placed=placed)
        self._has_answered()
        return result

    def _reachable(self) -> bool:
        if time.monotonic() - self._answered < _FRESH_SECONDS and self._error is None:
            return True
        if server_answers():
            return True
        self._note(ConnectionError("it does not answer"))
        return False

    def _has_answered(self) -> None:
        self._answered, self._error = time.monotonic(), None
        self._delays = delays(_FIRST_WAIT, _LONGEST_WAIT)

    def _note(self, error: Exception) -> None:
        """Remember an outage and when to try again; anything else goes its way."""
        if not is_outage(error):
            raise error
        self._error = error
        self._next_try = time.monotonic() + next(self._delays)

    @property
    def _reason(self) -> str:
        return "" if self._error is None else reason_of(self._error)

    @property
    def _trouble(self) -> str:
        assert self._error is not None, "it is away for a reason"
        full = no_temporary_room(self._error)
        return f"there is no room for temporary files in {full}" if full else f"MLflow is away ({self._reason})"

    def _stayed_away(self) -> KeptError:
        assert self._error is not None, "it is away for a reason"
        if full := no_temporary_room(self._error):
            what = f"there was no room for temporary files in {full} for {self._patience:g} s"
            fix = "make room there, or point TMPDIR elsewhere"
        elif is_account(self._error):
            what, fix = f"MLflow does not take this account any more: {self._reason}", ACCOUNT_FIX
        else:
            what, fix = f"MLflow stayed away for {self._patience:g} s: {self._reason}", "see that MLflow is back"
        if not self._pending:
            return KeptError(what, where=shown_address(), fix=f"{fix}; then run this again")
        return KeptError(
            f"{what}\n  Nothing is lost: what it misses is kept on disk",
            where=f"{self._journal.folder}, for {shown_address()}",
            fix=f"{fix}; then: {RESUME}",
        )


@contextmanager
def brief_requests() -> Iterator[None]:
    """MLflow's client gives up at once instead of after minutes, and never sends one request twice.

    What a user set in the environment stays.
    """
    if _RETRIES in os.environ:
        yield
        return
    os.environ[_RETRIES] = "0"
    try:
        yield
    finally:
        os.environ.pop(_RETRIES, None)  # another thread may have been quicker
