"""Classifiers by name: one `Family` in `FAMILIES` says all that the pipeline knows of a model type.

To add a type, write its builder and its entry in the table; hyperparameter checks, searches and logging follow from the
entry. The command line has the names once more (`command_line/options.py`), since `--help` waits for no library.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from sklearn.base import BaseEstimator
from sklearn.ensemble import StackingClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression

from pcc_pipeline.errors import ModelError, meant
from pcc_pipeline.model.builders import (
    PENALTIES_OF,
    Task,
    Values,
    hist_gradient_boosting,
    linear_svc,
    logistic,
    logistic_clash,
    mlp,
    random_forest,
    sgd,
)
from pcc_pipeline.model.selection import CHOICE
from pcc_pipeline.model.value_ranges import Choice, Domain, ListOf, Number


@dataclass(frozen=True)
class Family:
    """A model type.

    Attributes:
        build: hyperparameters (defaults filled in) and task -> an unfitted scikit-learn classifier with probabilities.
        domains: hyperparameter -> admissible values.
        defaults: hyperparameter -> value where params.yaml gives none.
        space: the search space where params.yaml gives none, in the form that `model.search_space` takes.
        older_space: the same of the older system, by the name `older`; empty where it had none.
        clash: values -> why they cannot go together, empty if they can.
        clashing: the hyperparameters that `clash` goes by.
        weighs_classes: whether `balance_method: class_weight` works.
        weighs_rows: whether it works by weights of rows, given to `fit`, since a part of the classifier that learns
            from rows has no `class_weight`: a calibrator, or whoever puts members together.
    """

    build: Callable[[Values, Task], BaseEstimator]
    domains: Mapping[str, Domain]
    defaults: Mapping[str, Any]
    space: Mapping[str, Any] = field(default_factory=dict)
    older_space: Mapping[str, Any] = field(default_factory=dict)
    clash: Callable[[Values], str] = lambda values: ""
    clashing: tuple[str, ...] = ()
    weighs_classes: Callable[[Values], bool] = lambda values: True
    weighs_rows: bool = False


_C = Number(1e-8, 1e8)
_ITERATIONS = Number(1, 1_000_000, whole=True)


def _members(values: Values, task: Task) -> list[tuple[str, BaseEstimator]]:
    return [(name, build_classifier(name, {}, task)) for name in values["members"]]


def _voting(values: Values, task: Task) -> BaseEstimator:
    return VotingClassifier(_members(values, task), voting="soft", weights=values["weights"])


def _stacking(values: Values, task: Task) -> BaseEstimator:
    final = LogisticRegression(C=values["final_C"], max_iter=1000, random_state=task.seed)
    return StackingClassifier(_members(values, task), final, cv=values["cv"], stack_method="predict_proba")


def _members_clash(values: Values) -> str:
    members, weights = values["members"], values.get("weights")
    if len(set(members)) < len(members):
        return "a member is named twice"
    if weights is not None and len(weights) != len(members):
        return f"{len(weights)} weights for {len(members)} members"
    return ""


def _members_weigh(values: Values) -> bool:
    return all(FAMILIES[name].weighs_classes({}) for name in values["members"])


_SIMPLE = ("LogisticRegression", "LinearSVC", "RandomForest", "HistGradientBoosting", "MLP", "SGD")
_MEMBERS = ListOf(Choice(_SIMPLE), least=2)

FAMILIES: dict[str, Family] = {
    "LogisticRegression": Family(
        build=logistic,
        domains={
            "C": _C,
            "penalty": Choice(("l1", "l2", "elasticnet")),
            "solver": Choice(tuple(PENALTIES_OF)),
            "l1_ratio": Number(0, 1, optional=True),
            "max_iter": _ITERATIONS,
            "tol": Number(1e-12, 1),
        },
        # Chosen by cross-validation on training rows; see docs/decisions.md.
        defaults={"C": 10.0, "penalty": "l2", "solver": "lbfgs", "l1_ratio": None, "max_iter": 1000, "tol": 1e-4},
        space={
            "C": {"low": 0.1, "high": 100, "log": True, "grid": [0.3, 1, 3, 10, 30]},
            "penalty": ["l2"],
            "solver": ["lbfgs", "liblinear"],
        },
        older_space={
            "C": {"low": 0.01, "high": 1000, "log": True, "grid": [0.1, 1, 10, 100]},
            "penalty": ["l1", "l2"],
            "solver": ["liblinear", "saga"],
        },
        clash=logistic_clash,
        clashing=("penalty", "solver", "l1_ratio"),
    ),
    "LinearSVC": Family(
        build=linear_svc,
        domains={
            "C": _C,
            "loss": Choice(("hinge", "squared_hinge")),
            "max_iter": _ITERATIONS,
            "calibration_folds": Number(2, 20, whole=True),
        },
        defaults={"C": 1.0, "loss": "squared_hinge", "max_iter": 1000, "calibration_folds": 5},
        space={"C": {"low": 0.01, "high": 100, "log": True, "grid": [0.1, 1, 10]}},
        weighs_rows=True,
    ),
    "RandomForest": Family(
        build=random_forest,
        domains={
            "n_estimators": Number(1, 10_000, whole=True),
            "max_depth": Number(1, 10_000, whole=True, optional=True),
            "min_samples_leaf": Number(1, 10_000, whole=True),
            "max_features": Choice(("sqrt", "log2", None)),
        },
        defaults={"n_estimators": 300, "max_depth": None, "min_samples_leaf": 1, "max_features": "sqrt"},
        space={
            "n_estimators": {"low": 100, "high": 600, "grid": [100, 300]},
            "min_samples_leaf": {"low": 1, "high": 8, "grid": [1, 4]},
            "max_features": ["sqrt", "log2"],
        },
    ),
    "HistGradientBoosting": Family(
        build=hist_gradient_boosting,
        domains={
            "learning_rate": Number(1e-4, 1),
            "max_iter": Number(1, 10_000, whole=True),
            "max_leaf_nodes": Number(2, 1000, whole=True),
            "l2_regularization": Number(0, 1e6),
        },
        defaults={"learning_rate": 0.1, "max_iter": 100, "max_leaf_nodes": 31, "l2_regularization": 0.0},
        space={
            "learning_rate": {"low": 0.02, "high": 0.3, "log": True, "grid": [0.05, 0.1]},
            "max_iter": {"low": 50, "high": 300, "grid": [100, 200]},
            "max_leaf_nodes": {"low": 7, "high": 63, "grid": [15, 31]},
        },
    ),
    "MLP": Family(
        build=mlp,
        domains={
            "hidden_layer_sizes": ListOf(Number(1, 100_000, whole=True)),
            "alpha": Number(0, 1e3),
            "learning_rate_init": Number(1e-6, 1),
            "max_iter": _ITERATIONS,
            "early_stopping": Choice((True, False)),
        },
        defaults={
            "hidden_layer_sizes": [128],
            "alpha": 1e-3,
            "learning_rate_init": 1e-3,
            "max_iter": 200,
            "early_stopping": False,
        },
        space={
            "hidden_layer_sizes": [[64], [128], [256]],
            "alpha": {"low": 1e-5, "high": 1e-1, "log": True, "grid": [1e-4, 1e-2]},
        },
        weighs_classes=lambda values: False,
    ),
    "SGD": Family(
        build=sgd,
        domains={
            "alpha": Number(1e-10, 1e3),
            "penalty": Choice(("l1", "l2", "elasticnet")),
            "max_iter": _ITERATIONS,
            "tol": Number(1e-12, 1),
        },
        defaults={"alpha": 1e-5, "penalty": "l2", "max_iter": 1000, "tol": 1e-4},
        space={
            "alpha": {"low": 1e-7, "high": 1e-3, "log": True, "grid": [1e-6, 1e-5, 1e-4]},
            "penalty": ["l2", "elasticnet"],
        },
    ),
    "Voting": Family(
        build=_voting,
        domains={"members": _MEMBERS, "weights": ListOf(Number(0, 1e6), least=2, optional=True)},
        defaults={"members": ["LogisticRegression", "LinearSVC", "RandomForest"], "weights": None},
        space={"members": [["LogisticRegression", "LinearSVC"], ["LogisticRegression", "LinearSVC", "RandomForest"]]},
        clash=_members_clash,
        clashing=("members", "weights"),
        weighs_classes=_members_weigh,
        weighs_rows=True,
    ),
    "Stacking": Family(
        build=_stacking,
        domains={"members": _MEMBERS, "final_C": _C, "cv": Number(2, 20, whole=True)},
        defaults={"members": ["LogisticRegression", "LinearSVC", "RandomForest"], "final_C": 1.0, "cv": 5},
        space={"final_C": {"low": 0.01, "high": 100, "log": True, "grid": [0.1, 1, 10]}},
        clash=_members_clash,
        clashing=("members", "weights"),
        weighs_classes=_members_weigh,
        weighs_rows=True,
    ),
}


def complete(family: str, hyperparameters: Values) -> dict[str, Any]:
    """`hyperparameters` with the family's defaults filled in."""
    return {**FAMILIES[family].defaults, **hyperparameters}


