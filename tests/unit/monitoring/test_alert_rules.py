"""Alert rules: which windows break them."""

from __future__ import annotations

import pytest

from pcc_pipeline.config.alert_settings import AlertRule
from pcc_pipeline.monitoring.alert_rules import readings


def windows(*values: float | None, metric: str = "quality/rejected_share") -> list[tuple[str, dict[str, float]]]:
    return [(f"week {place}", {} if value is None else {metric: value}) for place, value in enumerate(values)]


@pytest.mark.parametrize(
    ("values", "count", "broken"),
    [
        ((0.2,), 1, True),
        ((0.05,), 1, False),  # on the bound
        ((0.2, 0.01), 1, False),
        ((0.01, 0.2), 2, False),
        ((0.2, 0.3), 2, True),
        ((0.2,), 2, False),  # fewer windows than asked for
        ((0.2, None, 0.3), 2, True),  # a window that does not know says nothing
        ((0.2, float("nan")), 1, True),
    ],
)
def test_so_many_windows_in_a_row_break_a_rule(values: tuple[float | None, ...], count: int, broken: bool) -> None:
    rule = AlertRule(metric="quality/rejected_share", above=0.05, windows=count)
    (reading,) = readings(rule, windows(*values), {})
    assert reading.broken is broken


def test_below_and_a_star_read_each_metric_of_that_form() -> None:
    rule = AlertRule(metric="observed/class/*/f1", below=0.7)
    metrics = {"observed/class/opt_out/f1": 0.5, "observed/class/other/f1": 0.9, "observed/accuracy": 0.1}
    assert [(one.metric, one.broken) for one in readings(rule, [("May", metrics)], {})] == [
        ("observed/class/opt_out/f1", True),
        ("observed/class/other/f1", False),
    ]


def test_a_metric_that_no_window_has_gives_no_reading() -> None:
    assert list(readings(AlertRule(metric="observed/accuracy", below=0.9), windows(None, None), {})) == []
    assert list(readings(AlertRule(metric="quality/x", below=0.9), [], {})) == []
