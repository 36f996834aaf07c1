"""By how much a model could be worse than another on the same rows, the luck of the rows allowed for."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcc_pipeline.evaluation.metrics import LabelCounts, count_labels, label_scores

COMPARED: tuple[str, ...] = ("f1_macro", "accuracy", "f1_weighted")
# The bound is a quantile: this many resamples at least must lie beyond it, and never fewer than 2000 be drawn.
_BEYOND, _FEWEST = 40, 2000
# Resamples drawn at a time times outcomes: 4 million counts, 32 MB.
_COUNTS_AT_A_TIME = 4_000_000


@dataclass(frozen=True)
class Difference:
    """Challenger minus champion in one score, and what it is at least, with the confidence asked for.

    Args:
        low: lower confidence bound of the difference, one-sided.
        differing_rows: rows that the two models label differently.
    """

    challenger: float
    champion: float
    low: float
    rows: int
    differing_rows: int

    @property
    def value(self) -> float:
        return self.challenger - self.champion


def paired_difference(
    labels: ArrayLike,
    challenger: ArrayLike,
    champion: ArrayLike,
    metric: str,
    *,
    confidence: float = 0.95,
    seed: int = 0,
) -> Difference:
    """Compare two models' predicted labels by the paired percentile bootstrap.

    A resample draws rows together with both models' answers, so that what is hard in a row is hard for both and cancels
    out. A row matters only by its outcome (truth, challenger, champion), and the outcomes' counts are then multinomial:
    drawing those counts is the row bootstrap of Efron (1979) exactly, without drawing rows. For such comparisons of
    classifiers: Berg-Kirkpatrick, Burkett and Klein, "An Empirical Investigation of Statistical Significance in NLP",
    EMNLP 2012. It speaks of the luck of the test rows, not of another training run.

    Args:
        labels: true labels, shape (rows,).
        challenger, champion: predicted labels, shape (rows,).
        metric: one of `COMPARED`, defined as in `metrics.label_scores`.
        confidence: one-sided, 0..1: in this share of resamples the difference is `low` or more.

    Raises:
        ValueError: an unknown metric, no rows, unequal shapes, or a confidence outside 0..1.
    """
    if metric not in COMPARED:
        raise ValueError(f"expected a metric out of {COMPARED}, got {metric!r}")
    given = [np.asarray(column).astype(str) for column in (labels, challenger, champion)]
    shapes = [column.shape for column in given]
    if given[0].ndim != 1 or len(set(shapes)) != 1 or given[0].size == 0:
        raise ValueError(f"expected labels and both predictions of the same rows, got shapes {shapes}")
    if not 0 < confidence < 1:
        raise ValueError(f"expected a confidence within 0..1, got {confidence}")
    rows = given[0].size
    names, places = np.unique(np.concatenate(given), return_inverse=True)
    n_labels = names.size
    truth, first, second = places.reshape(3, rows)
    observed = [label_scores(count_labels(truth, predicted, n_labels), None)[metric] for predicted in (first, second)]
    outcomes, counts = np.unique((truth * n_labels + first) * n_labels + second, return_counts=True)
    cells, of_second = np.divmod(outcomes, n_labels)
    of_truth, of_first = np.divmod(cells, n_labels)
    resamples = max(_FEWEST, math.ceil(_BEYOND / (1 - confidence)))
    draws, step = np.random.default_rng(seed), max(1, _COUNTS_AT_A_TIME // outcomes.size)
    differences: list[NDArray[np.float64]] = []
    for start in range(0, resamples, step):
        drawn = draws.multinomial(rows, counts / rows, size=min(step, resamples - start)).astype(np.float64)
        scored = [_scores(drawn, of_truth, predicted, n_labels, metric) for predicted in (of_first, of_second)]
        differences.append(scored[0] - scored[1])
    return Difference(
        challenger=observed[0],
        champion=observed[1],
        low=float(np.quantile(np.concatenate(differences), 1 - confidence)),
        rows=rows,
        differing_rows=int((first != second).sum()),
    )


def _scores(
    drawn: NDArray[np.float64], truth: NDArray[np.intp], predicted: NDArray[np.intp], n_labels: int, metric: str
) -> NDArray[np.float64]:
    """One model's score in each resample, shape (resamples,), of outcome counts (resamples, outcomes)."""
    every = np.eye(n_labels)
    hits = drawn @ (every[truth] * (truth == predicted)[:, None])
    support, given = drawn @ every[truth], drawn @ every[predicted]
    return np.array(
        [
            label_scores(LabelCounts(*counts), None)[metric]
            for counts in zip(hits.astype(np.int64), support.astype(np.int64), given.astype(np.int64), strict=True)
        ]
    )
