"""Calibrators: what they promise of held-out rows, and that they are scikit-learn's own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedKFold

from pcc_pipeline.model.calibration import METHODS, HeldScores, calibrate, raw_scores
from pcc_pipeline.model.fitting import PreparedRows, Recipe, fit
from pcc_pipeline.model.probabilities import bare, class_probabilities, decided, uncalibrated

RECIPE = Recipe("LogisticRegression", "none", {}, seed=0)


def macro_f1(labels: np.ndarray, predicted: np.ndarray) -> float:
    return float(f1_score(labels, predicted, average="macro"))


def held_rows(n_classes: int, rows: int, sharpness: float, seed: int = 0) -> HeldScores:
    """Logits whose softmax, at sharpness 1, is the law that the labels follow."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(rows, n_classes)) * 1.5
    law = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([random.choice(n_classes, p=shares) for shares in law])
    scores = logits * sharpness
    said = np.exp(scores - scores.max(axis=1, keepdims=True))
    return HeldScores(scores, said / said.sum(axis=1, keepdims=True), labels, np.arange(rows) % 5)


@pytest.mark.parametrize("sharpness", [0.25, 4.0])
def test_the_temperature_undoes_what_made_a_model_too_sure_or_too_modest(sharpness: float) -> None:
    found = calibrate("temperature", held_rows(3, 4000, sharpness), macro_f1)
    (part,) = found.parts
    assert part.beta_ * sharpness == pytest.approx(1, abs=0.08)
    assert found.losses["temperature"] < found.losses["none"] - 0.01


def test_auto_leaves_alone_what_is_right_and_chooses_by_loss_where_it_is_not() -> None:
    right = calibrate("auto", held_rows(3, 4000, 1.0), macro_f1)
    assert right.losses[right.method] == min(right.losses.values())
    assert right.losses["none"] - right.losses[right.method] < 0.002
    wrong = calibrate("auto", held_rows(3, 4000, 4.0), macro_f1)
    assert wrong.method == "temperature"
    assert set(wrong.losses) == {"none", "temperature", "sigmoid", "isotonic"}


def rare_rows(rows: int = 4000) -> HeldScores:
    """Scores of a classifier that learned balanced rows, of rows of which 6 % are of the second class."""
    random = np.random.default_rng(3)
    labels = (random.uniform(size=rows) < 0.06).astype(int)
    second = 1 / (1 + np.exp(-(random.normal(size=rows) + 0.6 * (2 * labels - 1))))
    logit = np.log(second / (1 - second))
    return HeldScores(
        np.column_stack([-logit, logit]), np.column_stack([1 - second, second]), labels, np.arange(rows) % 5
    )


def test_auto_gives_no_rare_label_up_for_a_lower_loss() -> None:
    """After balancing the least loss is that of giving each class its share of the rows back."""
    held = rare_rows()
    found = calibrate("auto", held, macro_f1)
    assert found.kept_out in ("sigmoid", "isotonic")
    assert found.method == "temperature"
    recalled = (found.held.argmax(axis=1) == 1)[held.labels == 1].mean()
    assert recalled == (held.probabilities.argmax(axis=1) == 1)[held.labels == 1].mean() > 0.65
    assert found.label_scores["sigmoid"] < found.label_scores["temperature"] == found.label_scores["none"]
    asked_for = calibrate("sigmoid", held, macro_f1)
    assert (asked_for.method, asked_for.kept_out, asked_for.worsens_labels) == ("sigmoid", None, True)


def test_auto_keeps_the_label_of_a_class_that_no_held_out_row_has() -> None:
    """A class of one group stays in training: its curve would say that nothing is of it."""
    draws = np.random.default_rng(0)
    labels = np.repeat([0, 1], 300)
    scores = np.column_stack([3 * (labels == 0), 3 * (labels == 1), np.full(600, -3.0)]) + draws.normal(size=(600, 3))
    likely = np.exp(0.2 * scores)
    held = HeldScores(scores, likely / likely.sum(axis=1, keepdims=True), labels, np.arange(600) % 5)
    assert held.classes_held.tolist() == [True, True, False]
    assert set(calibrate("auto", held, macro_f1).losses) == {"none", "temperature"}
    of_all = replace(held, labels=np.r_[labels[:-5], np.full(5, 2)])
    assert set(calibrate("auto", of_all, macro_f1).losses) == set(METHODS)
    assert calibrate("sigmoid", held, macro_f1).method == "sigmoid"