def no_such_hyperparameter(family: str, name: str) -> str:
    """What is wrong with a name that is none of the family's."""
    if name in CHOICE:
        return f"this is no hyperparameter of {family}; it is the option model.{name}"
    names = FAMILIES[family].domains
    return f"{family} has no such hyperparameter{meant(name, names)}; there are {', '.join(names)}"


def faults(
    family: str, hyperparameters: Values, tried: Mapping[str, Sequence[Any]] | None = None
) -> list[tuple[str, str]]:
    """What is wrong with hyperparameters, as (name, problem); name is empty for values that clash.

    Args:
        tried: hyperparameter -> values, each valid, that a search lays over these: what clashes with the default of
            one of them alone is no fault.
    """
    if problems := _wrong_values(family, hyperparameters):
        return problems
    clash = FAMILIES[family].clash(complete(family, hyperparameters))
    return [("", clash)] if clash and not agreeing(family, hyperparameters, tried or {}) else []


def _wrong_values(family: str, hyperparameters: Values) -> list[tuple[str, str]]:
    domains = FAMILIES[family].domains
    problems = []
    for name, value in hyperparameters.items():
        if name not in domains:
            problems.append((name, no_such_hyperparameter(family, name)))
        elif problem := domains[name].fault(value):
            problems.append((name, f"{value!r} {problem}"))
    return problems


