"""What a step puts into the audit log: who decided or touched what, as ids and digests.

The log is no part of the work: where it cannot be written the work goes on, and says so in its summary, in the log of
the command, and on its run.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pcc_pipeline.auditing.chain import Entry, Head
from pcc_pipeline.auditing.log import MEGABYTE, AuditLog
from pcc_pipeline.config import Params
from pcc_pipeline.errors import ConfigError, PccError, StorageError, TrackingError
from pcc_pipeline.processes import login_here
from pcc_pipeline.tracking import payloads
from pcc_pipeline.tracking.environment import account
from pcc_pipeline.tracking.registry.anchors import anchor_at, anchor_of
from pcc_pipeline.tracking.runs import StepRun, describe

UNWRITTEN_TAG = "pcc.audit_unwritten"

logger = logging.getLogger(__name__)


_GIVE_A_REASON = 'give one in words: --reason "the board let it, 12/26"'


def demand_reason(reason: str, what: str, fix: str = _GIVE_A_REASON) -> None:
    """See that a reason says something: a line that was copied with its "…" does not.

    Args:
        what: that needs it.
        fix: how to give one.

    Raises:
        ConfigError: it does not.
    """
    if not any(sign.isalnum() for sign in reason):
        raise ConfigError(
            f"{what} needs a reason, for the record",
            where="--reason",
            fix=fix,
        )


@dataclass
class Act:
    """What goes on between a line that says `begun` and one that says how it ended.

    Attributes:
        on: what it is about; what is known at its end only may be added.
        outcome: what the last line says if the work ends well.
    """

    on: dict[str, Any]
    outcome: str = "done"


@dataclass
class Audit:
    """The audit log as a step writes it.

    Attributes:
        run: the step's run, which holds the end of the log as an anchor.
        anchored: put the end of the log into MLflow with each line; not where MLflow may be away, as in an alert.
        warnings: lines for the summary, where something could not be written.
    """

    params: Params
    run: StepRun | None = None
    anchored: bool = True
    warnings: list[str] = field(default_factory=list)

    def record(self, what: str, on: Mapping[str, Any], outcome: str = "done", *, reason: str = "") -> None:
        """Write a line, which is on the disk when this returns.

        Args:
            what: a verb.
            on: ids and digests, nothing that a customer wrote.
            reason: as a person gave it.
        """
        head = self._write(what, on, outcome, reason)
        if head is not None and self.anchored:
            self._anchor(head)

    @contextmanager
    def act(self, what: str, on: Mapping[str, Any], *, reason: str = "") -> Iterator[Act]:
        """Write that something is begun, and then how it ended: what a crash cut short has one line."""
        act = Act(dict(on))
        self._write(what, act.on, "begun", reason)
        try:
            yield act
        except BaseException as error:  # raised again below
            became, why = (error.became, error.what) if isinstance(error, PccError) else ("failed", describe(error))
            self.record(what, act.on, f"{became}: {why}")
            raise
        self.record(what, act.on, act.outcome, reason=reason)

    def anchor(self) -> None:
        """Put the end of the log, if there is one, into MLflow."""
        try:
            head = log_of(self.params).head()
        except StorageError as error:
            self._warn(f"{error.what} ({error.where})")
        else:
            if head is not None:
                self._anchor(head)

    def _write(self, what: str, on: Mapping[str, Any], outcome: str, reason: str) -> Head | None:
        try:
            return log_of(self.params).append([Entry(account(), what, on, outcome, login_here(), reason)])
        except StorageError as error:
            self._warn(f"{error.what} ({error.where}): that there was a {what} ({outcome}) is not on record there")
            if self.run is not None:
                self.run.log(payloads.Tags({UNWRITTEN_TAG: f"{what} ({outcome}): {error.what}"}))
            return None

    def _anchor(self, head: Head) -> None:
        if self.run is not None:
            self.run.log(payloads.Tags(anchor_of(head)))
        try:
            anchor_at(self.params.registry.model_name, head, place_of(self.params))
        except TrackingError as error:
            logger.warning("the end of the audit log is not anchored in MLflow: %s", error.what)

    def _warn(self, text: str) -> None:
        logger.warning("%s", text)
        self.warnings.append(f"warning    {text}")


def record(
    params: Params,
    what: str,
    on: Mapping[str, Any],
    outcome: str = "done",
    *,
    reason: str = "",
    run: StepRun | None = None,
) -> list[str]:
    """Write one line; lines for the summary, where that did not go well. See `Audit.record`."""
    audit = Audit(params, run)
    audit.record(what, on, outcome, reason=reason)
    return audit.warnings


def log_of(params: Params) -> AuditLog:
    """The log of `audit.folder`."""
    return AuditLog(Path(params.audit.folder), int(params.audit.rotate_mb * MEGABYTE))


def place_of(params: Params) -> str:
    """Where that is, of all machines."""
    return f"{socket.gethostname()}:{Path(params.audit.folder).resolve()}"
