"""ROC-AUC and average precision of every class against the rest, from one sort of each column.

Both areas need only, for each row of a class, how many rows score below it and how many score at least as much. One
sort of each column and two binary searches give that exactly, ties included, where a call of scikit-learn per class
would sort the labels, the scores and the thresholds again and check its input each time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]


@dataclass(frozen=True)
class Ranking:
    """One number per class, shape (K,); NaN for a class that no row has, or that every row has.

    Attributes:
        roc_auc: the chance that a row of the class outranks a row of another class, ties counted half (Mann-Whitney U).
        pr_auc: average precision, the sum over thresholds of precision times the gain in recall.
    """

    roc_auc: FloatArray
    pr_auc: FloatArray


def _areas(of_class: NDArray[Any], of_all: NDArray[Any]) -> tuple[float, float]:
    """ROC-AUC and average precision, given the ascending scores of the class's rows and of all rows."""
    n_class, n_all = of_class.size, of_all.size
    n_rest = n_all - n_class
    if n_class == 0 or n_rest == 0:
        return float("nan"), float("nan")
    below = np.searchsorted(of_all, of_class, side="left")
    not_above = np.searchsorted(of_all, of_class, side="right")
    # Rows below count one and ties count half. The class's rows meet each other too: n_class ** 2 / 2 in all.
    wins = (int(below.sum()) + int(not_above.sum()) - n_class * n_class) / 2
    hits = n_class - np.searchsorted(of_class, of_class, side="left")
    return wins / (n_class * n_rest), float(np.mean(hits / (n_all - below)))


def one_vs_rest(y_true: IntArray, probabilities: NDArray[Any]) -> Ranking:
    """Rank every class against the rest.

    Args:
        y_true: class indices, shape (n,).
        probabilities: any scores that rise with the class, shape (n, K).
    """
    n_classes = probabilities.shape[1]
    roc_auc, pr_auc = np.full(n_classes, np.nan), np.full(n_classes, np.nan)
    # Columns laid end to end: a sort along contiguous memory is several times as fast as one along a stride.
    columns = np.sort(np.ascontiguousarray(probabilities.T), axis=1)
    order = np.argsort(y_true, kind="stable")
    bounds = np.searchsorted(y_true[order], np.arange(n_classes + 1))
    for label in np.unique(y_true):
        rows = order[bounds[label] : bounds[label + 1]]
        roc_auc[label], pr_auc[label] = _areas(np.sort(probabilities[rows, label]), columns[label])
    return Ranking(roc_auc, pr_auc)


def one_class(y_true: IntArray, probabilities: NDArray[Any], label: int) -> tuple[float, float]:
    """ROC-AUC and average precision of one class against the rest; both NaN where no row, or every row, has it."""
    scores = probabilities[:, label]
    return _areas(np.sort(scores[y_true == label]), np.sort(scores))


def mean_of_measured(values: FloatArray) -> float:
    """The mean of the values that are not NaN; NaN where none is left."""
    measured = values[~np.isnan(values)]
    return float(measured.mean()) if measured.size else float("nan")
