"""`pcc serve` beside a real tracking server: its accounts, and what becomes of both when parts of it are killed."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.http_servers import NAME, Server, new_store, pcc_server
from tests.server.conftest import basic

pytestmark = [pytest.mark.server, pytest.mark.pipeline, pytest.mark.long]
BODY = json.dumps({"text": "erase my profile"}).encode()


def status_of(server: Server, path: str, account: tuple[str, str] | None = None) -> int:
    headers = {"Content-Type": "application/json"} | ({"Authorization": basic(*account)} if account else {})
    request = urllib.request.Request(f"{server.address}{path}", BODY if path.startswith("/v1") else None, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as refusal:
        with refusal:
            return int(refusal.code)


def registry(server: Server) -> str | None:
    with urllib.request.urlopen(f"{server.address}/readyz", timeout=30) as reply:
        said: str | None = json.load(reply).get("registry")
        return said


def wait_until(what: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.2)


def test_accounts_of_the_tracking_server_are_answered_and_it_serves_on_while_parts_are_away(
    server: Any, client: Any, accounts: dict[str, tuple[str, str]], tmp_path: Path
) -> None:
    store = new_store(tmp_path / "store", server.address)
    store.add("v20260101_000000", "champion")
    options = ["serving.accounts=tracking", "serving.follow_seconds=0.5"]
    with server.whole(), pcc_server(store, *(word for one in options for word in ("--set", one))) as serving:
        assert status_of(serving, "/v1/classify") == 401
        assert status_of(serving, "/v1/classify", ("nobody", "of that name")) == 401
        assert status_of(serving, "/v1/classify", (accounts["reader"][0], "another password")) == 401
        for role in ("reader", "trainer", "admin"):
            assert status_of(serving, "/v1/classify", accounts[role]) == 200
        assert status_of(serving, "/metrics") == 401
        for part in ("mlflow", "postgres"):
            server.kill(part)
            wait_until(lambda: registry(serving) == "away")
            # Who was known stays known; nobody can tell of others.
            assert status_of(serving, "/v1/classify", accounts["reader"]) == 200
            assert status_of(serving, "/v1/classify", accounts["approver"]) == 503
            server.start(part)
            if part == "postgres" and "mlflow" not in server.local.running():
                server.start("mlflow")
            wait_until(lambda: registry(serving) is None)
        second = store.add("v20260102_000000", "champion")
        assert second == "2"
        wait_until(lambda: "v20260102" in serving.log.read_text())
        assert status_of(serving, "/v1/classify", accounts["approver"]) == 200
    with server.whole():
        server.kill("mlflow")
        with pcc_server(store, "--set", "serving.follow_seconds=0.5") as serving:
            assert registry(serving) == "away"
            assert status_of(serving, "/v1/classify") == 200
        # One that has to ask the tracking server who calls could answer nobody.
        with pcc_server(store, *(word for one in options for word in ("--set", one)), wait=False) as serving:
            wait_until(lambda: "serving    v20260102" in serving.log.read_text())
            assert status_of(serving, "/readyz") == 503
            server.start("mlflow")
            wait_until(lambda: status_of(serving, "/readyz") == 200)
    client.delete_registered_model(NAME)
