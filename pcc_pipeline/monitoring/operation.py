"""How a model is run: how often, how fast, what fails and what is dropped, from lines of monitoring logs."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pandas as pd

from pcc_pipeline.monitoring.windows import Window, windows
from pcc_pipeline.plurals import counted

_VERSION = re.compile(r"v\d{8}_?\d{6}")
_MOST_NAMED = 5


@dataclass(frozen=True)
class LoggedRun:
    """One time that a model was run on cases; of what a line says in words, nothing.

    Attributes:
        run_id: None where the line has none.
        version: None where it ended before a model was chosen.
        seconds: None where the line does not say.
    """

    run_id: str | None
    version: str | None
    began: datetime
    failed: bool
    cases: int
    answered: int
    dropped: int
    seconds: float | None


def logged_run(line: str) -> LoggedRun:
    """A line of the log: one JSON object. Numbers may be texts, as BigQuery exports them.

    Raises:
        ValueError: why the line cannot be read; nothing of it is quoted.
    """
    try:
        entry = json.loads(line)
    except ValueError:
        raise ValueError("no JSON") from None
    if not isinstance(entry, dict):
        raise ValueError("no JSON object")
    try:
        began = datetime.fromisoformat(str(entry.get("runtime_ts")).removesuffix(" UTC"))
    except ValueError:
        raise ValueError("no time in runtime_ts") from None
    if not isinstance(entry.get("status"), str):
        raise ValueError("no status")
    seconds = entry.get("processing_duration_seconds")
    version, run_id = entry.get("model_version"), entry.get("run_id")
    return LoggedRun(
        run_id=None if run_id is None else str(run_id),
        version=None if version is None else str(version),
        began=began.replace(tzinfo=UTC) if began.tzinfo is None else began.astimezone(UTC),
        failed=entry["status"].lower() != "success",
        cases=int(_number(entry, "total_cases")),
        answered=int(_number(entry, "passed_validation")),
        dropped=int(_number(entry, "dropped_cases")),
        seconds=None if seconds is None else _number(entry, "processing_duration_seconds"),
    )


def _number(entry: Mapping[str, object], name: str) -> float:
    value = entry.get(name)
    try:
        number = float(0 if value is None else str(value))
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(f"no number in {name}")
    return number


def shown_version(name: str) -> str:
    """A version's name as it may be shown: a log may hold anything in its place."""
    return name if _VERSION.fullmatch(name) else "(no name of a version)"


@dataclass(frozen=True)
class BadLine:
    """A line that cannot be read, counted from 1, and why."""

    file: str
    line: int
    why: str


@dataclass(frozen=True)
class Operation:
    """The runs of a window of time, oldest first; at least one."""

    name: str
    runs: tuple[LoggedRun, ...]

    @property
    def last(self) -> LoggedRun:
        return self.runs[-1]

    @property
    def failed(self) -> int:
        return sum(run.failed for run in self.runs)

    @property
    def rows(self) -> int:
        """Cases that got an answer, in runs that ended well."""
        return sum(run.answered for run in self.runs if not run.failed)

    @property
    def seconds(self) -> np.ndarray:
        """Of each run that ended well and says it."""
        return np.array([run.seconds for run in self.runs if not run.failed and run.seconds is not None])

    @property
    def rows_per_second(self) -> float | None:
        timed = [run for run in self.runs if not run.failed and run.seconds]
        return sum(run.answered for run in timed) / sum(run.seconds or 0 for run in timed) if timed else None

    @property
    def dropped_share(self) -> float:
        """Of all cases, those that got none."""
        return sum(run.dropped for run in self.runs) / max(sum(run.cases for run in self.runs), 1)

    @property
    def versions(self) -> Mapping[str, int]:
        """Version -> runs, the most frequent first."""
        return dict(Counter(run.version for run in self.runs if run.version is not None).most_common())

    def metrics(self, version: str, now: datetime) -> dict[str, float]:
        """The numbers under their names in MLflow; `version` is the one that ought to run."""
        seconds, speed = self.seconds, self.rows_per_second
        return {
            "operation/runs": float(len(self.runs)),
            "operation/failed_runs": float(self.failed),
            "operation/failed_share": self.failed / len(self.runs),
            "operation/last_failed": float(self.last.failed),
            "operation/rows": float(self.rows),
            "operation/dropped_share": self.dropped_share,
            "operation/other_version_runs": float(sum(run.version not in (None, version) for run in self.runs)),
            "operation/last_other_version": float(self.last.version not in (None, version)),
            "operation/hours_since_last": (now - self.last.began).total_seconds() / 3600,
            **({} if speed is None else {"operation/rows_per_second": speed}),
            **(
                {"operation/seconds_median": float(np.median(seconds)), "operation/seconds_p95": _high(seconds)}
                if len(seconds)
                else {}
            ),
        }


