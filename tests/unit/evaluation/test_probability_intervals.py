"""Intervals of the areas and of the log loss: how often they hold what many rows show, and what they say of few."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.probability_coverage import coverage
from pcc_pipeline.evaluation.intervals.probability_intervals import METHODS, probability_intervals
from pcc_pipeline.evaluation.report import report


def drawn(rows: int, n_classes: int, apart: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits around the true class, and their softmax."""
    random = np.random.default_rng(seed)
    y = random.choice(n_classes, p=np.linspace(2, 1, n_classes) / np.linspace(2, 1, n_classes).sum(), size=rows)
    logits = random.normal(size=(rows, n_classes))
    logits[np.arange(rows), y] += apart
    shares = np.exp(logits)
    return y, shares / shares.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("n_labels", "rows", "apart", "sharpness"),
    [(2, 60, 1.2, 1.0), (2, 60, 3.3, 2.0), (2, 200, 1.2, 1.0), (10, 200, 5.0, 1.0), (10, 200, 2.6, 2.0)],
)
def test_the_95_percent_interval_holds_the_score_of_the_population(
    n_labels: int, rows: int, apart: float, sharpness: float
) -> None:
    """Where mistakes are rare, too; the benchmark of the same name goes through all sizes."""
    held = coverage(n_labels, rows, apart, sharpness, simulations=200)
    assert {name: share for name, share in held.items() if share < 0.92} == {}


def test_where_all_is_ranked_right_the_low_end_says_how_few_rows_show_it() -> None:
    lows = []
    for rows in (20, 200, 2000):
        y = np.arange(rows) % 2
        low, high = probability_intervals(y, np.column_stack([1.0 - y, y]) * 0.8 + 0.1, 1)["roc_auc"]
        assert high == 1
        lows.append(low)
    assert lows == sorted(lows)
    assert lows[0] < 0.9 < lows[-1] < 1


def test_what_cannot_be_measured_has_no_interval() -> None:
    shares = np.full((5, 3), 1 / 3)
    assert set(probability_intervals(np.zeros(5, int), shares, 1)) == {"log_loss"}
    assert probability_intervals(np.zeros(1, int), shares[:1], 1) == {}


def test_a_report_has_them_where_they_are_asked_for_and_names_the_method() -> None:
    y, shares = drawn(200, 3, 2.0, 3)
    labels = np.array(["a", "b", "c"])[y]
    made = report("test", labels, shares, ["a", "b", "c"], intervals_of_areas=True)
    assert set(METHODS) <= set(made.intervals) == set(made.to_json()["interval_methods"])
    assert {"test/roc_auc_low", "test/log_loss_high"} <= set(made.metrics())
    for name in METHODS:
        low, high = made.intervals[name]
        assert low <= made.scores[name] <= high
    assert not set(METHODS) & set(report("val", labels, shares, ["a", "b", "c"]).intervals)
