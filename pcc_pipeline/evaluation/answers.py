"""What a model's answers are worth to people: how far its probabilities hold, and what it is right to decide alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcc_pipeline.evaluation.intervals.label_intervals import Interval, proportion_interval
from pcc_pipeline.evaluation.metric_names import metric_names
from pcc_pipeline.evaluation.metrics import confidence_bins, expected_calibration_error
from pcc_pipeline.evaluation.ranking import FloatArray, IntArray, one_class
from pcc_pipeline.model.decision import DecisionRule, certainty

COVERAGES = (1.0, 0.9, 0.8, 0.7)
_RESAMPLES, _BINS = 400, 15
# Of draws times rows, to bound the memory: 32 MB.
_NUMBERS_AT_A_TIME = 4_000_000


def classwise_calibration_error(y: IntArray, probabilities: NDArray[Any], bins: int = _BINS) -> float:
    """The mean over classes of the gap, 0..1, between each class's probability and how often the class is there.

    Equal-width bins weighted by their rows: Kull and others, "Beyond temperature scaling", NeurIPS 2019, eq. 4.

    Args:
        y: class indices, (n,); -1 for a label that the model does not know.
        probabilities: (n, K).
    """
    rows, n_classes = probabilities.shape
    place = confidence_bins(probabilities, bins) + np.arange(n_classes) * bins
    gap = np.bincount(place.ravel(), weights=probabilities.ravel(), minlength=bins * n_classes)
    known = np.flatnonzero(y >= 0)
    gap -= np.bincount(place[known, y[known]], minlength=bins * n_classes)
    return float(np.abs(gap).sum() / rows / n_classes)


def calibration_interval(y: IntArray, probabilities: NDArray[Any], seed: int = 0, bins: int = _BINS) -> Interval:
    """The 95 % interval of the expected calibration error.

    The basic bootstrap (Davison and Hinkley, 1997, 5.2) of 400 resamples of the rows: what resampling adds to the error
    is taken off, as few rows a bin make gaps by luck alone. It begins at 0 where a model without any error could show
    as much, by labels drawn from its own probabilities (Bröcker and Smith, Weather and Forecasting 2007). It ends where
    it would with one wrong row more, of middle confidence: mistakes that are rare leave no trace in few rows.
    `python -m benchmarks.probability_coverage` measures how often it holds.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == y
    random = np.random.default_rng(seed)
    rows = _Resampled(confidence, right, bins)
    low = 0.0
    if rows.error > np.quantile(rows.by_luck(random), 0.975):
        low = max(2 * rows.error - float(np.quantile(rows.resampled(random), 0.975)), 0.0)
    worse = _Resampled(np.append(confidence, np.median(confidence)), np.append(right, False), bins)
    high = 2 * worse.error - float(np.quantile(worse.resampled(random), 0.025))
    return low, max(high, rows.error)


