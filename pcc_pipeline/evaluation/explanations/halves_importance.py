"""What a model goes by, class by class: the sentence half of its vectors against the lexical half."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.pipeline import Pipeline

from pcc_pipeline.encoder.sentence_width import SENTENCE_WIDTH
from pcc_pipeline.evaluation.ranking import FloatArray, IntArray
from pcc_pipeline.features.full_vectors import FULL_WIDTH
from pcc_pipeline.model.probabilities import bare, class_probabilities
from pcc_pipeline.model.selection import kept_features

_HALVES = (slice(0, SENTENCE_WIDTH), slice(SENTENCE_WIDTH, None))
# Permuted rows cost a prediction each, of ensembles a slow one.
_MOST_PERMUTED = 1000
_LEAST = np.finfo(np.float64).tiny


@dataclass(frozen=True)
class HalvesImportance:
    """How much each half weighs.

    Attributes:
        method: `contributions` of a linear model, or `permutation`.
        weights: (K, 2), 0 or more, sentence and lexical half of each class; NaN for a class that nothing tells of.
    """

    classes: tuple[str, ...]
    method: str
    weights: FloatArray

    @property
    def lexical_shares(self) -> FloatArray:
        """Of each class, 0..1, shape (K,); NaN where neither half weighs anything."""
        total = self.weights.sum(axis=1)
        shares: FloatArray = np.divide(
            self.weights[:, 1], total, out=np.full(len(total), np.nan), where=np.nan_to_num(total) > 0
        )
        return shares

    @property
    def lexical_share(self) -> float:
        """Of all classes together; NaN where neither half weighs anything."""
        sums = np.nansum(self.weights, axis=0)
        return float(sums[1] / sums.sum()) if sums.sum() > 0 else float("nan")

    def to_json(self) -> dict[str, Any]:
        """For metrics.json: shares of the sentence and the lexical half, null where there are none."""
        shares = zip(self.classes, self.lexical_shares.tolist(), strict=True)
        return {
            "method": self.method,
            **_shares(self.lexical_share),
            "by_class": [{"label": label, **_shares(share)} for label, share in shares],
        }


def halves_importance(
    classifier: Any, classes: Sequence[str], vectors: np.ndarray, y: IntArray, seed: int = 0
) -> HalvesImportance:
    """Weigh the halves on rows.

    Of a linear model a half's weight for a class is the mean size, over the rows, of what it adds to the class's score:
    coefficients times distances from the mean, which are the Shapley values of a linear model (Štrumbelj and Kononenko,
    2014), summed over the half. Of any other it is by how much the log loss of the class's rows rises when the half is
    shuffled among the rows, as one block (Breiman, "Random forests", 2001); no rise counts as 0.

    Args:
        classifier: fitted; calibrators around it change nothing of a linear model's weights.
        vectors: whole ones, (n, 584).
        y: the rows' places among the classes, -1 for a label that the model does not know.
    """
    coefficients = _coefficients(classifier, classes)
    if coefficients is not None:
        apart = np.asarray(vectors, dtype=np.float32) - vectors.mean(axis=0)
        added = [np.abs(apart[:, half] @ coefficients[:, half].T).mean(axis=0) for half in _HALVES]
        return HalvesImportance(tuple(classes), "contributions", np.column_stack(added).astype(np.float64))
    random = np.random.default_rng(seed)
    known = np.flatnonzero(y >= 0)
    rows = random.permutation(known)[:_MOST_PERMUTED]
    labels, drawn = y[rows], np.asarray(vectors)[rows]
    losses = [_losses(classifier, classes, drawn, labels)]
    for half in _HALVES:
        shuffled = drawn.copy()
        shuffled[:, half] = drawn[random.permutation(len(rows))][:, half]
        losses.append(_losses(classifier, classes, shuffled, labels))
    support = np.bincount(labels, minlength=len(classes))
    weights = np.full((len(classes), 2), np.nan)
    for place, half_losses in enumerate(losses[1:]):
        rise = np.bincount(labels, weights=half_losses - losses[0], minlength=len(classes))
        weights[:, place] = np.where(support > 0, np.maximum(rise / np.maximum(support, 1), 0), np.nan)
    return HalvesImportance(tuple(classes), "permutation", weights)


def _losses(classifier: Any, classes: Sequence[str], vectors: np.ndarray, y: IntArray) -> FloatArray:
    shares = class_probabilities(classifier, classes, vectors)
    losses: FloatArray = -np.log(np.maximum(shares[np.arange(len(y)), y], _LEAST))
    return losses


def _coefficients(classifier: Any, classes: Sequence[str]) -> np.ndarray | None:
    """Of a linear model (K, 584) in the order of `classes`, NaN for a class that it never saw; None of any other.

    A feature that was not chosen has a coefficient of 0.
    """
    inner = bare(classifier)
    inner = inner[-1] if isinstance(inner, Pipeline) else inner
    # Of a model that is fitted once for each fold of its calibration, the mean.
    members = [inner]
    if isinstance(inner, CalibratedClassifierCV):
        members = [part.estimator for part in inner.calibrated_classifiers_]
    if not all(hasattr(member, "coef_") for member in members):
        return None
    fitted: np.ndarray = np.stack([member.coef_ for member in members]).mean(axis=0, dtype=np.float32)
    if len(fitted) == 1:
        fitted = np.vstack([-fitted, fitted])
    if (kept := kept_features(classifier)) is not None:
        chosen, fitted = fitted, np.zeros((len(fitted), FULL_WIDTH), dtype=np.float32)
        fitted[:, kept] = chosen
    places = {str(label): place for place, label in enumerate(classes)}
    table = np.full((len(classes), fitted.shape[1]), np.nan, dtype=np.float32)
    table[[places[str(label)] for label in classifier.classes_]] = fitted
    return table


def _shares(lexical: float) -> dict[str, float | None]:
    known = np.isfinite(lexical)
    return {"sentence_share": 1 - lexical if known else None, "lexical_share": lexical if known else None}
