"""Scores agree with scikit-learn and with values worked out by hand."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from sklearn import metrics as reference

from pcc_pipeline.errors import ConfigError, DataError, ModelError
from pcc_pipeline.evaluation.metrics import (
    SCORINGS,
    class_scores,
    expected_calibration_error,
    label_indices,
    objective,
    scores,
)


def sample(rows: int, n_classes: int, seed: int, *, decimals: int | None = None, present: int | None = None):
    """Class indices and probabilities that lean towards them; few decimals make ties."""
    draws = np.random.default_rng(seed)
    y = draws.integers(0, present or n_classes, rows)
    given = draws.dirichlet(np.ones(n_classes), rows)
    given[np.arange(rows), y] += 0.2
    given /= given.sum(axis=1, keepdims=True)
    return y, given if decimals is None else np.round(given, decimals)


def close(value: float) -> object:
    return pytest.approx(value, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("positive", [0, 1])
@pytest.mark.parametrize("decimals", [None, 1])
def test_two_classes_agree_with_scikit_learn_for_either_positive_class_and_with_ties(positive, decimals):
    y, given = sample(300, 2, seed=1, decimals=decimals)
    found, predicted, is_positive = scores(y, given, 2, positive), given.argmax(axis=1), y == positive
    assert found["accuracy"] == close(reference.accuracy_score(y, predicted))
    assert found["f1"] == close(reference.f1_score(y, predicted, pos_label=positive))
    assert found["f1_macro"] == close(reference.f1_score(y, predicted, average="macro"))
    assert found["f1_weighted"] == close(reference.f1_score(y, predicted, average="weighted"))
    assert found["roc_auc"] == close(reference.roc_auc_score(is_positive, given[:, positive]))
    assert found["pr_auc"] == close(reference.average_precision_score(is_positive, given[:, positive]))
    assert found["log_loss"] == close(reference.log_loss(y, y_proba=given))


@pytest.mark.parametrize(
    ("n_classes", "decimals", "seed"), [(3, None, 2), (4, 1, 3), (20, 2, 4), (77, None, 5), (1, 1, 6)]
)
def test_many_classes_agree_with_scikit_learn_also_with_ties(n_classes, decimals, seed):
    y, given = sample(900, n_classes, seed, decimals=decimals)
    found, predicted = scores(y, given, n_classes), given.argmax(axis=1)
    one_hot = np.eye(n_classes)[y]
    assert found["accuracy"] == close(reference.accuracy_score(y, predicted))
    assert found["f1"] == found["f1_macro"] == close(reference.f1_score(y, predicted, average="macro"))
    assert found["f1_weighted"] == close(reference.f1_score(y, predicted, average="weighted"))
    if n_classes > 1:
        assert found["roc_auc"] == close(reference.roc_auc_score(one_hot, given, average="macro"))
        assert found["pr_auc"] == close(reference.average_precision_score(one_hot, given, average="macro"))
    clipped = np.clip(given[np.arange(y.size), y], np.finfo(float).eps, 1)
    assert found["log_loss"] == close(-np.log(clipped).mean())


def test_log_loss_agrees_with_scikit_learn_where_a_true_class_has_probability_zero():
    given = np.array([[0.0, 1.0, 0.0], [0.2, 0.3, 0.5], [1.0, 0.0, 0.0]])
    y = np.array([0, 1, 2])
    assert scores(y, given, 3)["log_loss"] == close(reference.log_loss(y, y_proba=given))
    single = given.astype(np.float32)
    assert scores(y, single, 3)["log_loss"] == pytest.approx(reference.log_loss(y, y_proba=single), rel=1e-6)


def test_classes_absent_from_the_truth_are_left_out_of_the_areas():
    y, given = sample(200, 6, seed=7, present=4)
    found = scores(y, given, 6)
    measured = range(4)
    roc = [reference.roc_auc_score(y == label, given[:, label]) for label in measured]
    precision = [reference.average_precision_score(y == label, given[:, label]) for label in measured]
    assert found["roc_auc"] == close(np.mean(roc))
    assert found["pr_auc"] == close(np.mean(precision))


def test_macro_f1_counts_a_label_that_is_only_predicted_and_not_one_that_is_nowhere():
    y, given = np.array([0, 0, 1]), np.eye(5)[[0, 3, 1]]
    # F1: class 0 is 2/3, class 1 is 1, class 3 (predicted once, never true) is 0; classes 2 and 4 are nowhere.
    assert scores(y, given, 5)["f1_macro"] == close((2 / 3 + 1 + 0) / 3)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_areas_are_nan_where_the_truth_holds_one_class_only(n_classes):
    _, given = sample(20, n_classes, seed=8)
    found = scores(np.ones(20, dtype=int), given, n_classes)
    assert math.isnan(found["roc_auc"])
    assert math.isnan(found["pr_auc"])
    assert not math.isnan(found["accuracy"])


def test_binary_areas_worked_out_by_hand():
    positive = np.array([0.1, 0.4, 0.35, 0.8])
    found = scores(np.array([0, 0, 1, 1]), np.column_stack([1 - positive, positive]), 2)
    # Of four pairs, 0.35 loses to 0.4 only. Precision is 1/1 at 0.8 and 2/3 at 0.35.
    assert found["roc_auc"] == close(3 / 4)
    assert found["pr_auc"] == close((1 + 2 / 3) / 2)


def test_binary_areas_with_a_tie_worked_out_by_hand():
    positive = np.array([0.5, 0.5, 0.9, 0.1])
    found = scores(np.array([1, 0, 1, 0]), np.column_stack([1 - positive, positive]), 2)
    # The tied pair counts half: 3.5 of 4. At threshold 0.5 both tied rows come at once: 2 of 3 are right.
    assert found["roc_auc"] == close(3.5 / 4)
    assert found["pr_auc"] == close((1 + 2 / 3) / 2)


def test_three_classes_worked_out_by_hand():
    given = np.array([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.1, 0.7, 0.2], [0.3, 0.3, 0.4]])
    found = scores(np.array([0, 0, 1, 2]), given, 3)
    # Class 0: 0.6 beats 0.1 and 0.3, 0.2 beats 0.1: 3 of 4; precision 1/1 and 2/3. Classes 1 and 2 rank perfectly.
    assert found["roc_auc"] == close((0.75 + 1 + 1) / 3)
    assert found["pr_auc"] == close(((1 + 2 / 3) / 2 + 1 + 1) / 3)
    # Predictions are 0, 1, 1, 2: F1 is 2/3, 2/3 and 1, with 2, 1 and 1 rows.
    assert found["accuracy"] == close(0.75)
    assert found["f1"] == found["f1_macro"] == close((2 / 3 + 2 / 3 + 1) / 3)
    assert found["f1_weighted"] == close((2 * 2 / 3 + 2 / 3 + 1) / 4)
    assert found["log_loss"] == close(-(math.log(0.6) + math.log(0.2) + math.log(0.7) + math.log(0.4)) / 4)


def test_objective_takes_every_scoring_and_is_higher_for_better():
    found = scores(*sample(50, 3, seed=9), 3)
    assert {scoring: objective(found, scoring) for scoring in SCORINGS} == {
        **{scoring: found[scoring] for scoring in SCORINGS if scoring != "neg_log_loss"},
        "neg_log_loss": -found["log_loss"],
    }
    assert math.isnan(objective({**found, "roc_auc": math.nan}, "roc_auc"))


def test_an_unknown_scoring_names_the_ones_there_are():
    with pytest.raises(ConfigError, match=r"unknown scoring 'f2'") as caught:
        objective({"f2": 1.0}, "f2")
    assert "f1_macro" in caught.value.fix


def test_class_scores_agree_with_scikit_learn_and_keep_the_order_of_the_classes():
    y, given = sample(200, 5, seed=10)
    predicted, classes = given.argmax(axis=1), ["e", "d", "c", "b", "a"]
    found = class_scores(y, predicted, classes)
    expected = reference.precision_recall_fscore_support(y, predicted, labels=range(5))
    assert [score.label for score in found] == classes
    for place, name in enumerate(("precision", "recall", "f1", "support")):
        assert [getattr(score, name) for score in found] == close(expected[place].tolist())


def test_class_scores_are_nan_only_for_what_has_no_rows_to_be_measured_on():
    true_only, predicted_only, nowhere = class_scores([0, 0], [1, 1], ["true only", "predicted only", "nowhere"])
    assert (true_only.precision, true_only.recall, true_only.f1, true_only.support) == (0.0, 0.0, 0.0, 2)
    assert (predicted_only.precision, predicted_only.f1, predicted_only.support) == (0.0, 0.0, 0)
    assert math.isnan(predicted_only.recall)
    assert all(math.isnan(value) for value in (nowhere.precision, nowhere.recall, nowhere.f1))


def test_calibration_error_worked_out_by_hand():
    # Two rows at confidence 0.95, one right: gap 0.45. Two at 0.65, both right: gap 0.35. Weights one half each.
    given = np.array([[0.95, 0.05], [0.95, 0.05], [0.65, 0.35], [0.35, 0.65]])
    assert expected_calibration_error([0, 1, 0, 1], given) == close((0.45 + 0.35) / 2)
    assert expected_calibration_error([0, -1, 0, 1], given) == close((0.45 + 0.35) / 2)


def test_calibration_bins_are_closed_above_and_hold_certainty():
    assert expected_calibration_error([0, 0], np.array([[1.0, 0.0], [1.0, 0.0]])) == 0.0
    # With 2 bins 0.5 falls in the lower one and 0.75 in the upper: they cannot cancel out.
    assert expected_calibration_error([0, 1], np.array([[0.5, 0.5], [0.75, 0.25]]), bins=2) == close((0.5 + 0.75) / 2)


def test_labels_unknown_to_the_model_have_no_place():
    assert label_indices(["b", "x", "a"], ["a", "b"]).tolist() == [1, -1, 0]


def test_scoring_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores(np.array([0, 0]), np.array([[1.0, 0.0], [1.0, 0.0]]), 2)


def test_faulty_arguments_say_what_was_expected_and_what_came():
    y, given = sample(10, 3, seed=11)
    with pytest.raises(ValueError, match=r"for 4 classes, got 3 columns"):
        scores(y, given, 4)
    with pytest.raises(ValueError, match=r"as many class indices .*\(10, 3\), got shape \(9,\)"):
        scores(y[:9], given, 3)
    with pytest.raises(ValueError, match=r"indices 0\.\.2, got -1"):
        scores(np.where(y == 0, -1, y), given, 3)
    with pytest.raises(ValueError, match=r"within 0\.\.1"):
        scores(y, given * 3, 3)
    with pytest.raises(ValueError, match=r"positive class to be 0 or 1, got 2"):
        scores(np.array([0, 1]), np.eye(2), 2, positive=2)
    with pytest.raises(DataError, match=r"no rows to measure"):
        scores(y[:0], given[:0], 3)
    with pytest.raises(ModelError, match=r"NaN or infinite probabilities for 1 rows"):
        scores(y, np.where(np.arange(10)[:, None] == 4, np.nan, given), 3)