class _Resampled:
    """Calibration errors of rows, and of draws of them."""

    def __init__(self, confidence: FloatArray, right: NDArray[np.bool_], bins: int) -> None:
        place = confidence_bins(confidence, bins)
        order = np.argsort(place, kind="stable")
        self._starts = np.flatnonzero(np.diff(place[order], prepend=-1))
        self._confidence = confidence[order]
        self._gaps = right[order] - self._confidence
        self.error = float(self._errors(self._gaps[None])[0])

    def resampled(self, random: np.random.Generator) -> FloatArray:
        """Of draws of the rows with replacement."""
        rows = self._gaps.size
        # One multinomial draw says how often each row is taken.
        shares = np.full(rows, 1 / rows)
        return self._of_draws(lambda draws: random.multinomial(rows, shares, size=draws) * self._gaps)

    def by_luck(self, random: np.random.Generator) -> FloatArray:
        """Of labels that are drawn from the model's own confidence."""
        rows = self._gaps.size
        return self._of_draws(lambda draws: (random.random((draws, rows)) < self._confidence) - self._confidence)

    def _of_draws(self, gaps: Callable[[int], FloatArray]) -> FloatArray:
        at_a_time = max(_NUMBERS_AT_A_TIME // self._gaps.size, 1)
        parts = range(0, _RESAMPLES, at_a_time)
        return np.concatenate([self._errors(gaps(min(at_a_time, _RESAMPLES - start))) for start in parts])

    def _errors(self, gaps: FloatArray) -> FloatArray:
        """Of gaps (draws, rows) in the order of the bins."""
        return np.asarray(np.abs(np.add.reduceat(gaps, self._starts, axis=1)).sum(axis=1) / self._gaps.size)


@dataclass(frozen=True)
class RiskCoverage:
    """Accuracy of the rows that a model is surest of.

    Attributes:
        coverage, accuracy: the curve, at each number of rows that can be kept, ascending; rows of one certainty go
            together.
        area: under the curve of errors: the mean error over coverages (Geifman, Uziel and El-Yaniv, ICLR 2019).
    """

    coverage: FloatArray
    accuracy: FloatArray
    area: float

    def at(self, coverage: float) -> float:
        """Accuracy of the surest rows, at least this share of all."""
        return float(self.accuracy[np.searchsorted(self.coverage, coverage - 1e-12)])


def risk_coverage(y: IntArray, probabilities: NDArray[Any], score: str = "confidence") -> RiskCoverage:
    """The curve over all rows; an unknown label (-1) is an error."""
    sure = certainty(probabilities, score)
    order = np.argsort(-sure, kind="stable")
    right = np.cumsum((probabilities.argmax(axis=1) == y)[order])
    last = np.flatnonzero(np.diff(sure[order], append=-np.inf))
    kept = last + 1
    accuracy = right[last] / kept
    errors = np.repeat(1 - accuracy, np.diff(kept, prepend=0))
    return RiskCoverage(kept / len(y), accuracy, float(errors.mean()))


@dataclass(frozen=True)
class Answers:
    """One split's answers, as `Report` has its scores.

    Attributes:
        calibration: `error`, `error_uncalibrated`, `classwise_error`, `classwise_error_uncalibrated`.
        calibration_interval: of `error`.
        decided: `share`, `accuracy` with `accuracy_low` and `accuracy_high`; empty where every row is decided.
        review_share: label -> share of its rows that are left to a person; empty likewise.
        out_of_scope: `rows`, `recall`, `auroc`, `in_scope_accuracy`; empty where no row has that label.
        sets: `share` (asked for), `coverage`, `mean_size`, `single`; empty where there are no sets.
        set_coverage: label -> share of its rows whose set holds it; empty likewise.
    """

    curve: RiskCoverage
    calibration: dict[str, float]
    calibration_interval: Interval
    decided: dict[str, float]
    review_share: dict[str, float]
    out_of_scope: dict[str, float]
    sets: dict[str, float]
    set_coverage: dict[str, float]

    def metrics(self, split: str) -> dict[str, float]:
        """Every number under its name in MLflow, NaN left out."""
        metrics = {f"accuracy_at_{round(share * 100)}_coverage": self.curve.at(share) for share in COVERAGES}
        metrics["risk_coverage_area"] = self.curve.area
        metrics["calibration_error_low"], metrics["calibration_error_high"] = self.calibration_interval
        metrics |= {f"calibration_{name}": value for name, value in self.calibration.items() if name != "error"}
        metrics |= {f"decided_{name}": value for name, value in self.decided.items()}
        metrics |= {f"out_of_scope/{name}": value for name, value in self.out_of_scope.items()}
        metrics |= {f"label_sets/{name}": value for name, value in self.sets.items()}
        for kind, by_class in (("review_share", self.review_share), ("label_set_coverage", self.set_coverage)):
            safe = metric_names(list(by_class))
            metrics |= {f"class/{safe[label]}/{kind}": value for label, value in by_class.items()}
        return {f"{split}/{name}": value for name, value in metrics.items() if math.isfinite(value)}

    @property
    def lines(self) -> tuple[str, ...]:
        """For people: what the probabilities are worth, and what may be left to the model."""
        (low, high), error = self.calibration_interval, self.calibration["error"]
        before = self.calibration["error_uncalibrated"]
        said = [
            f"of the surest {share:.0%} of the rows it has {self.curve.at(share):.4f} right" for share in (0.9, 0.8)
        ]
        lines = [
            f"calibration error {error:.4f} (95% interval {low:.4f} to {high:.4f}"
            + (f"; {before:.4f} without calibration)" if before != error else ")"),
            "; ".join(said),
        ]
        if self.decided:
            share, decided = self.decided["share"], self.decided
            right = (
                f", right in {decided['accuracy']:.4f} "
                f"({decided['accuracy_low']:.4f} to {decided['accuracy_high']:.4f})"
                if "accuracy" in decided
                else ""
            )
            lines.append(f"by its rule it decides {share:.1%} of the rows{right}, and leaves the rest to a person")
        if self.out_of_scope:
            lines.append(
                f"out of scope: {self.out_of_scope['recall']:.4f} of {self.out_of_scope['rows']:,.0f} rows not taken "
                "for something else"
            )
        if self.sets:
            lines.append(
                f"sets of labels: {self.sets['coverage']:.4f} hold the right one ({self.sets['share']:g} asked for), "
                f"{self.sets['mean_size']:.2f} labels each"
            )
        return tuple(lines)

    def to_json(self) -> dict[str, Any]:
        """For metrics.json: labels as they are, NaN as None, the curve at most at 200 points."""
        places = np.unique(np.linspace(0, len(self.curve.coverage) - 1, 200).astype(int))
        return {
            "calibration": {**_plain(self.calibration), "interval": list(self.calibration_interval)},
            "accuracy_at_coverage": {f"{share:g}": self.curve.at(share) for share in COVERAGES},
            "risk_coverage": {
                "area": self.curve.area,
                "coverage": self.curve.coverage[places].tolist(),
                "accuracy": self.curve.accuracy[places].tolist(),
            },
            "decided": _plain(self.decided),
            "review_share": _plain(self.review_share),
            "out_of_scope": _plain(self.out_of_scope),
            "label_sets": _plain(self.sets),
            "label_set_coverage": _plain(self.set_coverage),
        }


def _plain(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def answers(
    labels: ArrayLike,
    probabilities: NDArray[Any],
    uncalibrated: NDArray[Any],
    classes: Sequence[str],
    rule: DecisionRule,
    out_of_scope_label: str | None = None,
) -> Answers:
    """Measure what is done with one split's probabilities.

    Args:
        labels: true labels, (n,), n at least 1.
        probabilities, uncalibrated: (n, K), of the model as it answers, and without its calibrators.
        out_of_scope_label: the label of rows that are none of the model's business, whether it knows the label or not.
    """
    names = [str(label) for label in classes]
    places = {label: place for place, label in enumerate(names)}
    truth = np.array([str(label) for label in np.asarray(labels, dtype=object)], dtype=object)
    y = np.array([places.get(label, -1) for label in truth], dtype=np.intp)
    predicted = probabilities.argmax(axis=1)
    right, undecided = predicted == y, rule.left_to_a_person(probabilities)
    decided: dict[str, float] = {}
    review: dict[str, float] = {}
    if rule.abstains:
        kept = int((~undecided).sum())
        decided = {"share": kept / len(y)}
        if kept:
            hits = int(right[~undecided].sum())
            low, high = proportion_interval(hits, kept)
            decided |= {"accuracy": hits / kept, "accuracy_low": low, "accuracy_high": high}
        review = {label: float(undecided[truth == label].mean()) for label in sorted(set(truth))}
    outside = truth == out_of_scope_label
    out: dict[str, float] = {}
    if outside.any():
        caught = undecided | (predicted == places.get(str(out_of_scope_label), -1))
        out = {"rows": float(outside.sum()), "recall": float(caught[outside].mean())}
        if not outside.all():
            novelty = 1 - certainty(probabilities, rule.score)
            if str(out_of_scope_label) in places:
                novelty = np.maximum(novelty, probabilities[:, places[str(out_of_scope_label)]])
            both = np.column_stack([1 - novelty, novelty])
            out["auroc"] = one_class(outside.astype(np.intp), both, 1)[0]
            out["in_scope_accuracy"] = float(right[~outside].mean())
    sets: dict[str, float] = {}
    in_set: dict[str, float] = {}
    if rule.conformal is not None:
        held = rule.label_sets(probabilities)
        covered = np.where(y >= 0, held[np.arange(len(y)), np.maximum(y, 0)], False)
        size = held.sum(axis=1)
        sets = {
            "share": rule.conformal,
            "coverage": float(covered.mean()),
            "mean_size": float(size.mean()),
            "single": float((size == 1).mean()),
        }
        in_set = {label: float(covered[truth == label].mean()) for label in sorted(set(truth))}
    return Answers(
        curve=risk_coverage(y, probabilities, rule.score),
        calibration={
            "error": expected_calibration_error(y, probabilities),
            "error_uncalibrated": expected_calibration_error(y, uncalibrated),
            "classwise_error": classwise_calibration_error(y, probabilities),
            "classwise_error_uncalibrated": classwise_calibration_error(y, uncalibrated),
        },
        calibration_interval=calibration_interval(y, probabilities),
        decided=decided,
        review_share=review,
        out_of_scope=out,
        sets=sets,
        set_coverage=in_set,
    )
