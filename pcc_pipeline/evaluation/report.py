"""What one split says of a model, under the names that MLflow and metrics.json give it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pcc_pipeline.errors import ConfigError, DataError
from pcc_pipeline.evaluation.intervals.label_intervals import METHODS, Interval, class_intervals, label_intervals
from pcc_pipeline.evaluation.intervals.probability_intervals import METHODS as RANKED
from pcc_pipeline.evaluation.intervals.probability_intervals import probability_intervals
from pcc_pipeline.evaluation.metric_names import metric_names
from pcc_pipeline.evaluation.metrics import (
    ClassScore,
    check_probabilities,
    class_scores,
    confusion_counts,
    count_labels,
    expected_calibration_error,
    label_indices,
    label_scores,
    most_confused,
    probability_scores,
)

NOTHING_RANKED: dict[str, float] = {"roc_auc": math.nan, "pr_auc": math.nan, "log_loss": math.nan}


@dataclass(frozen=True)
class Report:
    """The scores of one split.

    Attributes:
        split: `train`, `val` or `test`.
        classes: the labels that the model knows, in the order of its probabilities.
        scores: `accuracy`, `f1`, `f1_macro`, `f1_weighted` over all rows; `roc_auc`, `pr_auc`, `log_loss` over the rows
            whose label the model knows. NaN where a score cannot be measured.
        by_class: one for each of `classes`, then one for each unknown label, whose rows are all errors.
        intervals: 95 % intervals (low, high) of `accuracy` and `f1_macro`, of two classes' `f1` and, where they were
            asked for, of `roc_auc`, `pr_auc` and `log_loss`; made as `intervals.METHODS` says, and that of
            `ranking_intervals`.
        class_intervals: exact 95 % intervals of `precision`, `recall` and `f1`, one mapping for each of `by_class`.
        calibration_error: expected calibration error over all rows; an unknown label is a wrong prediction.
        unknown_labels: rows by label that the data has and the model does not know.
        never_predicted: classes with rows in this split that no row was given.
        confused: what is taken for what, the most rows first: true label, predicted label, rows, and rows that have the
            true label.
    """

    split: str
    classes: tuple[str, ...]
    scores: dict[str, float]
    by_class: tuple[ClassScore, ...]
    intervals: dict[str, Interval]
    n_rows: int
    calibration_error: float
    class_intervals: tuple[dict[str, Interval], ...] = ()
    unknown_labels: dict[str, int] = field(default_factory=dict)
    never_predicted: tuple[str, ...] = ()
    confused: tuple[tuple[str, str, int, int], ...] = ()

    def metrics(self, *, by_class: bool = True) -> dict[str, float]:
        """Every number under its name in MLflow, NaN left out.

        `<split>/<metric>`, `<split>/<metric>_low` and `_high` (intervals), `<split>/calibration_error`, `<split>/rows`,
        `<split>/unknown_label_rows` and, unless `by_class` is False, `<split>/class/<label>/precision`, `recall`, `f1`
        and `support`, where the label is made safe by `naming.metric_names`.
        """
        numbers = dict(self.scores)
        for name, (low, high) in self.intervals.items():
            numbers |= {f"{name}_low": low, f"{name}_high": high}
        numbers["calibration_error"] = self.calibration_error
        numbers["rows"] = float(self.n_rows)
        numbers["unknown_label_rows"] = float(sum(self.unknown_labels.values()))
        if by_class:
            safe = metric_names([score.label for score in self.by_class])
            for score in self.by_class:
                for name in ("precision", "recall", "f1", "support"):
                    numbers[f"class/{safe[score.label]}/{name}"] = float(getattr(score, name))
        return {f"{self.split}/{name}": value for name, value in numbers.items() if math.isfinite(value)}

    def to_json(self) -> dict[str, Any]:
        """A plain dict for metrics.json: labels as they are, NaN as None, intervals as [low, high]."""
        return {
            "split": self.split,
            "n_rows": self.n_rows,
            "classes": list(self.classes),
            "scores": {name: _plain(value) for name, value in self.scores.items()},
            "intervals": {name: list(ends) for name, ends in self.intervals.items()},
            "interval_methods": {name: (METHODS | RANKED)[name] for name in self.intervals},
            "calibration_error": _plain(self.calibration_error),
            "by_class": [
                {
                    **{name: _plain(value) for name, value in asdict(score).items()},
                    "intervals": {name: list(ends) for name, ends in intervals.items()},
                }
                for score, intervals in zip(self.by_class, self.class_intervals, strict=True)
            ],
            "unknown_labels": dict(self.unknown_labels),
            "never_predicted": list(self.never_predicted),
            "confused_pairs": [
                {"label": label, "predicted": predicted, "rows": rows, "of": of}
                for label, predicted, rows, of in self.confused
            ],
        }


def worst_first(by_class: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The classes of `Report.to_json`, the lowest F1 first; those that no row measures come last."""
    return sorted(by_class, key=lambda each: (each["f1"] is None, each["f1"] or 0.0, str(each["label"])))


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def report(
    split: str,
    labels: ArrayLike,
    probabilities: ArrayLike,
    classes: Sequence[str],
    positive_label: str | None = None,
    *,
    intervals_of_areas: bool = False,
) -> Report:
    """Measure one split.

    Args:
        labels: true labels as str, shape (n,). A label that is not among `classes` is an error whatever was predicted.
        probabilities: shape (n, K), columns in the order of `classes`.
        positive_label: the class that `f1`, `roc_auc` and `pr_auc` are about when K is 2; None takes the second.
        intervals_of_areas: make those of `roc_auc`, `pr_auc` and `log_loss` too, which costs 21 times their scores.

    Raises:
        ConfigError: K is 2 and `positive_label` is not one of the classes.
        DataError: no rows.
        ModelError: the classifier gave NaN or infinite probabilities.
        ValueError: shapes that do not fit each other.
    """
    known, proba = [str(label) for label in classes], check_probabilities(probabilities)
    truth = np.array([str(label) for label in np.asarray(labels, dtype=object)], dtype=object)
    if proba.shape != (truth.size, len(known)):
        raise ValueError(f"expected probabilities of shape ({truth.size}, {len(known)}), got {proba.shape}")
    if truth.size == 0:
        raise DataError(f"the {split} split has no rows to measure", fix="raise the split's size or add data")
    positive = None
    if len(known) == 2:
        positive = 1 if positive_label is None else _positive(positive_label, known)
    y_known, predicted = label_indices(truth, known), proba.argmax(axis=1)
    strange = sorted(set(truth[y_known < 0]))
    every = known + strange
    y = label_indices(truth, every)
    counts = count_labels(y, predicted, len(every))
    ranked, seen = dict(NOTHING_RANKED), y_known >= 0
    intervals = label_intervals(y, predicted, len(every), n_known=len(known), positive=positive)
    if seen.any():
        of_known = y_known[seen], proba[seen], 1 if positive is None else positive
        ranked = probability_scores(*of_known)
        if intervals_of_areas:
            intervals |= probability_intervals(*of_known)
    return Report(
        split=split,
        classes=tuple(known),
        scores=label_scores(counts, positive) | ranked,
        by_class=tuple(class_scores(y, predicted, every)),
        intervals=intervals,
        class_intervals=tuple(class_intervals(counts)),
        n_rows=int(truth.size),
        calibration_error=expected_calibration_error(y_known, proba),
        unknown_labels={label: int(counts.support[len(known) + place]) for place, label in enumerate(strange)},
        never_predicted=tuple(
            label for place, label in enumerate(known) if counts.support[place] and not counts.predicted[place]
        ),
        confused=tuple(
            (every[a], every[b], rows, int(counts.support[a]))
            for a, b, rows in most_confused(confusion_counts(y, predicted, len(every)))
        ),
    )


def _positive(label: str, classes: list[str]) -> int:
    if label not in classes:
        raise ConfigError(
            f"the positive label {label!r} is not one of the model's two classes",
            fix=f"name one of {', '.join(map(repr, classes))}, or none",
        )
    return classes.index(label)


def cv_metrics(fold_scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """`cv/<metric>_mean` and `cv/<metric>_std` over the folds.

    The deviation is the sample's (divided by folds - 1): the folds stand for others that could have been drawn. Folds
    where a metric is NaN are left out of it; a metric with no fold left has no mean, with one fold left no deviation.
    """
    summary: dict[str, float] = {}
    for name in dict.fromkeys(name for fold in fold_scores for name in fold):
        values = np.array([fold[name] for fold in fold_scores if name in fold and not math.isnan(fold[name])])
        if values.size:
            summary[f"cv/{name}_mean"] = float(values.mean())
        if values.size > 1:
            summary[f"cv/{name}_std"] = float(values.std(ddof=1))
    return summary
