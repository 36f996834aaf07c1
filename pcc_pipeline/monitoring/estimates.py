"""How right a model is likely to be on rows without labels: estimates, and nothing that promotes a model.

ATC: the share of rows whose confidence is above a threshold, set so that on the reference rows this share is the
accuracy (Garg, Balakrishnan, Lipton, Neyshabur and Sedghi, ICLR 2022). DoC: the reference's accuracy less what the mean
confidence has lost (Guillory, Shankar, Ebrahimi, Darrell and Schmidt, ICCV 2021). The estimate is ATC's, and its
interval holds both.

Both know of a row what the model makes of it. Messages of a label that nobody taught it are wrong however sure it is of
them, so while novelty is up, and whenever the messages have changed, an estimate is an upper bound.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri


@dataclass(frozen=True)
class Estimators:
    """What is kept of the reference rows, whose labels are known.

    Attributes:
        accuracy: of the model on them; `rows` is how many they are.
        confidence, spread: mean of the confidence, and standard deviation of how far it is from being right (0 or 1).
        threshold: of ATC.
    """

    accuracy: float
    rows: int
    confidence: float
    spread: float
    threshold: float

    @staticmethod
    def of(confidence: np.ndarray, right: np.ndarray) -> Estimators:
        """From reference rows: the confidence (n,), and which are right, (n,) bool."""
        accuracy = float(right.mean())
        ordered = np.sort(confidence)[::-1]
        above = round(accuracy * len(ordered))
        # Between the last row that counts as right and the first that does not, so that rounding moves neither.
        below = ordered[above] if above < len(ordered) else -np.inf
        threshold = float((ordered[above - 1] + below) / 2) if 0 < above < len(ordered) else (0.0, np.inf)[above == 0]
        spread = float(np.std(right - confidence))
        return Estimators(accuracy, len(ordered), float(confidence.mean()), spread, float(threshold))


@dataclass(frozen=True)
class Estimate:
    """Accuracy of a window as it is likely to be.

    Attributes:
        reference: what it is if nothing has changed, as measured on `reference_rows`.
        value: by ATC; `doc` by DoC.
        low, high: around both, as far as the drawing of rows moves them.
        upper_bound: whether it may be too high, since messages are new or have changed: then `high` alone is said.
    """

    reference: float
    reference_rows: int
    value: float
    doc: float
    low: float
    high: float
    upper_bound: bool

    @property
    def text(self) -> str:
        """Such as `0.920`, or `at most 0.991`."""
        return f"at most {self.high:.3f}" if self.upper_bound else f"{self.value:.3f}"

    @property
    def words(self) -> str:
        """The same with its interval, which an upper bound has none of."""
        return self.text if self.upper_bound else f"{self.text} ({self.low:.3f} to {self.high:.3f})"


def estimate(estimators: Estimators, confidence: np.ndarray, *, upper_bound: bool, level: float = 0.95) -> Estimate:
    """Of a window's confidences (n,).

    The interval holds what drawing rows does: the reference's accuracy, and how the window's rows fall.
    """
    value = float((confidence > estimators.threshold).mean())
    doc = float(np.clip(estimators.accuracy + confidence.mean() - estimators.confidence, 0, 1))
    rows = len(confidence)
    # How many rows are right, given their confidences, and what the reference says of the confidences' truth.
    own = value * (1 - value) / rows
    of_reference = estimators.spread**2 / estimators.rows
    half = float(ndtri((1 + level) / 2)) * float(np.sqrt(own + of_reference))
    low, high = max(min(value, doc) - half, 0.0), min(max(value, doc) + half, 1.0)
    return Estimate(estimators.accuracy, estimators.rows, value, doc, low, high, upper_bound)
