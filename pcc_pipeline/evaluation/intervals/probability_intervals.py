"""How far the areas and the log loss could be from their values by the luck of the test rows.

Their spread is that of the grouped jackknife (Shao and Wu, Annals of Statistics 1989): the rows are dealt into groups,
each is left out once, and the scores of what is left say how far one group moves them. It takes a score as it is, with
ties, absent classes and means over classes, where a formula for each would need its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as students_t

from pcc_pipeline.evaluation.intervals.label_intervals import Interval, beta_quantile
from pcc_pipeline.evaluation.metrics import probability_scores
from pcc_pipeline.evaluation.ranking import FloatArray, IntArray

_GROUPS = 20
METHODS: dict[str, str] = {
    "roc_auc": "grouped jackknife, beta distribution, with one row more at the low end that ranks as badly as can be",
    "pr_auc": "as roc_auc",
    "log_loss": "grouped jackknife, log-normal",
}


def probability_intervals(
    y: IntArray, probabilities: NDArray[Any], positive: int, seed: int = 0, confidence: float = 0.95
) -> dict[str, Interval]:
    """The intervals (low, high) of `roc_auc`, `pr_auc` and `log_loss`; without those that the rows do not measure.

    As few errors leave no trace of the spread, the low end of an area is taken as if one row more had been seen, of the
    rarest class and ranked last in it: where all rows are ranked right, that row alone says how sure this is.

    Args:
        y: class indices, (n,).
        probabilities: (n, K).
        positive: as `metrics.probability_scores` takes it.
    """
    scores = probability_scores(y, probabilities, positive)
    groups = min(_GROUPS, len(y))
    if groups < 2:
        return {}
    # Dealt class by class, so that a group takes as little as possible from each.
    order = np.random.default_rng(seed).permutation(len(y))
    group = np.empty(len(y), dtype=np.intp)
    group[order[np.argsort(y[order], kind="stable")]] = np.arange(len(y)) % groups
    without = [probability_scores(y[group != left], probabilities[group != left], positive) for left in range(groups)]
    worse = _with_a_bad_row(y, probabilities, positive)
    tail, made = (1 - confidence) / 2, {}
    quantile = float(students_t.ppf(1 - tail, groups - 1))
    wider = (quantile / 1.96) ** 2
    for name in METHODS:
        value, left_out = scores[name], np.array([each[name] for each in without])
        left_out = left_out[np.isfinite(left_out)]
        if not np.isfinite(value) or len(left_out) < 2:
            continue
        variance = float((len(left_out) - 1) * left_out.var()) * wider
        if name == "log_loss":
            ratio = float(np.exp(1.96 * np.sqrt(variance) / value)) if value else 1.0
            made[name] = (value / ratio, value * ratio)
            continue
        lost = value - worse[name]
        low = beta_quantile(worse[name], variance + lost**2, tail)
        made[name] = (min(low, value), max(beta_quantile(value, variance, 1 - tail), value))
    return made


def _with_a_bad_row(y: IntArray, probabilities: NDArray[Any], positive: int) -> dict[str, float]:
    """The scores with one row more that its own class ranks last."""
    present, counts = np.unique(y, return_counts=True)
    rarest = present[counts.argmin()]
    bad: FloatArray = np.full((1, probabilities.shape[1]), 1.0 / max(probabilities.shape[1] - 1, 1))
    bad[0, rarest] = 0.0
    return probability_scores(np.append(y, rarest), np.concatenate([probabilities, bad]), positive)
