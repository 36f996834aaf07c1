"""What a solver is given, and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Penalty:
    """The weights of |w|_1 and |w|^2 / 2, and whether the intercepts are penalised too."""

    l1: float
    l2: float
    intercept_penalised: bool


@dataclass(frozen=True)
class Problem:
    """One penalised logistic regression, softmax or a problem of its own for each column.

    Over weights w (d + 1, K) of which the last row are intercepts, a solver minimises

        l1 * |w|_1 + l2 * |w|^2 / 2 + C * sum_i a_i * loss(scores_i),   scores_i = (row i, 1) . w

    where the penalties spare the intercepts unless `intercept_penalised`, a_i are the rows' weights, and the loss is
    the softmax's log loss, or the sum over columns of the binary log loss.

    Attributes:
        rows: (n, d); the products are made in its precision.
        targets: (n, K) of 0 and 1, of the same type.
        row_weights: (n, 1) or, for columns on their own, (n, K); one row of them holds for all rows.
    """

    rows: np.ndarray
    targets: np.ndarray
    row_weights: np.ndarray
    C: float
    penalty: Penalty
    softmax: bool

    @property
    def costs(self) -> np.ndarray:
        """What each row's loss is multiplied by, of the shape of `row_weights` and the type of the rows."""
        costs: np.ndarray = (self.C * self.row_weights).astype(self.rows.dtype)
        return costs

    @property
    def extended(self) -> np.ndarray:
        """The rows with a column of ones for the intercepts, (n, d + 1)."""
        return np.hstack([self.rows, np.ones((len(self.rows), 1), dtype=self.rows.dtype)])


@dataclass(frozen=True)
class Solution:
    """Weights (d + 1, K), the intercepts last; iterations; whether they were enough."""

    weights: np.ndarray
    iterations: int
    converged: bool