def _high(seconds: np.ndarray) -> float:
    return float(np.quantile(seconds, 0.95))


@dataclass(frozen=True)
class Log:
    """All that the logs say, by window of time; `bad` lines are left out.

    Attributes:
        windows: the oldest first; none where no line can be read.
        repeated: lines that say again what another one said.
    """

    windows: tuple[Operation, ...]
    bad: tuple[BadLine, ...] = ()
    repeated: int = 0

    def metrics(self, version: str, now: datetime) -> dict[str, float]:
        """Those of the last window, and how many lines are bad."""
        last = self.windows[-1].metrics(version, now) if self.windows else {"operation/runs": 0.0}
        return {**last, "operation/bad_lines": float(len(self.bad))}

    def lines(self, version: str) -> list[str]:
        """The last window in a line or three; `version` is the one that ought to run."""
        shown = [f"           {self.bad_words}"] if self.bad else []
        if not self.windows:
            return shown
        last = self.windows[-1]
        speed = "" if last.rows_per_second is None else f", {last.rows_per_second:,.0f} rows/s"
        line = (
            f"           {last.name}: {counted(len(last.runs), 'run')}, {last.failed:,} failed{speed}, "
            f"last {last.last.began:%Y-%m-%d %H:%M} UTC"
        )
        others = [shown_version(name) for name in last.versions if name != version]
        other = [f"           runs of other versions: {', '.join(others[:5])}"] if others else []
        return [line, *other, *shown]

    @property
    def bad_words(self) -> str:
        """Which lines cannot be read, the first of them by file and number."""
        named = [f"line {one.line:,} of {one.file} ({one.why})" for one in self.bad[:_MOST_NAMED]]
        more = [f"{len(self.bad) - _MOST_NAMED:,} more"] if len(self.bad) > _MOST_NAMED else []
        return f"{counted(len(self.bad), 'line')} of the logs cannot be read: {', '.join([*named, *more])}"

    @property
    def alarms(self) -> tuple[str, ...]:
        """What is wrong now; empty where nothing is."""
        if not self.windows:
            return ("the monitoring logs tell of no run",)
        if not self.windows[-1].last.failed:
            return ()
        return (f"the last run, of {self.windows[-1].last.began:%Y-%m-%d %H:%M} UTC, failed",)


def log_of(runs: Sequence[LoggedRun], bad: Sequence[BadLine], by: str | int) -> Log:
    """The runs by day or week, or all together; the same run at the same time counts once.

    Args:
        by: see `windows`; windows of so many rows are none of a log.
    """
    different = {(run.run_id, run.began, run.version): run for run in runs}
    ordered = sorted(different.values(), key=lambda run: run.began)
    if not ordered:
        return Log((), tuple(bad))
    times = pd.Series([run.began for run in ordered])
    parts: list[Window] = windows("all" if isinstance(by, int) else by, times, len(ordered))
    made = tuple(
        Operation("all runs" if part.name == "all rows" else part.name, tuple(ordered[place] for place in part.rows))
        for part in parts
    )
    return Log(made, tuple(bad), len(runs) - len(ordered))
