"""What is wrong with a version, in words and in tones, from what its windows show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv

from pcc_pipeline.evaluation.intervals.chances import fewer_hits_chance
from pcc_pipeline.monitoring.profile import WindowHealth

# How rarely a version that is as right as ever is called less right, of one window.
_LEVEL = 0.025


@dataclass(frozen=True)
class Observed:
    """Of a window's rows with labels: how many, and accuracy with its exact 95 % interval (Clopper and Pearson)."""

    rows: int
    accuracy: float
    low: float
    high: float

    @staticmethod
    def of(right: np.ndarray) -> Observed | None:
        """From which labelled rows are right, (n,) bool; None of no rows."""
        rows, hits = len(right), int(right.sum())
        if not rows:
            return None
        low = float(betaincinv(hits, rows - hits + 1, 0.025)) if hits else 0.0
        high = float(betaincinv(hits + 1, rows - hits, 0.975)) if hits < rows else 1.0
        return Observed(rows, hits / rows, low, high)


@dataclass(frozen=True)
class WatchedWindow:
    """One window: its name, rows, share of rows that repeat a text of it, and what it shows."""

    name: str
    rows: int
    repeated_share: float | None
    health: WindowHealth
    observed: Observed | None

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
        found = []
        if self.health.drift.alarm:
            found.append(f"messages have changed: {', '.join(self.health.drift.causes)}")
        if self.observed is not None and self.less_right:
            estimate = self.health.estimate
            found.append(
                f"accuracy is {self.observed.accuracy:.3f} on {self.observed.rows:,} labelled rows, "
                f"and was {estimate.reference:.3f} on {estimate.reference_rows:,}: less by more than chance"
            )
        return tuple(found)


def standing(watched: Sequence[WatchedWindow], rejected_share: float, most_rejected: float) -> tuple[str, ...]:
    """What is wrong now: in the last window that could be judged, and with the file; empty where nothing is."""
    judged = [one for one in watched if np.isfinite(one.health.drift.p_value)]
    found = list(judged[-1].alarms) if judged else []
    if rejected_share > most_rejected:
        found.append(f"{rejected_share:.1%} of the rows break the data contract; the limit is {most_rejected:.1%}")
    return tuple(found)
