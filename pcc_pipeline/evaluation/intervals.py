"""How far a score could be from its value by the luck of the rows: bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcc_pipeline.evaluation.metrics import check
from pcc_pipeline.evaluation.ranking import IntArray

INTERVAL_METRICS: tuple[str, ...] = ("accuracy", "f1", "f1_macro", "f1_weighted")

# Resamples drawn at a time times cells: 4 million counts, 32 MB, however many rows and classes there are.
_COUNTS_AT_A_TIME = 4_000_000


def bootstrap_interval(
    y_true: ArrayLike,
    probabilities: ArrayLike,
    metric: str,
    *,
    n: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    positive: int = 1,
) -> tuple[float, float]:
    """The percentile bootstrap interval (low, high) of one of `INTERVAL_METRICS`.

    Args:
        y_true: class indices, shape (rows,).
        probabilities: shape (rows, K).
        n: resamples.
        positive: the class of `f1` when K is 2.
    """
    y, given = check(y_true, probabilities)
    n_classes = given.shape[1]
    return label_intervals(
        y,
        given.argmax(axis=1),
        n_classes,
        (metric,),
        n=n,
        confidence=confidence,
        seed=seed,
        positive=positive if n_classes == 2 else None,
    )[metric]


def label_intervals(
    y_true: IntArray,
    predicted: IntArray,
    n_labels: int,
    metrics: Sequence[str] = INTERVAL_METRICS,
    *,
    n: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    positive: int | None = None,
) -> dict[str, tuple[float, float]]:
    """Percentile bootstrap intervals (low, high) of several scores, from the same resamples.

    Rows drawn with replacement matter only by the cell of the confusion matrix that they fall in, and the cells'
    counts are then multinomial: drawing those counts is the row bootstrap of Efron (1979) exactly, without drawing
    rows. It speaks of the luck of these rows, not of another training run. With few rows per class macro F1's
    interval is off centre, since a resample often loses the rows of a rare class; it need not hold the score itself.

    Args:
        y_true, predicted: label indices, shape (rows,).
        positive: the label of `f1`; None makes it the macro F1.

    Raises:
        ValueError: an unknown metric, no rows, or a confidence outside 0..1.
    """
    if unknown := sorted(set(metrics) - set(INTERVAL_METRICS)):
        raise ValueError(f"expected metrics out of {INTERVAL_METRICS}, got {unknown}")
    if y_true.size == 0 or not 0 < confidence < 1 or n < 1:
        raise ValueError(f"expected rows, resamples and 0 < confidence < 1, got {y_true.size}, {n}, {confidence}")
    cells, counts = np.unique(y_true * n_labels + predicted, return_counts=True)
    truth, given = np.divmod(cells, n_labels)
    draws = np.random.default_rng(seed)
    samples: dict[str, list[NDArray[np.float64]]] = {metric: [] for metric in metrics}
    step = max(1, _COUNTS_AT_A_TIME // cells.size)
    for start in range(0, n, step):
        drawn = draws.multinomial(y_true.size, counts / y_true.size, size=min(step, n - start)).astype(np.float64)
        for metric, values in _resampled(drawn, truth, given, n_labels, positive).items():
            if metric in samples:
                samples[metric].append(values)
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    bounds = {metric: np.quantile(np.concatenate(values), tails) for metric, values in samples.items()}
    return {metric: (float(low), float(high)) for metric, (low, high) in bounds.items()}


def _resampled(
    drawn: NDArray[np.float64], truth: IntArray, given: IntArray, n_labels: int, positive: int | None
) -> dict[str, NDArray[np.float64]]:
    """Each score of each resample, as `metrics.label_scores` defines it: (resamples,), of counts (resamples, cells)."""
    every = np.eye(n_labels)
    support, predicted = drawn @ every[truth], drawn @ every[given]
    hits = drawn @ (every[truth] * (truth == given)[:, None])
    both = support + predicted
    f1 = np.divide(2 * hits, both, out=np.zeros_like(both), where=both > 0)
    rows = support.sum(axis=1)
    macro = f1.sum(axis=1) / (both > 0).sum(axis=1)
    return {
        "accuracy": hits.sum(axis=1) / rows,
        "f1": macro if positive is None else f1[:, positive],
        "f1_macro": macro,
        "f1_weighted": (f1 * support).sum(axis=1) / rows,
    }
