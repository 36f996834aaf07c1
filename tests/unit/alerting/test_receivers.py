"""Receivers by their addresses in the environment: a real HTTP receiver, and no address in a message."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from pcc_pipeline.alerting.book import Letter
from pcc_pipeline.alerting.receivers import Receivers

LETTER = Letter(
    id="0a1b",
    to="PCC_NOTIFY",
    kind="raised",
    level="critical",
    title="critical: model v1: drift/verdict",
    body="drift/verdict is 1\nalert 0a1b",
    made=datetime(2026, 1, 5, tzinfo=UTC),
)


class Receiver:
    """An HTTP receiver; `status` is what it answers."""

    def __init__(self) -> None:
        self.status, self.got = 200, list[dict[str, Any]]()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if outer.status == 200:
                    outer.got.append(json.loads(body))
                self.send_response(outer.status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"json://127.0.0.1:{self.server.server_address[1]}/s3cret-path"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    one = Receiver()
    yield one
    one.server.shutdown()
    one.server.server_close()


def test_a_letter_arrives_with_title_body_and_level(receiver: Receiver) -> None:
    receivers = Receivers(["PCC_NOTIFY", "PCC_BOSS"], {"PCC_NOTIFY": receiver.address})
    assert receivers.names == ("PCC_NOTIFY",)
    assert receivers.without_address == ("PCC_BOSS",)
    assert receivers.deliver(LETTER) is None
    assert receivers.deliver(LETTER.model_copy(update={"kind": "recovered"})) is None
    first, second = receiver.got
    assert (first["title"], first["type"], second["type"]) == (LETTER.title, "failure", "success")
    assert "alert 0a1b" in first["message"]


def test_a_refusal_and_a_dead_receiver_are_reasons_without_the_address(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receivers = Receivers(["PCC_NOTIFY"], {"PCC_NOTIFY": receiver.address})
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
