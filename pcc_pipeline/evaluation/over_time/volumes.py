"""How many messages came when, and of which labels, and what of it changes by more than chance allows.

Counts alone: nothing of a single message is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from typing import Any, Literal

import numpy as np
import pandas as pd

from pcc_pipeline.evaluation.intervals.chances import LEVEL, beyond_chance
from pcc_pipeline.evaluation.over_time.changes import (
    Change,
    change_chance,
    further_changes,
    rooted,
    share_residuals,
    weekly_chance,
)
from pcc_pipeline.evaluation.ranking import FloatArray, IntArray

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
# Four weeks: fewer show no pattern and no change of level.
FEWEST_DAYS = 28
# Ten years; a time further from the middle of all is a slip of the pen as likely as not.
_MOST_DAYS = 3653
# Each more makes every finding harder to be sure of.
_MOST_LABELS, _FEWEST_ROWS = 10, 50
_MOST_DRAWN = 6
_DAY = np.timedelta64(1, "D")


@dataclass(frozen=True)
class Finding:
    """What a series does by more than chance allows.

    Attributes:
        label: whose share of a day's messages the series is; None for the number of messages a day.
        when: of a break the first day of the new level; of a trend its stretch; of a weekly pattern the weekdays of
            least and most.
        before, after: the levels on both sides of a break, at both ends of a trend, on those weekdays.
    """

    label: str | None
    kind: Literal["weekly", "trend", "break"]
    when: str
    before: float
    after: float


@dataclass(frozen=True)
class Volumes:
    """The rows of a file by day, hour and label.

    Attributes:
        first: the first day, in UTC.
        daily: rows by day and label, (days, L); no day between the first and the last is left out.
        hourly: rows by hour of the day and label, (24, L); None where the times are dates.
        labels: L of them, those of most rows first.
        without_time: rows that have none; `outside` those more than five years from the middle one.
        tests: how many were made; 0 where the days are too few.
        findings: what they show, at 5 % for all of them together.
    """

    first: date
    daily: IntArray
    hourly: IntArray | None
    labels: tuple[str, ...]
    without_time: int
    outside: int
    tests: int
    findings: tuple[Finding, ...]

    @property
    def metrics(self) -> dict[str, float]:
        """How many findings there are, under their names in MLflow."""
        names = {"weekly": "weekly_patterns", "trend": "trends", "break": "breaks"}
        return {f"data/{name}": float(sum(each.kind == kind for each in self.findings)) for kind, name in names.items()}

    @property
    def table(self) -> pd.DataFrame:
        """One row for each `by` (`day`, `week`, `hour` of the day), `period` and `label` that has `rows`.

        A week is named for its Monday.
        """
        monday, weekly = self._weeks
        parts = [("day", [str(self._day(place)) for place in range(len(self.daily))], self.daily)]
        parts.append(("week", [str(monday + timedelta(weeks=place)) for place in range(len(weekly))], weekly))
        if self.hourly is not None:
            parts.append(("hour", [f"{hour:02}" for hour in range(24)], self.hourly))
        frames = []
        for by, periods, counts in parts:
            place, label = np.nonzero(counts)
            frames.append(
                pd.DataFrame(
                    {
                        "by": by,
                        "period": np.array(periods, dtype=object)[place],
                        "label": np.array(self.labels, dtype=object)[label],
                        "rows": counts[place, label],
                    }
                )
            )
        return pd.concat(frames, ignore_index=True)

    def to_json(self) -> dict[str, Any]:
        """For metrics.json, page and figure; by week for six labels: those that change, then those of most rows."""
        monday, weekly = self._weeks
        changing = [each.label for each in self.findings if each.label is not None and each.kind != "weekly"]
        shown = list(dict.fromkeys([*changing, *self.labels]))[:_MOST_DRAWN]
        by_label = {label: weekly[:, self.labels.index(label)].tolist() for label in shown}
        weekday = (np.arange(len(self.daily)) + self.first.weekday()) % 7
        totals = self.daily.sum(axis=1)
        return {
            "rows": int(totals.sum()),
            "rows_without_time": self.without_time,
            "rows_outside": self.outside,
            "first_day": str(self.first),
            "last_day": str(self._day(len(self.daily) - 1)),
            "by_day": totals.tolist(),
            "first_week": str(monday),
            "by_week": weekly.sum(axis=1).tolist(),
            "by_week_of_label": by_label,
            "by_weekday": np.bincount(weekday, weights=totals, minlength=7).astype(int).tolist(),
            "by_hour": None if self.hourly is None else self.hourly.sum(axis=1).tolist(),
            "tests": self.tests,
            "findings": [asdict(each) for each in self.findings],
        }

    def _day(self, place: int) -> date:
        return self.first + timedelta(days=place)

    @property
    def _weeks(self) -> tuple[date, IntArray]:
        """The first Monday, and rows by week and label."""
        before = self.first.weekday()
        week = (np.arange(len(self.daily)) + before) // 7
        counts = np.zeros((int(week[-1]) + 1, len(self.labels)), dtype=self.daily.dtype)
        np.add.at(counts, week, self.daily)
        return self.first - timedelta(days=before), counts


def volumes(times: pd.Series | None, labels: np.ndarray) -> Volumes | None:
    """Count rows over time and look for patterns; None where no row has a time.

    Args:
        times: (n,), missing where a row has none; None where the data has no such column.
        labels: (n,) of text.
    """
    if times is None or times.isna().all():
        return None
    moments = pd.to_datetime(times, utc=True).dt.tz_convert(None).to_numpy()
    known = ~np.isnat(moments)
    days = moments[known].astype("datetime64[D]")
    middle = np.sort(days)[len(days) // 2]
    near = np.abs((days - middle) // _DAY) <= _MOST_DAYS // 2
    moments, days, of_row = moments[known][near], days[near], np.asarray(labels, dtype=str)[known][near]
    names, codes, counts = np.unique(of_row, return_inverse=True, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    codes = np.argsort(order)[codes]
    kinds, first = len(names), days.min()
    place = ((days - first) // _DAY).astype(np.intp)
    n_days = int(place.max()) + 1
    daily = np.bincount(place * kinds + codes, minlength=n_days * kinds).reshape(n_days, kinds)
    hourly = None
    if (moments != days).any():
        hour = ((moments - days) // np.timedelta64(1, "h")).astype(np.intp)
        hourly = np.bincount(hour * kinds + codes, minlength=24 * kinds).reshape(24, kinds)
    in_order, start = tuple(str(names[each]) for each in order), first.astype(object)
    tests, findings = _findings(start, daily, in_order, whole_ends=hourly is None)
    outside = int((~near).sum())
    return Volumes(start, daily, hourly, in_order, int((~known).sum()), outside, tests, findings)


@dataclass(frozen=True)
class _Series:
    """Values of like spread on `days` (positions), and what levels are told by: `hits` of `rows` a day."""

    label: str | None
    values: FloatArray
    days: IntArray
    hits: IntArray
    rows: IntArray

    def level(self, start: int, end: int) -> float:
        return float(self.hits[start:end].sum() / self.rows[start:end].sum())

    def line_ends(self, start: int, end: int) -> tuple[float, float]:
        """A line through hits per row of a stretch, at its first and last day."""
        rows, x = self.rows[start:end], self.days[start:end].astype(np.float64)
        slope, height = np.polyfit(x, self.hits[start:end] / rows, 1, w=np.sqrt(rows))
        most = np.inf if self.label is None else 1.0
        low, high = (float(np.clip(slope * x[end_] + height, 0.0, most)) for end_ in (0, -1))
        return low, high


def _findings(
    first: date, daily: IntArray, labels: Sequence[str], *, whole_ends: bool
) -> tuple[int, tuple[Finding, ...]]:
    """How many tests were made, and what they show.

    Args:
        whole_ends: the first and the last day are whole ones, which of times with a clock is not known.
    """
    if len(daily) < FEWEST_DAYS:
        return 0, ()
    series = _series(daily, labels, 0 if whole_ends else 1)
    chances: dict[tuple[int, str], float] = {}
    of_weekday: list[FloatArray] = []
    levelled: list[FloatArray] = []
    changes: list[Change | None] = []
    for place, each in enumerate(series):
        full = np.full(len(daily), np.nan)
        full[each.days] = each.values
        start = int(each.days[0])
        chance, weekday = weekly_chance(full[start : int(each.days[-1]) + 1], (first.weekday() + start) % 7)
        chances[place, "weekly"] = chance
        of_weekday.append(weekday)
        # A weekly pattern would pass for spread, and hide what changes.
        pattern = weekday[(each.days + first.weekday()) % 7] if chance <= LEVEL else 0.0
        levelled.append(each.values - pattern)
        chances[place, "change"], change = change_chance(levelled[-1])
        changes.append(change)
    shown = beyond_chance(chances)
    made: list[Finding] = []
    for place, each in enumerate(series):
        if (place, "weekly") in shown:
            made.append(_weekly(first, each, of_weekday[place]))
        change = changes[place]
        if (place, "change") in shown and change is not None:
            made += _changed(first, each, further_changes(levelled[place], change, LEVEL / len(chances)))
    return len(chances), tuple(made)


def _series(daily: IntArray, labels: Sequence[str], ends: int) -> list[_Series]:
    """The number of messages, and the shares of the labels of most rows; of two labels that of one tells both.

    Args:
        ends: how many days to leave out at each end of the former.
    """
    totals = daily.sum(axis=1)
    inner = np.arange(ends, len(daily) - ends)
    made = [_Series(None, rooted(totals[inner]), inner, totals[inner], np.ones_like(inner))]
    filled = np.flatnonzero(totals)
    for place in range(min(len(labels), _MOST_LABELS)) if len(labels) != 2 else (1,):
        hits = daily[:, place]
        if _FEWEST_ROWS <= hits.sum() <= totals.sum() - _FEWEST_ROWS:
            residuals = share_residuals(hits[filled], totals[filled])
            made.append(_Series(labels[place], residuals, filled, hits[filled], totals[filled]))
    return made


def _weekly(first: date, series: _Series, of_weekday: FloatArray) -> Finding:
    weekday = (series.days + first.weekday()) % 7
    least, most = int(np.argmin(of_weekday)), int(np.argmax(of_weekday))
    levels = [float(series.hits[weekday == each].sum() / series.rows[weekday == each].sum()) for each in (least, most)]
    return Finding(series.label, "weekly", f"least on {WEEKDAYS[least]}, most on {WEEKDAYS[most]}", *levels)


def _changed(first: date, series: _Series, changes: Sequence[Change]) -> list[Finding]:
    at = [0, *(each.at for each in changes if each.at is not None), len(series.days)]
    made = []
    for each in changes:
        if each.at is not None:
            place = at.index(each.at)
            before, after = series.level(at[place - 1], each.at), series.level(each.at, at[place + 1])
            when = str(first + timedelta(days=int(series.days[each.at])))
            made.append(Finding(series.label, "break", when, before, after))
        else:
            start, end = (first + timedelta(days=int(series.days[day])) for day in (each.start, each.end - 1))
            ends = series.line_ends(each.start, each.end)
            made.append(Finding(series.label, "trend", f"{start} to {end}", *ends))
    return made
