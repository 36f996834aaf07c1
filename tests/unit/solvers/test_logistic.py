"""Our solvers against scikit-learn's: the objective they reach, and the estimator they fill in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.base import clone
from sklearn.utils.class_weight import compute_sample_weight

from pcc_pipeline.errors import ModelError
from pcc_pipeline.model.builders import Task
from pcc_pipeline.model.families import build_classifier, complete
from pcc_pipeline.model.fitting import PreparedRows, Recipe, fit
from pcc_pipeline.solvers import logistic
from pcc_pipeline.solvers.logistic import fit_fast, replaces, solver_of
from pcc_pipeline.solvers.problem import Problem, Solution

# That scikit-learn's own solver runs out of iterations is its affair here.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

PROBLEMS = [("liblinear", "l1"), ("liblinear", "l2"), ("saga", "l1"), ("saga", "l2"), ("saga", "elasticnet")]


def values_of(solver: str, penalty: str, **others: Any) -> dict[str, Any]:
    ratio = {"l1_ratio": 0.4} if penalty == "elasticnet" else {}
    return complete("LogisticRegression", {"solver": solver, "penalty": penalty, **ratio, **others})


def rows_of(n_classes: int, per_class: int = 40, width: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping clusters of float32 rows on very different scales per column, as SVD columns have."""
    random = np.random.default_rng(n_classes)
    labels = np.repeat([f"label-{place:02d}" for place in range(n_classes)], per_class).astype(object)
    centres = random.normal(size=(n_classes, width))
    scales = np.geomspace(1, 0.02, width)
    vectors = (np.repeat(centres, per_class, axis=0) + 2 * random.normal(size=(len(labels), width))) * scales
    order = random.permutation(len(labels))
    return vectors[order].astype(np.float32), labels[order]


