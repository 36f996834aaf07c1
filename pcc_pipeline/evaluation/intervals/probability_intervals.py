"""How far the areas and the log loss could be from their values by the luck of the test rows.

The areas' spread is that of the grouped jackknife (Shao and Wu, Annals of Statistics 1989): the rows are dealt into
groups, each is left out once, and the scores of what is left say how far one group moves them. It takes a score as it
is, with ties, absent classes and means over classes, where a formula for each would need its own. The log loss is a
mean of rows, with a standard error of its own. Rare mistakes leave no trace of the spread in few rows, so each end that
speaks of worse is taken as if one mistake more had been seen; `python -m benchmarks.probability_coverage` measures how
often the intervals hold.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as students_t

from pcc_pipeline.evaluation.intervals.label_intervals import Interval, beta_quantile
from pcc_pipeline.evaluation.metrics import log_losses, probability_scores
from pcc_pipeline.evaluation.ranking import FloatArray, IntArray

_GROUPS = 20
METHODS: dict[str, str] = {
    "roc_auc": "grouped jackknife, beta distribution, with one row more at the low end that ranks as badly as can be",
    "pr_auc": "as roc_auc",
    "log_loss": "standard error of the mean, with one row more at the high end that has its runner-up's label",
}


def probability_intervals(
    y: IntArray, probabilities: NDArray[Any], positive: int, seed: int = 0, confidence: float = 0.95
) -> dict[str, Interval]:
    """The intervals (low, high) of `roc_auc`, `pr_auc` and `log_loss`; without those that the rows do not measure.

    The low end of an area is taken as if one row more had been seen, of the rarest class and ranked last in it: where
    all rows are ranked right, that row alone says how sure this is.

    Args:
        y: class indices, (n,).
        probabilities: (n, K).
        positive: as `metrics.probability_scores` takes it.
    """
    scores = probability_scores(y, probabilities, positive)
    groups = min(_GROUPS, len(y))
    if groups < 2:
        return {}
    # Not dealt class by class: how many rows of a class a test set has is luck, too, and average precision hangs on it.
    group = np.random.default_rng(seed).permutation(len(y)) % groups
    without = [probability_scores(y[group != left], probabilities[group != left], positive) for left in range(groups)]
    worse = _with_a_bad_row(y, probabilities, positive)
    tail = (1 - confidence) / 2
    made: dict[str, Interval] = {}
    quantile = float(students_t.ppf(1 - tail, groups - 1))
    wider = (quantile / 1.96) ** 2
    for name in ("roc_auc", "pr_auc"):
        value, left_out = scores[name], np.array([each[name] for each in without])
        left_out = left_out[np.isfinite(left_out)]
        if not np.isfinite(value) or len(left_out) < 2:
            continue
        variance = float((len(left_out) - 1) * left_out.var()) * wider
        lost = value - worse[name]
        low = beta_quantile(worse[name], variance + lost**2, tail)
        made[name] = (min(low, value), max(beta_quantile(value, variance, 1 - tail), value))
    return {**made, "log_loss": _log_loss(y, probabilities, tail)}


def _log_loss(y: IntArray, probabilities: NDArray[Any], tail: float) -> Interval:
    """The low end on the logarithm's scale, which skew rows suit; the high end with a row as bad as mistakes are.

    A mistake's loss is that of the label which comes second, in the row in the middle.
    """
    rows, second = len(y), min(2, probabilities.shape[1])
    losses = log_losses(probabilities[np.arange(rows), y])
    mean, variance = float(losses.mean()), float(losses.var(ddof=1)) / rows
    quantile = float(students_t.ppf(1 - tail, rows - 1))
    mistake = float(np.median(log_losses(np.partition(probabilities, -second, axis=1)[:, -second])))
    worse = (losses.sum() + max(mistake, mean)) / (rows + 1)
    low = mean * math.exp(-quantile * math.sqrt(variance) / mean) if mean else 0.0
    return low, float(worse + quantile * math.sqrt(variance + (worse - mean) ** 2))


def _with_a_bad_row(y: IntArray, probabilities: NDArray[Any], positive: int) -> dict[str, float]:
    """The scores with one row more that its own class ranks last."""
    present, counts = np.unique(y, return_counts=True)
    rarest = present[counts.argmin()]
    bad: FloatArray = np.full((1, probabilities.shape[1]), 1.0 / max(probabilities.shape[1] - 1, 1))
    bad[0, rarest] = 0.0
    return probability_scores(np.append(y, rarest), np.concatenate([probabilities, bad]), positive)
