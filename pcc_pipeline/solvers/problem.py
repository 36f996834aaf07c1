"""What a solver is given, and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

# What a pass over the rows makes on its way is made of so many at a time: however many rows there are, it stays small.
BLOCK_ROWS = 32_768


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
        rows: (m, d); the products are made in its precision. They may be the pages of a file.
        targets: (n, K) of 0 and 1, of the same type.
        row_weights: (n, 1) or, for columns on their own, (n, K); one row of them holds for all rows.
        in_double: the products are made in double precision, whatever the rows are of.
        mixture: a sparse matrix (n, m), each of whose rows adds up to 1, where the n rows of the problem are mixtures
            of `rows`: the products are then of the m rows alone. None: they are `rows`.
        centre: (d,), what the rows were moved by; the l2 penalty is that of the intercepts of the rows as they were,
            b - centre . w. None: they were not.
    """

    rows: np.ndarray
    targets: np.ndarray
    row_weights: np.ndarray
    C: float
    penalty: Penalty
    softmax: bool
    in_double: bool = False
    mixture: Any = None
    centre: np.ndarray | None = None

    @property
    def kind(self) -> Any:
        """The type of scores and costs."""
        return np.dtype(np.float64) if self.in_double else self.rows.dtype

    @cached_property
    def costs(self) -> np.ndarray:
        """What each row's loss is multiplied by, of the shape of `row_weights`."""
        costs: np.ndarray = (self.C * self.row_weights).astype(self.kind)
        return costs

    def scores(self, weights: np.ndarray) -> np.ndarray:
        """(n, K) for weights (d + 1, K)."""
        weights = weights.astype(self.kind)
        if self.in_double:
            scores = np.empty((len(self.rows), weights.shape[1]))
            for start in range(0, len(scores), BLOCK_ROWS):
                part = slice(start, start + BLOCK_ROWS)
                scores[part] = self.rows[part].astype(self.kind) @ weights[:-1]
        else:
            scores = self.rows @ weights[:-1]
        if self.mixture is not None:
            scores = self.mixture @ scores
        scores += weights[-1]
        return scores

    def gradient(self, slopes: np.ndarray) -> np.ndarray:
        """By the weights, (d + 1, K) in double precision, where the derivatives by the scores are `slopes` (n, K)."""
        gradient = np.zeros((self.rows.shape[1] + 1, slopes.shape[1]))
        gradient[-1] = slopes.sum(axis=0, dtype=np.float64)
        if self.mixture is not None:
            slopes = self.mixture.T @ slopes
        if self.in_double:
            for start in range(0, len(self.rows), BLOCK_ROWS):
                part = slice(start, start + BLOCK_ROWS)
                gradient[:-1] += self.rows[part].astype(self.kind).T @ slopes[part]
        else:
            gradient[:-1] = self.rows.T @ slopes
        return gradient


@dataclass(frozen=True)
class Solution:
    """Weights (d + 1, K), the intercepts last; iterations; whether they were enough."""

    weights: np.ndarray
    iterations: int
    converged: bool
