"""Waiting for what is away or busy: longer each time, and never in step with others who wait for the same."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator

from pcc_pipeline import interruption

_LOOK_SECONDS = 30.0


def jittered(seconds: float) -> float:
    """Between half of these seconds and all of them, so that many who lost one server do not come back at once."""
    return random.uniform(0.5, 1.0) * seconds


def delays(first: float, longest: float) -> Iterator[float]:
    """Seconds until each next try, without end: twice as long each time, up to `longest`, and jittered."""
    while True:
        yield jittered(first)
        first = min(2 * first, longest)


class Patience:
    """Waits between tries, as `delays`, until so many seconds have passed since this was made.

        while not there() and patience.wait():
            ...

    Args:
        seconds: how long to go on trying.
        first: the longest that the first wait may take, in seconds; `longest` of those that follow.
    """

    def __init__(self, seconds: float, *, first: float, longest: float) -> None:
        self._end = time.monotonic() + seconds
        self._delays = delays(first, longest)

    @property
    def left(self) -> float:
        """Seconds; none or less when it is over."""
        return self._end - time.monotonic()

    def wait(self) -> bool:
        """Wait until the next try, the last of which is at the end of the time; False where there is none any more.

        A signal ends a wait, also within a protected section.
        """
        if (left := self.left) <= 0:
            return False
        interruption.sleep(min(next(self._delays), left))
        return True


class Schedule:
    """Times at equal distances from the moment when this was made, by the clock: late rounds move no later ones.

    A time that passes while a round is under way is left out.

    Args:
        seconds: the distance.
        clock: tells seconds since 1970.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.time) -> None:
        self._seconds, self._clock = seconds, clock
        self._began, self._past = clock(), 0

    @property
    def next(self) -> float:
        """When the next round is due, in seconds since 1970."""
        return self._began + self._next * self._seconds

    def wait(self) -> None:
        """Wait for the next round; a signal ends the wait, also within a protected section."""
        due = self._next
        # In short steps, so that a clock that is set, or a machine that slept, is noticed.
        while (left := self._began + due * self._seconds - self._clock()) > 0:
            interruption.sleep(min(left, _LOOK_SECONDS))
        self._past = due

    @property
    def _next(self) -> int:
        return max(self._past + 1, math.ceil((self._clock() - self._began) / self._seconds))
