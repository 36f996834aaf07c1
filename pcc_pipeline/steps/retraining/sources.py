"""The files that `retrain` watches: which of them are new enough, and whether somebody still writes them."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

from pcc_pipeline.config.schema import RetrainParams
from pcc_pipeline.interruption import sleep
from pcc_pipeline.storage.objects import BUCKET_SCHEME, ObjectState, state_of

_DATE = re.compile(r"(?<!\d)(20\d\d)-?(0[1-9]|1[0-2])-?(0[1-9]|[12]\d|3[01])(?!\d)")


def new_enough(files: Sequence[str], settings: RetrainParams, trained: date | None) -> list[str]:
    """The files whose day is recent enough: the date in their names, or else that of their last change.

    Args:
        trained: the day of the champion's training; None without one.
    """
    since = date.min
    if settings.window_days is not None:
        since = (datetime.now(UTC) - timedelta(days=settings.window_days)).date()
    if settings.since == "champion" and trained is not None:
        since = max(since, trained)
    return [file for file in files if since == date.min or _day(file) >= since]


def _day(file: str) -> date:
    if match := _DATE.search(file.rpartition("/")[2]):
        try:
            return date(*map(int, match.groups()))
        except ValueError:  # no day of the calendar, such as the 31st of February
            pass
    return state_of(file).changed.date()


def settled(files: Sequence[str], seconds: float) -> list[ObjectState] | None:
    """The files' states, once they have stayed the same for so long; None where one has not.

    What changed long ago by this machine's clock is not waited for. A bucket's times are of another clock, so they say
    nothing of how long ago that was.
    """
    before = [state_of(file) for file in files]
    left = seconds
    if not any(file.startswith(BUCKET_SCHEME) for file in files):
        left -= time.time() - max(state.changed for state in before).timestamp()
    if left > 0:
        sleep(min(left, seconds))
    return before if unchanged(files, before) else None


def unchanged(files: Sequence[str], states: Sequence[ObjectState]) -> bool:
    """Whether the files are as they were."""
    return [state_of(file) for file in files] == list(states)
