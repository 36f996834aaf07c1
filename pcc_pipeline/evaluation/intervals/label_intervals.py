"""How far a score could be from its value by the luck of the test rows: intervals that hold with few rows as well.

What they are about is a score of the population that the rows came from, over all labels that the model knows.
`python -m benchmarks.interval_coverage` measures how often they hold it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaincinv

from pcc_pipeline.evaluation.metrics import LabelCounts, count_labels
from pcc_pipeline.evaluation.ranking import FloatArray, IntArray

Interval = tuple[float, float]

# Of each score that has an interval, how it is made; written beside it in metrics.json.
METHODS: dict[str, str] = {
    "accuracy": "Clopper-Pearson (exact)",
    "f1": "Clopper-Pearson (exact) on hits among rows that have the label or were given it",
    "f1_macro": "beta distribution with the variance of the unbiased score and one row more (Fay and Feuer, 1997); "
    "a class without test rows may be anywhere from 0 to 1",
}
# Terms of the unbiased F1 beyond these are below the rounding of floats: each halves.
_TERMS = 60


def proportion_interval(hits: int, rows: int, confidence: float = 0.95) -> Interval:
    """The exact interval of a proportion, two-sided (Clopper and Pearson, 1934): it holds in `confidence` or more.

    Raises:
        ValueError: no rows, more hits than rows, or a confidence outside 0..1.
    """
    if not 0 <= hits <= rows or rows == 0 or not 0 < confidence < 1:
        raise ValueError(f"expected 0 <= hits <= rows, rows and 0 < confidence < 1, got {hits}, {rows}, {confidence}")
    tail = (1 - confidence) / 2
    low = float(betaincinv(hits, rows - hits + 1, tail)) if hits else 0.0
    high = float(betaincinv(hits + 1, rows - hits, 1 - tail)) if hits < rows else 1.0
    return low, high


def f1_interval(hits: int, support: int, predicted: int, confidence: float = 0.95) -> Interval:
    """The exact interval of one label's F1.

    Of the rows that have the label or were given it, the hits are a share J, and F1 is 2J / (1 + J): a proportion.
    """
    low, high = proportion_interval(hits, support + predicted - hits, confidence)
    return 2 * low / (1 + low), 2 * high / (1 + high)


def class_intervals(counts: LabelCounts, confidence: float = 0.95) -> list[dict[str, Interval]]:
    """The exact intervals of each label's `precision`, `recall` and `f1`; without those that no row measures."""
    made: list[dict[str, Interval]] = []
    columns = (counts.hits.tolist(), counts.support.tolist(), counts.predicted.tolist())
    for hits, support, predicted in zip(*columns, strict=True):
        one: dict[str, Interval] = {}
        if predicted:
            one["precision"] = proportion_interval(hits, predicted, confidence)
        if support:
            one["recall"] = proportion_interval(hits, support, confidence)
        if support or predicted:
            one["f1"] = f1_interval(hits, support, predicted, confidence)
        made.append(one)
    return made


def unbiased_f1(rows: ArrayLike, errors: ArrayLike) -> FloatArray:
    """F1 of labels without the bias that the plain quotient has where rows are few; elementwise.

    With E the share of errors among the rows that have a label or were given it, F1 is 1 - sum of (E / 2)^m over
    m >= 1. The falling factorials of errors over those of rows are unbiased for E^m up to m = rows. What is left of the
    sum is at most 2^-rows, and half of that is taken off where all rows are errors.

    Args:
        rows: that have the label or were given it, at least 1.
        errors: of these.
    """
    n, wrong = np.broadcast_arrays(np.asarray(rows, dtype=np.float64), np.asarray(errors, dtype=np.float64))
    powers = np.arange(min(_TERMS, int(wrong.max(initial=0)))).reshape(-1, *(1,) * n.ndim)
    left = np.maximum(wrong - powers, 0.0)
    terms = np.cumprod(left / np.maximum(n - powers, 1.0) / 2, axis=0)
    made: FloatArray = 1 - terms.sum(axis=0) - np.where(wrong == n, 0.5 ** (n + 1), 0.0)
    return made


