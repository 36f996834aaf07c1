"""Whether a model gets worse over time: the same training again and again on the past, measured on what came next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from pcc_pipeline.evaluation.intervals.chances import LEVEL, as_uneven_chance, beyond_chance, fewer_hits_chance
from pcc_pipeline.evaluation.intervals.label_intervals import Interval
from pcc_pipeline.evaluation.report import report

_DAY = "%Y-%m-%d"


@dataclass(frozen=True)
class WindowScores:
    """What one window of time measured.

    Attributes:
        starts, ends: times of its first and last row, in UTC.
        trained_rows: all rows before it.
        rows: in it; `repeated_rows` are left out of them, since their text or group had come before.
        new_label_rows: of the rows, those of a label that no row before had; they are errors.
        f1_macro, accuracy: of a model that was trained on all that came before the window.
        f1_macro_trained_once, accuracy_trained_once: of the one that was trained before the first window.
        retraining_gained, retraining_lost: rows that only the former has right, and only the latter.
        worse: the accuracy is lower than that of the other windows by more than chance allows.
    """

    window: int
    starts: datetime
    ends: datetime
    trained_rows: int
    rows: int
    repeated_rows: int
    new_label_rows: int
    f1_macro: float
    f1_macro_interval: Interval
    accuracy: float
    accuracy_interval: Interval
    f1_macro_trained_once: float
    accuracy_trained_once: float
    retraining_gained: int
    retraining_lost: int
    worse: bool = False


@dataclass(frozen=True)
class Backtest:
    """All windows, in the order of time.

    Attributes:
        warnings: of the fits, each once.
    """

    windows: tuple[WindowScores, ...]
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(cls, windows: Sequence[WindowScores], warnings: Sequence[str] = ()) -> Backtest:
        """With the windows marked that are worse: Fisher's exact test against the others, one-sided, after Holm."""
        hits = [round(each.accuracy * each.rows) for each in windows]
        all_rows = sum(each.rows for each in windows)
        chances = {
            place: fewer_hits_chance(hits[place], each.rows, sum(hits), all_rows)
            for place, each in enumerate(windows)
            if len(windows) > 1
        }
        worse = beyond_chance(chances)
        marked = [replace(each, worse=place in worse) for place, each in enumerate(windows)]
        return cls(tuple(marked), tuple(dict.fromkeys(warnings)))

    @property
    def metrics(self) -> dict[str, float]:
        """Of all windows, under their names in MLflow."""
        scores = [each.f1_macro for each in self.windows]
        return {"backtest/f1_macro_mean": float(np.mean(scores)), "backtest/f1_macro_worst": min(scores)}

    def metrics_of(self, window: WindowScores) -> dict[str, float]:
        """Of one window, under names that are the same for each: MLflow tells them apart by their step."""
        names = ("f1_macro", "accuracy", "f1_macro_trained_once", "accuracy_trained_once", "rows", "trained_rows")
        return {f"backtest/{name}": float(getattr(window, name)) for name in names}

    @property
    def table(self) -> pd.DataFrame:
        """One row a window; an interval is two columns, `_low` and `_high`."""
        rows = []
        for each in self.windows:
            row = asdict(each)
            for name in ("f1_macro", "accuracy"):
                row[f"{name}_low"], row[f"{name}_high"] = row.pop(f"{name}_interval")
            rows.append(row)
        return pd.DataFrame(rows)

    def to_json(self) -> dict[str, Any]:
        """For metrics.json: times in ISO 8601, and what retraining changed in the windows after the first."""
        gained, lost = (
            sum(getattr(each, f"retraining_{name}") for each in self.windows[1:]) for name in ("gained", "lost")
        )
        windows = [
            {
                **asdict(each),
                "starts": each.starts.isoformat(),
                "ends": each.ends.isoformat(),
                "f1_macro_interval": list(each.f1_macro_interval),
                "accuracy_interval": list(each.accuracy_interval),
            }
            for each in self.windows
        ]
        chance = as_uneven_chance(gained, lost)
        retraining = {"gained": gained, "lost": lost, "chance": chance, "differs": chance <= LEVEL}
        return {"windows": windows, "retraining": retraining}

    @property
    def line(self) -> str:
        """What the summary says of it."""
        worst = min(self.windows, key=lambda each: each.f1_macro)
        first, last = self.windows[0], self.windows[-1]
        once = (
            ""
            if len(self.windows) == 1
            else f", {last.f1_macro_trained_once:.4f} in the last without training after the first"
        )
        return (
            f"backtest of {len(self.windows)} windows from {first.starts:{_DAY}} to {last.ends:{_DAY}}: macro F1 "
            f"{first.f1_macro:.4f} in the first, {last.f1_macro:.4f} in the last, worst {worst.f1_macro:.4f} "
            f"(from {worst.starts:{_DAY}}){once}"
        )

    @property
    def doubts(self) -> tuple[str, ...]:
        """That it gets worse, where the latest window shows it; one sentence each."""
        last = self.windows[-1]
        if not last.worse:
            return self.warnings
        return (
            *self.warnings,
            f"In the latest window of the backtest, {last.starts:{_DAY}} to {last.ends:{_DAY}}, the accuracy is "
            f"{last.accuracy:.3f} on {last.rows:,} rows, lower than in those before by more than chance allows: what "
            "comes in changes, so look at the messages of that time, and train on newer ones.",
        )


def window_scores(
    window: int,
    period: tuple[datetime, datetime],
    counts: tuple[int, int],
    labels: np.ndarray,
    retrained: tuple[np.ndarray, Sequence[str]],
    trained_once: tuple[np.ndarray, Sequence[str]],
) -> WindowScores:
    """Measure one window.

    Args:
        counts: rows trained on, and rows of the window that are left out.
        labels: the true ones of its rows, (n,).
        retrained, trained_once: two models' probabilities for these rows, (n, K), and their K classes.
    """
    of_both = [report("backtest", labels, proba, classes) for proba, classes in (retrained, trained_once)]
    right = [
        np.asarray(classes, dtype=object)[proba.argmax(axis=1)] == labels
        for proba, classes in (retrained, trained_once)
    ]
    now, once = of_both
    return WindowScores(
        window=window,
        starts=period[0],
        ends=period[1],
        trained_rows=counts[0],
        rows=now.n_rows,
        repeated_rows=counts[1],
        new_label_rows=sum(now.unknown_labels.values()),
        f1_macro=now.scores["f1_macro"],
        f1_macro_interval=now.intervals["f1_macro"],
        accuracy=now.scores["accuracy"],
        accuracy_interval=now.intervals["accuracy"],
        f1_macro_trained_once=once.scores["f1_macro"],
        accuracy_trained_once=once.scores["accuracy"],
        retraining_gained=int((right[0] & ~right[1]).sum()),
        retraining_lost=int((right[1] & ~right[0]).sum()),
    )
