"""What is learned from rows, learned from the training side alone: lexical half, balance, classifier."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import Pipeline
from sklearn.utils.class_weight import compute_sample_weight
from threadpoolctl import threadpool_limits

from pcc_pipeline.data.splits import stratified_sample
from pcc_pipeline.data.vector_file import columns, taken, written
from pcc_pipeline.errors import ModelError
from pcc_pipeline.features.full_vectors import FULL_WIDTH, full_vectors, needs_lexical
from pcc_pipeline.features.lexical import fit_transform_lexical, hashed_terms
from pcc_pipeline.model.balance import balance
from pcc_pipeline.model.builders import Task
from pcc_pipeline.model.families import FAMILIES, build_classifier, complete
from pcc_pipeline.model.probabilities import class_probabilities, decided
from pcc_pipeline.model.selection import chosen_few, family_values, method_of, on_features, ranking
from pcc_pipeline.solvers.logistic import Fit, fit_fast, replaces, solver_of, stands_still

# Rows that are answered at a time: what is made of them on the way takes tens of megabytes.
_BLOCK_ROWS = 65_536


@dataclass(frozen=True)
class Rows:
    """Rows as a pipeline sees them.

    Attributes:
        texts: (n).
        vectors: (n, 384 or 584), float32.
        labels: (n,).
        terms: what `hashed_terms` makes of the texts, where they are fitted or answered more than once.
    """

    texts: Sequence[str]
    vectors: np.ndarray
    labels: np.ndarray
    terms: Any = None

    def take(self, positions: np.ndarray) -> Rows:
        terms = None if self.terms is None else self.terms[positions]
        return Rows([self.texts[i] for i in positions], taken(self.vectors, positions), self.labels[positions], terms)

    def hashed(self, lexical: Mapping[str, Any]) -> Rows:
        """With the terms of the texts, where these rows need a lexical half; `lexical` as in a `Recipe`."""
        return replace(self, terms=hashed_terms(self.texts, **lexical)) if needs_lexical(self.vectors) else self

    def blocks(self) -> Iterator[Rows]:
        """The rows in parts, one at least: what is made of a part is small, however many rows there are."""
        for start in range(0, max(len(self.texts), 1), _BLOCK_ROWS):
            part = slice(start, start + _BLOCK_ROWS)
            terms = None if self.terms is None else self.terms[part]
            yield Rows(self.texts[part], self.vectors[part], self.labels[part], terms)


@dataclass(frozen=True)
class Recipe:
    """How to fit: everything that stays the same over the candidates of a search.

    Attributes:
        family: a key of `FAMILIES`.
        balance_method: as in `preprocessing.balance_method`.
        lexical: keyword arguments of `fit_transform_lexical` but the seed.
        seed: of the SVD, the sampler and the classifier.
        exact: leave every fit to scikit-learn's own solvers.
        rankings: the methods of choosing features that a candidate may have.
        most_rows: of more rows, the lexical half and the rankings are learned from a sample of as many; None: never.
    """

    family: str
    balance_method: str
    lexical: Mapping[str, Any]
    seed: int
    exact: bool = False
    rankings: tuple[str, ...] = ()
    most_rows: int | None = None

    def task(self, n_classes: int) -> Task:
        return Task(n_classes, self.seed, balanced=self.balance_method == "class_weight")

    def only_for(self, hyperparameters: Mapping[str, Any]) -> Recipe:
        """The recipe with no ranking but the one that this candidate needs."""
        method = method_of(hyperparameters)
        return replace(self, rankings=() if method == "none" else (method,))


@dataclass(frozen=True)
class PreparedRows:
    """Training rows ready for any classifier: the fitted lexical half, whole vectors and labels after balancing.

    Attributes:
        rankings: method of choosing features -> their places, best first.
        mixture: what balancing made rows of, as in `Balanced`.
    """

    lexical: Pipeline | None
    vectors: np.ndarray
    labels: np.ndarray
    rankings: Mapping[str, np.ndarray] = field(default_factory=dict)
    mixture: Any = None


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
        classes = self.classifier.classes_
        parts = [
            class_probabilities(self.classifier, classes, full_vectors(part.vectors, self.lexical, part.texts))
            for part in rows.blocks()
        ]
        return np.concatenate(parts)


def prepare(rows: Rows, recipe: Recipe) -> PreparedRows:
    """Fit the lexical half on `rows`, rank the features and balance the rows.

    Features are ranked on the rows that there are: made-up ones lie between their neighbours, so that they would only
    make a rare class's few rows say the same more often. Where a recipe balances, a row weighs as much as its class is
    rare, so that each class says as much as it would after balancing.
    """
    lexical, vectors = None, rows.vectors
    halves = needs_lexical(vectors)
    sample = _sample(rows, recipe) if halves or recipe.rankings else rows
    if halves:
        lexical, half = fit_transform_lexical(sample.texts, **recipe.lexical, seed=recipe.seed, terms=sample.terms)
        sample = replace(sample, vectors=np.hstack([sample.vectors, half]))
        vectors = sample.vectors if len(sample.texts) == len(rows.texts) else _completed(rows, lexical)
    rankings = {method: _ranking(method, sample.vectors, sample.labels, recipe) for method in recipe.rankings}
    balanced = balance(vectors, rows.labels, recipe.balance_method, recipe.seed)
    return PreparedRows(lexical, balanced.vectors, balanced.labels, rankings, balanced.mixture)


def _sample(rows: Rows, recipe: Recipe) -> Rows:
    """The rows that are learned from before the classifier is: all of them, where they are not too many."""
    if recipe.most_rows is None or len(rows.texts) <= recipe.most_rows:
        return rows
    return rows.take(stratified_sample(rows.labels, recipe.most_rows, recipe.seed))


def _completed(rows: Rows, lexical: Pipeline) -> np.ndarray:
    """Whole vectors of many rows, in a file."""
    return written((full_vectors(part.vectors, lexical, part.texts, part.terms) for part in rows.blocks()), FULL_WIDTH)


def _ranking(method: str, vectors: np.ndarray, labels: np.ndarray, recipe: Recipe) -> np.ndarray:
    balanced = recipe.balance_method != "none"
    task = Task(len(np.unique(labels)), recipe.seed, balanced)

    def weights(some: np.ndarray, hyperparameters: Mapping[str, Any]) -> np.ndarray:
        values = complete("LogisticRegression", hyperparameters)
        if recipe.exact and values["penalty"] == "l2":
            values["solver"] = "lbfgs"  # scikit-learn's saga takes minutes for the same weights
        rows = PreparedRows(None, some, labels)
        fitted = _fitted("LogisticRegression", values, rows, task, recipe.exact).classifier
        parts = getattr(fitted, "estimators_", [fitted])
        return np.vstack([part.coef_ for part in parts])

    of_rows = compute_sample_weight("balanced" if balanced else None, labels)
    return ranking(method, vectors, labels, of_rows, weights)


def fit(prepared: PreparedRows, hyperparameters: Mapping[str, Any], recipe: Recipe) -> FittedModel:
    """Fit the recipe's classifier on prepared rows.

    Args:
        hyperparameters: the family's, and those of the choice of features, for which `prepared` has the ranking.

    Raises:
        ModelError: the hyperparameters clash, or scikit-learn refuses these rows.
    """
    vectors, kept = prepared.vectors, None
    if (method := method_of(hyperparameters)) != "none":
        kept = chosen_few(prepared.rankings[method], hyperparameters)
        vectors = columns(vectors, kept)
    task = recipe.task(len(np.unique(prepared.labels)))
    rows = replace(prepared, vectors=vectors)
    fitted = _fitted(recipe.family, family_values(hyperparameters), rows, task, recipe.exact)
    classifier = fitted.classifier
    if kept is not None:
        classifier = on_features(classifier, kept, prepared.vectors.shape[1])
    doubts = () if fitted.converged else (f"{recipe.family} stopped before it converged; raise max_iter",)
    return FittedModel(prepared.lexical, decided(classifier), doubts, fitted.solver)


def _fitted(family: str, hyperparameters: Mapping[str, Any], rows: PreparedRows, task: Task, exact: bool) -> Fit:
    classifier = build_classifier(family, hyperparameters, task)
    values = complete(family, hyperparameters)
    # Thousands of small products: BLAS threads would wait for one another longer than they work, beside other work ten
    # times as long. OpenMP's threads, which grow the trees of gradient boosting, stay.
    with threadpool_limits(1, user_api="blas"):
        if not exact and (replaces(family, values) or stands_still(family, values, rows.vectors)):
            return fit_fast(classifier, values, rows.vectors, rows.labels, task.balanced, rows.mixture)
        return _fitted_by_scikit_learn(family, values, classifier, rows.vectors, rows.labels, task)


def _fitted_by_scikit_learn(
    family: str, values: Mapping[str, Any], classifier: Any, vectors: np.ndarray, labels: np.ndarray, task: Task
) -> Fit:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        try:
            if task.balanced and FAMILIES[family].weighs_rows:
                classifier.fit(vectors, labels, sample_weight=compute_sample_weight("balanced", labels))
            else:
                classifier.fit(vectors, labels)
        except ValueError as error:
            raise ModelError(
                f"{family} cannot be fitted on these rows: {str(error).splitlines()[0]}",
                where=f"{len(labels)} rows, {task.n_classes} classes",
                fix="check the class counts; drop classes of very few rows or lower the folds the model uses inside",
            ) from error
        except MemoryError as error:
            raise ModelError(
                f"{family} cannot be fitted on these rows: it needs more memory than there is",
                where=f"{len(labels)} rows, {task.n_classes} classes",
                fix="choose another solver (newton-cholesky needs the most) or model.type, or give fewer rows",
            ) from error
    unfinished = any(issubclass(item.category, ConvergenceWarning) for item in caught)
    return Fit(classifier, not unfinished, solver_of(family, values, task.n_classes, exact=True))
