"""Logistic regression fitted by solvers of our own where they reach the named solver's objective sooner.

The result is a plain scikit-learn estimator, with nothing in it to tell which solver found its weights.

| named solver | penalty | the problem | solved by |
|---|---|---|---|
| liblinear | l1 | a column for each label, intercept penalised | `proximal_newton` |
| liblinear | l2 | a column for each label, intercept penalised | `quasi_newton` |
| saga | l1 | softmax, intercept free | `multinomial` |
| saga | l1 of two classes | one column, intercept free | `quasi_newton` |
| saga | l2, elasticnet | softmax, or one column for two classes; intercept free | `quasi_newton` |
| lbfgs | l2 | that of saga, for columns of so different scales that scikit-learn's stands still | `quasi_newton` |

Which solver fitted is handed on with the estimator, and stands on the run. Where ours for liblinear does not converge,
scikit-learn's own fits too, unless there are too many rows for its memory, and for lbfgs always; the lower objective is
kept. saga is far slower and converges less.
`model.solver_exact: true` turns the replacement off.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils.class_weight import compute_class_weight

from pcc_pipeline.errors import ModelError
from pcc_pipeline.solvers import lbfgs, lbfgs_b
from pcc_pipeline.solvers.centring import centred
from pcc_pipeline.solvers.losses import are_unlike, objective, own_units
from pcc_pipeline.solvers.one_vs_rest_l1 import solve_l1_logistic
from pcc_pipeline.solvers.problem import Penalty, Problem, Solution
from pcc_pipeline.solvers.softmax_l1 import solve_softmax

_REPLACED = {"liblinear": ("l1", "l2"), "saga": ("l1", "l2", "elasticnet")}
# Our solvers multiply in single precision, which a tighter tolerance would outrun.
_TIGHTEST = 1e-5
# It copies the rows in double precision and then makes 16 bytes of each number: six times what the rows take here.
_MOST_ROWS_OF_LIBLINEAR = 100_000
# Columns of sentence vectors differ by up to 8 times in these units; from 100 on its weights cost 1 % and more of the
# objective, and from some 100,000 on it has none (measured with C from 1 to 100).
_STANDS_STILL = 100.0


def replaces(family: str, values: Mapping[str, Any]) -> bool:
    """Whether `fit_fast` solves this problem."""
    return (
        family == "LogisticRegression"
        and values["penalty"] in _REPLACED.get(values["solver"], ())
        and values["tol"] >= _TIGHTEST
    )


def stands_still(family: str, values: Mapping[str, Any], vectors: np.ndarray) -> bool:
    """Whether scikit-learn's L-BFGS would stop far from the optimum of these (n, d) rows, and call that converged.

    It knows no scales of columns: one number of a million among sentence vectors, or a column of times, ends it after
    some iterations that gain all but nothing. `fit_fast` then solves the problem too, which is that of saga.
    """
    if family != "LogisticRegression" or (values["solver"], values["penalty"]) != ("lbfgs", "l2"):
        return False
    rows = np.asarray(vectors, dtype=np.float32)
    anything = np.zeros((len(rows), 1), dtype=np.float32)
    penalty = Penalty(0.0, 1.0, intercept_penalised=False)
    problem = Problem(rows, anything, np.ones((1, 1)), float(values["C"]), penalty, softmax=False)
    return are_unlike(own_units(problem), _STANDS_STILL)


@dataclass(frozen=True)
class Fit:
    """A fitted classifier, whether its solver converged, and which that was."""

    classifier: Any
    converged: bool
    solver: str


def solver_of(family: str, values: Mapping[str, Any], n_classes: int, exact: bool = False) -> str:
    """Which solver fits: `<package>/<solver>`, or the package alone where it has one way to fit the family."""
    if family != "LogisticRegression":
        return "scikit-learn"
    if exact or not replaces(family, values):
        return f"scikit-learn/{values['solver']}"
    if values["penalty"] == "l1" and values["solver"] == "liblinear":
        return "pcc_pipeline/proximal_newton"
    softmax_l1 = values["penalty"] == "l1" and n_classes > 2
    return "pcc_pipeline/multinomial" if softmax_l1 else "pcc_pipeline/quasi_newton"


def fit_fast(
    classifier: Any,
    values: Mapping[str, Any],
    vectors: np.ndarray,
    labels: np.ndarray,
    balanced: bool = False,
    mixture: Any = None,
) -> Fit:
    """Fit an unfitted classifier that `replaces` admits, or one of scikit-learn's lbfgs that `stands_still`.

    `classifier` is the LogisticRegression, or the OneVsRestClassifier around it, that `build_classifier` made;
    `vectors` (n, d) and `labels` (n,) are training rows; `balanced` weighs classes as scikit-learn's class_weight does.
    `mixture`, a sparse (n, m), says that the n rows are mixtures of the first m of them: the solvers then go by these.

    Raises:
        ModelError: numbers are so great that single precision has no room for what is made of them.
    """
    classes, places = np.unique(labels, return_inverse=True)
    # Two classes are one problem, about the second.
    columns = np.arange(len(classes)) if len(classes) > 2 else np.array([1])
    rows = np.ascontiguousarray(vectors if mixture is None else vectors[: mixture.shape[1]], dtype=np.float32)
    targets = (places[:, None] == columns).astype(np.float32)
    named = values["solver"]
    apart = named == "liblinear" or len(classes) == 2
    row_weights = _balancing(targets if apart else places[:, None]) if balanced else np.ones((1, 1))
    problem = Problem(rows, targets, row_weights, float(values["C"]), _penalty(values), not apart, mixture=mixture)
    solution = _solved_in_range(problem, values["tol"], values["max_iter"])
    unfinished = not solution.converged and named == "liblinear" and len(labels) <= _MOST_ROWS_OF_LIBLINEAR
    if unfinished or named == "lbfgs":
        theirs, converged = _fit_exact(classifier, vectors, labels)
        if objective(problem, _weights_of(theirs)) <= objective(problem, solution.weights):
            return Fit(theirs, converged, f"scikit-learn/{named}")
        # Lower than what the named solver converges to is good enough for its tolerance.
        solution = Solution(solution.weights, solution.iterations, solution.converged or converged)
    if named == "liblinear":
        _fill_one_vs_rest(classifier, classes, labels, solution)
    else:
        _fill(classifier, classes, solution.weights.astype(np.float32), solution.iterations)
    ours = {**values, "solver": "saga"} if named == "lbfgs" else values  # the same problem
    return Fit(classifier, solution.converged, solver_of("LogisticRegression", ours, len(classes)))


def _fit_exact(classifier: Any, vectors: np.ndarray, labels: np.ndarray) -> tuple[Any, bool]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        fitted = clone(classifier).fit(vectors, labels)
    return fitted, not any(issubclass(item.category, ConvergenceWarning) for item in caught)


def _weights_of(classifier: Any) -> np.ndarray:
    parts = getattr(classifier, "estimators_", [classifier])
    return np.vstack([np.column_stack([part.coef_, part.intercept_]) for part in parts]).T.astype(np.float64)


def _penalty(values: Mapping[str, Any]) -> Penalty:
    ratio = {"l1": 1.0, "l2": 0.0, "elasticnet": values["l1_ratio"]}[values["penalty"]]
    return Penalty(ratio, 1 - ratio, intercept_penalised=values["solver"] == "liblinear")


def _solved_in_range(problem: Problem, tol: float, max_iter: int) -> Solution:
    try:
        solution = _solve(problem, tol, max_iter)
    except (ValueError, np.linalg.LinAlgError):
        if not _is_out_of_range(problem.rows):
            raise
        solution = None
    if solution is None or not np.isfinite(solution.weights).all():
        greatest = float(np.abs(problem.rows).max())
        raise ModelError(
            f"numbers of the vectors are so great, up to {greatest:.0e}, that no model can be computed from them",
            where=f"{len(problem.rows):,} rows of {problem.rows.shape[1]} numbers",
            fix="look for a fault in what made the vectors; sentence vectors have numbers of at most 1",
        )
    return solution


def _is_out_of_range(rows: np.ndarray) -> bool:
    """Whether the squares of some number, added up, are none in single precision."""
    return bool(np.abs(rows).max() > np.sqrt(np.finfo(np.float32).max / rows.size))


def _solve(problem: Problem, tol: float, max_iter: int) -> Solution:
    if problem.penalty.intercept_penalised and problem.penalty.l1 == 1:
        return solve_l1_logistic(problem, tol, max_iter)
    rows, centre = centred(problem.rows)
    solution = _solve_around_zero(replace(problem, rows=rows, centre=centre), tol, max_iter)
    solution.weights[-1] -= centre @ solution.weights[:-1]
    return solution


def _solve_around_zero(problem: Problem, tol: float, max_iter: int) -> Solution:
    if problem.softmax and problem.penalty.l1 == 1:
        return solve_softmax(problem, tol, max_iter)
    if problem.penalty.l1:
        return lbfgs_b.solve(problem, tol, max_iter)
    return lbfgs.solve(problem, tol, max_iter)


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
