"""L-BFGS-B by itself, and the losses; its objectives are compared with scikit-learn's in test_logistic.py."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import check_grad

from pcc_pipeline.solvers.lbfgs_b import solve
from pcc_pipeline.solvers.losses import binary_losses, softmax_losses
from pcc_pipeline.solvers.problem import Penalty, Problem

EQUAL = np.ones((1, 1))
LASSO = Penalty(1, 0, False)


def problem(C: float, penalty: Penalty = LASSO) -> Problem:
    random = np.random.default_rng(3)
    rows = random.normal(size=(90, 8)).astype(np.float32)
    labels = (rows[:, :3] + random.normal(size=(90, 3))).argmax(axis=1)
    targets = (labels[:, None] == np.arange(3)).astype(np.float32)
    return Problem(rows, targets, EQUAL, C, penalty, softmax=True)


@pytest.mark.parametrize("losses", [softmax_losses, binary_losses])
def test_the_slope_is_the_derivative_of_the_loss(losses: object) -> None:
    assert callable(losses)
    random = np.random.default_rng(0)
    targets = np.eye(4)[random.integers(0, 4, size=5)]

    def value(flat: np.ndarray) -> float:
        return float(losses(flat.reshape(5, 4).copy(), targets)[0].sum())

    def slope(flat: np.ndarray) -> np.ndarray:
        return np.asarray(losses(flat.reshape(5, 4).copy(), targets)[1].ravel())

    assert check_grad(value, slope, 3 * random.normal(size=20)) < 1e-5


@pytest.mark.parametrize("losses", [softmax_losses, binary_losses])
def test_scores_too_large_for_an_exponential_give_finite_losses(losses: object) -> None:
    assert callable(losses)
    values, slope = losses(np.array([[2000.0, -2000.0]], dtype=np.float32), np.array([[0, 1]], dtype=np.float32))
    assert values.sum() >= 4000
    assert np.isfinite(slope).all()


def test_an_intercept_that_is_free_makes_the_mean_probabilities_the_class_shares() -> None:
    one = problem(0.01)
    solution = solve(one, 1e-5, 500)
    _, slope = softmax_losses(one.rows @ solution.weights[:-1] + solution.weights[-1], one.targets)
    assert np.abs(slope.mean(axis=0)).max() < 1e-3


def test_the_l1_penalty_leaves_weights_exactly_at_zero() -> None:
    inner = solve(problem(0.05), 1e-4, 500).weights[:-1]
    assert 0 < np.count_nonzero(inner) < inner.size


def test_a_row_weighed_twice_counts_as_two_rows() -> None:
    once = problem(1.0, Penalty(0.5, 0.5, False))
    row_weights = np.ones((90, 1))
    row_weights[:20] = 2
    weighed = solve(replace(once, row_weights=row_weights), 1e-5, 500)
    twice = replace(
        once,
        rows=np.vstack([once.rows, once.rows[:20]]),
        targets=np.vstack([once.targets, once.targets[:20]]),
    )
    assert np.allclose(weighed.weights, solve(twice, 1e-5, 500).weights, atol=5e-3)
