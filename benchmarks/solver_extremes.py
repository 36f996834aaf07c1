"""How near our solvers come to the least objective on made rows that make it hard.

    python -m benchmarks.solver_extremes --problems 150 --seed 1

Each problem is drawn: 60 to 600 rows of 5 to 150 columns, 2 to 8 classes, C from 0.01 to 10,000, saga or liblinear with
l2, saga with l1 or elasticnet; all columns, some, one or none lie away from zero, by 0.1 to 3,000, and in three of ten
problems the columns' scales differ by up to four orders of magnitude. A line is shown of each fit that ends more than
1e-4 of the objective above the least one known, or that is said not to have converged.

The least objective known of an l2 problem is that of scikit-learn's Newton solver in double precision, on the same rows
moved by their mean where the intercept is free. With an l1 part it is the lowest that L-BFGS-B reaches in double
precision with a tolerance of 1e-7, from zero and from our own end.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from benchmarks.solver_parity import objective
from pcc_pipeline.model.builders import Task
from pcc_pipeline.model.families import build_classifier, complete
from pcc_pipeline.solvers import lbfgs_b
from pcc_pipeline.solvers.logistic import fit_fast
from pcc_pipeline.solvers.losses import objective as objective_of
from pcc_pipeline.solvers.problem import Penalty, Problem

_LIMIT = 1e-4
_CHOICES = [("saga", "l2"), ("saga", "l1"), ("saga", "elasticnet"), ("liblinear", "l2")]
_ROUNDS = 3


@dataclass(frozen=True)
class Made:
    """One problem: rows (n, d), labels (n,), how far its columns lie from zero, and complete hyperparameters."""

    rows: np.ndarray
    labels: np.ndarray
    place: str
    values: dict[str, Any]


def made(draws: np.random.Generator) -> Made:
    """The next problem."""
    n_rows, width, n_classes = (int(draws.choice(sizes)) for sizes in ([60, 200, 600], [5, 40, 150], [2, 3, 8]))
    rows = draws.normal(size=(n_rows, width)) * draws.uniform(0.2, 1.2, size=width)
    pull = rows @ draws.normal(size=(width, n_classes)) + 2 * draws.gumbel(size=(n_rows, n_classes))
    # The first rows see to it that each class is there.
    labels = np.concatenate([np.arange(n_classes), pull.argmax(axis=1)[n_classes:]])
    which, how_far = str(draws.choice(["none", "all", "some", "one", "either way"])), 10 ** draws.uniform(-1, 3.5)
    away = {
        "none": np.zeros(width),
        "all": np.ones(width),
        "some": draws.random(width) < 0.3,
        "one": np.arange(width) == draws.integers(width),
        "either way": draws.normal(size=width),
    }[which]
    if draws.random() < 0.3:
        rows = rows * 10 ** draws.uniform(-2, 2, size=width)
    solver, penalty = _CHOICES[draws.integers(len(_CHOICES))]
    choice = {"solver": solver, "penalty": penalty, "C": 10 ** draws.uniform(-2, 4)}
    ratio = {"l1_ratio": 0.5} if penalty == "elasticnet" else {}
    values = complete("LogisticRegression", {**choice, **ratio})
    return Made((rows + how_far * away).astype(np.float32), labels, f"{which} {how_far:.1f}", values)


def least(problem: Made, ours: Any) -> float:
    """The least objective known; `ours` is the fitted classifier."""
    rows, labels, values = problem.rows.astype(np.float64), problem.labels, problem.values
    newton = {"solver": "newton-cholesky", "C": values["C"], "tol": 1e-10, "max_iter": 500}
    classes = np.unique(labels)
    if values["solver"] == "liblinear":
        # A penalised intercept is the weight of a column of ones.
        whole, total = np.column_stack([rows, np.ones(len(rows))]), 0.0
        for place in classes if len(classes) > 2 else classes[1:]:
            fitted = LogisticRegression(**newton, fit_intercept=False).fit(whole, labels == place)
            total += objective(fitted, {**values, "solver": "newton-cholesky"}, whole, labels == place)
        return total
    centre = rows.mean(axis=0)
    if values["penalty"] == "l2":
        fitted = LogisticRegression(**newton).fit(rows - centre, labels)
        return objective(fitted, values, rows - centre, labels)
    columns = classes if len(classes) > 2 else classes[1:]
    targets = (labels[:, None] == columns).astype(np.float64)
    ratio = 1.0 if values["penalty"] == "l1" else values["l1_ratio"]
    penalty = Penalty(ratio, 1 - ratio, intercept_penalised=False)
    centred = Problem(rows - centre, targets, np.ones((1, 1)), values["C"], penalty, len(columns) > 1, in_double=True)
    ends = []
    own = np.vstack([ours.coef_.T, ours.intercept_]).astype(np.float64)
    own[-1] += centre @ own[:-1]
    for weights in (np.zeros_like(own), own):
        for _ in range(_ROUNDS):
            weights = lbfgs_b.solve(centred, 1e-7, 5000, start=weights).weights
        ends.append(objective_of(centred, weights))
    return min(ends)


def main() -> int:
    """Run it, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=150, help="how many (default 150)")
    parser.add_argument("--seed", type=int, default=1, help="of the draws (default 1)")
    options = parser.parse_args()
    draws = np.random.default_rng(options.seed)
    above, unfinished, worst, seconds = 0, 0, -np.inf, 0.0
    with threadpool_limits(1), warnings.catch_warnings():
        # Where the Newton solver's line search ends, scikit-learn goes on by L-BFGS.
        warnings.simplefilter("ignore", ConvergenceWarning)
        for number in range(options.problems):
            problem = made(draws)
            rows, labels, values = problem.rows, problem.labels, problem.values
            classifier = build_classifier("LogisticRegression", values, Task(len(np.unique(labels)), seed=0))
            begun = time.perf_counter()
            fit = fit_fast(classifier, values, rows, labels)
            seconds += time.perf_counter() - begun
            difference = objective(fit.classifier, values, rows, labels) / least(problem, fit.classifier) - 1
            worst = max(worst, difference)
            if difference > _LIMIT or not fit.converged:
                above, unfinished = above + (difference > _LIMIT), unfinished + (not fit.converged)
                said = "" if fit.converged else ", said not to have converged"
                print(
                    f"{number:>4} {len(rows)} x {rows.shape[1]}, {len(np.unique(labels))} classes, {problem.place}, "
                    f"{values['solver']} {values['penalty']} C {values['C']:.3g}: {difference:+.1e}{said}",
                    flush=True,
                )
    print(
        f"{above} of {options.problems} end more than {_LIMIT:g} above the least objective known, the worst by "
        f"{worst:.1e}; {unfinished} are said not to have converged; {seconds:.1f} s in all"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
