"""Rows that are mixtures of others: the same optimum as over the rows themselves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_array

from pcc_pipeline.model.balance import balance
from pcc_pipeline.model.builders import Task
from pcc_pipeline.model.families import build_classifier, complete
from pcc_pipeline.solvers import curvature
from pcc_pipeline.solvers.curvature import Curvature
from pcc_pipeline.solvers.logistic import fit_fast
from pcc_pipeline.solvers.losses import objective, own_units, weighed_losses
from pcc_pipeline.solvers.problem import Penalty, Problem
from tests.solver_choices import CHOICES


def rows(classes: int) -> tuple[np.ndarray, np.ndarray]:
    draws = np.random.default_rng(1)
    labels = np.repeat(np.arange(classes), [120, 30, 15][:classes])
    vectors = draws.normal(size=(len(labels), 10)).astype(np.float32)
    vectors[np.arange(len(labels)), labels] += 1.2
    return vectors, labels


@pytest.mark.parametrize("method", ["SMOTE", "RandomOverSampler"])
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize(("C", "place"), [(0.1, 0), (20.0, 0), (20.0, 30)])
def test_a_fit_by_the_mixture_is_as_good_as_one_by_all_rows(
    choice: dict[str, object], classes: int, method: str, C: float, place: float
) -> None:
    vectors, labels = rows(classes)
    vectors, labels, mixture = balance(vectors + np.float32(place), labels, method, 0)
    assert mixture is not None
    values = complete("LogisticRegression", {"C": C, "tol": 1e-5, **choice})
    whole, mixed = (
        fit_fast(build_classifier("LogisticRegression", values, Task(classes, 0)), values, vectors, labels, mixture=how)
        for how in (None, mixture)
    )
    assert whole.converged
    assert mixed.converged
    answers = (fit.classifier.predict_proba(vectors) for fit in (whole, mixed))
    np.testing.assert_allclose(*answers, atol=1e-2)


@pytest.fixture
def both() -> tuple[Problem, Problem]:
    """A problem of mixtures, and the same with all its rows."""
    vectors, labels, mixture = balance(*rows(3), "SMOTE", 0)
    targets = (labels[:, None] == np.arange(3)).astype(np.float32)
    penalty = Penalty(0.2, 0.5, False)
    whole = Problem(vectors, targets, np.ones((1, 1)), 2.0, penalty, softmax=True)
    return replace(whole, rows=vectors[: mixture.shape[1]], mixture=mixture), whole


@pytest.mark.parametrize("in_double", [False, True])
def test_scores_gradient_and_objective_are_those_of_all_rows(both: tuple[Problem, Problem], in_double: bool) -> None:
    mixed, whole = (replace(problem, in_double=in_double) for problem in both)
    weights = np.random.default_rng(0).normal(size=(11, 3))
    np.testing.assert_allclose(mixed.scores(weights), whole.scores(weights), atol=1e-5)
    _, slopes = weighed_losses(whole, whole.scores(weights))
    np.testing.assert_allclose(mixed.gradient(slopes), whole.gradient(slopes), rtol=1e-4, atol=1e-3)
    assert objective(mixed, weights) == pytest.approx(objective(whole, weights), rel=1e-6)
    # A bound: no unit is greater than by the rows themselves.
    assert (own_units(mixed) <= own_units(whole) * (1 + 1e-6)).all()


@pytest.mark.parametrize("block_rows", [50, 32_768])
@pytest.mark.parametrize("share", [0.05, 0.6, 1.0])
def test_second_derivatives_are_those_of_all_rows(
    monkeypatch: pytest.MonkeyPatch, both: tuple[Problem, Problem], block_rows: int, share: float
) -> None:
    monkeypatch.setattr(curvature, "BLOCK_ROWS", block_rows)
    draws = np.random.default_rng(2)
    n_rows = len(both[0].targets)
    used = np.flatnonzero(draws.random(n_rows) < share)
    each = draws.random(n_rows)
    left, right = np.array([0, 3, 7, 10]), np.array([1, 3, 10])
    with_ones = np.column_stack([both[1].rows, np.ones(n_rows)])[used].astype(np.float64)
    for problem in both:
        second = Curvature(problem)
        square = sum(block.weighed(each[some]).square(block.features(left)) for some, block in second.blocks(used))
        cross = sum(
            block.weighed(-each[some]).cross(block.features(left), block.features(right))
            for some, block in second.blocks(used)
        )
        np.testing.assert_allclose(square, with_ones[:, left].T * each[used] @ with_ones[:, left], rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(
            cross, -with_ones[:, left].T * each[used] @ with_ones[:, right], rtol=1e-4, atol=1e-3
        )


def test_a_mixture_of_one_row_each_picks_rows() -> None:
    vectors, labels = rows(2)
    picked = np.array([0, 0, 5, 149])
    mixture = csr_array((np.ones(4, dtype=np.float32), (np.arange(4), picked)), shape=(4, len(vectors)))
    targets = labels[picked, None].astype(np.float32)
    mixed = Problem(vectors, targets, np.ones((1, 1)), 1.0, Penalty(0, 1, True), False, mixture=mixture)
    weights = np.ones((11, 1))
    np.testing.assert_allclose(mixed.scores(weights), vectors[picked] @ weights[:-1] + 1, rtol=1e-5)
