"""What is usual of a file of messages besides their meaning: how whole it is, what repeats, how many come, how late.

A share is known from blocks of rows that come one after another: what makes neighbours alike (a mass mailing, a form
without a field) is usual as far as it was so in the file that a version learned from. A window is cut into blocks of
about the same size, so that its own changes nothing. How many come on a day follows the weekday.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

import numpy as np
from scipy.special import stdtr

BLOCK = 100
# What is less than this above the usual share, or so few rows, is not worth a word, whatever chance makes of it.
_SMALLEST, _FEWEST = 0.01, 3
# Fewer whole days say nothing of a day; of fewer weeks, all weekdays count as one.
_FEWEST_DAYS, _FEWEST_WEEKS = 7, 3
# Rows of a day on which usually none come: else the first would be infinitely many.
_LEAST_EXPECTED = 0.5


@dataclass(frozen=True)
class Figure:
    """One figure beside what is usual.

    Attributes:
        name: as in its metric behind `quality/`.
        usual: None where that is not known.
        p_value: of chance making it so high (of a number of rows: so far off); None where it is not judged by that.
        unusual: whether it is beyond what is usual.
    """

    name: str
    value: float
    usual: float | None
    p_value: float | None
    unusual: bool


@dataclass(frozen=True)
class UsualShare:
    """A share of rows.

    Attributes:
        angle, spread: mean and standard deviation, over the blocks, of the arcsine of the share's root, which chance
            and differences between blocks make vary alike whatever the share.
        blocks: how many they are.
    """

    share: float
    angle: float
    spread: float
    blocks: int

    @staticmethod
    def of(marked: np.ndarray) -> UsualShare:
        """Of which rows have it, (n,) bool, in their order."""
        starts = _block_starts(len(marked))
        shares = np.add.reduceat(marked, starts, dtype=np.float64) / np.diff(starts, append=len(marked))
        angles = np.arcsin(np.sqrt(shares))
        spread = float(angles.std(ddof=1)) if len(angles) > 1 else 0.0
        return UsualShare(float(marked.mean()), float(angles.mean()), spread, len(angles))

    def judge(self, name: str, marked: np.ndarray, rate: float) -> Figure:
        """The share of a window's rows that have it, (n,) bool: only more than usual is unusual, by Student's test.

        The blocks of both together say how they spread, at least as chance makes them.
        """
        window, rows = UsualShare.of(marked), len(marked)
        squares = (self.blocks - 1) * self.spread**2 + (window.blocks - 1) * window.spread**2
        degrees = max(self.blocks + window.blocks - 2, 1)
        variance = max(squares / degrees, 1 / (4 * min(rows, BLOCK)))
        error = np.sqrt(variance * (1 / self.blocks + 1 / window.blocks))
        p_value = float(stdtr(degrees, -(window.angle - self.angle) / error))
        more = window.share - self.share
        unusual = p_value <= rate and more > _SMALLEST and more * rows >= _FEWEST
        return Figure(name, window.share, self.share, p_value, unusual)


@dataclass(frozen=True)
class UsualDays:
    """How many rows come on a day.

    Attributes:
        rows: of each weekday, from Monday.
        spread: squared, by how much of themselves days differ beyond chance, as in the negative binomial distribution.
        days: how many whole days say so.
        longest_gap: days from one with rows to the next, at most.
    """

    rows: tuple[float, ...]
    spread: float
    days: int
    longest_gap: int

    @staticmethod
    def of(first: date, counts: np.ndarray, *, whole_ends: bool) -> UsualDays | None:
        """Of counts of rows a day (days,) from the first on; None where whole days are too few.

        Args:
            whole_ends: the first and the last day are whole ones, which of times with a clock is not known.
        """
        filled = np.flatnonzero(counts)
        gap = int(np.diff(filled).max(initial=1))
        inner = counts if whole_ends else counts[1:-1]
        if len(inner) < _FEWEST_DAYS:
            return None
        weekday = (np.arange(len(inner)) + first.weekday() + (not whole_ends)) % 7
        kinds = _kinds(len(inner))
        means = np.array([inner[weekday % kinds == place % kinds].mean() for place in range(7)])
        expected = means[weekday]
        beyond = ((inner - expected) ** 2).sum() * len(inner) / max(len(inner) - kinds, 1) - expected.sum()
        spread = float(beyond / max((expected**2).sum(), _LEAST_EXPECTED))
        return UsualDays(tuple(map(float, means)), max(spread, 0.0), len(inner), gap)

    def judge(self, rows: int, first: date, last: date, rate: float) -> Figure:
        """So many rows on all days from the first to the last: more or fewer than usual, by Student's test."""
        days, kinds = (last - first).days + 1, _kinds(self.days)
        means = np.array([self.rows[(first + timedelta(days=place)).weekday()] for place in range(days)])
        expected = float(means.sum())
        variance = max(expected, _LEAST_EXPECTED) + self.spread * float((means**2).sum())
        # Of the window's own rows, and of the means that they are compared with.
        error = np.sqrt(variance * (1 + max(days, kinds) / self.days))
        p_value = float(2 * stdtr(max(self.days - kinds, 1), -abs(rows - expected) / error))
        return Figure("window_rows", rows, expected, p_value, p_value <= rate)


