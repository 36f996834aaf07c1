"""By how much a model could be worse than another on the same rows, the luck of the rows allowed for.

`python -m benchmarks.noninferiority_level` measures how often a model that is worse by the margin passes (the level),
and how often one that is as good does (the power).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import gammainc, gammaincinv, ndtri

from pcc_pipeline.evaluation.intervals.label_intervals import unbiased_f1
from pcc_pipeline.evaluation.metrics import count_labels, label_scores
from pcc_pipeline.evaluation.ranking import FloatArray, IntArray

COMPARED: tuple[str, ...] = ("f1_macro", "accuracy", "f1_weighted")
# Quantiles that stand for the distribution of what the challenger gains.
_POINTS = (np.arange(200) + 0.5) / 200
_MOST_ROWS = 10_000_000


@dataclass(frozen=True)
class _Differing:
    """The rows in which one model does better: the sum of what they weigh, and of the squares of that."""

    total: float = 0.0
    squares: float = 0.0

    @classmethod
    def of(cls, weights: FloatArray) -> _Differing:
        return cls(float(weights.sum()), float((weights**2).sum()))


@dataclass(frozen=True)
class Difference:
    """Challenger minus champion in one score, and what it is at least, with the confidence asked for.

    Attributes:
        low: lower confidence bound of the difference, one-sided.
        differing_rows: rows that the two models label differently.
        unmeasured: labels of a model that no test row has; F1 is compared without them.
    """

    challenger: float
    champion: float
    low: float
    rows: int
    differing_rows: int
    unmeasured: int
    confidence: float
    losses: _Differing
    gains: _Differing
    heaviest: float

    @property
    def value(self) -> float:
        return self.challenger - self.champion

    def rows_needed(self, margin: float, power: float = 0.8) -> int | None:
        """So many test rows like these would show, in this share of cases, that an equally good model is no worse.

        Equally good: as many rows differ as here, half of them for better and half for worse. None where no number of
        rows up to ten million would, as with a margin of 0.
        """
        half = (self.losses.total + self.gains.total) / 2
        squares = (self.losses.squares + self.gains.squares) / 2

        def shows(times: float) -> bool:
            part = _Differing(half, squares / times)
            luck = float(ndtri(power)) * math.sqrt(2 * part.squares)
            return _most_lost(part, part, self.heaviest / times, self.confidence) + luck <= margin

        few, many = 1 / self.rows, _MOST_ROWS / self.rows
        if not shows(many):
            return None
        while many / few > 1.01:
            between = math.sqrt(few * many)
            few, many = (few, between) if shows(between) else (between, many)
        return math.ceil(many * self.rows)


def paired_difference(
    labels: ArrayLike, challenger: ArrayLike, champion: ArrayLike, metric: str, *, confidence: float = 0.95
) -> Difference:
    """Compare two models' predicted labels row by row.

    Only rows that the models label differently tell them apart; each weighs what the score changes by if the one
    model's label takes the place of the other's. What the champion's better rows weigh, and what the challenger's
    better rows weigh, are weighted sums of counts. Their confidence distributions are gamma (Fay and Feuer, Statistics
    in Medicine 1997), that of the losses as if one row more were lost, where it weighs most: few differing rows, or
    none, are no proof that none would differ. The bound is a quantile of the difference of the two distributions
    (melding: Fay, Proschan and Brittain, Biometrics 2015). For accuracy all rows weigh the same, and the level is at
    most 1 - confidence by enumeration, where the score test of Tango (1998) exceeds it with few differing rows and says
    nothing of F1. F1 is that of `intervals.unbiased_f1`, over the labels that test rows have. The bound speaks of the
    luck of the test rows, not of another training run.

    Args:
        labels: true labels, shape (rows,).
        challenger, champion: predicted labels, shape (rows,).
        metric: one of `COMPARED`, defined as in `metrics.label_scores`.
        confidence: one-sided, 0..1.

    Raises:
        ValueError: an unknown metric, no rows, unequal shapes, or a confidence outside 0..1.
    """
    if metric not in COMPARED:
        raise ValueError(f"expected a metric out of {COMPARED}, got {metric!r}")
    columns = [np.asarray(column).astype(str) for column in (labels, challenger, champion)]
    shapes = [column.shape for column in columns]
    if columns[0].ndim != 1 or len(set(shapes)) != 1 or columns[0].size == 0:
        raise ValueError(f"expected labels and both predictions of the same rows, got shapes {shapes}")
    if not 0 < confidence < 1:
        raise ValueError(f"expected a confidence within 0..1, got {confidence}")
    names, places = np.unique(np.concatenate(columns), return_inverse=True)
    truth, first, second = places.reshape(3, -1)
    return difference_of_places(truth, first, second, names.size, metric, confidence)


def difference_of_places(
    truth: IntArray, first: IntArray, second: IntArray, n_labels: int, metric: str, confidence: float = 0.95
) -> Difference:
    """As `paired_difference`, of label indices 0..n_labels-1."""
    rows = truth.size
    observed = [label_scores(count_labels(truth, predicted, n_labels), None)[metric] for predicted in (first, second)]
    differ = first != second
    if metric == "accuracy":
        better = (first == truth).astype(np.float64) - (second == truth)
        weights, heaviest, value = better[differ] / rows, 1 / rows, observed[0] - observed[1]
    else:
        weights, heaviest, value = _f1_weights(truth, first, second, n_labels, metric)
    losses, gains = _Differing.of(-weights[weights < 0]), _Differing.of(weights[weights > 0])
    # What the weights, which are taken one row at a time, do not add up to.
    rest = value - (gains.total - losses.total)
    low = rest - _most_lost(losses, gains, heaviest, confidence)
    return Difference(
        challenger=observed[0],
        champion=observed[1],
        low=max(-1.0, low),
        rows=rows,
        differing_rows=int(differ.sum()),
        unmeasured=int(n_labels - np.unique(truth).size),
        confidence=confidence,
        losses=losses,
        gains=gains,
        heaviest=heaviest,
    )


def _f1_weights(
    truth: IntArray, first: IntArray, second: IntArray, n_labels: int, metric: str
) -> tuple[FloatArray, float, float]:
    """What each differing row weighs for the first model, the most that any row could weigh, and the difference."""
    support = np.bincount(truth, minlength=n_labels)
    share = support / truth.size if metric == "f1_weighted" else (support > 0) / (support > 0).sum()
    differ = first != second
    label = truth[differ]
    weights, heaviest, value = np.zeros(label.size), 0.0, 0.0
    for predicted, other, sign in ((first, second, 1), (second, first, -1)):
        counts = count_labels(truth, predicted, n_labels)
        hits, errors, rows = counts.hits, counts.errors, np.maximum(counts.rows, 1)
        # As it is; a hit becomes an error; an error comes in from elsewhere; an error becomes a hit; one error less.
        changed = unbiased_f1(
            np.stack([rows, rows, rows + 1, rows, np.maximum(rows - 1, 1)]),
            np.stack([errors, np.minimum(errors + 1, rows), errors + 1, *[np.maximum(errors - 1, 0)] * 2]),
        )
        changed[4, rows <= 1] = 1.0
        f1 = changed[0]
        hit_lost, error_more, hit_more, error_less = share * np.abs(changed[1:] - f1)
        its, others = predicted[differ], other[differ]
        its_right, others_right = its == label, others == label
        change = np.where(its_right, -hit_lost[label], error_less[its])
        change += np.where(others_right, hit_more[label], -error_more[others])
        weights -= sign * change / 2
        value += sign * float(share @ f1)
        heaviest = max(heaviest, float(hit_lost[hits > 0].max(initial=0.0) + error_more.max()))
    return weights, heaviest, value


def _most_lost(losses: _Differing, gains: _Differing, heaviest: float, confidence: float) -> float:
    """The quantile of losses, one row more added, minus gains."""
    mean, variance = losses.total + heaviest, losses.squares + heaviest**2
    shape, scale = mean**2 / variance, variance / mean
    if gains.total == 0:
        return float(gammaincinv(shape, confidence)) * scale
    gained: NDArray[np.float64] = gammaincinv(gains.total**2 / gains.squares, _POINTS) * gains.squares / gains.total

    def too_sure(lost: float) -> float:
        return float(gammainc(shape, np.maximum(lost + gained, 0.0) / scale).mean()) - confidence

    most = float(gammaincinv(shape, 1 - (1 - confidence) / 1000)) * scale
    return float(brentq(too_sure, -float(gained[-1]), most, xtol=1e-8))
