"""The softmax l1 solver by itself; its objectives are compared with saga's in test_logistic.py."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pcc_pipeline.solvers import softmax_l1
from pcc_pipeline.solvers.lbfgs_b import solve
from pcc_pipeline.solvers.losses import objective, softmax_losses
from pcc_pipeline.solvers.problem import Penalty, Problem
from pcc_pipeline.solvers.softmax_l1 import solve_softmax

EQUAL = np.ones((1, 1))
LASSO = Penalty(1, 0, False)


def problem(C: float = 1.0, penalty: Penalty = LASSO, n_classes: int = 4, n_rows: int = 200) -> Problem:
    random = np.random.default_rng(n_classes)
    rows = random.normal(size=(n_rows, 30)).astype(np.float32)
    labels = (rows[:, :n_classes] + random.normal(size=(n_rows, n_classes)) + 0.3 * np.arange(n_classes)).argmax(axis=1)
    targets = (labels[:, None] == np.arange(n_classes)).astype(np.float32)
    return Problem(rows, targets, EQUAL, C, penalty, softmax=True)


@pytest.mark.parametrize("penalty", [LASSO, Penalty(0.6, 0.4, False)])
@pytest.mark.parametrize("C", [0.05, 1.0, 100.0])
def test_it_reaches_the_objective_that_l_bfgs_reaches_in_many_more_passes(C: float, penalty: Penalty) -> None:
    one = problem(C, penalty)
    newton, other = solve_softmax(one, 1e-4, 100), solve(one, 1e-5, 5000)
    assert newton.converged
    assert newton.iterations < other.iterations
    assert objective(one, newton.weights) <= objective(one, other.weights) * (1 + 1e-5)


def test_every_weight_at_the_solution_is_optimal() -> None:
    one = problem()
    solution = solve_softmax(one, 1e-5, 100)
    inner, intercepts = solution.weights[:-1], solution.weights[-1]
    _, slope = softmax_losses(one.rows.astype(np.float64) @ inner + intercepts, one.targets)
    gradient = one.rows.T @ slope
    assert np.abs(gradient[inner == 0]).max() <= 1.01
    assert np.allclose(gradient[inner != 0], -np.sign(inner[inner != 0]), atol=0.01)
    assert np.abs(slope.sum(axis=0)).max() < 0.01


def test_too_many_weights_in_use_are_left_to_l_bfgs(monkeypatch: pytest.MonkeyPatch) -> None:
    one = problem(C=5.0)
    alone = solve_softmax(one, 1e-4, 1000)
    monkeypatch.setattr(softmax_l1, "_LARGEST_MODEL", 40)
    handed_over = solve_softmax(one, 1e-4, 1000)
    assert handed_over.converged
    assert handed_over.iterations > alone.iterations
    assert objective(one, handed_over.weights) == pytest.approx(objective(one, alone.weights), rel=1e-4)


def test_a_row_weighed_twice_counts_as_two_rows() -> None:
    once = problem()
    row_weights = np.ones((200, 1))
    row_weights[:50] = 2
    twice = replace(
        once,
        rows=np.vstack([once.rows, once.rows[:50]]),
        targets=np.vstack([once.targets, once.targets[:50]]),
    )
    weighed = solve_softmax(replace(once, row_weights=row_weights), 1e-6, 100)
    repeated, unweighed = solve_softmax(twice, 1e-6, 100), solve_softmax(once, 1e-6, 100)
    reached = objective(twice, weighed.weights)
    assert reached == pytest.approx(objective(twice, repeated.weights), rel=1e-5)
    assert objective(twice, unweighed.weights) > reached * (1 + 1e-3)


def test_a_step_that_gains_nothing_though_it_promised_much_is_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    one = problem(C=5.0)
    alone = solve_softmax(one, 1e-4, 1000)
    steps = []

    def uphill(*arguments: Any) -> np.ndarray:
        steps.append(step(*arguments))
        # The third step leads where nothing is gained, and promises as much as it would have.
        return steps[-1] if len(steps) < 3 else 1e3 * steps[-1]

    step = softmax_l1._direction
    monkeypatch.setattr(softmax_l1, "_HALVINGS", 3)
    monkeypatch.setattr(softmax_l1, "_direction", uphill)
    gone_on = solve_softmax(one, 1e-4, 1000)
    assert len(steps) == 3
    assert gone_on.converged
    assert objective(one, gone_on.weights) == pytest.approx(objective(one, alone.weights), rel=1e-4)
