"""What monitoring logs tell of how a model is run; what cannot be read is counted and never quoted."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from pcc_pipeline.config.alert_settings import AlertParams
from pcc_pipeline.monitoring.alert_rules import readings
from pcc_pipeline.monitoring.operation import BadLine, log_of, logged_run

VERSION, OTHER = "v20260101_000000", "v20260201_000000"
NOW = datetime(2026, 11, 6, 12, tzinfo=UTC)


def line(day: int = 1, **changes: Any) -> str:
    """A line as `score` writes it, of a day of November."""
    entry = {
        "run_id": f"run-{day}",
        "model_version": VERSION,
        "embedding_model": "all-MiniLM-L6-v2",
        "partition_date": f"2026-11-{day:02}",
        "runtime_ts": f"2026-11-{day:02}T03:00:00+00:00",
        "status": "success",
        "total_cases": 100,
        "passed_validation": 90,
        "dropped_cases": 10,
        "notes": None,
        "ingestion_time": f"2026-11-{day:02}T03:00:09+00:00",
        "processing_duration_seconds": 9.0,
        "error_message": None,
    }
    return json.dumps({**entry, **changes})


def test_a_window_has_its_runs_speed_failures_drops_and_versions() -> None:
    runs = [
        logged_run(text)
        for text in (
            line(1),
            line(2, processing_duration_seconds=1.0),
            line(3, status="failed", passed_validation=0, dropped_cases=0, total_cases=0, model_version=None),
            line(4, model_version=OTHER),
        )
    ]
    (window,) = log_of(runs, [], "all").windows
    metrics = window.metrics(VERSION, NOW)
    assert metrics == {
        "operation/runs": 4,
        "operation/failed_runs": 1,
        "operation/failed_share": 0.25,
        "operation/last_failed": 0,
        "operation/rows": 270,
        "operation/dropped_share": 0.1,
        "operation/other_version_runs": 1,
        "operation/last_other_version": 1,
        "operation/hours_since_last": 2 * 24 + 9,
        "operation/rows_per_second": pytest.approx(270 / 19),
        "operation/seconds_median": 9,
        "operation/seconds_p95": pytest.approx(np.quantile([1, 9, 9], 0.95)),
    }


def test_lines_of_bigquery_are_read_as_well() -> None:
    """Its export writes whole numbers as texts, and times with UTC behind them."""
    run = logged_run(line(1, total_cases="100", runtime_ts="2026-11-01 03:00:00.123 UTC", status="SUCCESS"))
    assert (run.cases, run.failed, run.began) == (100, False, datetime(2026, 11, 1, 3, 0, 0, 123000, UTC))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("secret words", "no JSON"),
        ("[1]", "no JSON object"),
        (line(1, runtime_ts="secret"), "no time in runtime_ts"),
        (line(1, runtime_ts=None), "no time in runtime_ts"),
        (line(1, status=None), "no status"),
        (line(1, total_cases="secret"), "no number in total_cases"),
        (line(1, dropped_cases=-1), "no number in dropped_cases"),
        (line(1, processing_duration_seconds=float("nan")), "no number in processing_duration_seconds"),
    ],
)
def test_a_bad_line_says_why_and_quotes_nothing(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=r"^no ") as caught:
        logged_run(text)
    assert str(caught.value) == why
    assert caught.value.__cause__ is None


def test_the_same_run_counts_once_and_windows_are_days_or_weeks() -> None:
    runs = [logged_run(line(day)) for day in (1, 2, 2, 3)]
    log = log_of(runs, [], "day")
    assert [(one.name, len(one.runs)) for one in log.windows] == [(f"2026-11-0{day}", 1) for day in (1, 2, 3)]
    assert log.repeated == 1
    assert [one.name for one in log_of(runs, [], "week").windows] == ["week from 2026-10-26", "week from 2026-11-02"]
    assert [one.name for one in log_of(runs, [], 500).windows] == ["all runs"]


def test_a_failed_last_run_is_an_alarm_and_a_failed_one_before_it_is_none() -> None:
    failed, good = logged_run(line(1, status="failed")), logged_run(line(2))
    assert log_of([failed, good], [], "all").alarms == ()
    later = logged_run(line(3, status="failed"))
    assert log_of([later, good], [], "all").alarms == ("the last run, of 2026-11-03 03:00 UTC, failed",)


@pytest.mark.parametrize("bad", [[], [BadLine("log.jsonl", 1, "no JSON")]], ids=["empty", "unreadable"])
def test_logs_that_tell_of_no_run_are_an_alarm_and_break_a_default_rule(bad: list[BadLine]) -> None:
    """Whoever writes them has stopped, or writes another form: nothing else would tell."""
    log = log_of([], bad, "all")
    assert log.alarms == ("the monitoring logs tell of no run",)
    now = [("all runs", log.metrics(VERSION, NOW))]
    broken = [each.metric for rule in AlertParams().alerts for each in readings(rule, now, {}) if each.broken]
    assert broken == ["operation/runs"]


def test_a_summary_names_bad_lines_and_no_words_in_place_of_a_version() -> None:
    bad = [BadLine("log.jsonl", place, "no JSON") for place in range(1, 9)]
    said = "\n".join(log_of([logged_run(line(1, model_version="secret words"))], bad, "all").lines(VERSION))
    assert "8 lines of the logs cannot be read: line 1 of log.jsonl (no JSON)" in said
    assert said.endswith("3 more")
    assert "(no name of a version)" in said
    assert "secret" not in said
    assert log_of([], bad, "all").metrics(VERSION, NOW) == {"operation/runs": 0, "operation/bad_lines": 8}
    assert log_of([logged_run(line(1))], [], "all").windows[0].last.began + timedelta(days=1) < NOW
