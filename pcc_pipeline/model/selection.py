"""Which of the 584 features a classifier goes by: ranked on a fold's own training rows, and kept inside the model.

All methods put the features in an order, so that one ranking of a fold serves every candidate, however many it keeps:

- `l1`: by the weights of a logistic regression with an l1 penalty, one class against the rest; a feature without any
  weight is never kept (Ng, "Feature selection, L1 vs. L2 regularization", ICML 2004).
- `mutual_information`: by the information that a feature's tenths hold about the class. scikit-learn's estimate by
  nearest neighbours goes through features and classes one by one, for minutes where this takes a second.
- `recursive`: by when a logistic regression with an l2 penalty drops it, which is fitted again and again without the
  tenth that matters least (Guyon, Weston, Barnhill and Vapnik, "Gene selection for cancer classification using support
  vector machines", Machine Learning 46, 2002).

A weight matters by what it adds to the scores: it is multiplied by the feature's standard deviation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.feature_selection import VarianceThreshold
from sklearn.pipeline import Pipeline

from pcc_pipeline.encoder.sentence_width import SENTENCE_WIDTH
from pcc_pipeline.errors import ModelError
from pcc_pipeline.features.full_vectors import FULL_WIDTH
from pcc_pipeline.model.probabilities import bare
from pcc_pipeline.model.value_ranges import Choice, Domain, Number

METHODS = ("l1", "mutual_information", "recursive")
# What a search may vary beside the hyperparameters of any family: the options `model.<name>`.
CHOICE: dict[str, Domain] = {
    "feature_selection": Choice(("none", *METHODS)),
    "n_features": Number(1, FULL_WIDTH, whole=True),
}
_BINS = 10
_DROPPED_A_ROUND = 0.1
_LASSO = {"penalty": "l1", "solver": "liblinear", "C": 10.0, "tol": 1e-3}
_RIDGE = {"penalty": "l2", "solver": "saga", "C": 1.0, "tol": 1e-3}

# (vectors (n, d), hyperparameters of LogisticRegression) -> weights (K or 1, d), fitted on all n rows
Weights = Callable[[np.ndarray, Mapping[str, Any]], np.ndarray]


def family_values(hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    """What is left for the family."""
    return {name: value for name, value in hyperparameters.items() if name not in CHOICE}


def without_idle(hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    """What a fit by these hyperparameters goes by: a number of features says nothing where none are chosen."""
    return family_values(hyperparameters) if method_of(hyperparameters) == "none" else dict(hyperparameters)


def method_of(hyperparameters: Mapping[str, Any]) -> str:
    """The method that these hyperparameters choose features by, or `none`."""
    return str(hyperparameters.get("feature_selection", "none"))


def ranking(
    method: str, vectors: np.ndarray, labels: np.ndarray, row_weights: np.ndarray, weights: Weights
) -> np.ndarray:
    """Places of features, best first, (m,): all of them, or for `l1` those that have a weight.

    Args:
        vectors: (n, d), real training rows.
        labels: (n,).
        row_weights: (n,), for `mutual_information`; `weights` minds them itself.

    Raises:
        ModelError: the rows are of one class, or `l1` leaves nothing.
    """
    if len(np.unique(labels)) < 2:
        raise ModelError(
            "features cannot be chosen on rows of one class",
            where=f"model.feature_selection: {method}, {len(labels):,} training rows of a fold",
            fix="give rows of a second label, lower model.cv_folds, or set model.feature_selection: none",
        )
    if method == "mutual_information":
        return np.argsort(-_information(vectors, labels, row_weights), kind="stable")
    if method == "recursive":
        return _by_elimination(vectors, weights)
    size = np.abs(weights(vectors, _LASSO)).sum(axis=0) * vectors.std(axis=0)
    if not size.any():
        raise ModelError(
            "the l1 penalty leaves no feature any weight",
            where=f"model.feature_selection: l1, {len(labels):,} training rows",
            fix="set model.feature_selection to mutual_information, recursive or none, or give more rows",
        )
    return np.argsort(-size, kind="stable")[: np.count_nonzero(size)]


def _information(vectors: np.ndarray, labels: np.ndarray, row_weights: np.ndarray) -> np.ndarray:
    """Mutual information of each feature's tenths and the class, in nats, (d,)."""
    classes, places = np.unique(labels, return_inverse=True)
    edges = np.quantile(vectors, np.arange(1, _BINS) / _BINS, axis=0)
    information = np.empty(vectors.shape[1])
    for column in range(vectors.shape[1]):
        # Equal values share a bin: a feature that is the same for every row has no information.
        bins = np.searchsorted(edges[:, column], vectors[:, column])
        joint = np.bincount(bins * len(classes) + places, row_weights, _BINS * len(classes))
        shares = joint.reshape(_BINS, len(classes)) / row_weights.sum()
        apart = shares.sum(axis=1, keepdims=True) * shares.sum(axis=0)
        there = shares > 0
        information[column] = (shares[there] * np.log(shares[there] / apart[there])).sum()
    return information


