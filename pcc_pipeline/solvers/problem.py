"""What a solver is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

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
        rows: (n, d); the products are made in its precision. They may be the pages of a file: no solver copies them.
        targets: (n, K) of 0 and 1, of the same type.
        row_weights: (n, 1) or, for columns on their own, (n, K); one row of them holds for all rows.
        in_double: `blocks` are made of double precision, whatever the rows are of.
    """

    rows: np.ndarray
    targets: np.ndarray
    row_weights: np.ndarray
    C: float
    penalty: Penalty
    softmax: bool
    in_double: bool = False

    @property
    def costs(self) -> np.ndarray:
        """What each row's loss is multiplied by, of the shape of `row_weights` and the type of the rows."""
        costs: np.ndarray = (self.C * self.row_weights).astype(self.rows.dtype)
        return costs

    @property
    def blocks(self) -> Iterator[Problem]:
        """The problem's rows in parts: losses and gradients are sums over them."""
        kind = np.float64 if self.in_double else self.rows.dtype
        for start in range(0, len(self.rows), BLOCK_ROWS):
            part = slice(start, start + BLOCK_ROWS)
            yield replace(
                self,
                rows=self.rows[part].astype(kind, copy=False),
                targets=self.targets[part].astype(kind, copy=False),
                row_weights=self.row_weights if len(self.row_weights) == 1 else self.row_weights[part],
            )

    def scores(self, weights: np.ndarray) -> np.ndarray:
        """(n, K) for weights (d + 1, K)."""
        single = weights.astype(self.rows.dtype)
        scores: np.ndarray = self.rows @ single[:-1] + single[-1]
        return scores

    def gradient(self, slopes: np.ndarray) -> np.ndarray:
        """By the weights, (d + 1, K) in double precision, where the derivatives by the scores are `slopes` (n, K)."""
        gradient = np.empty((self.rows.shape[1] + 1, slopes.shape[1]))
        gradient[:-1] = self.rows.T @ slopes
        gradient[-1] = slopes.sum(axis=0, dtype=np.float64)
        return gradient

    def columns(self, some: np.ndarray, features: np.ndarray) -> np.ndarray:
        """Features of some rows; the one behind the last is that of the intercepts, 1 in each row."""
        if not len(features) or features[-1] < self.rows.shape[1]:
            inner: np.ndarray = self.rows[np.ix_(some, features)]
            return inner
        # Features ascend, so that of the intercepts is the last.
        part = np.ones((len(some), len(features)), dtype=self.rows.dtype)
        part[:, :-1] = self.rows[np.ix_(some, features[:-1])]
        return part


@dataclass(frozen=True)
class Solution:
    """Weights (d + 1, K), the intercepts last; iterations; whether they were enough."""

    weights: np.ndarray
    iterations: int
    converged: bool
