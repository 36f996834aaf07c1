"""l1-penalised logistic regression for many labels over the same rows, by proximal Newton steps on working sets.

Solves, for each column k of `signs` on its own, what liblinear's l1 solver solves:

    minimise over w   |w|_1 + C * sum_i a_ik * log(1 + exp(-signs[i, k] * x_i . w)),   x_i = (row i, 1)

with the intercept penalised like any other weight, and a the rows' weights. The outer iteration is that of Yuan, Ho
and Lin, "An Improved GLMNET for L1-regularized Logistic Regression", JMLR 13 (2012), which liblinear uses too. What
makes it fast here: scores and gradients of all labels come from one matrix product; the quadratic model of a label is
built on the few features that matter to it and on the rows whose curvature is not negligible; and scikit-learn's
coordinate descent solves that model. A curvature that is only nearly right cannot spoil the result: every step is
judged by a line search on the exact objective, and the stopping rule looks at the exact gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pcc_pipeline.solvers.newton_step import minimise_model, violation_of, working_set

# Rows below this share of the greatest curvature add nothing to the quadratic model that the line search would miss.
_NEGLIGIBLE_CURVATURE = 1e-3
# Armijo's constant and the most halvings, as in liblinear.
_SUFFICIENT_DECREASE = 0.01
_HALVINGS = 20


@dataclass(frozen=True)
class L1Solution:
    """Weights (d + 1, K), the intercepts last; objective (K,); outer iterations; labels that did not converge."""

    weights: np.ndarray
    objective: np.ndarray
    iterations: int
    unfinished: int


def solve_l1_logistic(
    rows: np.ndarray,
    signs: np.ndarray,
    row_weights: np.ndarray,
    C: float,
    tol: float,
    max_iter: int,
    start: np.ndarray | None = None,
) -> L1Solution:
    """Solve K problems at once.

    Args:
        rows: (n, d).
        signs: (n, K) of -1 and +1, of the rows' type.
        row_weights: (n, 1) or (n, K).
        tol: as liblinear's: a label is done when the 1-norm of its subgradient is below
            tol * max(min(positives, negatives), 1) / n of that norm at zero weights. At a large C that norm is so
            large that much could be left to gain, so the last step must also have gained less than a tenth of tol of
            the objective.
        max_iter: outer iterations.
        start: weights (d + 1, K) to start from.
    """
    n = len(rows)
    extended = np.hstack([rows, np.ones((n, 1), dtype=rows.dtype)])
    n_labels = signs.shape[1]
    weights = np.zeros((extended.shape[1], n_labels)) if start is None else start.astype(np.float64)
    costs = np.broadcast_to((C * row_weights).astype(rows.dtype), signs.shape)
    scores = extended @ weights.astype(rows.dtype)
    objective = _losses(signs * scores, costs) + np.abs(weights).sum(axis=0)
    positives = (signs > 0).sum(axis=0)
    at_zero = -0.5 * (extended.T @ (costs * signs)).astype(np.float64)
    scale = np.maximum(np.abs(at_zero) - 1, 0).sum(axis=0)
    goal = tol * np.maximum(np.minimum(positives, n - positives), 1) / n * scale

    active = np.arange(n_labels)
    gained = np.zeros(n_labels)
    iterations = 0
    while len(active) and iterations < max_iter:
        iterations += 1
        slope = _sigmoid(-signs[:, active] * scores[:, active])
        pull = costs[:, active] * slope
        gradient = -(extended.T @ (signs[:, active] * pull)).astype(np.float64)
        violation = violation_of(weights[:, active], gradient)
        going = (violation.sum(axis=0) > goal[active]) | (gained[active] > tol / 10 * objective[active])
        if not going.any():
            active = active[:0]
            break
        curvature = pull[:, going] * (1 - slope[:, going])
        active, gradient, violation = active[going], gradient[:, going], violation[:, going]
        direction = np.zeros_like(gradient)
        for place, label in enumerate(active):
            working, _ = working_set(weights[:, label], violation[:, place])
            hessian = _hessian(extended, curvature[:, place], working)
            model = minimise_model(hessian, gradient[working, place], weights[working, label])
            direction[working, place] = model - weights[working, label]
        drift = extended @ direction.astype(rows.dtype)
        expected = (gradient * direction).sum(axis=0)
        expected += np.abs(weights[:, active] + direction).sum(axis=0) - np.abs(weights[:, active]).sum(axis=0)
        size = _line_search(signs, costs, weights, scores, objective, active, direction, drift, expected)
        weights[:, active] += size * direction
        scores[:, active] += size.astype(rows.dtype) * drift
        losses = _losses(signs[:, active] * scores[:, active], costs[:, active])
        before, objective[active] = objective[active], losses + np.abs(weights[:, active]).sum(axis=0)
        gained[active] = before - objective[active]
        # A label that no step improves has reached the precision of its numbers.
        active = active[size > 0]
    return L1Solution(weights, objective, iterations, len(active))


def _hessian(rows: np.ndarray, curvature: np.ndarray, working: np.ndarray) -> np.ndarray:
    """The loss's second derivative over the working set, (w, w)."""
    used = np.flatnonzero(curvature > _NEGLIGIBLE_CURVATURE * curvature.max())
    part = rows[np.ix_(used, working)] * np.sqrt(curvature[used, None])
    found: np.ndarray = (part.T @ part).astype(np.float64)
    return found


def _line_search(
    signs: np.ndarray,
    costs: np.ndarray,
    weights: np.ndarray,
    scores: np.ndarray,
    objective: np.ndarray,
    active: np.ndarray,
    direction: np.ndarray,
    drift: np.ndarray,
    expected: np.ndarray,
) -> np.ndarray:
    """Step sizes in (0, 1] that decrease the exact objective enough, per active label; 0 where none does."""
    size = np.ones(len(active))
    searching = np.arange(len(active))
    for _ in range(_HALVINGS):
        labels = active[searching]
        there = weights[:, labels] + size[searching] * direction[:, searching]
        margins = signs[:, labels] * (scores[:, labels] + size[searching].astype(drift.dtype) * drift[:, searching])
        value = _losses(margins, costs[:, labels]) + np.abs(there).sum(axis=0)
        change = value - objective[labels]
        enough = (change <= _SUFFICIENT_DECREASE * size[searching] * expected[searching]) & (change < 0)
        searching = searching[~enough]
        if not len(searching):
            return size
        size[searching] /= 2
    size[searching] = 0
    return size


def _losses(margins: np.ndarray, costs: np.ndarray) -> np.ndarray:
    """Sum of cost * log(1 + exp(-margin)) of each column, without overflow."""
    losses = costs * (np.log1p(np.exp(-np.abs(margins))) - np.minimum(margins, 0))
    total: np.ndarray = losses.sum(axis=0, dtype=np.float64)
    return total


def _sigmoid(values: np.ndarray) -> np.ndarray:
    small = np.exp(-np.abs(values))
    found: np.ndarray = np.where(values >= 0, 1, small) / (1 + small)
    return found
