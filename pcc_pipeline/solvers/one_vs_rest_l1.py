"""l1-penalised logistic regression for many labels over the same rows, by proximal Newton steps on working sets.

Solves, for each column k of signs (2 * targets - 1) on its own, what liblinear's l1 solver solves:

    minimise over w   |w|_1 + C * sum_i a_ik * log(1 + exp(-signs[i, k] * x_i . w)),   x_i = (row i, 1)

with the intercept penalised like any other weight, and a the rows' weights. The outer iteration is that of Yuan, Ho
and Lin, "An Improved GLMNET for L1-regularized Logistic Regression", JMLR 13 (2012), which liblinear uses too. What
makes it fast here: scores and gradients of all labels come from one matrix product; the quadratic model of a label is
built on the few features that matter to it and on the rows whose curvature is not negligible; and scikit-learn's
coordinate descent solves that model. A curvature that is only nearly right cannot spoil the result: every step is
judged by a line search on the exact objective, and the stopping rule looks at the exact gradient. A large C is come to
by smaller ones, each solved roughly from where the one before ended: far from the optimum the models would take in many
more features than stay.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pcc_pipeline.solvers.curvature import Curvature
from pcc_pipeline.solvers.newton_step import minimise_model, violation_of, working_set
from pcc_pipeline.solvers.problem import Problem, Solution

# Rows below this share of the greatest curvature add nothing to the quadratic model that the line search would miss.
_NEGLIGIBLE_CURVATURE = 1e-3
# Armijo's constant and the most halvings, as in liblinear.
_SUFFICIENT_DECREASE = 0.01
# Each C on the way is a tenth of the next; below the least of them, for rows of length 1, there is little to save.
_SMALLER, _LEAST_ON_THE_WAY, _ROUGHLY = 10.0, 0.3, 0.1
_HALVINGS = 20


def solve_l1_logistic(problem: Problem, tol: float, max_iter: int, start: np.ndarray | None = None) -> Solution:
    """Solve K problems at once: a penalty of l1 = 1 on every weight, the intercepts too.

    Args:
        tol: as liblinear's: a label is done when the 1-norm of its subgradient is below
            tol * max(min(positives, negatives), 1) / n of that norm at zero weights. At a large C that norm is so
            large that much could be left to gain, so the last step must also have gained less than a tenth of tol of
            the objective.
        max_iter: outer iterations, and as many for each smaller C on the way.
        start: weights (d + 1, K) to start from; None: they are sought by way of smaller values of C.
    """
    curvature = Curvature(problem)
    iterations = 0
    if start is None:
        smaller = [problem.C / _SMALLER]
        while smaller[-1] >= _LEAST_ON_THE_WAY:
            smaller.append(smaller[-1] / _SMALLER)
        for C in reversed(smaller[:-1]):
            rough = _solved(replace(problem, C=C), curvature, _ROUGHLY, max_iter, start)
            start, iterations = rough.weights, iterations + rough.iterations
    solution = _solved(problem, curvature, tol, max_iter, start)
    return Solution(solution.weights, iterations + solution.iterations, solution.converged)


def _solved(problem: Problem, second: Curvature, tol: float, max_iter: int, start: np.ndarray | None) -> Solution:
    n = len(problem.targets)
    signs = 2 * problem.targets - 1
    n_labels = signs.shape[1]
    weights = np.zeros((problem.rows.shape[1] + 1, n_labels)) if start is None else start.astype(np.float64)
    costs = np.broadcast_to(problem.costs, signs.shape)
    state = _State(signs, costs, weights, problem.scores(weights))
    positives = (signs > 0).sum(axis=0)
    at_zero = -0.5 * problem.gradient(costs * signs)
    scale = np.maximum(np.abs(at_zero) - 1, 0).sum(axis=0)
    goal = tol * np.maximum(np.minimum(positives, n - positives), 1) / n * scale

    active = np.arange(n_labels)
    # A start from elsewhere has gained nothing yet, which says nothing of what is left.
    gained = np.full(n_labels, 0.0 if start is None else np.inf)
    iterations, stuck = 0, False
    while len(active) and iterations < max_iter:
        iterations += 1
        slope = _sigmoid(-signs[:, active] * state.scores[:, active])
        pull = costs[:, active] * slope
        gradient = -problem.gradient(signs[:, active] * pull)
        violation = violation_of(state.weights[:, active], gradient)
        going = (violation.sum(axis=0) > goal[active]) | (gained[active] > tol / 10 * state.objective[active])
        if not going.any():
            active = active[:0]
            break
        curvature = np.ascontiguousarray((pull[:, going] * (1 - slope[:, going])).T)
        active, gradient, violation = active[going], gradient[:, going], violation[:, going]
        direction = np.zeros_like(gradient)
        for place, label in enumerate(active):
            working = np.sort(working_set(state.weights[:, label], violation[:, place])[0])
            hessian = _hessian(second, curvature[place], working)
            model = minimise_model(hessian, gradient[working, place], state.weights[working, label])
            direction[working, place] = model - state.weights[working, label]
        change = (gradient * direction).sum(axis=0)
        change += np.abs(state.weights[:, active] + direction).sum(axis=0)
        change -= np.abs(state.weights[:, active]).sum(axis=0)
        step = _Step(active, direction, problem.scores(direction), change)
        size = state.step_size(step)
        gained[active] = state.moved(step, size)
        # A label that no step improves has reached the precision of its numbers; its end, if little was promised.
        stuck = stuck or bool(np.any((size == 0) & (np.abs(change) > tol / 10 * state.objective[active])))
        active = active[size > 0]
    return Solution(state.weights, iterations, converged=not len(active) and not stuck)


@dataclass(frozen=True)
class _Step:
    """A step of some labels.

    Attributes:
        labels: the labels' places, (k,).
        direction: change of their weights, (d + 1, k).
        drift: change of their scores, (n, k).
        change: what the model promises to change the objective by, (k,).
    """

    labels: np.ndarray
    direction: np.ndarray
    drift: np.ndarray
    change: np.ndarray


class _State:
    """Where the search of all labels stands: weights (d + 1, K), scores (n, K) and objective (K,)."""

    def __init__(self, signs: np.ndarray, costs: np.ndarray, weights: np.ndarray, scores: np.ndarray) -> None:
        self._signs, self._costs, self.weights, self.scores = signs, costs, weights, scores
        self.objective = _losses(signs * scores, costs) + np.abs(weights).sum(axis=0)

    def step_size(self, step: _Step) -> np.ndarray:
        """Sizes in (0, 1] that decrease the exact objective enough, for each label of the step; 0 where none does."""
        size = np.ones(len(step.labels))
        searching = np.arange(len(step.labels))
        for _ in range(_HALVINGS):
            labels = step.labels[searching]
            there = self.weights[:, labels] + size[searching] * step.direction[:, searching]
            shift = size[searching].astype(step.drift.dtype) * step.drift[:, searching]
            margins = self._signs[:, labels] * (self.scores[:, labels] + shift)
            value = _losses(margins, self._costs[:, labels]) + np.abs(there).sum(axis=0)
            change = value - self.objective[labels]
            enough = (change <= _SUFFICIENT_DECREASE * size[searching] * step.change[searching]) & (change < 0)
            searching = searching[~enough]
            if not len(searching):
                return size
            size[searching] /= 2
        size[searching] = 0
        return size

    def moved(self, step: _Step, size: np.ndarray) -> np.ndarray:
        """Take the step; what each of its labels gained, (k,)."""
        labels = step.labels
        self.weights[:, labels] += size * step.direction
        self.scores[:, labels] += size.astype(self.scores.dtype) * step.drift
        losses = _losses(self._signs[:, labels] * self.scores[:, labels], self._costs[:, labels])
        before = self.objective[labels]
        self.objective[labels] = losses + np.abs(self.weights[:, labels]).sum(axis=0)
        gained: np.ndarray = before - self.objective[labels]
        return gained


def _hessian(second: Curvature, curvature: np.ndarray, working: np.ndarray) -> np.ndarray:
    """The loss's second derivative over the working set, (w, w)."""
    used = np.flatnonzero(curvature > _NEGLIGIBLE_CURVATURE * curvature.max())
    if 2 * len(used) > len(curvature):
        # Leaving so few out costs more than it saves.
        used = np.arange(len(curvature))
    hessian = np.zeros((len(working), len(working)))
    for some, block in second.blocks(used):
        hessian += block.weighed(curvature[some]).square(block.features(working))
    return hessian


def _losses(margins: np.ndarray, costs: np.ndarray) -> np.ndarray:
    """Sum of cost * log(1 + exp(-margin)) of each column, without overflow."""
    losses = costs * (np.log1p(np.exp(-np.abs(margins))) - np.minimum(margins, 0))
    total: np.ndarray = losses.sum(axis=0, dtype=np.float64)
    return total


def _sigmoid(values: np.ndarray) -> np.ndarray:
    small = np.exp(-np.abs(values))
    shares: np.ndarray = np.where(values >= 0, 1, small) / (1 + small)
    return shares
