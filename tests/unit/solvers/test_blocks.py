"""Solvers go through the rows in blocks: the same optimum as all at once, and no copy of the rows in memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from pcc_pipeline.data.vector_file import written
from pcc_pipeline.model.builders import Task
from pcc_pipeline.model.families import build_classifier, complete
from pcc_pipeline.solvers import centring, curvature, logistic, losses, problem
from pcc_pipeline.solvers.logistic import fit_fast
from pcc_pipeline.solvers.losses import objective, own_units
from pcc_pipeline.solvers.problem import Penalty, Problem
from tests.solver_choices import CHOICES


def rows(count: int, classes: int, width: int = 20) -> tuple[np.ndarray, np.ndarray]:
    draws = np.random.default_rng(5)
    labels = draws.integers(0, classes, count)
    vectors = draws.normal(size=(count, width)).astype(np.float32)
    vectors[np.arange(count), labels] += 1.5
    return vectors, labels


def blocks_of(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    for module in (problem, losses, curvature, centring):
        monkeypatch.setattr(module, "BLOCK_ROWS", count)


def weights_of(choice: dict[str, object], vectors: np.ndarray, labels: np.ndarray, balanced: bool) -> np.ndarray:
    values = complete("LogisticRegression", {"C": 0.5, "tol": 1e-5, **choice})
    task = Task(len(set(labels)), 0, balanced)
    classifier = build_classifier("LogisticRegression", values, task)
    fit = fit_fast(classifier, values, vectors, labels, balanced)
    assert fit.converged
    return (
        logistic._weights_of(fit.classifier)
        if hasattr(fit.classifier, "estimators_")
        else np.vstack([fit.classifier.coef_.T, fit.classifier.intercept_])
    )


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("choice", CHOICES)
def test_blocks_come_to_the_optimum_of_all_rows_at_once(
    monkeypatch: pytest.MonkeyPatch, choice: dict[str, object], classes: int, balanced: bool
) -> None:
    vectors, labels = rows(1_000, classes)
    whole = weights_of(choice, vectors, labels, balanced)
    blocks_of(monkeypatch, 64)
    in_blocks = weights_of(choice, vectors, labels, balanced)
    if choice["solver"] == "saga" and classes > 2:
        # The same added to a feature's weights of all classes changes no answer, and may change no penalty.
        whole, in_blocks = (weights - weights.mean(axis=1, keepdims=True) for weights in (whole, in_blocks))
    np.testing.assert_allclose(in_blocks, whole, atol=2e-2)


def test_objective_and_units_are_sums_over_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, labels = rows(500, 3)
    targets = (labels[:, None] == np.arange(3)).astype(np.float32)
    given = Problem(vectors, targets, np.ones((500, 1)), 2.0, Penalty(0.3, 0.7, False), softmax=True)
    at = np.random.default_rng(0).normal(size=(21, 3))
    whole, units = objective(given, at), own_units(given)
    blocks_of(monkeypatch, 77)
    assert objective(given, at) == pytest.approx(whole, rel=1e-12)
    np.testing.assert_allclose(own_units(given), units, rtol=1e-6)


@pytest.mark.parametrize("choice", CHOICES)
def test_no_solver_copies_the_rows_of_a_file_into_memory(
    monkeypatch: pytest.MonkeyPatch, choice: dict[str, object]
) -> None:
    vectors, labels = rows(20_000, 3, width=200)
    # Far from zero, so that they are moved.
    vectors = written([vectors + np.float32(3)], 200)
    monkeypatch.setattr(centring, "LARGE_BYTES", vectors.nbytes)
    blocks_of(monkeypatch, 1_000)
    # However far it comes: what a pass allocates is looked at.
    values = complete("LogisticRegression", {"C": 1e-3, "max_iter": 3, **choice})
    classifier = build_classifier("LogisticRegression", values, Task(3, 0))
    monkeypatch.setattr(logistic, "_MOST_ROWS_OF_LIBLINEAR", 0)
    tracemalloc.start()
    try:
        fit_fast(classifier, values, vectors, labels)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < vectors.nbytes / 2
