"""The L-BFGS solver by itself; its objectives are compared with scikit-learn's in test_fast_logistic.py."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import check_grad

from pcc_pipeline.solvers.lbfgs import Penalty, binary_losses, softmax_losses, solve

EQUAL = np.ones((1, 1))


def problem(n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(n_classes)
    rows = random.normal(size=(90, 8)).astype(np.float32)
    labels = (rows[:, :n_classes] + random.normal(size=(90, n_classes))).argmax(axis=1)
    return rows, (labels[:, None] == np.arange(n_classes)).astype(np.float32)


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
    rows, targets = problem(3)
    found = solve(rows, targets, EQUAL, 0.01, Penalty(1, 0, False), softmax=True, tol=1e-5, max_iter=500)
    _, slope = softmax_losses(rows @ found.weights[:-1] + found.weights[-1], targets)
    assert np.abs(slope.mean(axis=0)).max() < 1e-3


def test_the_l1_penalty_leaves_weights_exactly_at_zero() -> None:
    rows, targets = problem(3)
    found = solve(rows, targets, EQUAL, 0.05, Penalty(1, 0, False), softmax=True, tol=1e-4, max_iter=500)
    assert 0 < np.count_nonzero(found.weights[:-1]) < found.weights[:-1].size


def test_a_row_weighed_twice_counts_as_two_rows() -> None:
    rows, targets = problem(3)
    row_weights = np.ones((90, 1))
    row_weights[:20] = 2
    penalty = Penalty(0.5, 0.5, False)
    weighed = solve(rows, targets, row_weights, 1.0, penalty, softmax=True, tol=1e-5, max_iter=500)
    more_rows, more_targets = np.vstack([rows, rows[:20]]), np.vstack([targets, targets[:20]])
    repeated = solve(more_rows, more_targets, EQUAL, 1.0, penalty, softmax=True, tol=1e-5, max_iter=500)
    assert np.allclose(weighed.weights, repeated.weights, atol=5e-3)
