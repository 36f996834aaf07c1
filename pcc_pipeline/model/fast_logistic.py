"""Logistic regression fitted by solvers of our own where they reach the named solver's objective sooner; the result is
a plain scikit-learn estimator, with nothing in it to tell which solver found its weights.

| named solver | penalty | the problem | solved by |
|---|---|---|---|
| liblinear | l1 | a column for each label, intercept penalised | `proximal_newton` |
| liblinear | l2 | a column for each label, intercept penalised | `quasi_newton` |
| saga | l1 | softmax, intercept free | `multinomial` |
| saga | l1 of two classes | one column, intercept free | `quasi_newton` |
| saga | l2, elasticnet | softmax, or one column for two classes; intercept free | `quasi_newton` |

`model.solver_exact: true` turns the replacement off.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils.class_weight import compute_class_weight
from threadpoolctl import threadpool_limits

from pcc_pipeline.model.multinomial import solve_softmax
from pcc_pipeline.model.proximal_newton import solve_l1_logistic
from pcc_pipeline.model.quasi_newton import Penalty, Solution, solve

_REPLACED = {"liblinear": ("l1", "l2"), "saga": ("l1", "l2", "elasticnet")}
# Our solvers multiply in single precision, which a tighter tolerance would outrun.
_TIGHTEST = 1e-5


def replaces(family: str, values: Mapping[str, Any]) -> bool:
    """Whether `fit_fast` solves this problem."""
    return (
        family == "LogisticRegression"
        and values["penalty"] in _REPLACED.get(values["solver"], ())
        and values["tol"] >= _TIGHTEST
    )


def fit_fast(
    classifier: Any, values: Mapping[str, Any], vectors: np.ndarray, labels: np.ndarray, balanced: bool = False
) -> tuple[Any, bool]:
    """Fit an unfitted classifier that `replaces` admits; the fitted classifier and whether it converged.

    `classifier` is the LogisticRegression, or the OneVsRestClassifier around it, that `build_classifier` made;
    `vectors` (n, d) and `labels` (n,) are training rows; `balanced` weighs classes as scikit-learn's class_weight does.
    """
    classes, places = np.unique(labels, return_inverse=True)
    # Two classes are one problem, about the second.
    asked = np.arange(len(classes)) if len(classes) > 2 else np.array([1])
    rows = np.ascontiguousarray(vectors, dtype=np.float32)
    targets = (places[:, None] == asked).astype(np.float32)
    apart = values["solver"] == "liblinear" or len(classes) == 2
    row_weights = _balancing(targets if apart else places[:, None]) if balanced else np.ones((len(rows), 1))
    # Thousands of small products: BLAS threads would wait for one another longer than they work.
    with threadpool_limits(1, user_api="blas"):
        solution = _solve(rows, targets, row_weights, values, softmax=not apart)
    if values["solver"] == "liblinear":
        _fill_one_vs_rest(classifier, classes, labels, solution)
    else:
        _fill(classifier, classes, solution.weights.astype(np.float32), solution.iterations)
    return classifier, solution.converged


def _solve(
    rows: np.ndarray, targets: np.ndarray, row_weights: np.ndarray, values: Mapping[str, Any], softmax: bool
) -> Solution:
    penalised = values["solver"] == "liblinear"
    ratio = {"l1": 1.0, "l2": 0.0, "elasticnet": values["l1_ratio"]}[values["penalty"]]
    C, tol, max_iter = float(values["C"]), values["tol"], values["max_iter"]
    if penalised and ratio == 1:
        found = solve_l1_logistic(rows, 2 * targets - 1, row_weights, C, tol, max_iter)
        return Solution(found.weights, found.iterations, found.unfinished == 0)
    penalty = Penalty(ratio, 1 - ratio, intercept_penalised=penalised)
    if softmax and ratio == 1:
        return solve_softmax(rows, targets, row_weights, C, penalty, tol, max_iter)
    return solve(rows, targets, row_weights, C, penalty, softmax=softmax, tol=tol, max_iter=max_iter)


def _balancing(groups: np.ndarray) -> np.ndarray:
    """Weights of the shape of `groups` that make the values within each column weigh the same."""
    weights = np.empty(groups.shape)
    for column, values in enumerate(groups.T):
        kinds, places = np.unique(values, return_inverse=True)
        weights[:, column] = compute_class_weight("balanced", classes=kinds, y=values)[places]
    return weights


def _fill_one_vs_rest(classifier: Any, classes: np.ndarray, labels: np.ndarray, solution: Solution) -> None:
    if len(classes) == 2:
        _fill(classifier, classes, solution.weights, solution.iterations)
        return
    classifier.label_binarizer_ = LabelBinarizer(sparse_output=True).fit(labels)
    classifier.estimators_ = []
    for column in solution.weights.T:
        model = LogisticRegression(**classifier.estimator.get_params())
        _fill(model, np.array([0, 1]), column[:, None], solution.iterations)
        classifier.estimators_.append(model)
    classifier.classes_ = classes
    classifier.n_features_in_ = len(solution.weights) - 1


def _fill(model: LogisticRegression, classes: np.ndarray, weights: np.ndarray, iterations: int) -> None:
    """Give an unfitted model its weights (d + 1, one column or one for each class)."""
    model.classes_ = classes
    model.coef_ = np.ascontiguousarray(weights[:-1].T)
    model.intercept_ = weights[-1].copy()
    model.n_iter_ = np.array([iterations], dtype=np.int32)
    model.n_features_in_ = len(weights) - 1
