"""What answers are worth: held to values made by hand or by a slower way."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pcc_pipeline.evaluation.answers import (
    answers,
    calibration_interval,
    classwise_calibration_error,
    risk_coverage,
)
from pcc_pipeline.evaluation.metrics import expected_calibration_error
from pcc_pipeline.model.decision import DecisionRule

CLASSES = ["a", "b", "c"]


def drawn(rows: int, seed: int, *, sharpened: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of which the labels follow the power `sharpened`."""
    random = np.random.default_rng(seed)
    table = random.dirichlet(np.full(3, 0.5), size=rows)
    law = table**sharpened
    law /= law.sum(axis=1, keepdims=True)
    labels = (law.cumsum(axis=1) < random.random((rows, 1))).sum(axis=1).clip(max=2)
    return table, labels


def test_classwise_calibration_error_is_the_mean_of_the_classes_gaps() -> None:
    table, labels = drawn(200, 0)
    by_hand = []
    for label in range(3):
        for low in range(15):
            inside = (table[:, label] > low / 15) & (table[:, label] <= (low + 1) / 15)
            by_hand.append(abs((labels[inside] == label).sum() - table[inside, label].sum()) / 200)
    assert classwise_calibration_error(labels, table) == pytest.approx(sum(by_hand) / 3)
    # The first bin holds 0 as well.
    assert classwise_calibration_error(np.array([0]), np.array([[1.0, 0.0]])) == 0


@pytest.mark.parametrize("sharpened", [1.0, 0.4])
def test_the_interval_holds_the_error_of_many_rows(sharpened: float) -> None:
    many, labels = drawn(400_000, 1, sharpened=sharpened)
    true, held = expected_calibration_error(labels, many), 0
    for seed in range(60):
        table, few = drawn(500, 100 + seed, sharpened=sharpened)
        low, high = calibration_interval(few, table)
        held += low <= true <= high
    assert held >= 51


def test_the_curve_is_the_accuracy_of_each_number_of_surest_rows() -> None:
    table = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.7, 0.3], [0.4, 0.6]])
    labels = np.array([0, 0, 1, 0, 1])
    curve = risk_coverage(labels, table)
    # 0.9 right, 0.8 wrong, the two of 0.7 go together, 0.6 right.
    np.testing.assert_allclose(curve.coverage, [0.2, 0.4, 0.8, 1.0])
    np.testing.assert_allclose(curve.accuracy, [1, 1 / 2, 3 / 4, 4 / 5])
    assert curve.area == pytest.approx(np.mean([0, 1 / 2, 1 / 4, 1 / 4, 1 / 5]))
    assert (curve.at(1.0), curve.at(0.8), curve.at(0.7)) == (4 / 5, 3 / 4, 3 / 4)


def test_what_the_rule_decides_is_measured_and_what_it_leaves_is_counted_by_class() -> None:
    table = np.array([[0.9, 0.05, 0.05], [0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.1, 0.8, 0.1], [0.4, 0.3, 0.3]])
    found = answers(["a", "a", "b", "c", "new"], table, table, CLASSES, DecisionRule(threshold=0.6), "new")
    assert found.decided["share"] == pytest.approx(3 / 5)
    assert found.decided["accuracy"] == pytest.approx(2 / 3)
    assert found.decided["accuracy_low"] < 2 / 3 < found.decided["accuracy_high"]
    assert found.review_share == {"a": 0.5, "b": 0.0, "c": 0.0, "new": 1.0}
    # The only row of an intent that the model does not know is its least certain one.
    assert found.out_of_scope == {"rows": 1, "recall": 1.0, "auroc": 1.0, "in_scope_accuracy": 0.75}
    metrics = found.metrics("test")
    assert metrics["test/class/a/review_share"] == 0.5
    assert metrics["test/accuracy_at_80_coverage"] == pytest.approx(0.75)
    assert metrics["test/out_of_scope/auroc"] == 1
    assert any("decides 60.0% of the rows" in line for line in found.lines)


def test_out_of_scope_may_be_a_label_that_the_model_knows() -> None:
    table = np.array([[0.9, 0.1, 0.0], [0.1, 0.1, 0.8], [0.3, 0.2, 0.5], [0.6, 0.4, 0.0]])
    found = answers(["a", "c", "c", "c"], table, table, CLASSES, DecisionRule(), "c")
    assert found.out_of_scope["recall"] == pytest.approx(2 / 3)
    assert found.decided == {}


def test_sets_are_measured_in_all_and_by_class() -> None:
    table = np.array([[0.5, 0.45, 0.05], [0.9, 0.05, 0.05], [0.2, 0.2, 0.6]])
    rule = DecisionRule(conformal=0.9, limits=(0.4, 0.4, 0.4))
    found = answers(["b", "b", "zzz"], table, table, CLASSES, rule)
    assert found.sets == {
        "share": 0.9,
        "coverage": pytest.approx(1 / 3),
        "mean_size": pytest.approx(4 / 3),
        "single": pytest.approx(2 / 3),
    }
    assert found.set_coverage == {"b": 0.5, "zzz": 0.0}


def test_nothing_decided_and_one_row_are_measured_and_written() -> None:
    table = np.array([[0.5, 0.3, 0.2]])
    found = answers(["a"], table, table, CLASSES, DecisionRule(threshold=1.1), "a")
    assert found.decided == {"share": 0.0}
    json.dumps(found.to_json(), allow_nan=False)
    assert all(np.isfinite(value) for value in found.metrics("test").values())
