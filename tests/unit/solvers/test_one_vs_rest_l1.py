"""The one-vs-rest l1 solver by itself; its objective is compared with liblinear's in test_fast_logistic.py."""

from __future__ import annotations

import numpy as np

from pcc_pipeline.solvers.one_vs_rest_l1 import solve_l1_logistic

EQUAL = np.ones((1, 1))


def problem() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    rows = random.normal(size=(80, 30)).astype(np.float32)
    return rows, np.where(rows[:, :1] + random.normal(size=(80, 1)) > 0, np.float32(1), np.float32(-1))


def test_a_start_at_the_solution_needs_no_further_step() -> None:
    rows, signs = problem()
    first = solve_l1_logistic(rows, signs, EQUAL, 1.0, 1e-4, 100)
    again = solve_l1_logistic(rows, signs, EQUAL, 1.0, 1e-4, 100, start=first.weights)
    assert first.iterations > 1
    assert again.iterations == 1
    assert np.array_equal(again.weights, first.weights)


def test_a_strong_penalty_leaves_every_weight_at_zero() -> None:
    rows, signs = problem()
    found = solve_l1_logistic(rows, signs, EQUAL, 1e-6, 1e-4, 100)
    assert not found.weights.any()
    assert found.unfinished == 0


def test_a_row_weighed_twice_counts_as_two_rows() -> None:
    rows, signs = problem()
    row_weights = np.ones((80, 1))
    row_weights[:20] = 2
    weighed = solve_l1_logistic(rows, signs, row_weights, 1.0, 1e-6, 100)
    repeated = solve_l1_logistic(np.vstack([rows, rows[:20]]), np.vstack([signs, signs[:20]]), EQUAL, 1.0, 1e-6, 100)
    assert np.allclose(weighed.weights, repeated.weights, atol=1e-4)
