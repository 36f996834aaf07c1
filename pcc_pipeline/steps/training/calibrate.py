"""How a trained model answers: its calibration and its decision rule, learned from rows that were held out of folds."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from pcc_pipeline.config import Params
from pcc_pipeline.config.schema import DecisionParams
from pcc_pipeline.errors import DataError
from pcc_pipeline.evaluation.metrics import count_labels, label_scores
from pcc_pipeline.features.full_vectors import full_vectors
from pcc_pipeline.model.calibration import Calibration, HeldScores, calibrate, raw_scores
from pcc_pipeline.model.decision import (
    NO_THRESHOLD,
    DecisionRule,
    conformal_limits,
    threshold_for_accuracy,
    threshold_for_share,
)
from pcc_pipeline.model.fitting import FittedModel, Rows
from pcc_pipeline.model.probabilities import class_probabilities
from pcc_pipeline.plurals import counted

logger = logging.getLogger(__name__)

# Fewer fit curves, and choose between them, by luck.
_FEWEST_ROWS = 30
_OF_LABELS = ("f1", "f1_weighted", "f1_macro", "accuracy")


@dataclass(frozen=True)
class Answering:
    """What stands between a fitted classifier and its answers.

    Attributes:
        calibration: None where nothing had to be learned.
        scoring: what the calibration's labels were scored by.
        warnings: what the user asked for and cannot have.
    """

    calibration: Calibration | None
    rule: DecisionRule
    scoring: str
    warnings: tuple[str, ...] = ()

    @property
    def method(self) -> str:
        return "none" if self.calibration is None else self.calibration.method

    def applied(self, classifier: Any) -> Any:
        """The fitted classifier with its calibrators behind it."""
        return classifier if self.calibration is None else self.calibration.applied(classifier)

    @property
    def metrics(self) -> dict[str, float]:
        """Log loss (nats a row) and labels' score of each calibration that was tried, on held-out training rows."""
        if self.calibration is None:
            return {}
        tried = {"log_loss": self.calibration.losses, self.scoring: self.calibration.label_scores}
        return {f"cv/{kind}_calibration_{name}": value for kind, by in tried.items() for name, value in by.items()}

    def document(self, classes: list[str]) -> dict[str, Any]:
        """The part of metadata.json that says what the probabilities are worth and what is done with them."""
        losses: Mapping[str, float] = {} if self.calibration is None else self.calibration.losses
        of_labels: Mapping[str, float] = {} if self.calibration is None else self.calibration.label_scores
        rule = self.rule.document()
        limits = dict(zip(classes, rule.pop("limits"), strict=True)) if self.rule.conformal is not None else {}
        if self.rule.conformal is None:
            rule.pop("limits", None)
        return {
            "calibration": {
                "method": self.method,
                "cross_validated_log_loss": dict(losses),
                f"cross_validated_{self.scoring}": dict(of_labels),
            },
            "decision": {**rule, **({"label_limits": limits} if limits else {})},
        }

    @property
    def line(self) -> tuple[str, ...]:
        """What the summary says of it."""
        lines = []
        if self.calibration is not None and len(losses := self.calibration.losses) > 1:
            before, after = losses["none"], losses[self.method]
            said = f"{self.method} (log loss of held-out rows {before:.4f} -> {after:.4f})"
            least = self.calibration.kept_out
            if self.method == "none":
                said = f"no: {'no other' if least else 'none'} of the methods is below {before:.4f}"
            if least:
                scores = self.calibration.label_scores
                said += (
                    f"; {least} has {losses[least]:.4f}, and was left: by its labels {self.scoring} of them falls "
                    f"from {scores['none']:.4f} to {scores[least]:.4f}"
                )
            lines.append(f"calibrated {said}")
        if self.rule.decides_none:
            lines.append(f"every row is left to a person: no {self.rule.score} was shown to be right often enough")
        elif self.rule.threshold is not None:
            lines.append(f"rows of {self.rule.score} below {self.rule.threshold:.4f} are left to a person")
        return tuple(lines)