def test_no_row_is_measured_by_a_calibrator_that_saw_it() -> None:
    held = held_rows(2, 400, 3.0)
    turned = held.labels.copy()
    turned[held.folds == 2] = 1 - turned[held.folds == 2]
    before, after = (
        calibrate("isotonic", held, macro_f1),
        calibrate("isotonic", HeldScores(held.scores, held.probabilities, turned, held.folds), macro_f1),
    )
    here = held.folds == 2
    np.testing.assert_array_equal(before.held[here], after.held[here])
    assert not np.array_equal(before.held[~here], after.held[~here])


def test_rows_all_right_make_no_model_sure_without_bounds() -> None:
    random = np.random.default_rng(1)
    labels = random.integers(0, 3, size=300)
    scores = np.full((300, 3), -2.0)
    scores[np.arange(300), labels] = 2.0
    said = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    found = calibrate("temperature", HeldScores(scores, said, labels, np.arange(300) % 5), macro_f1)
    # One row more, and it wrong: 1 of 301.
    assert found.held.max() == pytest.approx(1 - 1 / 301, abs=2e-3)


@pytest.mark.parametrize("method", ["temperature", "sigmoid", "isotonic"])
@pytest.mark.parametrize("n_classes", [2, 4])
def test_they_are_what_scikit_learn_fits_on_the_same_rows(method: str, n_classes: int) -> None:
    random = np.random.default_rng(2)
    labels = np.arange(240) % n_classes
    vectors = random.normal(size=(240, 6))
    vectors[np.arange(240), labels] += 1.5
    folds = list(StratifiedKFold(4).split(vectors, labels))
    model = LogisticRegression(C=0.7)
    peer = CalibratedClassifierCV(model, method=method, cv=folds, ensemble=False).fit(vectors, labels)
    parts = []
    for train, held in folds:
        of_fold = LogisticRegression(C=0.7).fit(vectors[train], labels[train])
        said = of_fold.predict_proba(vectors[held])
        parts.append((raw_scores(of_fold, range(n_classes), vectors[held]), said, labels[held]))
    found = calibrate(method, HeldScores.joined(parts), macro_f1).applied(
        LogisticRegression(C=0.7).fit(vectors, labels)
    )
    # The temperature alone counts one row more; see `calibrate`.
    exact = 0.02 if method == "temperature" else 1e-9
    np.testing.assert_allclose(found.predict_proba(vectors), peer.predict_proba(vectors), atol=exact)
    assert list(found.predict(vectors)) == list(peer.predict(vectors))


def test_a_class_that_a_fold_never_saw_has_the_score_of_no_probability() -> None:
    random = np.random.default_rng(3)
    vectors, labels = random.normal(size=(60, 5)), np.array([0, 2] * 30)
    of_fold = LogisticRegression().fit(vectors, labels)
    scores = raw_scores(of_fold, range(3), vectors)
    assert scores.shape == (60, 3)
    assert (scores[:, 1] < -36).all()
    np.testing.assert_allclose(scores[:, 2], of_fold.decision_function(vectors))


@pytest.mark.parametrize("family", ["LogisticRegression", "SGD", "LinearSVC", "RandomForest"])
def test_what_was_calibrated_answers_without_its_calibrators_as_before(family: str) -> None:
    random = np.random.default_rng(4)
    labels = np.arange(90) % 3
    vectors = random.normal(size=(90, 8)).astype(np.float32)
    vectors[np.arange(90), labels] += 2
    small = {"LinearSVC": {"calibration_folds": 2}, "RandomForest": {"n_estimators": 5}}
    model = fit(PreparedRows(None, vectors, labels), small.get(family, {}), Recipe(family, "none", {}, 0)).classifier
    parts = [(raw_scores(model, range(3), vectors), class_probabilities(model, range(3), vectors), labels)]
    calibrated = calibrate("sigmoid", HeldScores.joined(parts), macro_f1).applied(model)
    before = class_probabilities(model, range(3), vectors)
    assert not np.allclose(class_probabilities(calibrated, range(3), vectors), before)
    np.testing.assert_array_equal(class_probabilities(uncalibrated(calibrated), range(3), vectors), before)
    assert uncalibrated(model) is model
    assert decided(calibrated) is calibrated
    assert bare(calibrated) is bare(model)
