"""What is said of watched rows: each window beside what the version learned, and the file as a whole."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

import numpy as np
import pandas as pd

from pcc_pipeline.config import Params
from pcc_pipeline.evaluation.report import Report, report
from pcc_pipeline.monitoring.change.drift import FEWEST_ROWS
from pcc_pipeline.monitoring.health import FileQuality, Observed, WatchedWindow
from pcc_pipeline.monitoring.profile import ReferenceProfile
from pcc_pipeline.monitoring.usual import Figure, Usual, repeating
from pcc_pipeline.monitoring.windows import Window, ahead_of, week_of
from pcc_pipeline.plurals import counted
from pcc_pipeline.steps.records.reference_profile import by_time
from pcc_pipeline.steps.watching.watched_rows import WatchedRows


def watched_window(
    part: Window, rows: WatchedRows, profile: ReferenceProfile, params: Params, now: datetime
) -> WatchedWindow:
    """One window; each text counts once where it is asked whether messages have changed."""
    rate, not_learned = params.monitoring.false_alarm_rate, part.rows[~rows.learned[part.rows]]
    different, repeated = not_learned if len(not_learned) else part.rows, None
    if rows.texts is not None:
        different = different[np.unique(rows.texts[different], return_index=True)[1]]
        repeated = 1 - len(np.unique(rows.texts[part.rows])) / len(part.rows)
    health = profile.watch(rows.signals.take(np.sort(different)), rate)
    if not len(not_learned):
        health = health.without_verdict()
    labelled = not_learned[rows.labels[not_learned] != None]  # noqa: E711 # of each element
    names = np.array(profile.classes, dtype=object)[rows.signals.predicted[labelled]]
    unknown = Counter(str(label) for label in rows.labels[labelled] if label not in profile.classes)
    return WatchedWindow(
        name=part.name,
        rows=len(part.rows),
        repeated_share=repeated,
        health=health,
        observed=Observed.of(names == rows.labels[labelled], unknown),
        median_length=None if rows.signals.length is None else float(np.median(rows.signals.length[part.rows])),
        quality=_quality(part, rows, profile, rate),
        volume=_volume(part, rows, profile, params, now),
    )


def file_quality(rows: WatchedRows, profile: ReferenceProfile, params: Params, now: datetime) -> FileQuality:
    """Rejected rows, the age of the newest row that does not lie in the future, and columns that are not there."""
    limit, usual = params.data.max_rejected_fraction, profile.usual
    rejected = Figure("rejected_share", float(rows.rejected.mean()), None, None, False)
    newest = None if rows.times is None else rows.times[~ahead_of(rows.times, now)].max()
    age = None
    if newest is not None and not pd.isna(newest):
        age = Figure("days_old", (now - newest).total_seconds() / 86400, None, None, False)
    if usual is None or rows.missing is None:
        return FileQuality(rejected, limit, age)
    rejected = usual.shares["rejected_rows"].judge("rejected_share", rows.rejected, params.monitoring.false_alarm_rate)
    known = [name for name in usual.shares if name.startswith("missing/")]
    absent = tuple(name.removeprefix("missing/") for name in known if name not in rows.missing)
    return FileQuality(rejected, limit, age if age is None else usual.judge_age(age), absent)


def observed_report(rows: WatchedRows, profile: ReferenceProfile) -> Report | None:
    """Scores of all rows with labels that the version did not learn; None of none, or without probabilities."""
    labelled = np.flatnonzero((rows.labels != None) & ~rows.learned)  # noqa: E711 # of each element
    if not len(labelled) or rows.signals.probabilities is None:
        return None
    positive = profile.classes[1] if len(profile.classes) == 2 else None
    return report("observed", rows.labels[labelled], rows.signals.probabilities[labelled], profile.classes, positive)


def rows_ahead(rows: WatchedRows, now: datetime) -> tuple[str, ...]:
    """That rows lie in the future, and how many; nothing where none does."""
    ahead = 0 if rows.times is None else int(ahead_of(rows.times, now).sum())
    return (f"{counted(ahead, 'row')} {'lies' if ahead == 1 else 'lie'} in the future",) if ahead else ()


def judges_windows(
    rows: WatchedRows, profile: ReferenceProfile
) -> tuple[Usual, dict[str, np.ndarray], np.ndarray] | None:
    """By what windows are judged, what is missing and what repeats; None of files of predictions, which say neither."""
    if profile.usual is None or rows.missing is None or rows.texts is None:
        return None
    return profile.usual, rows.missing, rows.texts


def _quality(part: Window, rows: WatchedRows, profile: ReferenceProfile, rate: float) -> tuple[Figure, ...]:
    """Values that are missing and texts that repeat, beside what is usual; nothing where either is not known."""
    judges = judges_windows(rows, profile)
    if judges is None or len(part.rows) < FEWEST_ROWS:
        return ()
    usual, missing, texts = judges
    order = by_time(rows.times, part.rows)
    marked = {name: there[order] for name, there in missing.items()}
    return usual.judge({**marked, "repeated_rows": repeating(texts[order])}, rate)


def _volume(part: Window, rows: WatchedRows, profile: ReferenceProfile, params: Params, now: datetime) -> Figure | None:
    """The window's rows beside those that usually come on its days; a day that is not over is left out.

    None where that is not known: rows that have no times, or windows of so many rows.
    """
    usual, by = None if profile.usual is None else profile.usual.days, params.monitoring.windows
    days = rows.days
    if usual is None or rows.missing is None or days is None or isinstance(by, int):
        return None
    own = days[part.rows]
    own = own[own < np.datetime64(now.date())]  # NaT is not
    if not len(own):
        return None
    first, last = own.min(), own.max()
    if by == "week":  # days without rows count, as far as the file goes
        whole, monday = days[days < np.datetime64(now.date())], week_of(own[:1])[0]
        first, last = max(monday, whole.min()), min(monday + 6, whole.max())
    return usual.judge(len(own), first.item(), last.item(), params.monitoring.false_alarm_rate)
