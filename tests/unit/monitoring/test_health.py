"""When labels say that a version has become worse: beyond the chance of both samples, and not for a lucky reference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import fisher_exact

from pcc_pipeline.config.alert_settings import AlertParams
from pcc_pipeline.monitoring.alert_rules import readings
from pcc_pipeline.monitoring.change.drift import Drift
from pcc_pipeline.monitoring.estimates import Estimate
from pcc_pipeline.monitoring.health import (
    CALM,
    NOT_JUDGED,
    FileQuality,
    Observed,
    WatchedWindow,
    calm,
    kinds_of_standing,
    standing,
)
from pcc_pipeline.monitoring.profile import WindowHealth
from pcc_pipeline.monitoring.usual import Figure
from pcc_pipeline.steps.pages.monitor_page import window_metrics


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


def seen(
    p_value: float = 0.5, right: np.ndarray | None = None, missing: bool | None = None, name: str = "day"
) -> WatchedWindow:
    """A window whose messages have changed where the p-value is 0.01 or less, and cannot be judged where it is NaN."""
    changed = p_value <= 0.01
    labelled, reference = np.zeros(0, dtype=bool) if right is None else right, np.arange(600) < 570
    one = window(labelled, reference)
    drift = Drift(100, {}, {"labels": p_value}, p_value, alarm=changed)
    quality = () if missing is None else (Figure("missing/subject", 0.5, 0.1, 0.001, missing),)
    return replace(one, name=name, health=replace(one.health, drift=drift), quality=quality)


CALM_FILE = FileQuality(Figure("rejected_share", 0.0, None, None, False), 0.1)
NOT_JUDGED_YET = seen(float("nan"))


@pytest.mark.parametrize(
    ("windows", "kinds"),
    [
        ([seen(0.001), NOT_JUDGED_YET], ("drift",)),
        ([seen(0.001), seen()], ()),
        ([seen(right=np.zeros(50, dtype=bool)), seen()], ("observed",)),
        ([seen(right=np.zeros(50, dtype=bool)), seen(right=np.ones(50, dtype=bool))], ()),
        ([seen(missing=True), NOT_JUDGED_YET], ("quality",)),
        ([seen(missing=True), seen(missing=False)], ()),
        ([NOT_JUDGED_YET], ()),
    ],
)
def test_what_stands_is_what_the_last_window_that_could_be_judged_by_it_says(
    windows: list[WatchedWindow], kinds: tuple[str, ...]
) -> None:
    """As the rules of alerts: few rows, or labels that have not come yet, end nothing."""
    assert kinds_of_standing(windows, CALM_FILE) == kinds
    assert len(standing(windows, CALM_FILE)) == len(kinds)
    rows = [(one.name, window_metrics(one)) for one in windows]
    broken = [
        each.metric.partition("/")[0]
        for rule in AlertParams().alerts
        for each in readings(rule, rows, {})
        if each.broken
    ]
    assert broken == list(kinds)


def test_windows_that_nobody_can_judge_are_not_called_quiet() -> None:
    assert "drift/alarm" not in window_metrics(NOT_JUDGED_YET)
    assert calm([NOT_JUDGED_YET]) == NOT_JUDGED
    assert calm([seen(0.001), seen(), NOT_JUDGED_YET]).endswith("1 of the 1 before had alarms")
    assert calm([seen(), NOT_JUDGED_YET]) == CALM
