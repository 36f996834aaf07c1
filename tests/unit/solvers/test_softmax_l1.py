"""The softmax l1 solver by itself; its objectives are compared with saga's in test_fast_logistic.py."""

from __future__ import annotations

import numpy as np
import pytest

from pcc_pipeline.solvers import softmax_l1
from pcc_pipeline.solvers.lbfgs import Penalty, softmax_losses, solve
from pcc_pipeline.solvers.softmax_l1 import penalty_of, solve_softmax

EQUAL = np.ones((1, 1))
LASSO = Penalty(1, 0, False)


def problem(n_classes: int = 4, n_rows: int = 200) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(n_classes)
    rows = random.normal(size=(n_rows, 30)).astype(np.float32)
    labels = (rows[:, :n_classes] + random.normal(size=(n_rows, n_classes)) + 0.3 * np.arange(n_classes)).argmax(axis=1)
    return rows, (labels[:, None] == np.arange(n_classes)).astype(np.float32)


def objective(rows: np.ndarray, targets: np.ndarray, weights: np.ndarray, C: float, penalty: Penalty) -> float:
    losses, _ = softmax_losses(rows.astype(np.float64) @ weights[:-1] + weights[-1], targets)
    return penalty_of(weights, penalty) + C * float(losses.sum())


@pytest.mark.parametrize("penalty", [LASSO, Penalty(0.6, 0.4, False)])
@pytest.mark.parametrize("C", [0.05, 1.0, 100.0])
def test_it_reaches_the_objective_that_l_bfgs_reaches_in_many_more_passes(C: float, penalty: Penalty) -> None:
    rows, targets = problem()
    newton = solve_softmax(rows, targets, EQUAL, C, penalty, 1e-4, 100)
    other = solve(rows, targets, EQUAL, C, penalty, softmax=True, tol=1e-5, max_iter=5000)
    assert newton.converged
    assert newton.iterations < other.iterations
    wanted = objective(rows, targets, other.weights, C, penalty)
    assert objective(rows, targets, newton.weights, C, penalty) <= wanted * (1 + 1e-5)


def test_every_weight_at_the_solution_is_optimal() -> None:
    rows, targets = problem()
    found = solve_softmax(rows, targets, EQUAL, 1.0, LASSO, 1e-5, 100)
    _, slope = softmax_losses(rows.astype(np.float64) @ found.weights[:-1] + found.weights[-1], targets)
    gradient = rows.T @ slope
    inner = found.weights[:-1]
    assert np.abs(gradient[inner == 0]).max() <= 1.01
    assert np.allclose(gradient[inner != 0], -np.sign(inner[inner != 0]), atol=0.01)
    assert np.abs(slope.sum(axis=0)).max() < 0.01


def test_too_many_weights_in_use_are_left_to_l_bfgs(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, targets = problem()
    alone = solve_softmax(rows, targets, EQUAL, 5.0, LASSO, 1e-4, 1000)
    monkeypatch.setattr(softmax_l1, "_LARGEST_MODEL", 40)
    handed_over = solve_softmax(rows, targets, EQUAL, 5.0, LASSO, 1e-4, 1000)
    assert handed_over.converged
    assert handed_over.iterations > alone.iterations
    wanted = objective(rows, targets, alone.weights, 5.0, LASSO)
    assert objective(rows, targets, handed_over.weights, 5.0, LASSO) == pytest.approx(wanted, rel=1e-4)


def test_a_row_weighed_twice_counts_as_two_rows() -> None:
    rows, targets = problem()
    row_weights = np.ones((200, 1))
    row_weights[:50] = 2
    weighed = solve_softmax(rows, targets, row_weights, 1.0, LASSO, 1e-6, 100)
    more_rows, more_targets = np.vstack([rows, rows[:50]]), np.vstack([targets, targets[:50]])
    repeated = solve_softmax(more_rows, more_targets, EQUAL, 1.0, LASSO, 1e-6, 100)
    reached = [objective(more_rows, more_targets, found.weights, 1.0, LASSO) for found in (weighed, repeated)]
    assert reached[0] == pytest.approx(reached[1], rel=1e-5)
    unweighed = solve_softmax(rows, targets, EQUAL, 1.0, LASSO, 1e-6, 100)
    assert objective(more_rows, more_targets, unweighed.weights, 1.0, LASSO) > reached[0] * (1 + 1e-3)
