"""Our solver against scikit-learn's liblinear: the objective it reaches, and the estimator it fills in."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone

from pcc_pipeline.model.builders import Task
from pcc_pipeline.model.families import build_classifier, complete
from pcc_pipeline.model.fast_logistic import fit_fast, replaces
from pcc_pipeline.model.proximal_newton import solve_l1_logistic

VALUES = complete("LogisticRegression", {"solver": "liblinear", "penalty": "l1"})


def rows_of(n_classes: int, per_class: int = 40, width: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping clusters of float32 rows on very different scales per column, as SVD columns have."""
    random = np.random.default_rng(n_classes)
    labels = np.repeat([f"label-{place:02d}" for place in range(n_classes)], per_class).astype(object)
    centres = random.normal(size=(n_classes, width))
    scales = np.geomspace(1, 0.02, width)
    vectors = (np.repeat(centres, per_class, axis=0) + 2 * random.normal(size=(len(labels), width))) * scales
    order = random.permutation(len(labels))
    return vectors[order].astype(np.float32), labels[order]


def objective(weights: np.ndarray, intercept: float, vectors: np.ndarray, positive: np.ndarray, C: float) -> float:
    """liblinear's own: the intercept is penalised like any weight."""
    margins = np.where(positive, 1, -1) * (vectors.astype(np.float64) @ weights + intercept)
    return float(np.abs(weights).sum() + abs(intercept) + C * np.logaddexp(0, -margins).sum())


@pytest.mark.parametrize("n_classes", [2, 3, 12])
@pytest.mark.parametrize("C", [0.05, 1.0, 50.0])
def test_the_objective_is_never_worse_than_liblinears(n_classes: int, C: float) -> None:
    vectors, labels = rows_of(n_classes)
    values, task = {**VALUES, "C": C}, Task(n_classes, seed=0)
    ours, converged = fit_fast(build_classifier("LogisticRegression", values, task), values, vectors, labels)
    theirs = build_classifier("LogisticRegression", values, task).fit(vectors, labels)
    assert converged
    pairs = [(ours, theirs)] if n_classes == 2 else list(zip(ours.estimators_, theirs.estimators_, strict=True))
    for place, (mine, other) in enumerate(pairs):
        positive = labels == (ours.classes_[1] if n_classes == 2 else ours.classes_[place])
        reached = objective(mine.coef_[0], mine.intercept_[0], vectors, positive, C)
        wanted = objective(other.coef_[0], other.intercept_[0], vectors, positive, C)
        assert reached <= wanted * (1 + 1e-4)


@pytest.mark.parametrize("n_classes", [2, 5])
def test_the_estimator_is_filled_in_as_scikit_learn_fills_it(n_classes: int) -> None:
    vectors, labels = rows_of(n_classes)
    task = Task(n_classes, seed=0)
    ours, _ = fit_fast(build_classifier("LogisticRegression", VALUES, task), VALUES, vectors, labels)
    theirs = build_classifier("LogisticRegression", VALUES, task).fit(vectors, labels)
    assert set(vars(ours)) == set(vars(theirs))
    assert (ours.predict(vectors) == theirs.predict(vectors)).mean() > 0.99
    assert np.allclose(ours.predict_proba(vectors), theirs.predict_proba(vectors), atol=0.02)
    assert type(ours.predict(vectors[:1])[0]) is str
    assert clone(ours).get_params().keys() == theirs.get_params().keys()
    if n_classes > 2:
        assert set(vars(ours.estimators_[0])) == set(vars(theirs.estimators_[0]))


def test_too_few_iterations_are_reported() -> None:
    vectors, labels = rows_of(3)
    values = {**VALUES, "C": 100.0, "max_iter": 1}
    _, converged = fit_fast(build_classifier("LogisticRegression", values, Task(3, 0)), values, vectors, labels)
    assert not converged


def test_a_start_at_the_solution_needs_no_further_step() -> None:
    vectors, labels = rows_of(2)
    signs = np.where(labels == labels[0], np.float32(1), np.float32(-1))[:, None]
    first = solve_l1_logistic(vectors, signs, 1.0, 1e-4, 100)
    again = solve_l1_logistic(vectors, signs, 1.0, 1e-4, 100, start=first.weights)
    assert first.iterations > 1
    assert again.iterations == 1
    assert np.array_equal(again.weights, first.weights)


def test_a_strong_penalty_leaves_every_weight_at_zero() -> None:
    vectors, labels = rows_of(2)
    signs = np.where(labels == labels[0], np.float32(1), np.float32(-1))[:, None]
    found = solve_l1_logistic(vectors, signs, 1e-6, 1e-4, 100)
    assert not found.weights.any()
    assert found.unfinished == 0


@pytest.mark.parametrize(
    ("family", "given", "balanced", "answer"),
    [
        ("LogisticRegression", {}, False, True),
        ("LogisticRegression", {}, True, False),
        ("LogisticRegression", {"penalty": "l2"}, False, False),
        ("LogisticRegression", {"solver": "saga"}, False, False),
        ("SGD", {}, False, False),
    ],
)
def test_only_problems_that_it_solves_are_taken_over(
    family: str, given: dict[str, object], balanced: bool, answer: bool
) -> None:
    assert replaces(family, complete(family, given), balanced) is answer