def _by_elimination(vectors: np.ndarray, weights: Weights) -> np.ndarray:
    left, dropped = np.arange(vectors.shape[1]), []
    variances = vectors.var(axis=0)
    while len(left) > 1:
        size = np.square(weights(np.ascontiguousarray(vectors[:, left]), _RIDGE)).sum(axis=0) * variances[left]
        order = left[np.argsort(-size, kind="stable")]
        keep = len(left) - max(1, int(len(left) * _DROPPED_A_ROUND))
        dropped.append(order[keep:])
        # In ascending order, so that nothing hangs on how the rounds before ordered them.
        left = np.sort(order[:keep])
    return np.concatenate([left, *reversed(dropped)])


def on_features(classifier: Any, kept: np.ndarray, width: int) -> Pipeline:
    """A classifier that was fitted on some features, made to take all `width` of them: plain scikit-learn."""
    # Two rows that differ in these features alone. It holds numbers and no function, which a file must not bring along.
    rows = np.zeros((2, width))
    rows[1, kept] = 1
    return Pipeline([("features", VarianceThreshold().fit(rows)), ("classifier", classifier)])


def kept_features(classifier: Any) -> np.ndarray | None:
    """Places of the features that a fitted classifier goes by, ascending; None for one that takes them all."""
    inner = bare(classifier)
    return np.asarray(inner[0].get_support(indices=True)) if isinstance(inner, Pipeline) else None


def chosen_few(order: np.ndarray, hyperparameters: Mapping[str, Any]) -> np.ndarray:
    """The best of a ranking, as many as these hyperparameters keep, by place."""
    return np.sort(order[: hyperparameters["n_features"]])


@dataclass(frozen=True)
class FeaturesUsed:
    """How many of each half a model goes by."""

    method: str
    sentence: int
    lexical: int

    @classmethod
    def of(cls, classifier: Any, hyperparameters: Mapping[str, Any]) -> FeaturesUsed:
        """Of a fitted classifier, and what it was fitted with."""
        kept = kept_features(classifier)
        places: Sequence[int] | np.ndarray = range(FULL_WIDTH) if kept is None else kept
        sentence = sum(place < SENTENCE_WIDTH for place in places)
        return cls(method_of(hyperparameters), int(sentence), int(len(places) - sentence))

    def document(self) -> dict[str, Any]:
        """The part of metadata.json."""
        return {
            "method": self.method,
            "kept": self.sentence + self.lexical,
            "of": FULL_WIDTH,
            "sentence_half": self.sentence,
            "lexical_half": self.lexical,
        }

    @property
    def line(self) -> tuple[str, ...]:
        """What the summary says of it; nothing where nothing was chosen."""
        return () if self.method == "none" else (f"features {features_sentence(self.document())}",)


def features_sentence(document: Mapping[str, Any]) -> str:
    """The part of metadata.json in words."""
    return (
        f"{document['kept']} of {document['of']} by {document['method']}: {document['sentence_half']} of the sentence "
        f"half, {document['lexical_half']} of the lexical half"
    )
