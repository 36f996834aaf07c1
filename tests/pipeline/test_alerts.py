"""`pcc alerts`: what stands and waits, a real receiver that was down, and what is refused."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest

from pcc_pipeline.alerting.book import AlertBook
from pcc_pipeline.alerting.receivers import Receivers
from pcc_pipeline.command_line import pcc
from pcc_pipeline.config.alert_settings import AlertRule
from tests import process_state
from tests.http_receiver import HttpReceiver, receiving

RULE = AlertRule(metric="quality/rejected_share", above=0.05)
NOVEL = AlertRule(metric="novelty/share", above=0.1)
BAD = [("2026-W01", {"quality/rejected_share": 0.2, "novelty/share": 0.3})]


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    with process_state.entry_point_undone():
        yield


class Said(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def alerts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """`alerts("list")` in this test's folder, which has no store."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")

    def call(*words: str) -> Said:
        capsys.readouterr()
        code = pcc.main(["alerts", *words])
        return Said(code, *capsys.readouterr())

    return call


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    """A real receiver of letters, whose address is in PCC_NOTIFY."""
    with receiving() as one, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PCC_NOTIFY", f"json://127.0.0.1:{one.port}/secret-path")
        yield one


def titles(receiver: HttpReceiver) -> list[str]:
    return [letter["title"] for letter in receiver.documents]


def ids(receiver: HttpReceiver) -> list[str]:
    """The alert of each letter, as its last lines name it."""
    return [re.findall(r"alert ([0-9a-f]{12})", letter["message"])[-1] for letter in receiver.documents]


