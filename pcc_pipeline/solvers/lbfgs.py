"""Logistic regression without an l1 penalty, softmax or one problem per column, by L-BFGS.

These are the problems of scikit-learn's saga with l2 (softmax, free intercept; with two classes one column) and of
liblinear's l2 (columns, penalised intercept).

The method is that of Nocedal and Wright, "Numerical Optimization", 2006, algorithm 7.5. Scores are linear in the
weights, which makes two things cheap here: a line search goes along the scores and needs no further product with the
rows, and it goes by derivatives alone, which single precision tells apart long after it rounds the values' differences
away. Columns on their own share each product and nothing else: each has its own memory, its own step and its own end.

Columns of the rows on very different scales leave L-BFGS standing, or all but standing. Where there are such columns,
and where it runs out of iterations, it goes on from where it is in units of each column's own (a diagonal
preconditioner), in which the loss's greatest curvature is the same along every weight. Not from the start: on columns
of like scale, such as sentence vectors, those units cost up to twice the iterations, and on few rows of many columns
far more.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import numpy as np

from pcc_pipeline.solvers.losses import are_unlike, intercept_pull, losses_along, own_units, ridge_pull, weighed_losses
from pcc_pipeline.solvers.problem import Problem, Solution

# Corrections that L-BFGS remembers: the SVD's columns differ much in scale, which a longer memory learns.
_MEMORY = 20
# Convergence is linear: what is left to gain follows from how much so many iterations gained and how much the same
# number before them did. It is done where that is less than this share of the objective, for each unit of the
# tolerance, and where one iteration lowers it by less than the other share.
_WINDOW = 10
_LEFT = 0.05
_DECREASE_AT_ONCE = 1e-4
# A step is long enough when the slope along it has come down to this share, or beyond zero to no more than it.
_SLOPE_LEFT = 0.9
# Where columns share a product, a better step of each costs less than one more product for all.
_SLOPE_LEFT_OF_COLUMNS = 0.5
_SEARCHES = 20
_FARTHER = 10.0


def solve(problem: Problem, tol: float, max_iter: int, start: np.ndarray | None = None) -> Solution:
    """Solve one problem, or one for each column.

    Args:
        tol: 1e-4 stops where 5e-6 of the objective seem left to gain, or one iteration gains less than 1e-8 of it;
            other values in proportion.
        max_iter: iterations, and as many again in the columns' own units.
        start: weights (d + 1, K) to start from; None: zeros.
    """
    n_columns = problem.targets.shape[1]
    weights = np.zeros((problem.rows.shape[1] + 1, n_columns)) if start is None else start.astype(np.float64)
    units = own_units(problem)
    solution = _Descent(problem, weights, np.ones_like(units), tol).solution(max_iter)
    if not solution.converged or are_unlike(units):
        rest = _Descent(problem, solution.weights, units, tol).solution(max_iter)
        solution = Solution(rest.weights, solution.iterations + rest.iterations, rest.converged)
    return solution


class _Descent:
    """Where the descent stands; of columns on their own, those that have not come to their end.

    What is called one number for each problem is (1,) for the softmax and (K,) for columns on their own.
    """

    def __init__(self, problem: Problem, weights: np.ndarray, units: np.ndarray, tol: float) -> None:
        self._whole, self._units, self._tol = problem, units, tol
        # Columns that have ended, and among them those that no step improved though one promised much.
        self._ended, self._stuck = weights.copy(), np.zeros(weights.shape[1], dtype=bool)
        # The problem, and the columns' places, of those that go on.
        self._problem, self._places = problem, np.arange(weights.shape[1])
        self._weights, self._scores = weights, problem.scores(weights)
        # Of each step: how the weights moved, how the gradient turned, and one over the two's product.
        self._memory: deque[tuple[np.ndarray, np.ndarray, np.ndarray]] = deque(maxlen=_MEMORY)
        self._value, self._gradient = self._at(*weighed_losses(problem, self._scores))
        self._values = deque([self._value], maxlen=2 * _WINDOW + 1)
        self._scale = np.ones_like(self._value)
        # What the last step promised to gain, as half of its slope: L-BFGS takes that to be left.
        self._promise = np.full_like(self._value, np.inf)

    def solution(self, max_iter: int) -> Solution:
        iterations = 0
        while len(self._places) and iterations < max_iter:
            iterations += 1
            self._step()
            self._drop_ended()
        converged = not len(self._places)
        self._ended[:, self._places] = self._weights
        if self._whole.in_double:
            return Solution(self._ended, iterations, converged and not self._stuck.any())
        if self._stuck.any():
            # Single precision could not tell the next point from this one: go on from here in double.
            rest = replace(_of_columns(self._whole, self._stuck), in_double=True)
            descent = _Descent(rest, self._ended[:, self._stuck], own_units(rest), self._tol)
            other = descent.solution(max(1, max_iter - iterations))
            self._ended[:, self._stuck] = other.weights
            iterations, converged = iterations + other.iterations, converged and other.converged
        return Solution(self._ended, iterations, converged)

    def _dot(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """The inner product, one number for each problem."""
        each: np.ndarray = np.einsum("ij,ij->j", one, other)
        return each.sum(keepdims=True) if self._whole.softmax else each

    def _at(self, losses: np.ndarray, slopes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The objective, one number for each problem, and its gradient, (d + 1, K), at the weights."""
        pull = ridge_pull(self._problem, self._weights)
        return losses + self._dot(pull, self._weights) / 2, self._problem.gradient(slopes) + pull

    def _direction(self) -> np.ndarray:
        """The two loops of L-BFGS."""
        direction, shares = -self._gradient, []
        for moved, turned, inverse in reversed(self._memory):
            shares.append(inverse * self._dot(moved, direction))
            direction -= shares[-1] * turned
        direction = self._first_guess(direction)
        for (moved, turned, inverse), share in zip(self._memory, reversed(shares), strict=True):
            direction += (share - inverse * self._dot(turned, direction)) * moved
        return direction

    def _first_guess(self, gradient: np.ndarray) -> np.ndarray:
        """A gradient times the inverse of the curvature, as far as it is known without the memory.

        That of the rows is guessed to be a multiple of the units'; that of moved rows' intercepts is known, and far
        greater (the inverse of both together: Sherman and Morrison, Ann. Math. Statist. 21, 1950).
        """
        guess: np.ndarray = self._scale * self._units**2 * gradient
        if (pull := intercept_pull(self._problem)) is not None:
            along = self._scale * self._units**2 * pull
            guess -= along * (self._dot(pull, guess) / (1 + self._dot(pull, along)))
        return guess

    def _step(self) -> None:
        direction = self._direction()
        drift = self._problem.scores(direction)
        first = self._dot(self._gradient, direction)
        size, losses, slopes = self._line_search(direction, drift, first)
        moved, before = size * direction, self._gradient
        self._weights = self._weights + moved
        self._scores += size.astype(drift.dtype) * drift
        self._value, self._gradient = self._at(losses, slopes)
        turned = self._gradient - before
        product, of_rows = self._dot(moved, turned), turned
        if (pull := intercept_pull(self._problem)) is not None:
            of_rows = turned - pull * self._dot(pull, moved)
        in_units = self._dot(of_rows, self._units**2 * of_rows)
        # A step along which the gradient did not turn says nothing of the curvature.
        known = product > np.finfo(np.float64).eps * np.abs(self._dot(moved, before))
        self._memory.append((moved, turned, np.where(known, 1, 0) / np.where(known, product, 1)))
        self._scale = np.where(known, self._dot(moved, of_rows) / np.where(known, in_units, 1), self._scale)
        self._values.append(self._value)
        self._promise = -first / 2
        stuck = (size == 0) & (self._promise > _LEFT * self._tol * np.abs(self._value))
        # Along a step the objective falls; where its value rises, single precision does not tell it apart.
        stuck |= self._value - self._values[-2] > _LEFT * self._tol * np.abs(self._value)
        self._stuck[self._places[np.broadcast_to(stuck, len(self._places))]] = True

    def _line_search(
        self, direction: np.ndarray, drift: np.ndarray, first: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The size of the step, one for each problem, and the losses and slopes there; 0 where no size is better.

        `first` is the slope along the direction here.

        The objective is convex: where its slope along the direction is still negative it is lower than here, and
        between a negative slope and a positive one lies the least.
        """
        pull = ridge_pull(self._problem, direction)
        ridge_here, ridge_farther = self._dot(pull, self._weights), self._dot(pull, direction)
        enough = (_SLOPE_LEFT if self._whole.softmax else _SLOPE_LEFT_OF_COLUMNS) * np.abs(first)
        size = np.ones_like(first) if self._memory else self._first_size(first, drift, ridge_farther)
        low, low_slope = np.zeros_like(first), first.copy()
        high, high_slope = np.full_like(first, np.inf), np.zeros_like(first)
        for _ in range(_SEARCHES):
            losses, slopes, slope = losses_along(self._problem, self._scores, drift, size)
            slope += ridge_here + size * ridge_farther
            searching = np.abs(slope) > enough
            if not searching.any():
                return size, losses, slopes
            short, far = searching & (slope < 0), searching & (slope > 0)
            # Beyond the farthest size known, along the line through the last two slopes; a line that does not rise
            # says nothing.
            rise = np.where(slope > low_slope, slope - low_slope, np.inf)
            beyond = np.clip(size - slope * (size - low) / rise, 2 * size, _FARTHER * size)
            low, low_slope = np.where(short, size, low), np.where(short, slope, low_slope)
            high, high_slope = np.where(far, size, high), np.where(far, slope, high_slope)
            bounded = searching & np.isfinite(high)
            width = np.where(bounded, high - low, 0)
            between = low - low_slope * width / np.where(bounded, high_slope - low_slope, 1)
            between = np.clip(between, low + 0.1 * width, low + 0.9 * width)
            size = np.where(bounded, between, np.where(searching, beyond, size))
        # At least where it is lower than here.
        size = np.where(searching, low, size)
        losses, slopes, _ = losses_along(self._problem, self._scores, drift, size)
        return size, losses, slopes

    def _first_size(self, first: np.ndarray, drift: np.ndarray, ridge: np.ndarray) -> np.ndarray:
        """Before anything is known of the curvature: a step at its greatest, 1/4 of each column's."""
        costs = self._problem.costs
        costs = np.broadcast_to(costs, drift.shape)
        # Products in double: single precision has no room for the squares of great numbers.
        each = np.einsum("ij,ij,ij->j", costs, drift, drift, dtype=np.float64) / 4
        curvature = (each.sum(keepdims=True) if self._whole.softmax else each) + ridge
        size: np.ndarray = -first / np.where(curvature > 0, curvature, 1)
        return size

    def _drop_ended(self) -> None:
        least = self._tol * np.abs(self._value)
        ended = self._values[-2] - self._value <= _DECREASE_AT_ONCE * least
        if len(self._values) > 2 * _WINDOW:
            before, gained = self._values[0] - self._values[_WINDOW], self._values[_WINDOW] - self._value
            # The first iterations may gain many times what is left, which says nothing of how fast the last ones do.
            before = np.minimum(before, np.abs(self._value))
            # g + g r + g r^2 + ... after the last g, where r = g / before: g r / (1 - r).
            # On a plateau gains are small and grow again: then the last step promises more than is left at an end.
            ended |= (gained**2 <= _LEFT * least * (before - gained)) & (self._promise <= _LEFT * least)
        if not ended.any():
            return
        if self._whole.softmax:
            self._ended, self._places = self._weights, self._places[:0]
            self._weights = self._weights[:, :0]
            return
        self._ended[:, self._places[ended]] = self._weights[:, ended]
        left = ~ended
        self._places, self._problem = self._places[left], _of_columns(self._problem, left)
        self._weights, self._gradient = self._weights[:, left], self._gradient[:, left]
        self._scores, self._value, self._scale = self._scores[:, left], self._value[left], self._scale[left]
        self._values = deque((value[left] for value in self._values), maxlen=2 * _WINDOW + 1)
        memory = ((moved[:, left], turned[:, left], inverse[left]) for moved, turned, inverse in self._memory)
        self._memory = deque(memory, maxlen=_MEMORY)


def _of_columns(problem: Problem, columns: np.ndarray) -> Problem:
    """The problem of some of the columns; of a softmax all are one."""
    if problem.softmax:
        return problem
    row_weights = problem.row_weights if problem.row_weights.shape[1] == 1 else problem.row_weights[:, columns]
    return replace(problem, targets=np.ascontiguousarray(problem.targets[:, columns]), row_weights=row_weights)
