"""Alerts of a step: what its numbers or its end are worth telling, put into the book and sent.

Telling is no part of the work: what cannot be written or sent is a line of the summary, and the step ends as it would.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from pcc_pipeline.alerting.book import AlertBook, Notice
from pcc_pipeline.alerting.receivers import Receivers
from pcc_pipeline.config import Params
from pcc_pipeline.config.alert_settings import Level
from pcc_pipeline.errors import PccError, StorageError
from pcc_pipeline.steps.records.audit import Audit
from pcc_pipeline.tracking.runs import describe

# What is no alert any more.
_OVER = ("recovered", "ended")
logger = logging.getLogger(__name__)


def tell_of_windows(
    params: Params,
    version: str,
    windows: Sequence[tuple[str, Mapping[str, float]]],
    words: Mapping[tuple[str, str], str],
) -> list[str]:
    """Hold a champion's windows, oldest first, against `monitoring.alerts`; lines for the summary.

    Args:
        words: (window, metric) -> what is wrong.
    """
    rules = params.monitoring.alerts
    return _send_notices(
        params,
        lambda book, names: book.judge(params.registry.model_name, rules, windows, names, version=version, words=words),
    )


def tell_of_champion(params: Params, version: str) -> list[str]:
    """Tell that alerts about other versions are ended, since this one is the champion now; lines for the summary."""
    return _send_notices(params, lambda book, names: book.succession(params.registry.model_name, version))


def tell_of_event(
    params: Params, key: str, title: str, body: str, level: Level = "warning", *, good: bool = False
) -> list[str]:
    """Tell of something that happened, once for each key; lines for the summary.

    Args:
        good: it is as it was meant to be, so that nobody need do anything.
    """
    return _send_notices(params, lambda book, names: book.event(key, title, body, names, level), good=good)


def note_alerts(params: Params, notices: Sequence[Notice]) -> list[str]:
    """Put what is told into the audit log; lines for the summary, where that did not go well."""
    audit = Audit(params, anchored=False)  # MLflow may be what is away
    for notice in notices:
        about = {"model": params.registry.model_name, "alert": notice.id, "level": notice.level}
        audit.record("alert", {**about, "title": notice.title}, notice.kind)
    return audit.warnings


@contextlib.contextmanager
def telling_of_failure(params: Params, step: str) -> Iterator[None]:
    """Tell, once a day for each reason, that a step failed; it ends as it would."""
    try:
        yield
    except Exception as error:
        name = params.registry.model_name
        # What an error that is none of ours says may quote a message.
        reason = error.what if isinstance(error, PccError) else describe(error)
        fix = error.fix if isinstance(error, PccError) else "this is a defect of the program"
        key = f"failed {step} {name} {datetime.now(UTC):%Y-%m-%d} {reason}"
        for line in tell_of_event(params, key, f"{name}: {step} failed", f"{reason}. {fix}."):
            logger.warning("%s", line.strip())
        raise


def _send_notices(
    params: Params, make: Callable[[AlertBook, Sequence[str]], list[Notice]], *, good: bool = False
) -> list[str]:
    receivers = Receivers(params.monitoring.notify, os.environ)
    book = AlertBook(Path(params.output.alerts_dir))
    try:
        notices = make(book, receivers.names)
        warnings = note_alerts(params, notices)
        delivery = book.send(receivers.deliver)
    except StorageError as error:
        return [f"warning    {error.what} ({error.where}): nobody is told"]
    lines = [f"{'news' if good or notice.kind in _OVER else 'alert':<10} {notice.title}" for notice in notices]
    if notices and not receivers.names:
        names = ", ".join(params.monitoring.notify)
        lines.append(f"           nobody is told: {f'{names} is not set' if names else 'monitoring.notify is empty'}")
    if delivery.sent:
        lines.append(f"           told {', '.join(receivers.names)}")
    lines += [
        f"warning    {name} was not told: {reason}; `pcc alerts send` tells it"
        for name, reason in delivery.failed.items()
    ]
    return [*lines, *warnings]
