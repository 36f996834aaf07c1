"""Tokens and limits, without a server."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import mlflow
import pytest

from pcc_pipeline.config import Params, load_params
from pcc_pipeline.errors import ConfigError
from pcc_pipeline.serving.access import Access, Limit, Tokens, new_token
from pcc_pipeline.serving.forms import RefusedError
from tests import process_state
from tests.certificates import new_certificate


def params(**serving: object) -> Params:
    return load_params(None, settings=[f"serving.{name}={value}" for name, value in serving.items()])


def test_a_token_is_known_by_its_name_and_each_may_be_taken_back(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "tokens"
    first, second = new_token(file, "web"), new_token(file, "batch")
    tokens = Tokens(file)
    assert (tokens.name_of(first), tokens.name_of(second)) == ("web", "batch")
    assert tokens.name_of("") is None
    assert tokens.name_of(f"{first}x") is None
    file.write_text(file.read_text().splitlines()[1] + "\n")
    assert (tokens.name_of(first), tokens.name_of(second)) == (None, "batch")


def test_a_line_that_is_spoilt_and_a_file_that_is_gone_let_nobody_in_and_are_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "tokens"
    first, second = new_token(file, "web"), new_token(file, "batch")
    tokens, lines = Tokens(file), file.read_text().splitlines()
    assert tokens.name_of(first) == "web"
    file.write_text(f"web REVOKED\n{lines[1]}\n")
    assert [(tokens.name_of(first), tokens.name_of(second)) for _ in range(2)] == [(None, "batch")] * 2
    file.write_text("")
    assert [tokens.name_of(second) for _ in range(2)] == [None] * 2
    file.unlink()
    assert [tokens.name_of(second) for _ in range(2)] == [None] * 2
    assert [record.message.partition(" (")[0] for record in caplog.records] == [
        "this line is not a name and a SHA-256",
        "the file of tokens holds none",
        "the file of tokens cannot be read: No such file or directory",
    ]
    assert f"{file}, line 1" in caplog.text
    file.write_text("\n".join(lines))
    assert tokens.name_of(first) == "web"


def test_accounts_of_a_store_that_has_none_are_refused_before_anything_listens(tmp_path: Path) -> None:
    with process_state.mlflow_undone():
        mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
        with pytest.raises(ConfigError, match="no server"):
            Access(params(accounts="tracking")).demand_callers()
        mlflow.set_tracking_uri("http://127.0.0.1:9")
        Access(params(accounts="tracking")).demand_callers()


@pytest.mark.parametrize("content", [None, "", "# nobody\n", "web 12\n", "\xff"])
def test_a_file_without_tokens_is_refused(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "tokens"
    if content is not None:
        file.write_text(content, encoding="latin-1")
    tokens = Tokens(file)
    with pytest.raises(ConfigError, match=r"token|SHA-256") as refused:
        tokens.demand()
    assert "pcc serve --new-token NAME" in str(refused.value)


@pytest.mark.parametrize("name", ["", "two words", "#web"])
def test_a_name_that_the_file_cannot_hold_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError):
        new_token(tmp_path / "tokens", name)
    assert not (tmp_path / "tokens").exists()


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer no", "Basic d2ViOnh4", "\xff\xfe"])
def test_who_has_no_token_is_refused(tmp_path: Path, header: str) -> None:
    file = tmp_path / "tokens"
    token = new_token(file, "web")
    access = Access(params(accounts="tokens", tokens_file=file))
    with pytest.raises(RefusedError) as refused:
        asyncio.run(access.caller(header, "10.0.0.1"))
    assert refused.value.status == 401
    assert asyncio.run(access.caller(f"bearer {token}", "10.0.0.1")) == "web"


def test_a_caller_past_its_share_is_told_when_to_come_again_and_others_are_not() -> None:
    limit = Limit(params(requests_per_minute=3).serving)
    for _ in range(3):
        limit.demand("one")
    with pytest.raises(RefusedError) as refused:
        limit.demand("one")
    assert (refused.value.status, refused.value.retry_after) == (429, 20)
    limit.demand("another")
    for number in range(11_000):  # and what is remembered of callers is bounded
        limit.demand(str(number))
    assert len(limit._left) == 10_000


ANNA = f"Basic {base64.b64encode(b'anna:her password').decode()}"
# The model server's own account, and a caller who has none.
OWN = f"Basic {base64.b64encode(b'serving:its password').decode()}"
STRANGER = f"Basic {base64.b64encode(b'stranger:none').decode()}"


class Accounts(ThreadingHTTPServer):
    """A tracking server as far as accounts go, which may refuse for the moment, or hang.

    Where `known` names some, it answers only these, and sends others to `login_page` if it has one. Who was let in once
    is let in by a cookie, as some proxies do it.
    """

    status, hangs, asked = 200, 0.0, 0
    known: tuple[str, ...] = ()
    first_elsewhere = login_page = cookies = False

    def __init__(self) -> None:
        accounts = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                accounts.asked += 1
                time.sleep(accounts.hangs)
                if self.path == "/login":
                    self.answer(200, b"<html>Who are you?</html>")
                elif accounts.first_elsewhere and not self.path.startswith("/there"):
                    self.answer(308, Location=f"/there{self.path}")
                elif not self.is_known():
                    self.answer(302, Location="/login") if accounts.login_page else self.answer(401)
                else:
                    document = {"registered_model": {"name": params().registry.model_name}}
                    self.answer(accounts.status, json.dumps(document).encode(), **{"Set-Cookie": "session=1; Path=/"})

            def is_known(self) -> bool:
                by_cookie = accounts.cookies and "session=1" in self.headers.get("Cookie", "")
                return not accounts.known or by_cookie or self.headers.get("Authorization") in accounts.known

            def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)


@pytest.fixture
def accounts() -> Iterator[Accounts]:
    with process_state.mlflow_undone(), Accounts() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        mlflow.set_tracking_uri(f"http://127.0.0.1:{server.server_address[1]}")
        yield server
        server.shutdown()


def test_an_account_of_the_model_server_itself_lets_nobody_in(
    accounts: Accounts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by MLflow's variables, in the address, of a .netrc, nor of one after a redirect."""
    accounts.known = ANNA, OWN
    address = mlflow.get_tracking_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "serving")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "its password")
    assert callers() == ["anna", 401]
    mlflow.set_tracking_uri(address.replace("//", "//serving:its%20password@"))
    assert callers() == ["anna", 401]
    mlflow.set_tracking_uri(address)
    netrc = tmp_path / "netrc"
    netrc.write_text('machine 127.0.0.1 login serving password "its password"\n')
    monkeypatch.setenv("NETRC", str(netrc))
    assert callers() == ["anna", 401]
    accounts.first_elsewhere = True
    assert callers() == ["anna", 401]


