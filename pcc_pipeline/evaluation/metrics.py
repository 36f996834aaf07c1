"""The scores of a classifier, from class indices and probabilities.

Written for the inside of a search, where it runs for every trial and fold with up to 150 classes: every score comes
from three counts per class and one sort per column. Values agree with scikit-learn's functions of the same name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcc_pipeline.errors import ConfigError, DataError, ModelError
from pcc_pipeline.evaluation.ranking import FloatArray, IntArray, mean_of_measured, one_class, one_vs_rest

SCORINGS: tuple[str, ...] = ("f1", "f1_weighted", "f1_macro", "accuracy", "roc_auc", "pr_auc", "neg_log_loss")
# Pairs of labels that a person looks at.
MOST_CONFUSED = 20


@dataclass(frozen=True)
class ClassScore:
    """One label's precision, recall and F1 (0..1) and its number of true rows.

    Precision of a label with rows that is never predicted is 0.0, as in scikit-learn. What has no rows to be measured
    on is NaN: recall where support is 0, and all three for a label that stands neither in truth nor in predictions.
    """

    label: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class LabelCounts:
    """Per label, shape (L,): rows rightly given it, rows that have it, rows given it."""

    hits: NDArray[np.int64]
    support: NDArray[np.int64]
    predicted: NDArray[np.int64]

    @property
    def rows(self) -> NDArray[np.int64]:
        """Rows that have the label or were given it."""
        return self.support + self.predicted - self.hits

    @property
    def errors(self) -> NDArray[np.int64]:
        """Of these, the rows that have it and were given another, or the other way round."""
        return self.rows - self.hits

    @property
    def f1(self) -> NDArray[np.float64]:
        """F1 of each label; 0.0 for one that no row has or was given."""
        both = self.support + self.predicted
        f1: NDArray[np.float64] = np.divide(2 * self.hits, both, out=np.zeros(both.shape), where=both > 0)
        return f1


def check(y_true: ArrayLike, probabilities: ArrayLike) -> tuple[IntArray, NDArray[Any]]:
    """The two arguments as arrays, once they fit each other.

    Raises:
        ValueError: wrong shapes, indices outside 0..K-1, or numbers that are no probabilities.
        DataError: no rows.
        ModelError: the classifier gave NaN or infinity.
    """
    y, proba = np.asarray(y_true), check_probabilities(probabilities)
    if y.ndim != 1 or y.shape[0] != proba.shape[0]:
        raise ValueError(f"expected as many class indices as rows of probabilities {proba.shape}, got shape {y.shape}")
    if y.size == 0:
        raise DataError("there are no rows to measure", fix="give the split more rows: raise its size or add data")
    if not np.issubdtype(y.dtype, np.integer):
        raise ValueError(f"expected integer class indices, got {y.dtype}")
    if y.min() < 0 or y.max() >= proba.shape[1]:
        raise ValueError(f"expected class indices 0..{proba.shape[1] - 1}, got {y.min()}..{y.max()}")
    return y.astype(np.intp, copy=False), proba


def check_probabilities(probabilities: ArrayLike) -> NDArray[Any]:
    """Probabilities as a float array (n, K), n may be 0; float32 stays float32. Raises as `check` does."""
    proba = np.asarray(probabilities)
    if not np.issubdtype(proba.dtype, np.floating):
        proba = proba.astype(np.float64)
    if proba.ndim != 2 or proba.shape[1] == 0:
        raise ValueError(f"expected probabilities of shape (rows, classes), got {proba.shape}")
    if proba.size and not np.isfinite(proba).all():
        rows = int((~np.isfinite(proba).all(axis=1)).sum())
        raise ModelError(
            f"the classifier gave NaN or infinite probabilities for {rows} rows",
            fix="it did not converge: scale the features, strengthen its regularisation or lower its learning rate",
        )
    if proba.size and (proba.min() < -1e-6 or proba.max() > 1 + 1e-6):
        raise ValueError(f"expected probabilities within 0..1, got {proba.min()}..{proba.max()}")
    return proba


def label_indices(labels: ArrayLike, classes: Sequence[str]) -> IntArray:
    """The place of each label among the classes, shape (n,); -1 for a label that the model does not know."""
    place = {str(label): index for index, label in enumerate(classes)}
    return np.fromiter((place.get(str(label), -1) for label in np.asarray(labels, dtype=object)), dtype=np.intp)


def count_labels(y_true: IntArray, predicted: IntArray, n_labels: int) -> LabelCounts:
    """Count hits, support and predictions of each of `n_labels` labels."""
    return LabelCounts(
        hits=np.bincount(y_true[y_true == predicted], minlength=n_labels),
        support=np.bincount(y_true, minlength=n_labels),
        predicted=np.bincount(predicted, minlength=n_labels),
    )


def confusion_counts(y_true: IntArray, predicted: IntArray, n_labels: int) -> NDArray[np.int64]:
    """Rows by true label, columns by predicted label, shape (n_labels, n_labels)."""
    return np.bincount(y_true * n_labels + predicted, minlength=n_labels**2).reshape(n_labels, n_labels)


def most_confused(counts: NDArray[np.int64], most: int = MOST_CONFUSED) -> list[tuple[int, int, int]]:
    """True label, predicted label and rows of the errors in `confusion_counts`, the most rows first."""
    errors = counts.copy()
    np.fill_diagonal(errors, 0)
    order: NDArray[Any] = np.argsort(-errors, axis=None, kind="stable")[:most]
    pairs = zip(*np.unravel_index(order, errors.shape), strict=True)
    return [(int(a), int(b), int(errors[a, b])) for a, b in pairs if errors[a, b]]


def label_scores(counts: LabelCounts, positive: int | None) -> dict[str, float]:
    """`accuracy`, `f1`, `f1_macro`, `f1_weighted` of the predicted labels.

    Args:
        counts: of every label in truth or predictions.
        positive: the label whose F1 is `f1`; None makes `f1` the macro F1.

    Macro F1 is over the labels in truth or predictions, scikit-learn's default: a label that was predicted and stands
    in no row costs score, a label in neither does not. F1 of a positive label in neither is 0.0, as in scikit-learn.
    """
    f1, rows = counts.f1, int(counts.support.sum())
    macro = float(f1[counts.rows > 0].mean())
    return {
        "accuracy": float(counts.hits.sum() / rows),
        "f1": macro if positive is None else float(f1[positive]),
        "f1_macro": macro,
        "f1_weighted": float(f1 @ counts.support / rows),
    }


def probability_scores(y_true: IntArray, probabilities: NDArray[Any], positive: int) -> dict[str, float]:
    """`roc_auc`, `pr_auc` (average precision) and `log_loss` (nats per row, clipped to the dtype's epsilon).

    Two classes: the areas of the positive class. More: the unweighted mean of each class against the rest, over the
    classes that can be measured: one with no row here, or with every row, is left out. Where none is left the area
    is NaN.
    """
    if probabilities.shape[1] == 2:
        roc_auc, pr_auc = one_class(y_true, probabilities, positive)
    else:
        ranking = one_vs_rest(y_true, probabilities)
        roc_auc, pr_auc = mean_of_measured(ranking.roc_auc), mean_of_measured(ranking.pr_auc)
    log_loss = float(log_losses(probabilities[np.arange(y_true.size), y_true]).mean())
    return {"roc_auc": roc_auc, "pr_auc": pr_auc, "log_loss": log_loss}


def log_losses(likelihood: NDArray[Any]) -> FloatArray:
    """Nats, of rows whose label has these probabilities, (n,); clipped by the dtype's epsilon, as scikit-learn."""
    epsilon = np.finfo(likelihood.dtype).eps
    losses: FloatArray = -np.log(np.clip(likelihood, epsilon, 1 - epsilon).astype(np.float64))
    return losses


def scores(y_true: ArrayLike, probabilities: ArrayLike, n_classes: int, positive: int = 1) -> dict[str, float]:
    """Every score of one split: `accuracy, f1, f1_macro, f1_weighted, roc_auc, pr_auc, log_loss`.

    Args:
        y_true: class indices, shape (n,).
        probabilities: shape (n, K); the prediction is the greatest of a row, the first one on a tie.
        n_classes: K.
        positive: the class that `f1`, `roc_auc` and `pr_auc` are about when K is 2; without effect otherwise.

    Returns:
        Floats. Beyond two classes `f1` is the macro F1. `roc_auc` and `pr_auc` are NaN where no class can be measured,
        which is so whenever `y_true` holds one class only. See `label_scores` and `probability_scores`.

    Raises:
        ValueError, DataError, ModelError: as `check`; ValueError too if K is not the width of the probabilities.
    """
    y, proba = check(y_true, probabilities)
    if proba.shape[1] != n_classes:
        raise ValueError(f"expected probabilities for {n_classes} classes, got {proba.shape[1]} columns")
    if n_classes == 2 and positive not in (0, 1):
        raise ValueError(f"expected the positive class to be 0 or 1, got {positive}")
    counts = count_labels(y, proba.argmax(axis=1), n_classes)
    return label_scores(counts, positive if n_classes == 2 else None) | probability_scores(y, proba, positive)


def objective(scores: Mapping[str, float], scoring: str) -> float:
    """The number that a search makes as great as it can; NaN where the score could not be measured."""
    if scoring not in SCORINGS:
        raise ConfigError(f"unknown scoring {scoring!r}", fix=f"use one of {', '.join(SCORINGS)}")
    return -scores["log_loss"] if scoring == "neg_log_loss" else scores[scoring]


def class_scores(y_true_idx: ArrayLike, predicted_idx: ArrayLike, classes: Sequence[str]) -> list[ClassScore]:
    """Precision, recall, F1 and support of each class, in the order of `classes`; indices of shape (n,)."""
    y, predicted = np.asarray(y_true_idx, dtype=np.intp), np.asarray(predicted_idx, dtype=np.intp)
    counts = count_labels(y, predicted, len(classes))
    columns = (counts.hits.tolist(), counts.support.tolist(), counts.predicted.tolist(), counts.f1.tolist())
    by_class: list[ClassScore] = []
    for label, hits, support, predictions, f1 in zip(classes, *columns, strict=True):
        seen = support + predictions > 0
        precision = hits / predictions if predictions else (0.0 if seen else np.nan)
        recall = hits / support if support else np.nan
        by_class.append(ClassScore(str(label), precision, recall, f1 if seen else np.nan, support))
    return by_class


def expected_calibration_error(y: ArrayLike, probabilities: ArrayLike, bins: int = 15) -> float:
    """The mean gap, 0..1, between how sure the model is of its prediction and how often it is right.

    Top label, equal-width bins (open below, closed above) weighted by their rows: Guo, Pleiss, Sun and Weinberger,
    "On Calibration of Modern Neural Networks", ICML 2017, eq. 3; 15 bins as in their tables.

    Args:
        y: class indices, shape (n,); a label unknown to the model may be given as -1, and counts as wrong.
        probabilities: shape (n, K).
    """
    proba = check_probabilities(probabilities)
    if proba.shape[0] == 0:
        return float("nan")
    confidence = proba.max(axis=1).astype(np.float64)
    right = proba.argmax(axis=1) == np.asarray(y)
    place = confidence_bins(confidence, bins)
    gap = np.bincount(place, weights=right, minlength=bins) - np.bincount(place, weights=confidence, minlength=bins)
    return float(np.abs(gap).sum() / confidence.size)


def confidence_bins(confidence: NDArray[np.float64], bins: int) -> IntArray:
    """The bin 0..bins-1 of each confidence, equal widths over 0..1, each open below and closed above."""
    return np.clip(np.ceil(confidence * bins).astype(np.intp) - 1, 0, bins - 1)
