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


def run(step: str, status: str = "FINISHED", hours: float = 2.0, **tags: str) -> RecordedRun:
    """A run that began so many hours ago, with tags of ours."""
    named = {f"pcc.{name}": value for name, value in {"step": step, **tags}.items()}
    return RecordedRun("0123456789abcdef", "1", step, status, NOW - timedelta(hours=hours), None, {}, {}, named)


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


def test_an_alert_that_another_machine_saw_is_advised_on_too() -> None:
    tags = {"pcc.alert": "messages have changed: lengths", "pcc.alert_kinds": "drift quality"}
    steps = screen(champion=AliasedVersion("2", CHAMPION.name, tags)).next_steps
    assert [step.partition(" ")[0] for step in steps] == ["read", "ask", "have"]
