"""Softmax regression with an l1 penalty, by proximal Newton steps on all classes together while few weights are in use.

Solves what scikit-learn's saga solves, over weights w (d, K) and free intercepts b (K):

    minimise   l1 * |w|_1 + l2 * |w|^2 / 2 + C * sum_i a_i * (-log softmax(row i . w + b)[class of i])

A step minimises the penalised second-order model of the loss (Lee, Sun and Saunders, "Proximal Newton-type methods for
minimizing composite functions", SIAM J. Optim. 24, 2014) over the weights that matter, with the true second
derivatives between classes; the intercepts are eliminated from the model, and a line search judges each step by the
exact objective. Where the penalty leaves few weights the model is small and about ten steps do, where first-order
methods take hundreds of passes over the rows. Where it leaves many, `quasi_newton` goes on from the weights reached.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from pcc_pipeline.solvers.curvature import Curvature
from pcc_pipeline.solvers.lbfgs_b import solve
from pcc_pipeline.solvers.losses import softmax_losses
from pcc_pipeline.solvers.newton_step import minimise_model, violation_of, working_set
from pcc_pipeline.solvers.problem import Penalty, Problem, Solution

# Rows that together hold less than this share of the curvature are left out of the model.
_NEGLIGIBLE_CURVATURE = 0.01
# A model of more weights than this costs more than the passes over the rows that it saves.
_LARGEST_MODEL = 1200
# A gain below this share of the objective is lost in the rounding of single precision, where promises do not shrink.
_PRECISION = 1e-7
_SUFFICIENT_DECREASE = 0.01
_HALVINGS = 20


def solve_softmax(problem: Problem, tol: float, max_iter: int) -> Solution:
    """Solve one softmax problem with an l1 part in its penalty, free intercepts and `row_weights` (n, 1).

    Args:
        tol: done when a step over all weights that still violate their optimality promises less than tol / 10 of the
            objective.
        max_iter: steps.
    """
    penalty, targets, kind = problem.penalty, problem.targets, problem.rows.dtype
    costs = np.broadcast_to(problem.costs, (len(targets), 1))
    weights = np.zeros((problem.rows.shape[1] + 1, targets.shape[1]))
    scores, second = np.zeros_like(targets), Curvature(problem)
    losses, slope = softmax_losses(scores.copy(), targets)
    objective = float((costs * losses).sum(dtype=np.float64))
    for iteration in range(1, max_iter + 1):
        gradient = problem.gradient(costs * slope)
        gradient[:-1] += penalty.l2 * weights[:-1]
        chosen, whole = _chosen(weights, gradient, penalty)
        if len(chosen) > _LARGEST_MODEL:
            return _gone_on(problem, weights, tol, iteration - 1, max_iter)
        curvature = partial(_hessian, second, slope + targets, costs)
        direction = _direction(curvature, weights, gradient, penalty, chosen)
        expected = float((gradient * direction).sum())
        expected += penalty.l1 * float((np.abs(weights + direction)[:-1] - np.abs(weights)[:-1]).sum())
        drift = problem.scores(direction)
        size = 1.0
        for _ in range(_HALVINGS):
            there = weights + size * direction
            moved = scores + kind.type(size) * drift
            losses, slope = softmax_losses(moved.copy(), targets)
            value = float((costs * losses).sum(dtype=np.float64)) + penalty_of(there, penalty)
            if value - objective <= _SUFFICIENT_DECREASE * size * expected:
                break
            size /= 2
        else:
            there, moved, value = weights, scores, objective
        gained = objective - value
        weights, scores, objective = there, moved, value
        if whole and abs(expected) < tol / 10 * objective:
            return Solution(weights, iteration, converged=True)
        if gained < _PRECISION * objective:
            # Much was promised and nothing gained, or a model of columns on very different scales rose: no end yet.
            return _gone_on(problem, weights, tol, iteration, max_iter)
    return Solution(weights, max_iter, converged=False)


def _gone_on(problem: Problem, weights: np.ndarray, tol: float, iterations: int, max_iter: int) -> Solution:
    rest = solve(problem, tol, max(1, max_iter - iterations), start=weights)
    return Solution(rest.weights, rest.iterations + iterations, rest.converged)


def penalty_of(weights: np.ndarray, penalty: Penalty) -> float:
    """What the penalty adds to the objective; the last row, the intercepts, is free."""
    inner = weights[:-1]
    return penalty.l1 * float(np.abs(inner).sum()) + penalty.l2 / 2 * float((inner**2).sum())


def _chosen(weights: np.ndarray, gradient: np.ndarray, penalty: Penalty) -> tuple[np.ndarray, bool]:
    """The flat places, class by class, that a step changes, and whether they are all that violate their optimality."""
    inner, slopes = weights[:-1].T.ravel(), gradient[:-1].T.ravel()
    chosen, whole = working_set(inner, violation_of(inner, slopes, penalty.l1))
    return np.sort(chosen), whole


def _direction(
    curvature: Callable[[list[np.ndarray], int], tuple[np.ndarray, np.ndarray]],
    weights: np.ndarray,
    gradient: np.ndarray,
    penalty: Penalty,
    chosen: np.ndarray,
) -> np.ndarray:
    """The step to the minimiser of the model over the chosen places, (d + 1, K); `curvature` is `_hessian` here."""
    d, n_classes = len(weights) - 1, weights.shape[1]
    inner, slopes = weights[:-1].T.ravel()[chosen], gradient[:-1].T.ravel()[chosen]
    # The first class's intercept stays: moving all by the same changes nothing.
    features = [chosen[chosen // d == place] % d for place in range(n_classes)]
    columns = [np.append(part, d) if place else part for place, part in enumerate(features)]
    hessian, is_bias = curvature(columns, d)
    biases, others = np.flatnonzero(is_bias), np.flatnonzero(~is_bias)
    hessian[others, others] += penalty.l2
    hessian[biases, biases] *= 1 + 1e-6
    hessian[biases, biases] += 1e-8
    bias_slope = gradient[-1, 1:]
    cross = hessian[np.ix_(biases, others)]
    both = np.linalg.solve(hessian[np.ix_(biases, biases)], np.column_stack([cross, bias_slope]))
    reduced = hessian[np.ix_(others, others)] - cross.T @ both[:, :-1]
    step = minimise_model(reduced, slopes - cross.T @ both[:, -1], inner, penalty.l1) - inner
    direction = np.zeros_like(weights)
    direction[chosen % d, chosen // d] = step
    direction[-1, 1:] = -(both[:, -1] + both[:, :-1] @ step)
    return direction


def _hessian(
    second: Curvature, probabilities: np.ndarray, costs: np.ndarray, columns: list[np.ndarray], d: int
) -> tuple[np.ndarray, np.ndarray]:
    """Second derivatives of the loss by the columns of each class, and which of the places are intercepts."""
    most = (costs * probabilities * (1 - probabilities)).max(axis=1)
    order = np.argsort(most)
    used = np.sort(order[np.searchsorted(np.cumsum(most[order]), _NEGLIGIBLE_CURVATURE * most.sum()) :])
    ends = np.cumsum([0, *map(len, columns)])
    hessian = np.zeros((ends[-1], ends[-1]))
    for some, block in second.blocks(used):
        shares, weights = probabilities[some], costs[some, 0]
        parts = [block.features(part) for part in columns]
        for one, left in enumerate(parts):
            for other in range(one, len(parts)):
                weighed = block.weighed(-weights * shares[:, one] * (shares[:, other] - (one == other)))
                product = weighed.cross(left, parts[other])
                hessian[ends[one] : ends[one + 1], ends[other] : ends[other + 1]] += product
                if other > one:
                    hessian[ends[other] : ends[other + 1], ends[one] : ends[one + 1]] += product.T
    return hessian, np.concatenate(columns) == d
