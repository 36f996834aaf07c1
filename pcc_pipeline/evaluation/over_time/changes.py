"""Whether a daily series has a weekly pattern, a trend or breaks: tests that hold their level on series of few weeks.

A series has one number a day, of like spread on all days: square roots of counts, or standardised residuals of shares.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import fdtrc, kolmogorov, stdtr

from pcc_pipeline.evaluation.ranking import FloatArray, IntArray

# A stretch of fewer days is no level of its own.
SHORTEST_STRETCH = 7
# Of fewer whole weeks, what differs between weekdays is luck as likely as not.
FEWEST_WEEKS = 4


@dataclass(frozen=True)
class Change:
    """That a stretch of a series, days `start` to `end` (exclusive), does not keep its level.

    Attributes:
        kind: `trend`, or `break` with `at` the first day of the new level.
    """

    kind: Literal["trend", "break"]
    start: int
    end: int
    at: int | None = None


def weekly_chance(values: FloatArray, first_weekday: int) -> tuple[float, FloatArray]:
    """The chance, 0..1, of such differences between weekdays if there are none, and each weekday's, Monday first.

    Analysis of variance with weeks as blocks (Fisher), so that levels may differ from week to week. Weeks with days
    that are NaN are left out; of fewer than four the chance is 1 and the differences are 0.
    """
    whole = values[: len(values) // 7 * 7].reshape(-1, 7)
    whole = whole[np.isfinite(whole).all(axis=1)]
    none = 1.0, np.zeros(7)
    if len(whole) < FEWEST_WEEKS:
        return none
    within = whole - whole.mean(axis=1, keepdims=True)
    of_day = within.mean(axis=0)
    rest = float(((within - of_day) ** 2).sum())
    freedom = 6 * (len(whole) - 1)
    if rest <= 0:
        return none
    ratio = len(whole) * float((of_day**2).sum()) / 6 / (rest / freedom)
    return float(fdtrc(6, freedom, ratio)), np.roll(of_day, first_weekday)


def change_chance(values: FloatArray) -> tuple[float, Change | None]:
    """The chance, 0..1, of such a change of level if there is none, and the change that fits best.

    Two tests, and so twice the smaller chance: the greatest distance of the cumulated sums from a straight line
    (Kolmogorov's distribution, as in Ploberger and Kraemer's CUSUM test, Econometrica 60, 1992), and the slope of a
    line (Student's). Both take the spread from what the better of step and line leaves, and allow for days that are
    like the day before (autocorrelation of order one). Between step and line the Bayesian information criterion
    chooses.
    """
    n = len(values)
    if n < 2 * SHORTEST_STRETCH:
        return 1.0, None
    days = np.arange(n) - (n - 1) / 2
    centred = values - values.mean()
    slope = float(days @ centred / (days @ days))
    of_line = centred - slope * days
    sums = np.cumsum(centred)[:-1]
    sizes = np.arange(1, n)
    gained = sums**2 * n / (sizes * (n - sizes))
    inner = slice(SHORTEST_STRETCH - 1, n - SHORTEST_STRETCH)
    at = SHORTEST_STRETCH + int(np.argmax(gained[inner]))
    of_step = np.concatenate([centred[:at] - centred[:at].mean(), centred[at:] - centred[at:].mean()])
    squares = float(of_step @ of_step), float(of_line @ of_line)
    if min(squares) <= 0:
        return 1.0, None
    steps_better = n * np.log(squares[0] / squares[1]) + np.log(n) < 0
    left, freedom = (of_step, n - 3) if steps_better else (of_line, n - 2)
    alike = max(float(left[1:] @ left[:-1] / (left @ left)), 0.0)
    spread = float(left @ left) / freedom * (1 + alike) / (1 - alike)
    by_sums = float(kolmogorov(np.abs(sums).max() / np.sqrt(n * spread)))
    by_slope = 2 * float(stdtr(n - 2, -abs(slope) * np.sqrt(days @ days / spread)))
    change = Change("break", 0, n, at) if steps_better else Change("trend", 0, n)
    return min(2 * min(by_sums, by_slope), 1.0), change


def further_changes(values: FloatArray, first: Change, level: float) -> list[Change]:
    """The change, and those in the stretches before and after a break whose chance is below `level`, in order."""
    if first.at is None:
        return [first]
    changes = [first]
    for start, end in ((first.start, first.at), (first.at, first.end)):
        chance, change = change_chance(values[start:end])
        if change is not None and chance <= level:
            at = None if change.at is None else start + change.at
            changes += further_changes(values, Change(change.kind, start, end, at), level)
    return sorted(changes, key=lambda each: (each.start if each.at is None else each.at, each.kind))


def rooted(counts: IntArray) -> FloatArray:
    """Counts as numbers whose spread hardly hangs on their size: Anscombe, Biometrika 35, 1948."""
    made: FloatArray = 2 * np.sqrt(counts + 3 / 8)
    return made


def share_residuals(hits: IntArray, rows: IntArray) -> FloatArray:
    """How far each day's share lies from that of all days, in standard deviations; NaN for days without rows."""
    share = hits.sum() / max(rows.sum(), 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        made: FloatArray = np.where(rows > 0, (hits - rows * share) / np.sqrt(rows * share * (1 - share)), np.nan)
    return made
