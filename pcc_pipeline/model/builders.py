"""How each classifier is built from its hyperparameters, and which of its values cannot go together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sklearn.base import BaseEstimator
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.svm import LinearSVC

Values = Mapping[str, Any]

PENALTIES_OF = {
    "liblinear": ("l1", "l2"),
    "saga": ("l1", "l2", "elasticnet"),
    "lbfgs": ("l2",),
    "newton-cg": ("l2",),
    "newton-cholesky": ("l2",),
    "sag": ("l2",),
}


@dataclass(frozen=True)
class Task:
    """What a builder must know besides hyperparameters."""

    n_classes: int
    seed: int
    balanced: bool = False

    @property
    def class_weight(self) -> str | None:
        return "balanced" if self.balanced else None


def logistic_clash(values: Values) -> str:
    """Why these values cannot go together; empty where they can."""
    solver, penalty = values["solver"], values["penalty"]
    if penalty not in PENALTIES_OF[solver]:
        able = [name for name, penalties in PENALTIES_OF.items() if penalty in penalties]
        return f"solver {solver} cannot fit penalty {penalty}; solvers that can: {', '.join(able)}"
    if values["l1_ratio"] is not None and penalty != "elasticnet":
        return f"l1_ratio belongs to penalty elasticnet, not to {penalty}"
    if values["l1_ratio"] is None and penalty == "elasticnet":
        return "penalty elasticnet needs l1_ratio, from 0 (l2) to 1 (l1)"
    return ""


def logistic(values: Values, task: Task) -> BaseEstimator:
    """Logistic regression; of more than two classes one against the rest where liblinear fits it."""
    # scikit-learn 1.8 deprecated `penalty`: l1_ratio alone says it now.
    ratio = {"l1": 1.0, "l2": 0.0, "elasticnet": values["l1_ratio"]}[values["penalty"]]
    model = LogisticRegression(
        C=values["C"],
        l1_ratio=ratio,
        solver=values["solver"],
        max_iter=values["max_iter"],
        tol=values["tol"],
        class_weight=task.class_weight,
        random_state=task.seed,
    )
    if values["solver"] == "liblinear" and task.n_classes > 2:
        return OneVsRestClassifier(model)
    return model


def linear_svc(values: Values, task: Task) -> BaseEstimator:
    """A linear support vector machine, with probabilities by Platt's scaling; classes are weighed by rows."""
    svc = LinearSVC(
        C=values["C"],
        loss=values["loss"],
        max_iter=values["max_iter"],
        random_state=task.seed,
    )
    return CalibratedClassifierCV(svc, method="sigmoid", cv=values["calibration_folds"])


def random_forest(values: Values, task: Task) -> BaseEstimator:
    """A random forest, on one core."""
    return RandomForestClassifier(**values, class_weight=task.class_weight, random_state=task.seed, n_jobs=1)


def hist_gradient_boosting(values: Values, task: Task) -> BaseEstimator:
    """Gradient boosting of binned trees."""
    return HistGradientBoostingClassifier(**values, class_weight=task.class_weight, random_state=task.seed)


def mlp(values: Values, task: Task) -> BaseEstimator:
    """A multilayer perceptron."""
    sizes = tuple(values["hidden_layer_sizes"])
    return MLPClassifier(**{**values, "hidden_layer_sizes": sizes}, random_state=task.seed)


def sgd(values: Values, task: Task) -> BaseEstimator:
    """Logistic regression by stochastic gradient descent."""
    return SGDClassifier(loss="log_loss", **values, class_weight=task.class_weight, random_state=task.seed)
