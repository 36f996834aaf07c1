"""The screen of `pcc status`: what it advises, and how it says what stands."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pcc_pipeline.alerting.book import Alert
from pcc_pipeline.manage.status import Status
from pcc_pipeline.tracking.store.model_overview import AliasedVersion, ModelOverview
from pcc_pipeline.tracking.store.past_runs import RecordedRun

NOW = datetime(2026, 11, 3, 12, tzinfo=UTC)
CHAMPION = AliasedVersion("2", "v20261101_080000", {"pcc.version": "v20261101_080000"})


def run(
    step: str, status: str = "FINISHED", hours: float = 2.0, of: dict[str, float] | None = None, **tags: str
) -> RecordedRun:
    """A run that began so many hours ago, with metrics, and tags of ours."""
    named = {f"pcc.{name}": value for name, value in {"step": step, **tags}.items()}
    return RecordedRun("0123456789abcdef", "1", step, status, NOW - timedelta(hours=hours), None, of or {}, {}, named)


def alert(metric: str) -> Alert:
    moment = NOW - timedelta(hours=1)
    return Alert(
        subject="model",
        rule=f"{metric} above 0",
        metric=metric,
        value=1.0,
        window="w",
        level="warning",
        to=(),
        since=moment,
        sent=moment,
    )


def screen(*alerts: Alert, arriving: bool = False, **parts: Any) -> Status:
    """Of a champion that was looked at two hours ago."""
    usual = {"champion": CHAMPION, "challenger": None, "moved": None, "watched": run("monitor"), "monitor": None}
    overview = ModelOverview(**{"versions": 2, **usual, "retrain": None, **parts})
    return Status("model", overview, alerts, (), (), timedelta(hours=36), NOW, arriving)


@pytest.mark.parametrize(
    ("metrics", "advised"),
    [
        (("drift/alarm",), ["have some of the new messages labelled, and train on them: pcc retrain --watch FOLDER"]),
        (("drift/alarm", "observed/alarm"), ["train on newer rows: pcc retrain --watch FOLDER"]),
        (("observed/alarm", "observed/window_accuracy"), ["train on newer rows: pcc retrain --watch FOLDER"]),
        (("absence",), ["look again: pcc monitor --data FILE; see why its schedule does not"]),
    ],
)
def test_an_advice_stands_once_and_names_commands_of_pcc(metrics: tuple[str, ...], advised: list[str]) -> None:
    assert screen(*map(alert, metrics)).next_steps == ["read monitor.html of run 01234567", *advised]


def test_a_folder_is_asked_for_only_where_none_is_watched() -> None:
    assert screen(alert("observed/alarm"), arriving=True).next_steps[1:] == ["train on newer rows: pcc retrain"]


def lines_of(state: Status) -> dict[str, str]:
    """Title -> its first line."""
    return {line[:10].strip(): line[11:] for line in state.text.splitlines() if line[:10].strip()}


@pytest.mark.parametrize(
    ("became", "said"),
    [("refused", "was promoted since"), ("left to an approver", "was promoted since"), ("promoted", "was promoted")],
)
def test_a_refusal_of_what_is_champion_now_is_over(became: str, said: str) -> None:
    reason = f"version 2 (v20261101_080000) learned 160 rows, and was {became}"
    retrained = run("retrain", action="trained", reason=reason)
    learned = "2026-11-03 10:00 UTC (2 hours ago): trained: version 2 (v20261101_080000) learned 160 rows, and "
    assert lines_of(screen(retrain=retrained))["retrain"] == f"{learned}{said}"
    other = AliasedVersion("1", "v20261031_080000", {})
    assert lines_of(screen(retrain=retrained, champion=other))["retrain"] == f"{learned}was {became}"


def test_a_guard_stopped_it_and_no_class_is_named() -> None:
    stopped = run("retrain", "FAILED", error="RetrainStoppedError: 1 version was trained today already\n  where: x")
    state = screen(retrain=stopped)
    assert lines_of(state)["retrain"].endswith(": stopped: 1 version was trained today already")
    assert state.next_steps == ["see what stopped the last retrain: pcc models list --step retrain --failed"]
    failed = run("retrain", "FAILED", error="TrackingError: MLflow does not answer")
    assert lines_of(screen(retrain=failed))["retrain"].endswith(": failed: MLflow does not answer")
    killed = run("retrain", "KILLED", error="ended from outside (SIGTERM)")
    assert lines_of(screen(retrain=killed))["retrain"].endswith(
        ": was ended from outside: ended from outside (SIGTERM)"
    )
    assert lines_of(screen(retrain=run("retrain", "RUNNING")))["retrain"].endswith(": goes on")


def test_why_the_last_look_failed_stands_beside_what_to_do() -> None:
    failed = run("monitor", "FAILED", hours=1, error="DataError: the data file does not exist\n  where: x.csv")
    state = screen(monitor=failed)
    assert state.next_steps[0] == "mend what ended the last monitor, and look again: the data file does not exist"
    assert lines_of(state)["last look"] == "2026-11-03 11:00 UTC (1 hour ago): failed: the data file does not exist"


@pytest.mark.parametrize(
    ("hours", "said"), [(1 / 60, "1 minute"), (0.5, "30 minutes"), (1, "1 hour"), (47, "47 hours"), (49, "2 days")]
)
def test_one_of_a_kind_is_singular(hours: float, said: str) -> None:
    assert f"({said} ago)" in lines_of(screen(watched=run("monitor", hours=hours)))["watched"]


def test_an_alert_names_the_version_that_it_is_about() -> None:
    of = alert("drift/alarm").model_copy(update={"version": "v20261101_080000"})
    assert lines_of(screen(of))["alerts"].startswith("warning since 2026-11-03 11:00 UTC, of v20261101_080000: drift")


def test_an_upper_bound_is_the_upper_end_alone() -> None:
    numbers = {"estimated/accuracy": 0.92, "estimated/accuracy_low": 0.88, "estimated/accuracy_high": 0.991}
    numbers |= {"estimated/accuracy_reference": 0.989, "estimated/upper_bound": 1.0}
    assert "estimated accuracy at most 0.991; of the reference 0.989" in screen(watched=run("monitor", of=numbers)).text
    numbers["estimated/upper_bound"] = 0.0
    assert "estimated accuracy 0.920 (0.880 to 0.991); of" in screen(watched=run("monitor", of=numbers)).text


def test_an_alert_that_another_machine_saw_is_advised_on_too() -> None:
    tags = {"pcc.alert": "messages have changed: lengths", "pcc.alert_kinds": "drift quality"}
    steps = screen(champion=AliasedVersion("2", CHAMPION.name, tags)).next_steps
    assert [step.partition(" ")[0] for step in steps] == ["read", "ask", "have"]
