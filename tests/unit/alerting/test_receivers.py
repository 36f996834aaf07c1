"""Receivers by their addresses in the environment: a real HTTP receiver, and no address in a message."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from pcc_pipeline.alerting.book import Letter
from pcc_pipeline.alerting.receivers import Receivers
from tests.http_receiver import HttpReceiver, receiving

LETTER = Letter(
    id="0a1b",
    to="PCC_NOTIFY",
    kind="raised",
    level="critical",
    title="critical: model v1: drift/verdict",
    body="drift/verdict is 1\nalert 0a1b",
    made=datetime(2026, 1, 5, tzinfo=UTC),
)


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with receiving() as one:
        yield one


def address(receiver: HttpReceiver) -> str:
    return f"json://127.0.0.1:{receiver.port}/s3cret-path"


def test_a_letter_arrives_with_title_body_and_level(receiver: HttpReceiver) -> None:
    receivers = Receivers(["PCC_NOTIFY", "PCC_BOSS"], {"PCC_NOTIFY": address(receiver)})
    assert receivers.names == ("PCC_NOTIFY",)
    assert receivers.without_address == ("PCC_BOSS",)
    assert receivers.deliver(LETTER) is None
    assert receivers.deliver(LETTER.model_copy(update={"kind": "recovered"})) is None
    first, second = receiver.documents
    assert (first["title"], first["type"], second["type"]) == (LETTER.title, "failure", "success")
    assert "alert 0a1b" in first["message"]


def test_a_refusal_and_a_dead_receiver_are_reasons_without_the_address(
    receiver: HttpReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    receivers = Receivers(["PCC_NOTIFY"], {"PCC_NOTIFY": address(receiver)})
    receiver.status = 503
    assert receivers.deliver(LETTER) == "it answered 503"
    receiver.server.shutdown()
    receiver.server.server_close()
    assert receivers.deliver(LETTER) == "it does not answer"
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize("address", ["nonsense", "unknown-scheme://token-9f8e/x"])
def test_an_address_that_nobody_knows_is_said_by_its_variable(
    address: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    reason = Receivers(["PCC_NOTIFY"], {"PCC_NOTIFY": address}).deliver(LETTER)
    assert reason is not None
    assert reason.startswith("PCC_NOTIFY holds no address")
    assert address not in caplog.text + "".join(capfd.readouterr())


def test_who_has_no_address_any_more_is_said() -> None:
    receivers = Receivers(["PCC_NOTIFY"], {})
    assert receivers.deliver(LETTER) == "it is not set"
    assert receivers.deliver(LETTER.model_copy(update={"to": "gone"})) == "monitoring.notify no longer names it"
