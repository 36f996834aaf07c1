"""A shared cache that is away, full or closed to us costs time and no answer: what it does not have is encoded."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from pcc_pipeline.masking import quotable

# One that does not answer is left alone for so long.
SECONDS_AWAY = 60.0

logger = logging.getLogger(__name__)


def reason_of(error: Exception, address: str) -> str:
    """Why, in one line without what is secret in the address."""
    return quotable(" ".join(str(error).split()), address) or type(error).__name__


class UnlessAway:
    """Does the work of a cache while its server answers; one that does not is told once, and asked again after a while.

    Args:
        where: the server, as a person may read it.
        failures: what its library raises then.
        address: the server's, of which no secret part may stand in the log.
    """

    def __init__(self, where: str, failures: type[Exception], address: str) -> None:
        self._where, self._failures, self._address = where, failures, address
        self._away_until = 0.0
        self._warned = False

    def do(self, work: Callable[[], None]) -> bool:
        """Whether it was done."""
        if time.monotonic() < self._away_until:
            return False
        try:
            work()
        except self._failures as error:
            self._away_until = time.monotonic() + SECONDS_AWAY
            if not self._warned:
                self._warned = True
                logger.warning(
                    "the shared cache %s cannot be used (%s): what it does not give or keep is encoded, and it is "
                    "tried again after %d seconds",
                    self._where,
                    reason_of(error, self._address),
                    SECONDS_AWAY,
                )
            return False
        return True
