"""Penalised logistic regression, softmax or one problem per column, by L-BFGS with bounds.

These are the problems of scikit-learn's saga (softmax, free intercept; with two classes one column) and of liblinear's
l2 (columns, penalised intercept).

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
from dataclasses import replace

import numpy as np
from scipy.optimize import OptimizeResult, minimize

from pcc_pipeline.solvers.problem import Problem, Solution

# Corrections that L-BFGS remembers: the SVD's columns differ much in scale, which a longer memory learns.
_MEMORY = 20
# L-BFGS slows down before it stands still, so one iteration's relative decrease must be far below the relative error
# that is asked of the whole.
_DECREASE_PER_TOLERANCE = 1e-4
_LINE_SEARCH_FAILED = 2

Smooth = Callable[[np.ndarray], tuple[float, np.ndarray]]


def solve(problem: Problem, tol: float, max_iter: int, start: np.ndarray | None = None) -> Solution:
    """Solve one problem.

    Args:
        tol: 1e-4 stops where one iteration lowers the objective by less than 1e-8 of it; other values in proportion.
        max_iter: iterations, and as many again in the columns' own units.
        start: weights (d + 1, K) to start from; None: zeros.
    """
    weights = np.zeros((problem.rows.shape[1] + 1, problem.targets.shape[1])) if start is None else start
    solution = _minimised(problem, weights, np.ones((len(weights), 1)), tol, max_iter)
    if not solution.converged:
        rest = _minimised(problem, solution.weights, _own_units(problem), tol, max_iter)
        solution = Solution(rest.weights, solution.iterations + rest.iterations, rest.converged)
    return solution


def objective(problem: Problem, weights: np.ndarray) -> float:
    """What `solve` minimises, in double precision, at `weights` (d + 1, K)."""
    in_double = replace(problem, in_double=True)
    value, _ = _smooth_part(in_double, np.ones((len(weights), 1)))(weights.ravel())
    return value + problem.penalty.l1 * float((np.abs(weights) * _penalised(problem)).sum())


def _penalised(problem: Problem) -> np.ndarray:
    """1 for each weight that the penalties are on, (d + 1, 1)."""
    weights = np.ones((problem.rows.shape[1] + 1, 1))
    weights[-1] = float(problem.penalty.intercept_penalised)
    return weights


def _own_units(problem: Problem) -> np.ndarray:
    """A unit for each row of the weights, (d + 1, 1), by its greatest curvature: a logistic loss has up to 1/4."""
    squares = np.zeros(problem.rows.shape[1] + 1)
    for block in replace(problem, in_double=True).blocks:
        each = np.broadcast_to(block.row_weights.mean(axis=1), len(block.rows))
        squares += np.append(np.einsum("ij,ij,i->j", block.rows, block.rows, each), each.sum())
    curvature = problem.C / 4 * squares + problem.penalty.l2
    # A column of zeros without a ridge has no curvature, and its weight stays where it is in any unit.
    units: np.ndarray = 1 / np.sqrt(np.where(curvature > 0, curvature, 1))
    return units[:, None]


def _minimised(problem: Problem, weights: np.ndarray, units: np.ndarray, tol: float, max_iter: int) -> Solution:
    """The solution, sought from `weights` in multiples of `units`."""
    flat = (weights / units).ravel()
    size = flat.size
    first = flat if problem.penalty.l1 == 0 else np.concatenate([np.maximum(flat, 0), np.maximum(-flat, 0)])
    result = _run(problem, first, units, tol, max_iter)
    if result.status == _LINE_SEARCH_FAILED and problem.rows.dtype != np.float64:
        # Single precision could not tell the next point from this one: go on from here in double.
        again = _run(replace(problem, in_double=True), result.x, units, tol, max(1, max_iter - result.nit))
        again.nit += result.nit
        result = again
    flat = result.x if problem.penalty.l1 == 0 else result.x[:size] - result.x[size:]
    return Solution(flat.reshape(weights.shape) * units, int(result.nit), result.status != 1)


def _run(problem: Problem, start: np.ndarray, units: np.ndarray, tol: float, max_iter: int) -> OptimizeResult:
    smooth = _smooth_part(problem, units)
    options = {
        "maxiter": max_iter,
        "maxfun": 3 * max_iter,
        "maxcor": _MEMORY,
        "ftol": _DECREASE_PER_TOLERANCE * tol,
        "gtol": 0.0,
    }
    if problem.penalty.l1 == 0:
        return minimize(smooth, start, jac=True, method="L-BFGS-B", options=options)
    size = len(start) // 2
    cost = problem.penalty.l1 * np.repeat(_penalised(problem) * units, problem.targets.shape[1], axis=1).ravel()

    def split(flat: np.ndarray) -> tuple[float, np.ndarray]:
        positive, negative = flat[:size], flat[size:]
        value, gradient = smooth(positive - negative)
        return value + float(cost @ (positive + negative)), np.concatenate([gradient + cost, cost - gradient])

    return minimize(split, start, jac=True, method="L-BFGS-B", bounds=[(0, None)] * (2 * size), options=options)


def _smooth_part(problem: Problem, units: np.ndarray) -> Smooth:
    """Value and gradient of all but the l1 norm, at flat weights in multiples of `units`."""
    losses = softmax_losses if problem.softmax else binary_losses
    ridge = problem.penalty.l2 * _penalised(problem)

    def smooth(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = units * flat.reshape(len(ridge), -1)
        gradient = ridge * weights
        value = 0.5 * float((ridge * weights**2).sum())
        for block in problem.blocks:
            costs = block.costs
            values, slope = losses(block.scores(weights), block.targets)
            slope *= costs
            gradient += block.gradient(slope)
            value += float((costs * values).sum(dtype=np.float64))
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
