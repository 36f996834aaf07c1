"""Intervals hold the score of the population as often as they promise, with few rows and rare errors too."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from benchmarks.interval_coverage import coverage
from pcc_pipeline.evaluation.intervals.label_intervals import (
    METHODS,
    class_intervals,
    f1_interval,
    label_intervals,
    macro_f1_interval,
    proportion_interval,
    unbiased_f1,
)
from pcc_pipeline.evaluation.metrics import count_labels, label_scores
from pcc_pipeline.evaluation.report import report


def sample(rows: int, n_classes: int, right: float, seed: int):
    draws = np.random.default_rng(seed)
    y = draws.integers(0, n_classes, rows)
    return y, np.where(draws.random(rows) < right, y, draws.integers(0, n_classes, rows))


@pytest.mark.parametrize(
    ("n_labels", "rows", "accuracy", "prevalence"),
    [
        (2, 60, 0.99, "even"),
        (2, 200, 0.99, "1/rank"),
        (10, 200, 0.99, "even"),
        (77, 60, 0.9, "even"),
        (77, 200, 0.8, "even"),
        (77, 1000, 0.8, "1/rank"),
    ],
)
def test_the_95_percent_interval_covers_95_percent(n_labels, rows, accuracy, prevalence):
    """Of 400 simulations 93 % at least; the benchmark of the same name goes through all sizes."""
    measured = coverage(n_labels, rows, accuracy, prevalence, simulations=400)
    assert measured.accuracy >= 0.95
    assert measured.f1_macro >= 0.93


@pytest.mark.parametrize(("hits", "rows"), [(0, 20), (20, 20), (57, 60), (1, 1), (2400, 3000)])
def test_the_interval_of_a_proportion_is_the_exact_one(hits, rows):
    expected = binomtest(hits, rows).proportion_ci(method="exact")
    assert proportion_interval(hits, rows) == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize("rows", [3, 5, 12, 40])
@pytest.mark.parametrize("jaccard", [0.3, 0.5, 0.8, 0.99])
def test_the_f1_of_few_rows_has_no_bias(rows, jaccard):
    errors = np.arange(rows + 1)
    mean = float(unbiased_f1(rows, errors) @ binom.pmf(errors, rows, 1 - jaccard))
    assert mean == pytest.approx(2 * jaccard / (1 + jaccard), abs=0.01)
    quotient = float((2 * (rows - errors) / (2 * rows - errors)) @ binom.pmf(errors, rows, 1 - jaccard))
    assert abs(mean - 2 * jaccard / (1 + jaccard)) < abs(quotient - 2 * jaccard / (1 + jaccard))


def test_where_nothing_is_wrong_the_interval_says_what_could_be():
    y = np.arange(60) % 3
    made = label_intervals(y, y, 3)
    assert made["accuracy"] == pytest.approx((0.9404, 1.0), abs=1e-4)
    low, high = made["f1_macro"]
    assert 0.85 < low < 0.95
    assert high == 1.0


def test_a_class_without_rows_may_be_anything():
    y, predicted = sample(300, 3, 0.9, seed=1)
    low, high = macro_f1_interval(y, predicted, 3)
    wider = macro_f1_interval(y, predicted, 4)
    assert wider == pytest.approx((low * 3 / 4, (high * 3 + 1) / 4))


def test_a_label_that_the_model_cannot_give_adds_no_doubt():
    y, predicted = sample(300, 3, 0.9, seed=1)
    strange = np.concatenate([y, [3]]), np.concatenate([predicted, [0]])
    known, unknown = (macro_f1_interval(*strange, 4, n_known=number) for number in (4, 3))
    assert unknown[1] - unknown[0] < known[1] - known[0]
    assert label_intervals(np.array([1, 2]), np.array([0, 0]), 3, n_known=1)["f1_macro"][0] == 0.0


@pytest.mark.parametrize("seed", range(20))
def test_the_interval_holds_the_measured_score_and_stays_within_0_and_1(seed):
    draws = np.random.default_rng(seed)
    n_labels, rows = int(draws.integers(2, 80)), int(draws.integers(1, 300))
    y, predicted = sample(rows, n_labels, draws.random(), seed)
    scores = label_scores(count_labels(y, predicted, n_labels), 1)
    for metric, (low, high) in label_intervals(y, predicted, n_labels, positive=1).items():
        assert 0 <= low <= scores[metric] <= high <= 1, metric


def test_more_confidence_is_wider_and_more_rows_are_narrower():
    y, predicted = sample(400, 3, 0.8, seed=3)
    low, high = macro_f1_interval(y, predicted, 3)
    wider_low, wider_high = macro_f1_interval(y, predicted, 3, confidence=0.99)
    assert wider_low < low < high < wider_high
    more_low, more_high = macro_f1_interval(np.tile(y, 9), np.tile(predicted, 9), 3)
    assert (more_high - more_low) == pytest.approx((high - low) / 3, rel=0.2)


def test_every_class_has_exact_intervals_and_the_report_names_the_methods():
    y, predicted = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])
    first, second, unseen = class_intervals(count_labels(y, predicted, 3))
    assert first["recall"] == proportion_interval(2, 3)
    assert second["precision"] == proportion_interval(1, 2)
    assert first["f1"] == f1_interval(2, 3, 2)
    assert unseen == {}
    document = report("test", np.array(["a", "b", "c"])[y], np.eye(3)[predicted], ["a", "b", "c"]).to_json()
    assert document["interval_methods"] == {name: METHODS[name] for name in ("accuracy", "f1_macro")}
    assert document["by_class"][0]["intervals"]["recall"] == list(proportion_interval(2, 3))
    two = report("test", np.array(["a", "b"])[y], np.eye(2)[predicted], ["a", "b"], "a")
    assert two.intervals["f1"] == f1_interval(2, 3, 2)


def test_what_has_no_interval_is_refused():
    with pytest.raises(ValueError, match=r"got 0, 0, 0\.95"):
        proportion_interval(0, 0)
    with pytest.raises(ValueError, match=r"0 < confidence < 1"):
        macro_f1_interval(np.array([0]), np.array([0]), 1, confidence=95)
