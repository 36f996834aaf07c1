"""Probabilities that mean what they say: fitted on rows that the classifier did not learn, and kept inside it.

Temperature: one number divides all scores (Guo, Pleiss, Sun and Weinberger, ICML 2017); the predicted label stays.
Sigmoid: a logistic function of each class's score (Platt, 1999). Isotonic: a monotone step function of it (Zadrozny and
Elkan, KDD 2002). What comes out is scikit-learn's own CalibratedClassifierCV, so that the server and the downstream
system, which has scikit-learn alone, give the same answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from sklearn.isotonic import IsotonicRegression

from pcc_pipeline.model.probabilities import CALIBRATORS, assembled, bare

# (true class indices (n,), predicted ones (n,)) -> how good the labels are; greater is better
LabelScore = Callable[[np.ndarray, np.ndarray], float]
Method = Literal["none", "temperature", "sigmoid", "isotonic"]
# In the order in which one is taken where two are equal: the simpler first.
METHODS: tuple[Method, ...] = ("none", "temperature", "sigmoid", "isotonic")
# The score, as a logit, of a class that a fold's classifier never saw: that of the least probability that is not 0.
_UNSEEN = float(np.log(np.finfo(np.float64).eps))
# Those that fit a curve for each class by itself.
_BY_CLASS = ("sigmoid", "isotonic")
# A fall of the labels' score that is more than luck among some hundreds of rows.
_WORSE = 0.01
# Where the folds are one, the rows are split in so many parts.
_PARTS = 5


@dataclass(frozen=True)
class HeldScores:
    """Scores of training rows by classifiers that did not learn them.

    Attributes:
        scores: (n, K) as `raw_scores` gives them, in the order of the classes.
        probabilities: (n, K) of the same classifiers, not calibrated.
        labels: class indices, (n,).
        folds: the fold that held each row out, (n,).
        rows: where each stands among the training rows, (n,); None where nobody asks.
    """

    scores: np.ndarray
    probabilities: np.ndarray
    labels: np.ndarray
    folds: np.ndarray
    rows: np.ndarray | None = None

    @staticmethod
    def joined(
        parts: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], rows: Sequence[np.ndarray] | None = None
    ) -> HeldScores:
        """Of scores, probabilities and labels of each fold, and the rows that it held out."""
        scores, probabilities, labels = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        sizes = [len(part[2]) for part in parts]
        folds = np.repeat(np.arange(len(parts)), sizes) if len(parts) > 1 else np.arange(sizes[0]) % _PARTS
        return HeldScores(scores, probabilities, labels, folds, None if rows is None else np.concatenate(rows))

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def classes_held(self) -> np.ndarray:
        """Which classes have rows here, (K,) bool; one of a single group, which stays in training, has none."""
        return np.bincount(self.labels, minlength=self.scores.shape[1]) > 0


@dataclass(frozen=True)
class Calibration:
    """A way from scores to probabilities.

    Attributes:
        parts: scikit-learn's fitted calibrators: one for `temperature`, and for two classes; else one for each class.
        losses: method -> log loss in nats a row, each fold's rows measured by calibrators of the other folds.
        label_scores: method -> score of the labels of the same rows, measured the same way.
        held: (n, K) probabilities of the held rows, made the same way: none by a calibrator that saw the row.
        labels: their class indices, (n,).
        rows: as in `HeldScores`.
    """

    method: Method
    parts: tuple[Any, ...]
    losses: dict[str, float]
    label_scores: dict[str, float]
    held: np.ndarray
    labels: np.ndarray
    rows: np.ndarray | None = None

    @property
    def worsens_labels(self) -> bool:
        """Whether the labels are worse than those without it; of `auto` never."""
        return self.label_scores["none"] - self.label_scores[self.method] > _WORSE

    @property
    def kept_out(self) -> str | None:
        """The method of the least log loss, where it was not taken for what it does to the labels."""
        least = min(self.losses, key=lambda name: self.losses[name])
        return least if self.losses[least] < self.losses[self.method] else None

    def applied(self, classifier: Any) -> Any:
        """The fitted `classifier` with these calibrators behind it: a plain estimator of scikit-learn."""
        return classifier if self.method == "none" else assembled(bare(classifier), self.method, self.parts)


def raw_scores(classifier: Any, classes: Sequence[Any], vectors: np.ndarray) -> np.ndarray:
    """What calibrators work on, (n, K): decision values, or probabilities of a classifier that has none.

    Args:
        classes: K, in the columns' order; one that the classifier never saw has the score of (nearly) no probability.
    """
    classifier = bare(classifier)
    decides = hasattr(classifier, "decision_function")
    seen = np.asarray(classifier.decision_function(vectors) if decides else classifier.predict_proba(vectors))
    if seen.ndim == 1:
        seen = np.column_stack([-seen, seen])
    places = {str(label): place for place, label in enumerate(classes)}
    table = np.full((len(vectors), len(classes)), _UNSEEN if decides else 0.0)
    table[:, [places[str(label)] for label in classifier.classes_]] = seen
    return table


def calibrate(method: str, held: HeldScores, label_score: LabelScore) -> Calibration:
    """Fit calibrators on held-out rows.

    Args:
        method: one of `METHODS`, or `auto` for the one of the least log loss of those that leave the labels as good as
            they were, to a hundredth of `label_score`. After balancing, the least loss alone would nearly always be
            that of sigmoid or isotonic, which give each class its share of the rows back, and rows of a rare class no
            longer its label. Of a class without held-out rows these two know only that no row is one, and their
            answers lose it, which no score of these rows can see: neither is taken then.
    """
    tried = METHODS if method == "auto" else tuple(name for name in METHODS if name in ("none", method))
    if method == "auto" and not held.classes_held.all():
        tried = tuple(name for name in METHODS if name not in _BY_CLASS)
    made = {name: _cross_fitted(name, held) for name in tried}
    losses: dict[str, float] = {name: _log_loss(table, held.labels) for name, table in made.items()}
    of_labels: dict[str, float] = {name: label_score(held.labels, table.argmax(axis=1)) for name, table in made.items()}
    as_good = [name for name in tried if not of_labels["none"] - of_labels[name] > _WORSE]
    chosen = min(as_good, key=lambda name: losses[name]) if method == "auto" else tried[-1]
    parts = () if chosen == "none" else _fitted(chosen, held.scores, held.labels)
    return Calibration(chosen, parts, losses, of_labels, made[chosen], held.labels, held.rows)


def _cross_fitted(method: Method, held: HeldScores) -> np.ndarray:
    if method == "none":
        return held.probabilities
    table = np.empty_like(held.probabilities)
    for fold in np.unique(held.folds):
        here = held.folds == fold
        parts = _fitted(method, held.scores[~here], held.labels[~here])
        table[here] = _answers(method, parts, held.scores[here])
    return table


def _fitted(method: Method, scores: np.ndarray, labels: np.ndarray) -> tuple[Any, ...]:
    if method == "temperature":
        # One more row is taken to be wrong, in shares of all: with none wrong the best temperature would be 0, and the
        # first error without bounds. Platt's targets do the same for the sigmoid.
        others = scores.copy()
        others[np.arange(len(labels)), labels] = -np.inf
        weights = np.repeat([1.0, 1.0 / len(labels)], len(labels))
        both = np.concatenate([labels, others.argmax(axis=1)])
        return (CALIBRATORS["temperature"]().fit(np.concatenate([scores, scores]), both, weights),)
    columns = (1,) if scores.shape[1] == 2 else range(scores.shape[1])
    parts = [
        CALIBRATORS["sigmoid"]() if method == "sigmoid" else IsotonicRegression(out_of_bounds="clip") for _ in columns
    ]
    return tuple(
        part.fit(scores[:, column], (labels == column).astype(float))
        for part, column in zip(parts, columns, strict=True)
    )


def _log_loss(table: np.ndarray, labels: np.ndarray) -> float:
    """Nats a row; a probability of 0 counts as the least float64 above it that 1 can be told from."""
    return float(-np.log(np.maximum(table[np.arange(len(labels)), labels], np.finfo(table.dtype).eps)).mean())


def _answers(method: Method, parts: Sequence[Any], scores: np.ndarray) -> np.ndarray:
    """What the calibrated classifier answers for rows of these scores."""
    if method == "temperature":
        return np.asarray(parts[0].predict(scores))
    if scores.shape[1] == 2:
        second = parts[0].predict(scores[:, 1])
        return np.column_stack([1 - second, second])
    table = np.column_stack([part.predict(scores[:, column]) for column, part in enumerate(parts)])
    total = table.sum(axis=1, keepdims=True)
    shares: np.ndarray = np.divide(table, total, out=np.full_like(table, 1 / table.shape[1]), where=total > 0)
    return shares
