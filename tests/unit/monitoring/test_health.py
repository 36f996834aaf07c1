"""When labels say that a version has become worse: beyond the chance of both samples, and not for a lucky reference."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import fisher_exact

from pcc_pipeline.monitoring.change.drift import Drift
from pcc_pipeline.monitoring.estimates import Estimate
from pcc_pipeline.monitoring.health import Observed, WatchedWindow
from pcc_pipeline.monitoring.profile import WindowHealth


def window(right: np.ndarray, reference: np.ndarray) -> WatchedWindow:
    """A window whose labelled rows are `right`, of a version whose reference rows were `reference`."""
    accuracy = float(reference.mean())
    estimate = Estimate(accuracy, len(reference), accuracy, accuracy, accuracy, accuracy, upper_bound=False)
    health = WindowHealth(Drift(len(right), {}, {}, 0.5, alarm=False), None, estimate)
    return WatchedWindow("all", len(right), 0.0, health, Observed.of(right))


@pytest.mark.parametrize(("accuracy", "reference", "rows"), [(0.997, 600, 300), (0.9, 200, 100), (0.85, 3000, 1000)])
def test_a_model_that_is_as_right_as_ever_is_rarely_called_less_right(accuracy: float, reference: int, rows: int):
    draws = np.random.default_rng(0)
    called = [window(draws.random(rows) < accuracy, draws.random(reference) < accuracy).less_right for _ in range(1000)]
    assert np.mean(called) <= 0.035  # 0.025, and what a thousand draws leave open


def test_a_fall_is_seen_and_said_with_both_numbers() -> None:
    draws = np.random.default_rng(0)
    seen = [window(draws.random(300) < 0.85, draws.random(600) < 0.95).less_right for _ in range(100)]
    assert np.mean(seen) > 0.9
    reference, right = np.arange(600) < 570, np.arange(300) < 255
    one = window(right, reference)
    assert one.alarms == ("accuracy is 0.850 on 300 labelled rows, and was 0.950 on 600: less by more than chance",)
    table = [[255, 45], [570, 30]]
    assert fisher_exact(table, alternative="less").pvalue < 0.025


@pytest.mark.parametrize("hits", range(285, 301))
def test_the_verdict_is_that_of_fishers_exact_test(hits: int) -> None:
    one = window(np.arange(300) < hits, np.arange(600) < 597)
    expected = fisher_exact([[hits, 300 - hits], [597, 3]], alternative="less").pvalue <= 0.025
    assert one.less_right == expected


def test_without_labels_nothing_is_said() -> None:
    assert not window(np.zeros(0, dtype=bool), np.ones(100, dtype=bool)).less_right
