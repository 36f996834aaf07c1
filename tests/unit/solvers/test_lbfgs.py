"""The L-BFGS solver by itself; its objectives are compared with scikit-learn's in test_logistic.py."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize

from pcc_pipeline.solvers import lbfgs
from pcc_pipeline.solvers.lbfgs import solve
from pcc_pipeline.solvers.losses import objective, weighed_losses
from pcc_pipeline.solvers.problem import Penalty, Problem

RIDGE = Penalty(0, 1, False)


def problem(softmax: bool, C: float = 1.0, n_rows: int = 300) -> Problem:
    random = np.random.default_rng(3)
    rows = random.normal(size=(n_rows, 12)).astype(np.float32)
    labels = (rows[:, :4] + random.normal(size=(n_rows, 4)) + 0.4 * np.arange(4)).argmax(axis=1)
    targets = (labels[:, None] == np.arange(4)).astype(np.float32)
    return Problem(rows, targets, np.ones((1, 1)), C, RIDGE, softmax)


def least(one: Problem) -> float:
    """The optimum by scipy, in double precision and to the last digit."""
    in_double = replace(one, in_double=True)
    shape = (one.rows.shape[1] + 1, one.targets.shape[1])
    ridge = np.ones((shape[0], 1)) * one.penalty.l2
    ridge[-1] *= one.penalty.intercept_penalised

    def smooth(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(shape)
        _, slopes = weighed_losses(in_double, in_double.scores(weights))
        return objective(one, weights), (in_double.gradient(slopes) + ridge * weights).ravel()

    return float(minimize(smooth, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B", tol=1e-14).fun)


@pytest.mark.parametrize("C", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("penalised", [False, True])
@pytest.mark.parametrize("softmax", [False, True])
def test_it_comes_to_the_optimum(softmax: bool, penalised: bool, C: float) -> None:
    one = replace(problem(softmax, C), penalty=Penalty(0, 1, penalised))
    solution = solve(one, 1e-4, 500)
    assert solution.converged
    assert objective(one, solution.weights) <= least(one) * (1 + 2e-5)


@pytest.mark.parametrize("softmax", [False, True])
def test_a_start_at_the_solution_needs_few_steps(softmax: bool) -> None:
    one = problem(softmax, 30.0)
    found = solve(one, 1e-4, 500)
    again = solve(one, 1e-4, 500, start=found.weights)
    assert again.converged
    assert again.iterations < found.iterations / 2


def test_columns_that_end_at_different_times_end_where_each_would_alone() -> None:
    together = problem(False, 100.0)
    # The last column's rows weigh next to nothing: it is done at once, the others are not.
    row_weights = np.ones((300, 4))
    row_weights[:, 3] = 1e-6
    together = replace(together, row_weights=row_weights)
    solution = solve(together, 1e-5, 500)
    for column in range(4):
        part = slice(column, column + 1)
        alone = replace(together, targets=together.targets[:, part], row_weights=row_weights[:, part])
        found = solve(alone, 1e-5, 500)
        assert found.iterations <= solution.iterations
        np.testing.assert_allclose(solution.weights[:, part], found.weights, atol=1e-3)


@pytest.mark.parametrize("softmax", [False, True])
def test_a_row_weighed_twice_counts_as_two_rows(softmax: bool) -> None:
    once = problem(softmax)
    row_weights = np.ones((300, 1))
    row_weights[:50] = 2
    twice = replace(
        once, rows=np.vstack([once.rows, once.rows[:50]]), targets=np.vstack([once.targets, once.targets[:50]])
    )
    weighed, repeated = solve(replace(once, row_weights=row_weights), 1e-6, 500), solve(twice, 1e-6, 500)
    np.testing.assert_allclose(weighed.weights, repeated.weights, atol=2e-3)


@pytest.mark.parametrize("softmax", [False, True])
def test_where_no_step_in_single_precision_is_better_double_precision_goes_on(
    monkeypatch: pytest.MonkeyPatch, softmax: bool
) -> None:
    one = problem(softmax, 10.0)
    search = lbfgs._Descent._line_search
    doubles = []

    def stuck(
        self: lbfgs._Descent, direction: np.ndarray, drift: np.ndarray, first: np.ndarray
    ) -> tuple[np.ndarray, ...]:
        size, losses, slopes = search(self, direction, drift, first)
        if not self._problem.in_double and len(self._memory) > 5:
            losses, slopes = weighed_losses(self._problem, self._scores)
            return np.zeros_like(size), losses, slopes
        doubles.append(self._problem.in_double)
        return size, losses, slopes

    monkeypatch.setattr(lbfgs._Descent, "_line_search", stuck)
    solution = solve(one, 1e-4, 500)
    assert solution.converged
    assert any(doubles)
    assert objective(one, solution.weights) <= least(one) * (1 + 2e-5)


@pytest.mark.parametrize("softmax", [False, True])
def test_an_objective_that_rises_is_no_end(monkeypatch: pytest.MonkeyPatch, softmax: bool) -> None:
    one = problem(softmax, 10.0)
    at, doubles = lbfgs._Descent._at, []

    def risen(self: lbfgs._Descent, losses: np.ndarray, slopes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        value, gradient = at(self, losses, slopes)
        doubles.append(self._problem.in_double)
        return value * (1 if doubles[-1] or len(self._memory) < 5 else 1.01), gradient

    monkeypatch.setattr(lbfgs._Descent, "_at", risen)
    solution = solve(one, 1e-4, 500)
    assert solution.converged
    assert any(doubles)
    assert objective(one, solution.weights) <= least(one) * (1 + 2e-5)


@pytest.mark.parametrize("softmax", [False, True])
def test_too_few_iterations_are_told_and_what_was_reached_is_kept(softmax: bool) -> None:
    one = problem(softmax, 100.0)
    solution = solve(one, 1e-4, 2)
    assert not solution.converged
    assert solution.iterations == 4
    assert objective(one, solution.weights) < objective(one, np.zeros_like(solution.weights))
