"""Which rows are looked at together: all, those of a day or a week, or so many in a row."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Window:
    """Rows that are judged together: their positions, ascending, and a name such as `2026-11-02` or `rows 1-500`."""

    name: str
    rows: np.ndarray


def windows(by: str | int, times: pd.Series | None, rows: int) -> list[Window]:
    """All windows in order, none of them empty; rows without a time, by time, come last as one.

    Args:
        by: `all`, `day`, `week` (from Monday, in UTC), or how many rows at a time.
        times: of each row; needed for `day` and `week`.
        rows: of the file.
    """
    if by == "all":
        return [Window("all rows", np.arange(rows))]
    if isinstance(by, int):
        starts = range(0, rows, by)
        return [Window(f"rows {at + 1:,}-{min(at + by, rows):,}", np.arange(at, min(at + by, rows))) for at in starts]
    assert times is not None, "asked before"
    days = days_of(times)
    starts_of = days if by == "day" else week_of(days)
    missing = np.isnat(days)
    made = [
        Window(str(start) if by == "day" else f"week from {start}", np.flatnonzero(starts_of == start))
        for start in np.unique(starts_of[~missing])
    ]
    return [*made, *([Window("without a time", np.flatnonzero(missing))] if missing.any() else [])]


def days_of(times: pd.Series) -> np.ndarray:
    """The day of each time in UTC, (n,) datetime64[D]; NaT where a row has none."""
    return np.asarray(pd.to_datetime(times, utc=True).to_numpy(dtype="datetime64[s]").astype("datetime64[D]"))


def ahead_of(times: pd.Series, now: datetime) -> np.ndarray:
    """Which times lie in the future, more than a time zone ahead of `now`, (n,) bool: mistyped ones are no newest."""
    return np.asarray((times > now + timedelta(days=1)).to_numpy(dtype=bool))


def week_of(days: np.ndarray) -> np.ndarray:
    """The Monday of each day's week."""
    # 1970-01-01 was a Thursday: numpy's weeks begin there.
    return np.asarray((days - 4).astype("datetime64[W]").astype("datetime64[D]") + 4)
