"""Wrong logins cost little, slow nobody, and tell nothing."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.client
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "deploy" / "mlflow_app"))

import pcc_logins
from pcc_logins import BusyError, Logins
from pcc_rights import Tier

pytestmark = pytest.mark.server

Accounts = dict[str, tuple[str, str]]


def header(name: str, password: str) -> bytes:
    return b"Basic " + base64.b64encode(f"{name}:{password}".encode())


def get(port: int, account: bytes | None, path: str = "/version") -> tuple[int, float]:
    """Status of a request with a connection of its own, and how many seconds it took."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    began = time.monotonic()
    try:
        connection.request("GET", path, headers={} if account is None else {"Authorization": account})  # type: ignore[dict-item] # bytes go as they are
        status = connection.getresponse().status
        return status, time.monotonic() - began
    finally:
        connection.close()


def test_wrong_logins_on_16_connections_do_not_slow_a_good_account(server: Any, accounts: Accounts) -> None:
    port, good = server.local.ports["mlflow"], header(*accounts["reader"])
    names = ["admin", "nobody-here", *(name for name, _ in accounts.values())]
    for _ in range(4):  # of each worker
        assert get(port, good)[0] == 200
    quiet = sorted(get(port, good)[1] for _ in range(20))[-1]
    ended, wrong = threading.Event(), []

    def attack(number: int) -> None:
        tried = 0
        while not ended.is_set():
            wrong.append(get(port, header(names[tried % len(names)], f"guess {number} {tried}"))[0])
            tried += 1

    threads = [threading.Thread(target=attack, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(1)
        taken = []
        for _ in range(40):
            status, seconds = get(port, good)
            assert status == 200
            taken.append(seconds)
            time.sleep(0.1)
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert set(wrong) <= {401, 429}
    assert 401 in wrong
    slow = sorted(taken)[-3]  # a busy machine may hold up one or two by itself
    assert slow < 1.0 + 5 * quiet, f"{slow:.2f} s, without the attack {quiet:.2f} s"


@pytest.mark.long
def test_how_long_a_refusal_takes_does_not_tell_whether_a_name_is_known(server: Any) -> None:
    port = server.local.ports["mlflow"]
    taken: dict[str, list[float]] = {"admin": [], "nobody-here": []}
    for number in range(8):
        for name, each in taken.items():
            status, seconds = get(port, header(name, f"wrong {number}"))
            assert status == 401
            each.append(seconds)
    known, unknown = (min(each) for each in taken.values())
    assert abs(known - unknown) < 0.05, taken
    assert min(known, unknown) >= pcc_logins.REFUSAL_S


@pytest.mark.parametrize(
    "account",
    [
        header("adm\0in", "x"),
        header("\0", "x"),
        header("admin", "a\0b"),
        header("a\nb", "x"),
        header("", "x"),
        header("x" * 3000, "x"),
        header("admin", "x" * 40_000),
        b"Basic " + base64.b64encode(b"\xff\xfe:x"),
        b"Basic " + base64.b64encode("a\ud800:x".encode("utf-8", "surrogatepass")),
        b"Basic ====",
        b"Basic \xff",
        b"Basic",
        b"Basic " + b"QQ==" * 4000,
        b"Negotiate x",
    ],
)  # fmt: skip
def test_what_can_be_no_account_is_a_wrong_login_and_no_error(server: Any, account: bytes) -> None:
    for path in ("/version", "/api/2.0/mlflow/users/current", "/ajax-api/2.0/mlflow/experiments/search"):
        assert get(server.local.ports["mlflow"], account, path)[0] == 401


def test_a_head_that_is_too_large_ends_the_connection_and_not_the_server(server: Any) -> None:
    port = server.local.ports["mlflow"]
    with contextlib.suppress(ConnectionError, http.client.HTTPException):  # cut off before all of it was sent
        assert get(port, b"Basic " + b"QUFB" * 100_000)[0] in (400, 401, 431)
    assert get(port, None, "/health")[0] == 200


# The same by itself, where a check's length can be chosen.


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """`ask(check, headers)`: what becomes of requests that come at once, in their order."""
    monkeypatch.setattr(pcc_logins, "REFUSAL_S", 0.3)
    monkeypatch.setattr(pcc_logins, "REMEMBERED_S", 0.0)  # as if the minute were over

    def call(check: Callable[[str, str], Tier | None], *headers: bytes, first: bytes | None = None) -> list[Any]:
        async def all_at_once() -> list[Any]:
            logins = Logins(check)
            if first is not None:
                await logins.tier(first)
            return await asyncio.gather(*(logins.tier(each) for each in headers), return_exceptions=True)

        return asyncio.run(all_at_once())

    return call


def test_the_same_login_at_once_is_checked_once(ask: Callable[..., list[Any]]) -> None:
    checked: list[str] = []

    def check(name: str, password: str) -> Tier:
        checked.append(name)
        time.sleep(0.05)
        return Tier.TRAINER

    assert ask(check, *[header("ada", "right")] * 20) == [Tier.TRAINER] * 20
    assert checked == ["ada"]


def test_of_one_name_few_logins_are_checked_at_a_time_and_others_names_go_on(ask: Callable[..., list[Any]]) -> None:
    checked: list[str] = []

    def check(name: str, password: str) -> Tier | None:
        checked.append(name)
        return Tier.READER if password == "right" else None

    answers = ask(check, *(header("ada", f"guess {number}") for number in range(16)), header("bob", "right"))
    assert answers[-1] == Tier.READER
    assert checked.count("ada") == pcc_logins.OF_ONE_NAME
    assert [type(each) for each in answers[:16]].count(BusyError) == 16 - pcc_logins.OF_ONE_NAME


def test_a_login_that_was_good_is_checked_again_though_others_fill_the_queue(ask: Callable[..., list[Any]]) -> None:
    def check(name: str, password: str) -> Tier | None:
        time.sleep(0.02)
        return Tier.READER if password == "right" else None

    others = [header(f"name {number}", "guess") for number in range(50)]
    answers = ask(check, *others, header("ada", "right"), first=header("ada", "right"))
    assert answers[-1] == Tier.READER
    assert [type(each) for each in answers[:-1]].count(BusyError) == 50 - pcc_logins.OF_ALL


def test_an_account_that_was_taken_away_is_asked_for_again_after_a_minute(ask: Callable[..., list[Any]]) -> None:
    answers = iter([Tier.ADMIN, None, None])
    assert ask(lambda *_: next(answers), header("ada", "right"), first=header("ada", "right")) == [None]
