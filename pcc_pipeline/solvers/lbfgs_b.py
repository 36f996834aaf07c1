"""Logistic regression with an l1 part in its penalty, softmax or one problem per column, by L-BFGS with bounds.

These are the problems of scikit-learn's saga with l1 or elasticnet (softmax, free intercept; with two classes one
column).

Columns on very different scales leave L-BFGS standing. Where there are such, and where it runs out of iterations, it
goes on, from where it is, in units of each column's own, as `lbfgs` does.

An l1 norm is made smooth by splitting: w = p - n with p, n >= 0, so that |w| is p + n and bounds take the place of
corners (Schmidt, Fung and Rosales, "Optimization Methods for l1-Regularization", UBC TR-2009-19, 2009). The minimiser
is L-BFGS-B (Byrd, Lu, Nocedal and Zhu, SIAM J. Sci. Comput. 16, 1995), scipy's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy.optimize import OptimizeResult, minimize

from pcc_pipeline.solvers.losses import are_unlike, own_units, penalised, weighed_losses
from pcc_pipeline.solvers.problem import Problem, Solution

# As in `lbfgs`.
_MEMORY = 20
# L-BFGS slows down before it stands still, so one iteration's relative decrease must be far below the relative error
# that is asked of the whole.
_DECREASE_PER_TOLERANCE = 1e-4
_OUT_OF_ITERATIONS = 1
_LINE_SEARCH_FAILED = 2
# One short step looks like an end. A start anew from there, without what was remembered, must not gain more than this
# share of the tolerance.
_LEFT = 0.1
# What the objective at zero weights is scaled to.
_AT_ZERO = 1e6

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
    units = own_units(problem)
    if not solution.converged or are_unlike(units):
        rest = _minimised(problem, solution.weights, units, tol, max_iter)
        solution = Solution(rest.weights, solution.iterations + rest.iterations, rest.converged)
    return solution


def _minimised(problem: Problem, weights: np.ndarray, units: np.ndarray, tol: float, max_iter: int) -> Solution:
    """The solution, sought from `weights` in multiples of `units`."""
    flat = (weights / units).ravel()
    size = flat.size
    first = np.concatenate([np.maximum(flat, 0), np.maximum(-flat, 0)])
    result = _run(problem, first, units, tol, max_iter)
    while result.status != _OUT_OF_ITERATIONS:
        if result.status == _LINE_SEARCH_FAILED and problem.rows.dtype != np.float64:
            # Single precision could not tell the next point from this one: go on from here in double.
            problem = replace(problem, in_double=True)
        again = _run(problem, result.x, units, tol, max(1, max_iter - result.nit))
        again.nit += result.nit
        gained, result = result.fun - again.fun, again
        if not gained > _LEFT * tol * result.fun:  # nor of numbers that are none
            break
    flat = result.x[:size] - result.x[size:]
    return Solution(flat.reshape(weights.shape) * units, int(result.nit), result.status != _OUT_OF_ITERATIONS)


def _run(problem: Problem, start: np.ndarray, units: np.ndarray, tol: float, max_iter: int) -> OptimizeResult:
    smooth = _smooth_part(problem, units)
    # L-BFGS-B measures decreases beside 1 where the objective is smaller, as it is at a small C.
    scale = _AT_ZERO / float(weighed_losses(problem, np.zeros_like(problem.targets))[0].sum())
    options = {
        "maxiter": max_iter,
        "maxfun": 3 * max_iter,
        "maxcor": _MEMORY,
        "ftol": _DECREASE_PER_TOLERANCE * tol,
        "gtol": 0.0,
    }
    size = len(start) // 2
    cost = problem.penalty.l1 * np.repeat(penalised(problem) * units, problem.targets.shape[1], axis=1).ravel()

    def split(flat: np.ndarray) -> tuple[float, np.ndarray]:
        positive, negative = flat[:size], flat[size:]
        value, gradient = smooth(positive - negative)
        value += float(cost @ (positive + negative))
        return scale * value, scale * np.concatenate([gradient + cost, cost - gradient])

    return minimize(split, start, jac=True, method="L-BFGS-B", bounds=[(0, None)] * (2 * size), options=options)


def _smooth_part(problem: Problem, units: np.ndarray) -> Smooth:
    """Value and gradient of all but the l1 norm, at flat weights in multiples of `units`."""
    ridge = problem.penalty.l2 * penalised(problem)

    def smooth(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = units * flat.reshape(len(ridge), -1)
        values, slopes = weighed_losses(problem, problem.scores(weights))
        value = float(values.sum()) + 0.5 * float((ridge * weights**2).sum())
        gradient = units * (problem.gradient(slopes) + ridge * weights)
        return value, gradient.ravel()

    return smooth