def agreeing(family: str, hyperparameters: Values, tried: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Of the values that a search tries, the combinations that clash neither with one another nor with the rest.

    Each holds the names alone that a clash goes by; there is none where a hyperparameter is wrong by itself.
    """
    if _wrong_values(family, hyperparameters):
        return []
    known = FAMILIES[family]
    names = [name for name in known.clashing if name in tried]
    combinations = (dict(zip(names, values, strict=True)) for values in product(*(tried[name] for name in names)))
    return [each for each in combinations if not known.clash(complete(family, {**hyperparameters, **each}))]


def build_classifier(family: str, hyperparameters: Values, task: Task) -> Any:
    """An unfitted classifier.

    Raises:
        ModelError: a hyperparameter is unknown, out of range, or clashes with another.
    """
    if problems := faults(family, hyperparameters):
        name, problem = problems[0]
        raise ModelError(f"{name}: {problem}" if name else problem, where=f"model.type {family}")
    values = complete(family, hyperparameters)
    if task.balanced and not FAMILIES[family].weighs_classes(values):
        raise ModelError(
            f"{family} cannot weigh classes",
            where="preprocessing.balance_method: class_weight",
            fix="choose SMOTE, BorderlineSMOTE, ADASYN, RandomOverSampler or none",
        )
    known = FAMILIES[family]
    # Both would weigh twice.
    return known.build(values, replace(task, balanced=task.balanced and not known.weighs_rows))