def test_neither_a_cookie_of_somebody_elses_nor_a_login_page_lets_anybody_in(accounts: Accounts) -> None:
    accounts.known, accounts.cookies, accounts.login_page = (ANNA,), True, True
    assert callers() == ["anna", 401]


def test_a_password_is_sent_as_it_is_and_may_be_empty(accounts: Accounts) -> None:
    for account in ("jörg:ключ", "empty:"):
        header = f"Basic {base64.b64encode(account.encode()).decode()}"
        accounts.known = (header,)
        assert callers(header) == [account.partition(":")[0], 401]


def test_the_certificate_that_mlflow_trusts_is_trusted(
    accounts: Accounts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = new_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    accounts.socket = context.wrap_socket(accounts.socket, server_side=True)
    accounts.known = (ANNA,)
    mlflow.set_tracking_uri(mlflow.get_tracking_uri().replace("http://", "https://"))
    assert callers() == [503, 503]
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(certificate))
    assert callers() == ["anna", 401]


def callers(first: str = ANNA) -> list[str | int]:
    """Who is let in of this caller and the stranger after him: the name, or the status of the refusal."""

    async def ask() -> list[str | int]:
        access, outcomes = Access(params(accounts="tracking")), list[str | int]()
        for header in (first, STRANGER):
            try:
                outcomes.append(await access.caller(header, "10.0.0.1"))
            except RefusedError as refusal:
                outcomes.append(refusal.status)
        return outcomes

    return asyncio.run(ask())


def test_a_burst_of_one_account_asks_the_tracking_server_once(accounts: Accounts) -> None:
    """It checks two logins of one name at a time, and would refuse the others."""
    accounts.hangs = 0.2

    async def burst() -> list[str]:
        access = Access(params(accounts="tracking"))
        return await asyncio.gather(*(access.caller(ANNA, "10.0.0.1") for _ in range(20)))

    assert asyncio.run(burst()) == ["anna"] * 20
    assert accounts.asked == 1


def test_it_knows_somebody_once_an_account_was_let_in(accounts: Accounts) -> None:
    """A server that began while the tracking server is away could answer nobody, and is not ready."""

    async def ask() -> list[bool]:
        access = Access(params(accounts="tracking"))
        seen = [access.knows_somebody]
        await access.caller(ANNA, "10.0.0.1")
        return [*seen, access.knows_somebody]

    assert asyncio.run(ask()) == [False, True]
    assert Access(params()).knows_somebody


def test_a_tracking_server_that_is_too_busy_to_tell_makes_no_account_unknown(accounts: Accounts) -> None:
    access = Access(params(accounts="tracking"))
    for status, refused_with in ((429, 503), (401, 401)):
        accounts.status = status
        with pytest.raises(RefusedError) as refused:
            asyncio.run(access.caller(ANNA, "10.0.0.1"))
        assert refused.value.status == refused_with


def test_a_tracking_server_that_hangs_holds_up_one_request_of_a_known_account(
    accounts: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pcc_pipeline.serving.access._KNOWN_WAITS", 0.5)
    monkeypatch.setattr("pcc_pipeline.serving.access._YES_SECONDS", 0.0)

    async def until_refused(access: Access) -> None:
        for _ in range(200):
            await access.caller(ANNA, "10.0.0.1")
            await asyncio.sleep(0.02)

    async def ask() -> tuple[list[float], int]:
        access = Access(params(accounts="tracking"))
        await access.caller(ANNA, "10.0.0.1")
        accounts.hangs, took = 1.0, []
        for _ in range(20):
            begun = time.monotonic()
            assert await access.caller(ANNA, "10.0.0.1") == "anna"
            took.append(time.monotonic() - begun)
        asked = accounts.asked
        # It is asked again beside the requests, and believed once it answers.
        accounts.hangs, accounts.status = 0.0, 401
        monkeypatch.setattr("pcc_pipeline.serving.access._AGAIN_SECONDS", 0.0)
        with pytest.raises(RefusedError) as refused:
            await until_refused(access)
        assert refused.value.status == 401
        return took, asked

    took, asked = asyncio.run(ask())
    assert took[0] >= 0.4
    assert max(took[1:]) < 0.2
    assert asked == 2
