"""Logistic regression fitted by our own solver where it reaches liblinear's objective sooner; the result is a plain
scikit-learn estimator, with nothing in it to tell which solver found its weights.

`model.solver_exact: true` turns the replacement off.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import LabelBinarizer
from threadpoolctl import threadpool_limits

from pcc_pipeline.model.proximal_newton import L1Solution, solve_l1_logistic


def replaces(family: str, values: Mapping[str, Any], balanced: bool) -> bool:
    """Whether `fit_fast` solves this problem: liblinear's l1, without class weights."""
    return (
        family == "LogisticRegression" and not balanced and (values["solver"], values["penalty"]) == ("liblinear", "l1")
    )


def fit_fast(classifier: Any, values: Mapping[str, Any], vectors: np.ndarray, labels: np.ndarray) -> tuple[Any, bool]:
    """Fit an unfitted classifier that `replaces` admits; the fitted classifier and whether it converged.

    `classifier` is the LogisticRegression, or the OneVsRestClassifier around it, that `build_classifier` made;
    `vectors` (n, d) and `labels` (n,) are training rows.
    """
    classes, places = np.unique(labels, return_inverse=True)
    # Two classes are one problem, about the second; more are one against the rest each.
    asked = np.arange(len(classes)) if len(classes) > 2 else np.array([1])
    rows = np.ascontiguousarray(vectors, dtype=np.float32)
    signs = np.where(places[:, None] == asked, np.float32(1), np.float32(-1))
    # Thousands of small products: BLAS threads would wait for one another longer than they work.
    with threadpool_limits(1, user_api="blas"):
        solution = solve_l1_logistic(rows, signs, float(values["C"]), values["tol"], values["max_iter"])
    if len(classes) == 2:
        return _filled(classifier, classes, solution, 0), solution.unfinished == 0
    classifier.label_binarizer_ = LabelBinarizer(sparse_output=True).fit(labels)
    classifier.estimators_ = [
        _filled(LogisticRegression(**classifier.estimator.get_params()), np.array([0, 1]), solution, place)
        for place in range(len(classes))
    ]
    classifier.classes_ = classes
    classifier.n_features_in_ = rows.shape[1]
    return classifier, solution.unfinished == 0


def _filled(model: LogisticRegression, classes: np.ndarray, solution: L1Solution, place: int) -> LogisticRegression:
    weights = solution.weights[:, place]
    model.classes_ = classes
    model.coef_ = weights[None, :-1].copy()
    model.intercept_ = weights[-1:].copy()
    model.n_iter_ = np.array([solution.iterations], dtype=np.int32)
    model.n_features_in_ = len(weights) - 1
    return model
