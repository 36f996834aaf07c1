"""What is learned from rows, learned from the training side alone: lexical half, balance, classifier."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import Pipeline

from pcc_pipeline.errors import ModelError
from pcc_pipeline.features.full_vectors import full_vectors, needs_lexical
from pcc_pipeline.features.lexical import fit_transform_lexical
from pcc_pipeline.model.balance import balance
from pcc_pipeline.model.builders import Task
from pcc_pipeline.model.families import build_classifier, complete
from pcc_pipeline.model.probabilities import class_probabilities, decided
from pcc_pipeline.solvers.logistic import fit_fast, replaces, solver_of


@dataclass(frozen=True)
class Rows:
    """Rows as a pipeline sees them: `texts` (n), `vectors` (n, 384 or 584) float32, `labels` (n,)."""

    texts: Sequence[str]
    vectors: np.ndarray
    labels: np.ndarray

    def take(self, positions: np.ndarray) -> Rows:
        return Rows([self.texts[i] for i in positions], self.vectors[positions], self.labels[positions])


@dataclass(frozen=True)
class Recipe:
    """How to fit: everything that stays the same over the candidates of a search.

    Attributes:
        family: a key of `FAMILIES`.
        balance_method: as in `preprocessing.balance_method`.
        lexical: keyword arguments of `fit_transform_lexical` but the seed.
        seed: of the SVD, the sampler and the classifier.
        exact: leave every fit to scikit-learn's own solvers.
    """

    family: str
    balance_method: str
    lexical: Mapping[str, Any]
    seed: int
    exact: bool = False

    def task(self, n_classes: int) -> Task:
        return Task(n_classes, self.seed, balanced=self.balance_method == "class_weight")


@dataclass(frozen=True)
class PreparedRows:
    """Training rows ready for any classifier: the fitted lexical half, whole vectors and labels after balancing."""

    lexical: Pipeline | None
    vectors: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class FittedModel:
    """A lexical half (None for data that brings whole vectors) and the classifier that follows it.

    Attributes:
        solver: what fitted the classifier; it may stand in for the solver that the hyperparameters name.
    """

    lexical: Pipeline | None
    classifier: Any
    warnings: tuple[str, ...] = ()
    solver: str = ""

    def probabilities(self, rows: Rows) -> np.ndarray:
        """(n, K) in the order of `classifier.classes_`."""
        vectors = full_vectors(rows.vectors, self.lexical, rows.texts)
        return class_probabilities(self.classifier, self.classifier.classes_, vectors)


def prepare(rows: Rows, recipe: Recipe) -> PreparedRows:
    """Fit the lexical half on `rows` and balance them."""
    lexical, vectors = None, rows.vectors
    if needs_lexical(vectors):
        lexical, half = fit_transform_lexical(rows.texts, **recipe.lexical, seed=recipe.seed)
        vectors = np.hstack([vectors, half])
    return PreparedRows(lexical, *balance(vectors, rows.labels, recipe.balance_method, recipe.seed))


def fit(prepared: PreparedRows, hyperparameters: Mapping[str, Any], recipe: Recipe) -> FittedModel:
    """Fit the recipe's classifier on prepared rows.

    Raises:
        ModelError: the hyperparameters clash, or scikit-learn refuses these rows.
    """
    task = recipe.task(len(np.unique(prepared.labels)))
    classifier = build_classifier(recipe.family, hyperparameters, task)
    note = f"{recipe.family} stopped before it converged; raise max_iter"
    values = complete(recipe.family, hyperparameters)
    if not recipe.exact and replaces(recipe.family, values):
        fitted = fit_fast(classifier, values, prepared.vectors, prepared.labels, task.balanced)
        doubts = () if fitted.converged else (note,)
        return FittedModel(prepared.lexical, decided(fitted.classifier), doubts, fitted.solver)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        try:
            classifier.fit(prepared.vectors, prepared.labels)
        except ValueError as error:
            raise ModelError(
                f"{recipe.family} cannot be fitted on these rows: {str(error).splitlines()[0]}",
                where=f"{len(prepared.labels)} rows, {len(np.unique(prepared.labels))} classes",
                fix="check the class counts; drop classes of very few rows or lower the folds the model uses inside",
            ) from error
    unfinished = any(issubclass(item.category, ConvergenceWarning) for item in caught)
    solver = solver_of(recipe.family, values, task.n_classes, exact=True)
    return FittedModel(prepared.lexical, decided(classifier), (note,) if unfinished else (), solver)