@dataclass(frozen=True)
class Usual:
    """Of the file that a version learned from.

    Attributes:
        shares: `rejected_rows`, `repeated_rows`, and `missing/<column>` of each optional column that the file has.
        days: None where rows have no times, or there are too few days.
        lag_days: how old the newest row was when the version learned; None where rows have no times.
        lengths: characters of a text: 5 %, half and 95 % of them.
    """

    shares: Mapping[str, UsualShare]
    days: UsualDays | None
    lag_days: float | None
    lengths: tuple[float, float, float]

    @property
    def greatest_age(self) -> float | None:
        """Days that the newest row may be old: as at training, and one gap more."""
        if self.lag_days is None:
            return None
        return self.lag_days + (1 if self.days is None else self.days.longest_gap)

    def judge(self, marked: Mapping[str, np.ndarray], rate: float) -> tuple[Figure, ...]:
        """Shares of a window's rows (n,) bool by name; those that the file had not are left out.

        Args:
            rate: of quiet windows in which a figure is called unusual, at most.
        """
        known = {name: rows for name, rows in marked.items() if name in self.shares and len(rows)}
        return tuple(self.shares[name].judge(name, rows, rate / len(known)) for name, rows in known.items())

    def judge_age(self, age: Figure) -> Figure:
        """The age of the newest row beside the greatest that is usual, where that is known."""
        greatest = self.greatest_age
        return age if greatest is None else replace(age, usual=greatest, unusual=age.value > greatest)

    def document(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {
            "shares": {name: vars(share) for name, share in self.shares.items()},
            "days": None if self.days is None else vars(self.days),
            "lag_days": self.lag_days,
            "lengths": self.lengths,
        }

    @staticmethod
    def of_document(document: Mapping[str, Any]) -> Usual:
        """What `document` made."""
        days = document["days"]
        return Usual(
            {name: UsualShare(**share) for name, share in document["shares"].items()},
            None if days is None else UsualDays(**{**days, "rows": tuple(days["rows"])}),
            document["lag_days"],
            tuple(document["lengths"]),
        )


def repeating(texts: np.ndarray) -> np.ndarray:
    """Which rows have a text that stands before them in their block, (n,) bool.

    Args:
        texts: numbers of the texts, (n,), in the rows' order.
    """
    block = np.arange(len(texts), dtype=np.int64) // BLOCK  # in longer ones more would repeat
    keys = block * (int(texts.max(initial=0)) + 1) + texts
    marked = np.ones(len(texts), dtype=bool)
    marked[np.unique(keys, return_index=True)[1]] = False
    return marked


def _block_starts(rows: int) -> np.ndarray:
    """Where the blocks of so many rows begin: every row is in one, the newest too.

    Each has `BLOCK` rows or somewhat more. Smaller ones would differ by chance more than those of the file that was
    learned from, and quiet windows would be unusual too often.
    """
    blocks = max(rows // BLOCK, 1)
    return np.arange(blocks, dtype=np.int64) * rows // blocks


def _kinds(days: int) -> int:
    """How many kinds of days are told apart: weekdays, where there are some of each."""
    return 7 if days >= 7 * _FEWEST_WEEKS else 1