def badly_scaled_rows(n_classes: int, width: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Columns of scales from 1e-3 to 1e3 in no order, as a column of the user's own may have."""
    vectors, labels = rows_of(n_classes, width=width)
    random = np.random.default_rng(0)
    scales = random.permutation(np.geomspace(1e-3, 1e3, width)) / np.geomspace(1, 0.02, width)
    return (vectors * scales).astype(np.float32), labels


def unbalanced_rows(n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    vectors, labels = rows_of(n_classes)
    kept = (labels != "label-00") | (np.arange(len(labels)) % 4 == 0)
    return vectors[kept], labels[kept]


def objective(model: Any, values: dict[str, Any], vectors: np.ndarray, labels: np.ndarray, balanced: bool) -> float:
    """What the named solver minimises: liblinear each label against the rest, its intercept penalised; saga softmax."""
    ratio = {"l1": 1.0, "l2": 0.0}.get(values["penalty"], values["l1_ratio"])
    weigh = "balanced" if balanced else None
    classes = np.unique(labels)
    total = 0.0
    for place, part in enumerate(getattr(model, "estimators_", [model])):
        weights, intercepts = part.coef_.astype(np.float64), part.intercept_.astype(np.float64)
        scores = vectors.astype(np.float64) @ weights.T + intercepts
        if len(weights) > 1:
            row_weights = compute_sample_weight(weigh, labels)
            losses = -log_softmax(scores, axis=1)[np.arange(len(labels)), np.searchsorted(classes, labels)]
        else:
            positive = labels == classes[place if len(classes) > 2 else 1]
            row_weights = compute_sample_weight(weigh, positive)
            losses = np.logaddexp(0, np.where(positive, -1, 1) * scores[:, 0])
        if values["solver"] == "liblinear":
            weights = np.append(weights, intercepts)
        total += ratio * np.abs(weights).sum() + (1 - ratio) / 2 * (weights**2).sum()
        total += values["C"] * float(row_weights @ losses)
    return float(total)


@pytest.mark.parametrize("C", [0.01, 1.0, 1000.0])
@pytest.mark.parametrize("n_classes", [2, 3, 12])
@pytest.mark.parametrize(("solver", "penalty"), PROBLEMS)
def test_the_objective_is_never_worse_than_the_named_solvers(
    solver: str, penalty: str, n_classes: int, C: float
) -> None:
    vectors, labels = rows_of(n_classes, per_class=40 if n_classes < 12 else 15)
    values, task = values_of(solver, penalty, C=C), Task(n_classes, seed=0)
    fitted = fit_fast(build_classifier("LogisticRegression", values, task), values, vectors, labels)
    assert fitted.converged
    reached = objective(fitted.classifier, values, vectors, labels, balanced=False)
    assert reached <= peers_objective(values, task, vectors, labels) * (1 + 1e-4)


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize(("solver", "penalty"), PROBLEMS)
def test_weighed_classes_reach_the_named_solvers_objective_too(solver: str, penalty: str, n_classes: int) -> None:
    vectors, labels = unbalanced_rows(n_classes)
    values, task = values_of(solver, penalty, C=1.0), Task(n_classes, seed=0, balanced=True)
    estimator = build_classifier("LogisticRegression", values, task)
    ours = fit_fast(estimator, values, vectors, labels, balanced=True).classifier
    reached = objective(ours, values, vectors, labels, balanced=True)
    assert reached <= peers_objective(values, task, vectors, labels) * (1 + 1e-4)


@pytest.mark.parametrize("C", [1.0, 10.0, 1000.0])
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize(("solver", "penalty"), PROBLEMS)
def test_columns_of_any_scale_do_not_raise_the_objective(solver: str, penalty: str, n_classes: int, C: float) -> None:
    vectors, labels = badly_scaled_rows(n_classes)
    values, task = values_of(solver, penalty, C=C), Task(n_classes, seed=0)
    fitted = fit_fast(build_classifier("LogisticRegression", values, task), values, vectors, labels)
    reached = objective(fitted.classifier, values, vectors, labels, balanced=False)
    assert reached <= peers_objective(values, task, vectors, labels) * (1 + 1e-4)


@pytest.mark.parametrize("C", [10.0, 1000.0])
@pytest.mark.parametrize(("solver", "n_classes"), [("liblinear", 2), ("liblinear", 3), ("saga", 2)])
def test_badly_scaled_vectors_of_full_width_converge_to_a_lower_objective(
    solver: str, n_classes: int, C: float
) -> None:
    vectors, labels = badly_scaled_rows(n_classes, width=584)
    values, task = values_of(solver, "l2", C=C), Task(n_classes, seed=0)
    fitted = fit_fast(build_classifier("LogisticRegression", values, task), values, vectors, labels)
    assert fitted.converged
    assert objective(fitted.classifier, values, vectors, labels, balanced=False) <= peers_objective(
        values, task, vectors, labels
    ) * (1 + 1e-4)


def one_great_column() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(1)
    labels = np.arange(100) % 20
    vectors = random.normal(size=(100, 15))
    vectors[:, 0] = 10 * labels
    return vectors.astype(np.float32), np.array([f"label-{label:02d}" for label in labels], dtype=object)


def twelve_orders_of_magnitude() -> tuple[np.ndarray, np.ndarray]:
    vectors, labels = rows_of(3, width=15)
    return (vectors * np.geomspace(1e-6, 1e6, 15)).astype(np.float32), labels


def a_great_constant() -> tuple[np.ndarray, np.ndarray]:
    vectors, labels = rows_of(3, width=15)
    vectors[:, 3:6] = [0, 7, 1e4]
    return vectors, labels


def a_column_of_years() -> tuple[np.ndarray, np.ndarray]:
    vectors, labels = rows_of(3, width=15)
    vectors[:, 6] += 2020
    return vectors, labels


@pytest.mark.parametrize("C", [0.1, 100.0, 1e8])
@pytest.mark.parametrize("rows", [one_great_column, twelve_orders_of_magnitude, a_great_constant, a_column_of_years])
def test_columns_far_greater_than_the_others_do_not_end_a_fit_early(rows: Any, C: float) -> None:
    vectors, labels = rows()
    values, task = values_of("liblinear", "l2", C=C), Task(len(set(labels)), seed=0, balanced=True)
    fitted = fit_fast(build_classifier("LogisticRegression", values, task), values, vectors, labels, balanced=True)
    assert fitted.converged
    reached = objective(fitted.classifier, values, vectors, labels, balanced=True)
    assert reached <= peers_objective(values, task, vectors, labels) * (1 + 1e-4)


def far_from_zero(vectors: np.ndarray, how_far: float) -> tuple[np.ndarray, np.ndarray]:
    """The rows moved by as much in every column and a little more or less, and by how much."""
    centre = how_far * np.random.default_rng(2).uniform(0.8, 1.2, size=vectors.shape[1])
    far = (vectors + centre).astype(np.float32)
    return far, far.astype(np.float64).mean(axis=0)


def unit_rows(n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """1,000 rows of length 1 and of full width, as sentence vectors are; labels take turns."""
    random, places = np.random.default_rng(n_classes), np.arange(1000) % n_classes
    vectors = random.normal(size=(n_classes, 584))[places] + 3 * random.normal(size=(1000, 584))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.array([f"label-{place}" for place in places])


def with_one_great_number(vectors: np.ndarray) -> np.ndarray:
    vectors[4, 7] = 1e9
    return vectors


def with_a_column_of_times(vectors: np.ndarray) -> np.ndarray:
    vectors[:, 3] = 1.7e9 + np.random.default_rng(1).integers(0, 10**8, len(vectors))
    return vectors


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("odd", [with_one_great_number, with_a_column_of_times])
def test_the_default_solver_is_relieved_where_it_stands_still_and_calls_that_converged(
    odd: Any, n_classes: int
) -> None:
    """scikit-learn's ends after two iterations: one number in one row made a model that knows nothing."""
    clean, labels = unit_rows(n_classes)
    recipe, values, right = Recipe("LogisticRegression", "none", {}, 0), values_of("lbfgs", "l2", C=10.0), {}
    for name, vectors in (("clean", clean.astype(np.float32)), ("odd", odd(clean.copy()).astype(np.float32))):
        fitted = fit(PreparedRows(None, vectors[:500], labels[:500]), {"C": 10.0}, recipe)
        right[name] = (fitted.classifier.predict(vectors[500:]) == labels[500:]).mean()
        assert fitted.solver == {"clean": "scikit-learn/lbfgs", "odd": "pcc_pipeline/quasi_newton"}[name]
        assert fitted.warnings == ()
    assert right["odd"] > right["clean"] - 0.03
    theirs = build_classifier("LogisticRegression", values, Task(n_classes, 0)).fit(vectors[:500], labels[:500])
    reached = [objective(one, values, vectors[:500], labels[:500], False) for one in (theirs, fitted.classifier)]
    assert reached[1] < 0.7 * reached[0]


@pytest.mark.parametrize("n_classes", [2, 4])
def test_of_both_solvers_for_such_rows_the_better_fit_is_kept(n_classes: int) -> None:
    clean, labels = rows_of(n_classes, per_class=150)
    vectors, values = with_one_great_number(clean.copy()), values_of("lbfgs", "l2", C=10.0)
    fitted = fit(PreparedRows(None, vectors, labels), {"C": 10.0}, Recipe("LogisticRegression", "none", {}, 0))
    theirs = build_classifier("LogisticRegression", values, Task(n_classes, 0)).fit(vectors, labels)
    reached = [objective(one, values, vectors, labels, False) for one in (theirs, fitted.classifier)]
    assert reached[1] <= reached[0]


@pytest.mark.parametrize("C", [1.0, 100.0, 1000.0])
@pytest.mark.parametrize("how_far", [10, 300])
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("penalty", ["l1", "l2", "elasticnet"])
def test_rows_far_from_zero_are_fitted_as_well_as_rows_around_it(
    penalty: str, n_classes: int, how_far: float, C: float
) -> None:
    vectors, labels = rows_of(n_classes, width=20)
    far, centre = far_from_zero(vectors, how_far)
    values, task = values_of("saga", penalty, C=C), Task(n_classes, seed=0)
    fitted = fit_fast(build_classifier("LogisticRegression", values, task), values, far, labels)
    # With a free intercept the least objective is the same wherever the rows lie.
    assert fitted.converged
    least = peers_objective(values, task, far - centre, labels)
    assert objective(fitted.classifier, values, far, labels, balanced=False) <= least * (1 + 1e-4)


@pytest.mark.parametrize("C", [1.0, 100.0, 1000.0])
@pytest.mark.parametrize("how_far", [10, 300])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_rows_far_from_zero_are_fitted_with_a_penalised_intercept_too(n_classes: int, how_far: float, C: float) -> None:
    vectors, labels = unbalanced_rows(n_classes)
    far, _ = far_from_zero(vectors, how_far)
    values, task = values_of("liblinear", "l2", C=C), Task(n_classes, seed=0, balanced=True)
    fitted = fit_fast(build_classifier("LogisticRegression", values, task), values, far, labels, balanced=True)
    assert (fitted.converged, fitted.solver) == (True, "pcc_pipeline/quasi_newton")
    reached = objective(fitted.classifier, values, far, labels, balanced=True)
    assert reached <= peers_objective(values, task, far, labels) * (1 + 1e-4)


@pytest.mark.parametrize(("solver", "penalty"), PROBLEMS)
def test_an_objective_that_is_tiny_is_minimised_too(solver: str, penalty: str) -> None:
    vectors, labels = rows_of(2, per_class=2, width=15)
    vectors, labels = vectors[:3], labels[:3]
    values, task = values_of(solver, penalty, C=1e-8), Task(2, seed=0)
    ours = fit_fast(build_classifier("LogisticRegression", values, task), values, vectors, labels).classifier
    reached = objective(ours, values, vectors, labels, balanced=False)
    assert reached <= peers_objective(values, task, vectors, labels) * (1 + 1e-4)


@pytest.mark.parametrize("C", [100.0, 1e4, 1e6])
@pytest.mark.parametrize("tol", [1e-3, 0.1])
def test_a_loose_tolerance_does_not_end_an_l1_fit_at_a_smaller_c(C: float, tol: float) -> None:
    vectors, labels = rows_of(5, per_class=12, width=40)
    task = Task(5, seed=0)
    loose, tight = (
        fit_fast(build_classifier("LogisticRegression", values, task), values, vectors, labels).classifier
        for values in (values_of("liblinear", "l1", C=C, tol=tol), values_of("liblinear", "l1", C=C, tol=1e-5))
    )
    values = values_of("liblinear", "l1", C=C)
    reached, least = (objective(model, values, vectors, labels, balanced=False) for model in (loose, tight))
    assert reached <= least * (1 + 0.02)


def test_scikit_learns_own_fit_is_kept_where_it_is_the_better_one_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, labels = rows_of(3)
    values, task = values_of("liblinear", "l2", C=10.0), Task(3, seed=0)

    def stopped(problem: Problem, tol: float, max_iter: int) -> Solution:
        return Solution(np.zeros((problem.rows.shape[1] + 1, problem.targets.shape[1])), 7, converged=False)

    monkeypatch.setattr(logistic.lbfgs, "solve", stopped)
    fitted = fit_fast(build_classifier("LogisticRegression", values, task), values, vectors, labels)
    theirs = build_classifier("LogisticRegression", values, task).fit(vectors, labels)
    assert (fitted.solver, fitted.converged) == ("scikit-learn/liblinear", True)
    np.testing.assert_array_equal(fitted.classifier.predict_proba(vectors), theirs.predict_proba(vectors))


LIBLINEAR = {"solver": "liblinear", "penalty": "l2"}


@pytest.mark.parametrize(
    ("family", "values", "n_classes", "exact", "solver"),
    [
        ("LogisticRegression", {**LIBLINEAR, "penalty": "l1"}, 3, False, "pcc_pipeline/proximal_newton"),
        ("LogisticRegression", LIBLINEAR, 3, True, "scikit-learn/liblinear"),
        ("LogisticRegression", LIBLINEAR, 2, False, "pcc_pipeline/quasi_newton"),
        ("LogisticRegression", {"solver": "saga", "penalty": "l1"}, 3, False, "pcc_pipeline/multinomial"),
        ("LogisticRegression", {"solver": "saga"}, 2, False, "pcc_pipeline/quasi_newton"),
        ("LogisticRegression", {**LIBLINEAR, "tol": 1e-9}, 3, False, "scikit-learn/liblinear"),
        ("LogisticRegression", {"solver": "lbfgs", "penalty": "l2"}, 3, False, "scikit-learn/lbfgs"),
        ("SGD", {}, 3, False, "scikit-learn"),
    ],
)
def test_a_fit_says_which_solver_it_is_of(
    family: str, values: dict[str, Any], n_classes: int, exact: bool, solver: str
) -> None:
    vectors, labels = rows_of(n_classes)
    fitted = fit(PreparedRows(None, vectors, labels), values, Recipe(family, "none", {}, 0, exact))
    assert fitted.solver == solver
    assert solver_of(family, complete(family, values), n_classes, exact) == solver


def peers_objective(values: dict[str, Any], task: Task, vectors: np.ndarray, labels: np.ndarray) -> float:
    theirs = build_classifier("LogisticRegression", values, task).fit(vectors, labels)
    return objective(theirs, values, vectors, labels, task.balanced)


@pytest.mark.parametrize("n_classes", [2, 5])
@pytest.mark.parametrize(("solver", "penalty"), PROBLEMS)
def test_the_estimator_is_filled_in_as_scikit_learn_fills_it(solver: str, penalty: str, n_classes: int) -> None:
    vectors, labels = rows_of(n_classes)
    values, task = values_of(solver, penalty, C=1.0), Task(n_classes, seed=0)
    ours = fit_fast(build_classifier("LogisticRegression", values, task), values, vectors, labels).classifier
    theirs = build_classifier("LogisticRegression", values, task).fit(vectors, labels)
    assert set(vars(ours)) == set(vars(theirs))
    assert (ours.predict(vectors) == theirs.predict(vectors)).mean() > 0.99
    assert np.allclose(ours.predict_proba(vectors), theirs.predict_proba(vectors), atol=0.02)
    assert type(ours.predict(vectors[:1])[0]) is str
    assert clone(ours).get_params().keys() == theirs.get_params().keys()
    mine, other = getattr(ours, "estimators_", [ours])[0], getattr(theirs, "estimators_", [theirs])[0]
    assert set(vars(mine)) == set(vars(other))
    for name in ("coef_", "intercept_", "n_iter_", "classes_"):
        assert getattr(mine, name).shape == getattr(other, name).shape
        assert getattr(mine, name).dtype == getattr(other, name).dtype


@pytest.mark.parametrize(("solver", "penalty"), PROBLEMS)
def test_too_few_iterations_are_reported(solver: str, penalty: str) -> None:
    vectors, labels = rows_of(3)
    values = values_of(solver, penalty, C=100.0, max_iter=1)
    estimator = build_classifier("LogisticRegression", values, Task(3, 0))
    assert not fit_fast(estimator, values, vectors, labels).converged


@pytest.mark.parametrize(("solver", "penalty"), PROBLEMS)
def test_the_problems_that_it_solves_are_taken_over(solver: str, penalty: str) -> None:
    assert replaces("LogisticRegression", values_of(solver, penalty))


@pytest.mark.parametrize(
    ("family", "given"),
    [
        ("LogisticRegression", {"solver": "lbfgs", "penalty": "l2"}),
        ("LogisticRegression", {"tol": 1e-9}),
        ("SGD", {}),
    ],
)
def test_no_other_problem_is_taken_over(family: str, given: dict[str, object]) -> None:
    assert not replaces(family, complete(family, given))


@pytest.mark.parametrize("great", [1e20, 3e38])
@pytest.mark.parametrize("penalty", ["l1", "l2", "elasticnet"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_numbers_beyond_single_precision_are_an_error_and_no_model(great: float, penalty: str) -> None:
    draws = np.random.default_rng(0)
    vectors = draws.normal(size=(300, 20)).astype(np.float32)
    labels = draws.integers(0, 4, size=300)
    vectors[7, 3] = great
    ratio = 0.5 if penalty == "elasticnet" else None
    values = complete("LogisticRegression", {"solver": "saga", "penalty": penalty, "l1_ratio": ratio})
    with pytest.raises(ModelError, match="numbers of the vectors are so great, up to"):
        fit_fast(build_classifier("LogisticRegression", values, Task(4, 0)), values, vectors, labels)
