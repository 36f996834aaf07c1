"""The one-vs-rest l1 solver by itself; its objective is compared with liblinear's in test_logistic.py."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pcc_pipeline.solvers import one_vs_rest_l1
from pcc_pipeline.solvers.one_vs_rest_l1 import solve_l1_logistic
from pcc_pipeline.solvers.problem import Penalty, Problem

EQUAL = np.ones((1, 1))


def problem(C: float = 1.0) -> Problem:
    random = np.random.default_rng(0)
    rows = random.normal(size=(80, 30)).astype(np.float32)
    targets = (rows[:, :1] + random.normal(size=(80, 1)) > 0).astype(np.float32)
    return Problem(rows, targets, EQUAL, C, Penalty(1, 0, True), softmax=False)


def test_a_start_at_the_solution_needs_no_further_step() -> None:
    first = solve_l1_logistic(problem(), 1e-4, 100)
    again = solve_l1_logistic(problem(), 1e-4, 100, start=first.weights)
    assert first.iterations > 1
    assert again.iterations == 1
    assert np.array_equal(again.weights, first.weights)


def test_a_strong_penalty_leaves_every_weight_at_zero() -> None:
    solution = solve_l1_logistic(problem(C=1e-6), 1e-4, 100)
    assert not solution.weights.any()
    assert solution.converged


def test_a_row_weighed_twice_counts_as_two_rows() -> None:
    once = problem()
    row_weights = np.ones((80, 1))
    row_weights[:20] = 2
    weighed = solve_l1_logistic(replace(once, row_weights=row_weights), 1e-6, 100)
    twice = replace(
        once,
        rows=np.vstack([once.rows, once.rows[:20]]),
        targets=np.vstack([once.targets, once.targets[:20]]),
    )
    assert np.allclose(weighed.weights, solve_l1_logistic(twice, 1e-6, 100).weights, atol=1e-4)


def test_a_label_that_no_step_improves_though_much_was_promised_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_far(hessian: np.ndarray, gradient: np.ndarray, weights: np.ndarray) -> np.ndarray:
        there: np.ndarray = weights + 1e6 * (model(hessian, gradient, weights) - weights)
        return there

    model = one_vs_rest_l1.minimise_model
    monkeypatch.setattr(one_vs_rest_l1, "_HALVINGS", 3)
    monkeypatch.setattr(one_vs_rest_l1, "minimise_model", too_far)
    solution = solve_l1_logistic(problem(), 1e-4, 100)
    assert not solution.converged
    assert solution.iterations == 1
