"""Penalised logistic regression, softmax or one problem per column, by L-BFGS with bounds.

Solves, over weights w (d + 1, K) of which the last row are intercepts:

    minimise   l1 * |w|_1 + l2 * |w|^2 / 2 + C * sum_i a_i * loss(scores_i),   scores_i = (row i, 1) . w

where the penalties spare the intercepts unless `intercept_penalised`, a_i are the rows' weights, and the loss is the
softmax's log loss, or the sum over columns of the binary log loss. These are the problems of scikit-learn's saga
(softmax, free intercept; with two classes one column) and of liblinear's l2 (columns, penalised intercept).

Columns on very different scales leave L-BFGS standing. Where it runs out of iterations it goes on, from where it is, in
units of each column's own (a diagonal preconditioner: Nocedal and Wright, "Numerical Optimization", 2006, section 5.1),
in which the loss's greatest curvature is the same along every weight. Not from the start: on columns of like scale,
such as sentence vectors, those units cost up to twice the iterations.

An l1 norm is made smooth by splitting: w = p - n with p, n >= 0, so that |w| is p + n and bounds take the place of
corners (Schmidt, Fung and Rosales, "Optimization Methods for l1-Regularization", UBC TR-2009-19, 2009). The minimiser
is L-BFGS-B (Byrd, Lu, Nocedal and Zhu, SIAM J. Sci. Comput. 16, 1995), scipy's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import OptimizeResult, minimize

# Corrections that L-BFGS remembers: the SVD's columns differ much in scale, which a longer memory learns.
_MEMORY = 20
# L-BFGS slows down before it stands still, so one iteration's relative decrease must be far below the relative error
# that is wanted of the whole.
_DECREASE_PER_TOLERANCE = 1e-4
_LINE_SEARCH_FAILED = 2

Smooth = Callable[[np.ndarray], tuple[float, np.ndarray]]


@dataclass(frozen=True)
class Penalty:
    """The weights of |w|_1 and |w|^2 / 2, and whether the intercepts are penalised too."""

    l1: float
    l2: float
    intercept_penalised: bool


@dataclass(frozen=True)
class Solution:
    """Weights (d + 1, K), the intercepts last; iterations; whether they were enough."""

    weights: np.ndarray
    iterations: int
    converged: bool


def solve(
    rows: np.ndarray,
    targets: np.ndarray,
    row_weights: np.ndarray,
    C: float,
    penalty: Penalty,
    *,
    softmax: bool,
    tol: float,
    max_iter: int,
    start: np.ndarray | None = None,
) -> Solution:
    """Solve one problem.

    Args:
        rows: (n, d); the products are made in its precision.
        targets: (n, K) of 0 and 1, of the same type.
        row_weights: (n, 1) or, for columns on their own, (n, K).
        tol: 1e-4 stops where one iteration lowers the objective by less than 1e-8 of it; other values in proportion.
        max_iter: iterations, and as many again in the columns' own units.
        start: weights (d + 1, K) to start from; None: zeros.
    """
    problem = _Problem(rows, targets, row_weights, C, penalty, softmax)
    weights = np.zeros((rows.shape[1] + 1, targets.shape[1])) if start is None else start
    found = problem.minimised(weights, np.ones((len(weights), 1)), tol, max_iter)
    if not found.converged:
        rest = problem.minimised(found.weights, problem.own_units(), tol, max_iter)
        found = Solution(rest.weights, found.iterations + rest.iterations, rest.converged)
    return found


def objective(
    rows: np.ndarray,
    targets: np.ndarray,
    row_weights: np.ndarray,
    C: float,
    penalty: Penalty,
    weights: np.ndarray,
    *,
    softmax: bool,
) -> float:
    """What `solve` minimises, in double precision, at `weights` (d + 1, K); the other arguments are as there."""
    problem = _Problem(rows.astype(np.float64), targets.astype(np.float64), row_weights, C, penalty, softmax)
    value, _ = problem.smooth_part(np.ones((len(weights), 1)))(weights.ravel())
    return value + penalty.l1 * float((np.abs(weights) * problem.penalised).sum())


@dataclass(frozen=True)
class _Problem:
    rows: np.ndarray
    targets: np.ndarray
    row_weights: np.ndarray
    C: float
    penalty: Penalty
    softmax: bool

    @property
    def penalised(self) -> np.ndarray:
        """1 for each weight that the penalties are on, (d + 1, 1)."""
        weights = np.ones((self.rows.shape[1] + 1, 1))
        weights[-1] = float(self.penalty.intercept_penalised)
        return weights

    def own_units(self) -> np.ndarray:
        """A unit for each row of the weights, (d + 1, 1), by its greatest curvature: a logistic loss has up to 1/4."""
        each = self.row_weights.mean(axis=1)
        squares = np.array([np.dot(column.astype(np.float64) ** 2, each) for column in self.rows.T])
        curvature = self.C / 4 * np.append(squares, each.sum()) + self.penalty.l2
        # A column of zeros without a ridge has no curvature, and its weight stays where it is in any unit.
        units: np.ndarray = 1 / np.sqrt(np.where(curvature > 0, curvature, 1))
        return units[:, None]

    def minimised(self, weights: np.ndarray, units: np.ndarray, tol: float, max_iter: int) -> Solution:
        """The solution, sought from `weights` in multiples of `units`."""
        flat = (weights / units).ravel()
        size = flat.size
        first = flat if self.penalty.l1 == 0 else np.concatenate([np.maximum(flat, 0), np.maximum(-flat, 0)])
        found = self._run(first, units, tol, max_iter)
        if found.status == _LINE_SEARCH_FAILED and self.rows.dtype != np.float64:
            # Single precision could not tell the next point from this one: go on from here in double.
            doubled = replace(self, rows=self.rows.astype(np.float64), targets=self.targets.astype(np.float64))
            again = doubled._run(found.x, units, tol, max(1, max_iter - found.nit))
            again.nit += found.nit
            found = again
        flat = found.x if self.penalty.l1 == 0 else found.x[:size] - found.x[size:]
        return Solution(flat.reshape(weights.shape) * units, int(found.nit), found.status != 1)

    def _run(self, start: np.ndarray, units: np.ndarray, tol: float, max_iter: int) -> OptimizeResult:
        smooth = self.smooth_part(units)
        options = {
            "maxiter": max_iter,
            "maxfun": 3 * max_iter,
            "maxcor": _MEMORY,
            "ftol": _DECREASE_PER_TOLERANCE * tol,
            "gtol": 0.0,
        }
        if self.penalty.l1 == 0:
            return minimize(smooth, start, jac=True, method="L-BFGS-B", options=options)
        size = len(start) // 2
        cost = self.penalty.l1 * np.repeat(self.penalised * units, self.targets.shape[1], axis=1).ravel()

        def split(flat: np.ndarray) -> tuple[float, np.ndarray]:
            positive, negative = flat[:size], flat[size:]
            value, gradient = smooth(positive - negative)
            return value + float(cost @ (positive + negative)), np.concatenate([gradient + cost, cost - gradient])

        return minimize(split, start, jac=True, method="L-BFGS-B", bounds=[(0, None)] * (2 * size), options=options)

    def smooth_part(self, units: np.ndarray) -> Smooth:
        """Value and gradient of all but the l1 norm, at flat weights in multiples of `units`."""
        rows, targets = self.rows, self.targets
        losses = softmax_losses if self.softmax else binary_losses
        costs = (self.C * self.row_weights).astype(rows.dtype)
        ridge = self.penalty.l2 * self.penalised

        def smooth(flat: np.ndarray) -> tuple[float, np.ndarray]:
            weights = units * flat.reshape(len(ridge), -1)
            single = weights.astype(rows.dtype)
            values, slope = losses(rows @ single[:-1] + single[-1], targets)
            slope *= costs
            gradient = ridge * weights
            gradient[:-1] += rows.T @ slope
            gradient[-1] += slope.sum(axis=0, dtype=np.float64)
            value = float((costs * values).sum(dtype=np.float64)) + 0.5 * float((ridge * weights**2).sum())
            gradient *= units
            return value, gradient.ravel()

        return smooth


def softmax_losses(scores: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each row's log loss (n, 1) and its derivative by the scores (n, K)."""
    scores -= scores.max(axis=1, keepdims=True)
    right = (targets * scores).sum(axis=1, keepdims=True)
    np.exp(scores, out=scores)
    total = scores.sum(axis=1, keepdims=True)
    scores /= total
    scores -= targets
    return np.log(total) - right, scores


def binary_losses(scores: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each column's log losses (n, K) and their derivatives by the scores (n, K)."""
    small = np.exp(-np.abs(scores))
    losses = np.log1p(small) + np.maximum(scores, 0) - targets * scores
    return losses, np.where(scores >= 0, 1, small) / (1 + small) - targets
