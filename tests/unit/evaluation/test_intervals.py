"""Bootstrap intervals are those of resampled rows, and fast by construction."""

from __future__ import annotations

import numpy as np
import pytest

from pcc_pipeline.evaluation import intervals
from pcc_pipeline.evaluation.intervals import INTERVAL_METRICS, bootstrap_interval
from pcc_pipeline.evaluation.metrics import scores


def sample(rows: int, n_classes: int, right: float, seed: int):
    draws = np.random.default_rng(seed)
    y = draws.integers(0, n_classes, rows)
    predicted = np.where(draws.random(rows) < right, y, draws.integers(0, n_classes, rows))
    return y, np.eye(n_classes)[predicted]


@pytest.mark.parametrize(("metric", "n_classes"), [("accuracy", 2), ("f1", 2), ("f1_macro", 5), ("f1_weighted", 5)])
def test_the_interval_is_that_of_rows_drawn_with_replacement(metric, n_classes):
    y, given = sample(300, n_classes, 0.7, seed=1)
    draws = np.random.default_rng(2)
    drawn = [draws.integers(0, 300, 300) for _ in range(2000)]
    expected = np.quantile([scores(y[rows], given[rows], n_classes)[metric] for rows in drawn], [0.025, 0.975])
    # Two bootstraps of 2000 differ by the luck of the draw; the interval is about 0.1 wide.
    assert bootstrap_interval(y, given, metric, n=2000) == pytest.approx(tuple(expected), abs=0.012)


def test_the_accuracy_interval_has_the_width_of_a_binomial_share():
    y, given = sample(2000, 3, 0.8, seed=6)
    share = scores(y, given, 3)["accuracy"]
    low, high = bootstrap_interval(y, given, "accuracy", n=5000)
    # 1.96 standard errors on either side; the 90 % interval would have 1.64.
    half = 1.96 * np.sqrt(share * (1 - share) / 2000)
    assert share - low == pytest.approx(half, rel=0.08)
    assert high - share == pytest.approx(half, rel=0.08)


def test_more_confidence_is_wider_and_more_rows_are_narrower():
    y, given = sample(400, 3, 0.8, seed=3)
    low, high = bootstrap_interval(y, given, "accuracy")
    wider_low, wider_high = bootstrap_interval(y, given, "accuracy", confidence=0.99)
    assert wider_low < low < scores(y, given, 3)["accuracy"] < high < wider_high
    more_low, more_high = bootstrap_interval(np.tile(y, 9), np.tile(given, (9, 1)), "accuracy")
    assert (more_high - more_low) == pytest.approx((high - low) / 3, rel=0.2)


def test_a_seed_gives_the_same_interval_and_another_seed_another():
    y, given = sample(200, 4, 0.6, seed=4)
    first = bootstrap_interval(y, given, "f1_macro", seed=1)
    assert first == bootstrap_interval(y, given, "f1_macro", seed=1)
    assert first != bootstrap_interval(y, given, "f1_macro", seed=2)


def test_drawing_in_small_portions_changes_nothing(monkeypatch):
    y, given = sample(200, 4, 0.6, seed=5)
    whole = bootstrap_interval(y, given, "f1_macro", n=100)
    monkeypatch.setattr(intervals, "_COUNTS_AT_A_TIME", 1)
    assert bootstrap_interval(y, given, "f1_macro", n=100) == whole


def test_f1_is_of_the_positive_class_asked_for():
    y = np.array([0] * 500 + [1] * 500)
    given = np.eye(2)[np.array([0] * 500 + [1] * 250 + [0] * 250)]
    assert bootstrap_interval(y, given, "f1", positive=0)[0] > bootstrap_interval(y, given, "f1", positive=1)[1]


def test_a_metric_that_cannot_be_resampled_is_refused_by_name():
    with pytest.raises(ValueError, match=r"got \['roc_auc'\]"):
        bootstrap_interval([0, 1], np.eye(2), "roc_auc")
    with pytest.raises(ValueError, match=r"0 < confidence < 1"):
        bootstrap_interval([0, 1], np.eye(2), INTERVAL_METRICS[0], confidence=95)
