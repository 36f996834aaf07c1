"""What is wrong with a version, in words and in tones, from what its windows show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.special import betaincinv

from pcc_pipeline.data.columns import shown_labels
from pcc_pipeline.evaluation.intervals.chances import fewer_hits_chance
from pcc_pipeline.monitoring.change.drift import FEWEST_ROWS, PLAIN
from pcc_pipeline.monitoring.profile import WindowHealth
from pcc_pipeline.monitoring.usual import Figure
from pcc_pipeline.plurals import counted

CALM = "nothing is wrong"
NOT_JUDGED = f"whether messages have changed cannot be said: fewer than {FEWEST_ROWS} different ones are new to it"
# How rarely a version that is as right as ever is called less right, of one window.
_LEVEL = 0.025


@dataclass(frozen=True)
class Observed:
    """Of a window's rows with labels: how many, and accuracy with its exact 95 % interval (Clopper and Pearson).

    Attributes:
        unknown: rows by label that the model does not know, all of which are wrong.
    """

    rows: int
    accuracy: float
    low: float
    high: float
    unknown: Mapping[str, int] = field(default_factory=dict)

    @staticmethod
    def of(right: np.ndarray, unknown: Mapping[str, int] | None = None) -> Observed | None:
        """From which labelled rows are right, (n,) bool; None of no rows."""
        rows, hits = len(right), int(right.sum())
        if not rows:
            return None
        low = float(betaincinv(hits, rows - hits + 1, 0.025)) if hits else 0.0
        high = float(betaincinv(hits + 1, rows - hits, 0.975)) if hits < rows else 1.0
        return Observed(rows, hits / rows, low, high, unknown or {})

    @staticmethod
    def together(watched: Sequence[WatchedWindow]) -> Observed | None:
        """Of all windows as one; None where none has labels."""
        seen = [one.observed for one in watched if one.observed is not None]
        hits = sum(round(each.accuracy * each.rows) for each in seen)
        unknown: Counter[str] = Counter()
        for each in seen:
            unknown.update(each.unknown)
        return Observed.of(np.arange(sum(each.rows for each in seen)) < hits, unknown)

    @property
    def words(self) -> str:
        """Such as `0.848 on 1,000 rows`."""
        return f"{self.accuracy:.3f} on {counted(self.rows, 'row')}"

    @property
    def unknown_rows(self) -> str:
        """How many rows have labels that the model does not know, without these labels; empty where none has."""
        rows = sum(self.unknown.values())
        have = "has a label" if rows == 1 else "have labels"
        return f"{counted(rows, 'row')} {have} that the model does not know" if rows else ""

    @property
    def unknown_words(self) -> str:
        """The same with the labels, the most frequent first."""
        ordered = sorted(self.unknown, key=lambda label: (-self.unknown[label], label))
        return f"{self.unknown_rows}: {shown_labels(ordered)}" if self.unknown else ""


@dataclass(frozen=True)
class WatchedWindow:
    """One window.

    Attributes:
        repeated_share: of rows that repeat a text of it; None where there are no texts.
        median_length: characters of its texts.
        quality: figures beside what is usual; none where that is not known, or where the file holds answers alone.
        volume: its number of rows, where rows have times. An alert of it is a rule of its own: what a version learned
            from may be a part of what came.
    """

    name: str
    rows: int
    repeated_share: float | None
    health: WindowHealth
    observed: Observed | None
    median_length: float | None = None
    quality: tuple[Figure, ...] = ()
    volume: Figure | None = None

    @property
    def judged(self) -> bool:
        """Whether it could be said of its messages that they have changed or have not: too few rows say nothing."""
        return bool(np.isfinite(self.health.drift.p_value))

    @property
    def less_right(self) -> bool:
        """Whether its labels show beyond chance that the model is less right than on its reference rows.

        By Fisher's exact test, since the reference is a sample as well: of 600 rows without an error, a model that errs
        in one of 300 is nothing rare.
        """
        if self.observed is None:
            return False
        estimate, rows = self.health.estimate, self.observed.rows
        hits = round(self.observed.accuracy * rows)
        reference_hits = round(estimate.reference * estimate.reference_rows)
        both = hits + reference_hits, rows + estimate.reference_rows
        return fewer_hits_chance(hits, rows, *both) <= _LEVEL

    @property
    def alarms(self) -> tuple[str, ...]:
        """What is wrong in it; empty where nothing is."""
        return tuple(line for lines in self.alarms_by_metric.values() for line in lines)

    @property
    def alarms_by_metric(self) -> dict[str, tuple[str, ...]]:
        """The metric that says so -> what is wrong."""
        alarms: dict[str, tuple[str, ...]] = {}
        if self.health.drift.alarm:
            alarms["drift/alarm"] = (
                f"messages have changed: {', '.join(PLAIN[name] for name in self.health.drift.causes)}",
            )
        if self.observed is not None and self.less_right:
            estimate = self.health.estimate
            cause = f"; {self.observed.unknown_rows}" if self.observed.unknown else ""  # an alert holds no label
            alarms["observed/alarm"] = (
                f"accuracy is {self.observed.accuracy:.3f} on {self.observed.rows:,} labelled rows, "
                f"and was {estimate.reference:.3f} on {estimate.reference_rows:,}: less by more than chance{cause}",
            )
        if unusual := tuple(quality_words(figure) for figure in self.quality if figure.unusual):
            alarms["quality/alarm"] = unusual
        return alarms


@dataclass(frozen=True)
class FileQuality:
    """What is known of the file as a whole.

    Attributes:
        rejected: the share of rows that break the contract.
        most_rejected: the share at which training would stop.
        age: days since the newest row; None where rows have no times.
        absent: columns that the file lacks wholly and the one that the version learned from had.
    """

    rejected: Figure
    most_rejected: float
    age: Figure | None = None
    absent: tuple[str, ...] = ()

    @property
    def alarms(self) -> tuple[str, ...]:
        """What is wrong with it; empty where nothing is."""
        alarms = [
            quality_words(figure) for figure in (self.rejected, self.age) if figure is not None and figure.unusual
        ]
        if not self.rejected.unusual and self.rejected.value > self.most_rejected:
            alarms = [*alarms, f"{_REJECTED.format(self.rejected.value)}; the limit is {self.most_rejected:.1%}"]
        return tuple(alarms)


_REJECTED = "{:.1%} of the rows break the data contract"


def quality_words(figure: Figure) -> str:
    """A figure and what is usual, as a sentence."""
    usual = "" if figure.usual is None else f"; usual is {figure.usual:.1%}"
    if figure.name == "days_old":
        return f"the newest row is {figure.value:.1f} days old; usual is {figure.usual:.1f} at most"
    if figure.name == "window_rows":
        return f"{figure.value:,.0f} rows; usual is {figure.usual:,.0f}"
    if figure.name == "rejected_share":
        return _REJECTED.format(figure.value) + usual
    if figure.name == "repeated_rows":
        return f"{figure.value:.1%} of the rows repeat one just before{usual}"
    return f"{figure.value:.1%} of the rows have no {figure.name.removeprefix('missing/')}{usual}"


def calm(watched: Sequence[WatchedWindow]) -> str:
    """What to say where nothing is wrong now."""
    judged = [one for one in watched if one.judged]
    if not judged:
        return NOT_JUDGED
    wrong = sum(bool(one.alarms) for one in judged[:-1])
    before = f"{wrong:,} of the {len(judged) - 1:,} before had alarms"
    return f"nothing is wrong in the last window; {before}" if wrong else CALM


def standing(watched: Sequence[WatchedWindow], file: FileQuality) -> tuple[str, ...]:
    """What is wrong now, and with the file; empty where nothing is.

    Of each kind the last window that could be judged by it says so, as the rules of alerts have it: a window of few
    rows, or whose labels have not come yet, ends nothing.
    """
    return (*(line for one, name in _last_judged(watched) for line in one.alarms_by_metric.get(name, ())), *file.alarms)


def kinds_of_standing(watched: Sequence[WatchedWindow], file: FileQuality) -> tuple[str, ...]:
    """Whether that is of messages (`drift`), of labels that came back (`observed`) or of the file (`quality`)."""
    wrong = {name.partition("/")[0] for one, name in _last_judged(watched) if name in one.alarms_by_metric}
    if file.alarms:
        wrong.add("quality")
    return tuple(kind for kind in ("drift", "observed", "quality") if kind in wrong)


def _last_judged(watched: Sequence[WatchedWindow]) -> list[tuple[WatchedWindow, str]]:
    """The last window that could be judged by it, and the metric, of each metric of an alarm."""
    by_metric = {
        "drift/alarm": [one for one in watched if one.judged],
        "observed/alarm": [one for one in watched if one.observed is not None],
        "quality/alarm": [one for one in watched if one.quality],
    }
    return [(windows[-1], name) for name, windows in by_metric.items() if windows]