def macro_f1_interval(
    y_true: IntArray, predicted: IntArray, n_labels: int, *, n_known: int | None = None, confidence: float = 0.95
) -> Interval:
    """The interval of macro F1, over labels in truth or predictions and those known labels that no row measures.

    The lost F1 is a sum of errors, each weighed by what it costs its two labels: a directly standardised rate. Its
    variance is that of the multinomial confusion matrix, by the delta method (Takahashi, Yamamoto, Kuchiba and Koyama,
    Applied Intelligence 2022), an error shared by two labels counted for both. As few errors leave no trace of the
    spread, each end is taken as if one row more had been seen, an error at the low end and a hit at the high end,
    where it weighs most (Fay and Feuer, Statistics in Medicine 1997, there with the gamma distribution). Where all
    rows weigh the same this is Clopper and Pearson's. Of a known label in no row of truth or predictions nothing is
    known: its F1 is taken as 0 at the low end and 1 at the high one. The interval is widened to hold the measured
    score, which few rows a label bias downwards.

    Args:
        y_true, predicted: label indices 0..n_labels-1, shape (rows,).
        n_known: the first so many labels are the model's; the others it cannot predict, and their F1 is 0. Default all.

    Raises:
        ValueError: no rows, or a confidence outside 0..1.
    """
    if y_true.size == 0 or not 0 < confidence < 1:
        raise ValueError(f"expected rows and 0 < confidence < 1, got {y_true.size}, {confidence}")
    wrong = y_true != predicted
    counts = count_labels(y_true, predicted, n_labels)
    hits, errors, rows = counts.hits, counts.errors, counts.rows
    seen = rows > 0
    n_seen, tail = int(seen.sum()), (1 - confidence) / 2
    hopeless = seen & (np.arange(n_labels) >= (n_labels if n_known is None else n_known))
    at_least_one = np.maximum(rows, 1)
    score = np.where(hopeless, 0.0, unbiased_f1(at_least_one, errors))
    # What each label loses by one of its errors, and by one error more; what it gains by one hit more.
    cost = np.where(errors > 0, unbiased_f1(at_least_one, np.maximum(errors - 1, 0)) - score, 0.0)
    worse = score - unbiased_f1(rows + 1, errors + 1)
    better = unbiased_f1(rows + 1, errors) - score
    cost, worse, better = (np.where(seen & ~hopeless, change, 0.0) for change in (cost, worse, better))
    # Never below hits / (rows - 1), with which the variance would be unbiased.
    right = np.minimum(1.0, (hits + 1) / at_least_one)
    shared = 2 * float(((cost * right)[y_true[wrong]] * (cost * right)[predicted[wrong]]).sum())
    variance = (float((errors * right * cost**2).sum()) + shared) / n_seen**2
    lost = 1 - float(score[seen].mean())
    error = float(np.sort(worse)[-2:].sum()) / n_seen
    hit = float(better.max()) / n_seen
    low = 1 - beta_quantile(lost + error, variance + error**2, 1 - tail)
    high = 1 - beta_quantile(lost - hit, variance + hit**2, tail)
    n_unseen = n_labels - n_seen
    measured = float(counts.f1[seen].mean())
    return min(low * n_seen / n_labels, measured), max((high * n_seen + n_unseen) / n_labels, measured)


def beta_quantile(mean: float, variance: float, share: float) -> float:
    """The quantile of the beta distribution with this mean and variance."""
    if not 0 < mean < 1:
        return min(max(mean, 0.0), 1.0)
    weight = max(mean * (1 - mean) / variance - 1, 1e-3) if variance > 0 else np.inf
    return mean if np.isinf(weight) else float(betaincinv(mean * weight, (1 - mean) * weight, share))


def label_intervals(
    y_true: IntArray, predicted: IntArray, n_labels: int, *, n_known: int | None = None, positive: int | None = None
) -> dict[str, Interval]:
    """The 95 % intervals (low, high) of `accuracy` and `f1_macro`, and of the positive label's `f1` where there is one.

    Args: as `macro_f1_interval`.
    """
    right = y_true == predicted
    made = {"accuracy": proportion_interval(int(right.sum()), int(right.size))}
    if positive is not None:
        hits, support, predictions = (
            int(mask.sum()) for mask in (right & (y_true == positive), y_true == positive, predicted == positive)
        )
        made["f1"] = f1_interval(hits, support, predictions) if support or predictions else (0.0, 1.0)
    made["f1_macro"] = macro_f1_interval(y_true, predicted, n_labels, n_known=n_known)
    return made