def scores_of(fitted: FittedModel, rows: Rows, classes: list[str]) -> tuple[HeldScores, np.ndarray]:
    """Scores of rows that a model did not learn, and their positions; rows of labels that it does not know are out.

    Raises:
        DataError: all are.
    """
    places = {label: place for place, label in enumerate(classes)}
    known = np.flatnonzero([str(label) in places for label in rows.labels])
    if not len(known):
        raise DataError(
            "no validation row has a label that a training row has, so there is nothing to calibrate or decide by",
            where=f"{counted(len(rows.labels), 'validation row')}, {len(classes)} labels in training",
            fix="raise data.validation_size, or let a search make folds; with model.calibration: none and without "
            "options of decision that are learned, the model is trained all the same",
        )
    if len(known) < len(rows.labels):
        rows = rows.take(known)
    vectors = full_vectors(rows.vectors, fitted.lexical, rows.texts)
    labels = np.array([places[str(label)] for label in rows.labels], dtype=np.intp)
    probabilities = class_probabilities(fitted.classifier, classes, vectors)
    scores = raw_scores(fitted.classifier, classes, vectors)
    return HeldScores.joined([(scores, probabilities, labels)]), known


def learn_to_answer(params: Params, held: HeldScores | None, positive: int) -> Answering:
    """Fit calibrators and decision rule.

    Args:
        held: scores of rows by models that did not learn them; None where nothing is to be learned.
        positive: index of the class that the scoring `f1` is about where there are two.

    Raises:
        DataError: they are too few for the calibration that was asked for.
    """
    options = params.decision
    rule = DecisionRule(options.score, options.threshold, options.label)
    # Of the scorings those of probabilities say nothing of labels.
    scoring = params.model.scoring if params.model.scoring in _OF_LABELS else "f1_macro"
    if held is None:
        return Answering(None, rule, scoring)
    method = params.model.calibration
    if method not in ("auto", "none") and len(held) < _FEWEST_ROWS:
        raise DataError(
            f"{len(held)} held-out rows are too few to calibrate by; {_FEWEST_ROWS} are needed",
            where=f"model.calibration: {method}",
            fix="give more rows, raise data.validation_size, let a search make folds, or set model.calibration: auto",
        )
    if method == "auto" and len(held) < _FEWEST_ROWS:
        logger.info("%d held-out rows are too few to calibrate by", len(held))
        method = "none"
    calibration = calibrate(method, held, partial(_label_score, held.scores.shape[1], positive, scoring))
    logger.info("calibration %s on %s held-out rows", calibration.method, f"{len(held):,}")
    threshold, warnings = _threshold(options, calibration)
    limits: tuple[float, ...] = ()
    if options.conformal is not None:
        limits = conformal_limits(calibration.held, calibration.labels, options.conformal, options.conformal_by_class)
    return Answering(
        calibration,
        DecisionRule(options.score, threshold, options.label, options.conformal, limits),
        scoring,
        (*_costs(calibration, scoring), *_lost(calibration, held), *warnings),
    )


def _label_score(n_classes: int, positive: int, scoring: str, labels: np.ndarray, predicted: np.ndarray) -> float:
    counts = count_labels(labels, predicted, n_classes)
    return label_scores(counts, positive if n_classes == 2 else None)[scoring]


def _costs(calibration: Calibration, scoring: str) -> tuple[str, ...]:
    """What to say where the method that the user named makes the labels worse."""
    if not calibration.worsens_labels:
        return ()
    before, after = calibration.label_scores["none"], calibration.label_scores[calibration.method]
    return (
        f"model.calibration: {calibration.method} changes labels: {scoring} of the held-out training rows is "
        f"{after:.4f} with it, {before:.4f} without; auto takes no such method, and temperature leaves every label.",
    )


def _lost(calibration: Calibration, held: HeldScores) -> tuple[str, ...]:
    """What to say where the method that the user named has not seen every label."""
    without = int((~held.classes_held).sum())
    if not without or calibration.method in ("none", "temperature"):
        return ()
    return (
        f"model.calibration: {calibration.method} is fitted by held-out rows, and {counted(without, 'label')} "
        f"{'has' if without == 1 else 'have'} none: the model will hardly ever answer so; auto and temperature do.",
    )


def _threshold(options: DecisionParams, calibration: Calibration) -> tuple[float | None, tuple[str, ...]]:
    if options.max_review_share is not None:
        return threshold_for_share(calibration.held, options.score, options.max_review_share), ()
    if options.target_accuracy is None:
        return options.threshold, ()
    held, labels = calibration.held, calibration.labels
    threshold = threshold_for_accuracy(held, labels, options.score, options.target_accuracy)
    if threshold is not None:
        return threshold, ()
    # What cannot be shown to be right is not decided.
    return NO_THRESHOLD, (
        f"No threshold shows an accuracy of {options.target_accuracy:g} on the {len(labels):,} held-out training rows, "
        "so every row is left to a person; lower decision.target_accuracy, or give more rows.",
    )
