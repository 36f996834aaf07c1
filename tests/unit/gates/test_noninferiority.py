"""The bound on a paired difference holds its level with few differing rows too."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.noninferiority_level import joint, passing, worse_by
from pcc_pipeline.evaluation.metrics import count_labels, label_scores
from pcc_pipeline.gates.noninferiority import COMPARED, paired_difference


def two_models(rows: int, n_classes: int, first: float, second: float, seed: int):
    """True labels and the answers of two models that are right so often, as text."""
    draws = np.random.default_rng(seed)
    names = np.array([f"label {place}" for place in range(n_classes)])
    y = draws.integers(0, n_classes, rows)
    answers = [np.where(draws.random(rows) < right, y, draws.integers(0, n_classes, rows)) for right in (first, second)]
    return names[y], names[answers[0]], names[answers[1]]


def score(labels, predicted, metric: str) -> float:
    names, places = np.unique(np.concatenate([labels, predicted]), return_inverse=True)
    y, given = places.reshape(2, -1)
    return label_scores(count_labels(y, given, names.size), None)[metric]


@pytest.mark.parametrize("metric", COMPARED)
def test_with_many_rows_the_bound_is_that_of_rows_drawn_with_replacement(metric):
    labels, first, second = two_models(3000, 4, 0.7, 0.75, seed=1)
    draws = np.random.default_rng(2)
    drawn = [draws.integers(0, 3000, 3000) for _ in range(1000)]
    expected = np.quantile(
        [score(labels[rows], first[rows], metric) - score(labels[rows], second[rows], metric) for rows in drawn], 0.05
    )
    found = paired_difference(labels, first, second, metric)
    assert found.low == pytest.approx(expected, abs=0.002)
    assert found.challenger == pytest.approx(score(labels, first, metric))
    assert found.champion == pytest.approx(score(labels, second, metric))
    assert found.value == pytest.approx(found.challenger - found.champion)
    assert (found.rows, found.differing_rows) == (3000, int((first != second).sum()))


@pytest.mark.parametrize("metric", ["accuracy", "f1_macro"])
@pytest.mark.parametrize(
    ("n_labels", "rows", "margin", "differ"),
    [(2, 20, 0.01, 0.0), (2, 60, 0.01, 0.02), (2, 200, 0.01, 0.02), (2, 200, 0.05, 0.02), (10, 400, 0.05, 0.05)],
)
def test_a_model_that_is_worse_by_the_margin_passes_in_5_percent_at_most(metric, n_labels, rows, margin, differ):
    """Within the error of 300 simulations: 8.5 % are three standard errors above 5 %."""
    made = worse_by(margin, n_labels, "even", differ, metric)
    assert passing(made, rows, metric, margin, simulations=300) <= 0.085


@pytest.mark.parametrize("metric", COMPARED)
def test_20_rows_let_no_model_pass_that_is_5_points_worse(metric):
    made = worse_by(0.05, 2, "even", 0.0, "accuracy")
    assert passing(made, 20, metric, 0.01, simulations=200) == 0


def test_so_many_rows_as_are_said_to_be_needed_are_enough():
    labels, first, second = two_models(500, 4, 0.9, 0.9, seed=10)
    needed = paired_difference(labels, first, second, "accuracy").rows_needed(0.03)
    differ = float(np.mean((first == labels) != (second == labels)))
    made = joint(4, "even", differ, 0.0)
    assert 0.7 < passing(made, needed, "accuracy", 0.03, simulations=300) < 0.9
    assert paired_difference(labels, first, second, "accuracy").rows_needed(0.0) is None


def test_the_bound_of_accuracy_is_that_of_a_paired_difference_of_shares():
    """McNemar's variance: only rows count that one model alone gets right."""
    labels, first, second = two_models(3000, 3, 0.8, 0.8, seed=3)
    gains = (first == labels).astype(float) - (second == labels)
    found = paired_difference(labels, first, second, "accuracy")
    assert found.low == pytest.approx(gains.mean() - 1.645 * gains.std() / np.sqrt(3000), abs=0.001)


@pytest.mark.parametrize("rows", [299, 300])
def test_that_nothing_differs_is_shown_by_enough_rows(rows):
    """Of 299 rows none differs in 5 % of the cases where 1 % of all do: 0.99 ** 299 is 0.0496."""
    labels, first, _ = two_models(rows, 5, 0.6, 0.6, seed=4)
    found = paired_difference(labels, first, first, "accuracy")
    assert (found.value, found.differing_rows) == (0, 0)
    assert (found.low >= -0.01) is (rows == 300)
    assert found.rows_needed(0.01) == pytest.approx(300, abs=3)


def test_more_confidence_lowers_the_bound():
    labels, first, second = two_models(500, 4, 0.8, 0.8, seed=5)
    lows = [paired_difference(labels, first, second, "f1_macro", confidence=c).low for c in (0.5, 0.9, 0.95, 0.99)]
    assert lows == sorted(lows, reverse=True)
    assert len(set(lows)) == 4


def test_a_label_that_only_one_model_gives_is_its_error_alone():
    labels = np.array(["a", "a", "b", "b"] * 50)
    found = paired_difference(labels, labels, np.where(np.arange(200) % 10 == 0, "z", labels), "f1_macro")
    assert found.challenger == 1
    assert found.champion < 0.7
    assert found.unmeasured == 1
    # Over the labels that test rows have, the champion lost a tenth of the rows of each.
    assert 0.0 < found.low < 0.1


def test_what_cannot_be_compared_is_refused():
    labels, first, second = two_models(20, 3, 0.7, 0.6, seed=9)
    with pytest.raises(ValueError, match="expected a metric out of"):
        paired_difference(labels, first, second, "recall")
    with pytest.raises(ValueError, match=r"of the same rows, got shapes \[\(20,\), \(20,\), \(19,\)\]"):
        paired_difference(labels, first, second[1:], "accuracy")
    with pytest.raises(ValueError, match=r"got shapes \[\(0,\)"):
        paired_difference(labels[:0], first[:0], second[:0], "accuracy")
    with pytest.raises(ValueError, match=r"within 0\.\.1, got 1"):
        paired_difference(labels, first, second, "accuracy", confidence=1)
