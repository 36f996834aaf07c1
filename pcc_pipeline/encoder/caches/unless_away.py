"""A shared cache that is away, full or closed to us costs time and no answer: what it does not have is encoded."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Literal

from pcc_pipeline.masking import quotable

# One that does not answer is left alone for so long.
SECONDS_AWAY = 60.0

Use = Literal["reading", "writing"]
_LOST = {"reading": "give", "writing": "keep"}

logger = logging.getLogger(__name__)


def reason_of(error: Exception, address: str) -> str:
    """Why, in one line without what is secret in the address, and without keys and vectors."""
    # Of a PostgreSQL that answered its first words: it goes on with the row that failed.
    text = getattr(getattr(error, "diag", None), "message_primary", None) or str(error)
    # Redis goes on with what a command that it does not know was to do.
    line = " ".join(text.partition(", with args")[0].split())
    return (quotable(line, address) if line.isprintable() else "") or type(error).__name__


class UnlessAway:
    """Does the work of a cache while its server answers; one that does not is told once, and asked again after a while.

    One that answers and refuses, as it is full or lets us only read, is left alone for that use.

    Args:
        where: the server, as a person may read it.
        address: the server's, of which no secret part may stand in the log.
        failures: what its library raises then.
        is_refusal: whether an error of these is the server's own answer.
    """

    def __init__(
        self, where: str, address: str, failures: type[Exception], is_refusal: Callable[[Exception], bool]
    ) -> None:
        self._where, self._address, self._failures, self._is_refusal = where, address, failures, is_refusal
        self._away_until: dict[Use, float] = {"reading": 0.0, "writing": 0.0}
        self._warned: set[str] = set()

    def do(self, work: Callable[[], None], use: Use) -> None:
        """The work, unless the server is away for it."""
        if time.monotonic() < self._away_until[use]:
            return
        try:
            work()
        except self._failures as error:
            until = time.monotonic() + SECONDS_AWAY
            if self._is_refusal(error):
                self._away_until[use] = until
                self._warn(error, f"cannot be used for {use}", _LOST[use])
            else:
                self._away_until = {"reading": until, "writing": until}
                self._warn(error, "cannot be used", "give or keep")

    def _warn(self, error: Exception, what: str, lost: str) -> None:
        if what in self._warned:
            return
        self._warned.add(what)
        logger.warning(
            "the shared cache %s %s (%s): what it does not %s is encoded, and it is tried again after %d seconds",
            self._where,
            what,
            reason_of(error, self._address),
            lost,
            SECONDS_AWAY,
        )