def test_what_a_dead_receiver_missed_waits_and_is_sent_once(
    alerts: Callable[..., Said], tmp_path: Path, receiver: HttpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive = os.environ["PCC_NOTIFY"]
    monkeypatch.setenv("PCC_NOTIFY", "json://127.0.0.1:9/secret-path")
    book = AlertBook(tmp_path / "outputs" / "alerts")
    book.judge("pcc-intent-classifier", [RULE], BAD, ["PCC_NOTIFY"], version="v20260101_000000")
    listed = alerts("list")
    assert "quality/rejected_share" in listed.out
    assert "1 letter waits for PCC_NOTIFY" in listed.out
    failed = alerts("send")
    assert failed.code == 1
    assert "PCC_NOTIFY: it does not answer" in failed.err
    assert "secret-path" not in failed.err + failed.out
    monkeypatch.setenv("PCC_NOTIFY", alive)
    assert alerts("send").out.strip() == "sent 1"
    assert alerts("send").out.strip() == "nothing waits to be sent"
    assert titles(receiver) == ["warning: pcc-intent-classifier v20260101_000000: quality/rejected_share"]
    document = json.loads(alerts("list", "--json").out)
    assert [alert["metric"] for alert in document["alerts"]] == ["quality/rejected_share"]
    assert document["waiting"] == []


def test_a_receiver_that_is_down_for_an_hour_gets_each_alert_once(tmp_path: Path, receiver: HttpReceiver) -> None:
    now = [datetime(2026, 1, 5, 8, tzinfo=UTC)]
    book = AlertBook(tmp_path / "alerts", lambda: now[0])
    receivers = Receivers(["PCC_NOTIFY"], os.environ)
    receiver.status = 503
    for _ in range(12):
        book.judge("model", [RULE, NOVEL], BAD, receivers.names)
        delivery = book.send(receivers.deliver)
        assert delivery.failed == {"PCC_NOTIFY": "it answered 503"}
        assert delivery.waiting == 2
        now[0] += timedelta(minutes=5)
    receiver.status = 200
    assert book.send(receivers.deliver).sent == 2
    book.judge("model", [RULE, NOVEL], BAD, receivers.names)
    assert book.send(receivers.deliver).sent == 0
    assert sorted(titles(receiver)) == ["warning: model: novelty/share", "warning: model: quality/rejected_share"]
    assert not any("may have reached you" in letter["message"] for letter in receiver.documents)


@pytest.mark.parametrize("taken", [False, True], ids=["before it was taken", "after it was taken"])
def test_a_sender_killed_amid_a_letter_loses_none_and_none_counts_twice(
    alerts: Callable[..., Said], tmp_path: Path, receiver: HttpReceiver, taken: bool
) -> None:
    book = AlertBook(tmp_path / "outputs" / "alerts")
    book.judge("pcc-intent-classifier", [RULE, NOVEL], BAD, ["PCC_NOTIFY"])
    expected = [letter.id for letter in book.waiting]
    begun = threading.Event()

    def end_the_sender() -> None:
        begun.wait(60)
        process.kill()

    receiver.cut = taken, end_the_sender
    process = subprocess.Popen([Path(sys.executable).with_name("pcc"), "alerts", "send"], cwd=tmp_path)
    begun.set()
    assert process.wait(timeout=60) == -signal.SIGKILL
    assert ids(receiver) == expected[:1] * taken
    assert alerts("send").out.strip() == "sent 2"
    # A receiver that took a letter and could not say so gets it again, and is told that it may have it.
    assert ids(receiver) == expected[:1] * taken + expected
    assert "(This may have reached you before.)" in receiver.documents[-2]["message"]
    assert "(This may have reached you before.)" not in receiver.documents[-1]["message"]
    assert alerts("send").out.strip() == "nothing waits to be sent"


def test_a_test_arrives_and_who_cannot_be_told_is_said(
    alerts: Callable[..., Said], tmp_path: Path, receiver: HttpReceiver
) -> None:
    assert alerts("test").out.strip() == "sent to PCC_NOTIFY"
    assert titles(receiver) == ["test: pcc-intent-classifier"]
    unknown = alerts("test", "--to", "PCC_NOTFIY")
    assert unknown.code == 1
    assert "did you mean PCC_NOTIFY?" in unknown.err


def test_without_an_address_a_test_names_the_variable(
    alerts: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PCC_NOTIFY", raising=False)
    done = alerts("test")
    assert done.code == 1
    assert "set PCC_NOTIFY to an address that Apprise knows" in done.err
    assert "PCC_NOTIFY is told nothing: it is not set" in alerts("list").out


def test_that_nobody_looked_is_told_and_that_somebody_did_again(
    alerts: Callable[..., Said], tmp_path: Path, receiver: HttpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After as many hours as the configuration says, and once."""
    folder, name = tmp_path / "outputs" / "alerts", "pcc-intent-classifier"
    assert alerts("check").code == 0
    assert titles(receiver) == []
    AlertBook(folder, lambda: datetime.now(UTC) - timedelta(hours=40)).judge(name, [], [], [])
    monkeypatch.setenv("PCC_MONITORING__ABSENCE_HOURS", "48")
    assert "looked at last 20" in alerts("check").out
    assert titles(receiver) == []
    monkeypatch.delenv("PCC_MONITORING__ABSENCE_HOURS")
    for _ in range(2):
        assert alerts("check").code == 0
    assert len(receiver.documents) == 1
    assert titles(receiver)[0].startswith(f"critical: {name}: not watched since ")
    assert "no monitoring for 36 hours" in alerts("list").out
    AlertBook(folder).judge(name, [], [], [])  # as `monitor` does
    assert alerts("check").code == 0
    assert titles(receiver)[1:] == [f"recovered: {name}: watched again"]
    assert "no alert stands" in alerts("list").out
    assert "give more than 0" in alerts("check", "--hours", "0").err


def test_a_webhook_wants_a_server(alerts: Callable[..., Said], tmp_path: Path) -> None:
    done = alerts("webhook")
    assert done.code == 1
    assert "a webhook is sent by a tracking server, and this store has none" in done.err


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        ("{metric: quality/x}", "needs a bound: above or below"),
        ("{metric: quality/x, above: 1, below: 0}", "needs a bound: above or below"),
        ("{metric: quality/x, over: 1}", "no such option over"),
        ("{above: 1}", "metric is missing"),
        ("{metric: quality/x, above: 1, to: [boss]}", "which monitoring.notify does not name"),
        ("{metric: quality/x, above: .nan}", "finite"),
        ("quality/x", "a rule is a mapping such as"),
    ],
)
def test_a_rule_that_cannot_be_is_refused_with_its_fault(
    alerts: Callable[..., Said], tmp_path: Path, entry: str, fault: str
) -> None:
    (tmp_path / "params.yaml").write_text(f"monitoring:\n  alerts: [{entry}]\n", encoding="utf-8")
    done = alerts("list")
    assert done.code == 1
    assert fault in done.err


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{notify: ['slack://T0KEN/x']}", "notify: give a list of names of environment variables"),
        ("{notify: 'slack://T0KEN/x'}", "notify: give a list of names of environment variables"),
        ("{notify: {slack: 'slack://T0KEN/x'}}", "notify: give a list of names of environment variables"),
        ("{notify: [3, 'slack://T0KEN/x']}", "notify: give a list of names of environment variables"),
        (
            "{alerts: [{metric: drift/alarm, above: 0, to: ['slack://T0KEN/x']}]}",
            "alerts.0.to: give a list of names of environment variables",
        ),
        ("{alerts: [{metric: drift/alarm, above: 0, to: 'slack://T0KEN/x'}]}", "alerts.0.to: give a list of names"),
        ("{notify: ['slack://T0KEN/x' }", "not valid YAML: while parsing a flow sequence from line 1: expected"),
    ],
)
def test_an_address_in_the_configuration_is_refused_and_not_repeated(
    alerts: Callable[..., Said], tmp_path: Path, text: str, fault: str
) -> None:
    (tmp_path / "params.yaml").write_text(f"monitoring: {text}\n", encoding="utf-8")
    done = alerts("list")
    assert done.code == 1
    assert fault in done.err
    assert "T0KEN" not in done.err


@pytest.mark.parametrize("value", ["slack://T0KEN/x", "[slack://T0KEN/x", "{slack: slack://T0KEN/x"])
def test_an_address_in_place_of_a_variables_name_is_not_repeated(
    alerts: Callable[..., Said], monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    options = (("--to",), ("hook", "--address-from"), ("hook", "--address-from", "PATH", "--secret-from"))
    for command, words in zip(("test", "webhook", "webhook"), options, strict=True):
        done = alerts(command, *words, value)
        assert done.code == 1
        assert "this is no name of an environment variable" in done.err
        assert "T0KEN" not in done.err
    monkeypatch.setenv("PCC_MONITORING__NOTIFY", value)
    done = alerts("list")
    assert done.code == 1
    assert re.search(r"monitoring\.notify: (give a list of names|this is not a YAML value)", done.err)
    assert "T0KEN" not in done.err
