"""Pages of other addresses, bodies that are too large, and requests that do not go on."""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from mlflow import MlflowClient

sys.path.insert(0, str(Path(__file__).parents[2] / "deploy" / "mlflow_app"))

import pcc_connections
from pcc_accounts import LARGEST_MESSAGE

pytestmark = pytest.mark.server

Accounts = dict[str, tuple[str, str]]
SEARCH = "/ajax-api/2.0/mlflow/experiments/search"


@pytest.mark.parametrize("role", ["reader", "trainer", "admin"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://localhost:1"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://[::1]:1"},
        {"Origin": "https://127.0.0.1:{port}"},
        {"Origin": "http://evil.example.org"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "script"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
    ],
)
def test_a_page_of_another_address_neither_reads_nor_writes(
    server: Any, raw: Any, accounts: Accounts, role: str, headers: dict[str, str]
) -> None:
    given = {name: value.format(port=server.local.ports["mlflow"]) for name, value in headers.items()}
    requests = [("GET", f"{SEARCH}?max_results=1", None), ("GET", "/version", None), ("OPTIONS", SEARCH, None)]
    requests += [("POST", SEARCH, {"max_results": 1}), ("POST", "/ajax-api/2.0/mlflow/runs/create", {})]
    for method, path, body in requests:
        status, answered, _ = raw(method, path, accounts[role], body, given)
        assert (status, [name for name in answered if name.startswith("access-control-")]) == (403, []), (method, path)


def test_a_page_of_the_server_and_a_link_to_it_work(server: Any, raw: Any, accounts: Accounts) -> None:
    port = server.local.ports["mlflow"]
    for host in ("127.0.0.1", "localhost"):
        own = {"Origin": f"http://{host}:{port}", "Sec-Fetch-Site": "same-origin"}
        assert raw("POST", SEARCH, accounts["reader"], {"max_results": 1}, own)[0] == 200
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert raw("GET", "/", accounts["reader"], None, link)[0] == 200
    assert raw("POST", SEARCH, accounts["reader"], {"max_results": 1}, link)[0] == 403


@pytest.fixture
def other_page() -> Iterator[str]:
    """An empty page of another port of this machine."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>another</title>")

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as page:
        threading.Thread(target=page.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{page.server_address[1]}"
        page.shutdown()


ATTACK = """
async (server) => {
    const tries = {
        read: () => fetch(server + "/ajax-api/2.0/mlflow/experiments/search?max_results=5", {credentials: "include"}),
        write: () => fetch(server + "/ajax-api/2.0/mlflow/experiments/create", {
            method: "POST", credentials: "include", headers: {"Content-Type": "application/json"},
            body: JSON.stringify({name: "of another page"})}),
        simple: () => fetch(server + "/ajax-api/2.0/mlflow/experiments/create", {
            method: "POST", credentials: "include", mode: "no-cors", body: JSON.stringify({name: "of another page"})}),
    };
    const results = {};
    for (const [name, attempt] of Object.entries(tries)) {
        try { const answer = await attempt(); results[name] = answer.type + " " + (await answer.text()).length; }
        catch (error) { results[name] = "refused"; }
    }
    return results;
}
"""


def test_a_real_browser_that_is_logged_in_gives_another_page_nothing(
    server: Any, client: MlflowClient, accounts: Accounts, other_page: str
) -> None:
    """A person is logged in at the server, and has a page of another port of the same machine open."""
    sync = pytest.importorskip("playwright.sync_api")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        if os.environ.get("PCC_DEMAND_SERVER_TESTS") == "1":
            pytest.fail("PCC_DEMAND_SERVER_TESTS=1, but there is no browser")
        pytest.skip("there is no browser")
    name, password = accounts["admin"]
    with sync.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-quic"])
        try:
            context = browser.new_context(http_credentials={"username": name, "password": password})
            context.set_default_timeout(120_000)
            page = context.new_page()
            assert page.goto(f"{server.address}/version").status == 200
            page.goto(other_page)
            results = page.evaluate(ATTACK, server.address)
            assert results == {"read": "refused", "write": "refused", "simple": "opaque 0"}
            own = context.new_page()
            assert own.goto(f"{server.address}/version").status == 200
            inside = own.evaluate(ATTACK.replace("experiments/create", "experiments/search"), server.address)
            assert inside["read"].startswith("basic ")
        finally:
            browser.close()
    assert client.get_experiment_by_name("of another page") is None


def link_to(server: Any) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.local.ports["mlflow"]), timeout=120)


def head(server: Any, account: tuple[str, str] | None, *lines: str, method: str = "POST", path: str = SEARCH) -> bytes:
    host = f"Host: 127.0.0.1:{server.local.ports['mlflow']}"
    login = [] if account is None else [f"Authorization: Basic {base64.b64encode(':'.join(account).encode()).decode()}"]
    return "\r\n".join([f"{method} {path} HTTP/1.1", host, *login, *lines, "", ""]).encode()


def answer_on(link: socket.socket) -> bytes:
    """All that comes until the server closes the connection."""
    parts = []
    with contextlib.suppress(ConnectionError):
        while part := link.recv(65536):
            parts.append(part)
    return b"".join(parts)


def memory(server: Any) -> int:
    """Bytes of the largest of MLflow's processes."""
    return max(psutil.Process(each.pid).memory_info().rss for each in server.local._processes("mlflow"))


def test_a_body_that_announces_itself_as_too_large_is_refused_before_it_is_sent(
    server: Any, accounts: Accounts
) -> None:
    for path in (SEARCH, "/graphql", "/ajax-api/2.0/mlflow/upload-artifact", "/api/2.0/mlflow/runs/log-batch"):
        with link_to(server) as link:
            link.sendall(head(server, accounts["trainer"], f"Content-Length: {600 * 2**20}", path=path))
            answer = answer_on(link)
            assert (answer.split()[1], b"20,971,520 bytes" in answer) == (b"413", True)


def test_a_body_without_a_length_is_cut_off_and_costs_no_memory(server: Any, accounts: Accounts) -> None:
    """600 MB of JSON, in chunks."""
    before = memory(server)
    chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    with link_to(server) as link:
        link.sendall(head(server, accounts["trainer"], "Transfer-Encoding: chunked", "Content-Type: application/json"))
        with contextlib.suppress(ConnectionError):
            for _ in range(600):
                link.sendall(chunk)
        answer = answer_on(link)  # it may be lost with the rest of the body
        assert answer == b"" or answer.split()[1] == b"413"
    assert memory(server) - before < 10 * LARGEST_MESSAGE
    with link_to(server) as link:
        link.sendall(head(server, None, method="GET", path="/health"))
        assert link.recv(100).split()[1] == b"200"


def test_without_an_account_no_body_is_read(server: Any) -> None:
    before = memory(server)
    with link_to(server) as link, contextlib.suppress(ConnectionError):
        link.sendall(head(server, None, f"Content-Length: {100 * 2**20}"))
        assert link.recv(100).split()[1] == b"401"
        for _ in range(100):
            link.sendall(b" " * 2**20)
    assert memory(server) - before < 50 * 2**20


@pytest.mark.long
def test_requests_that_do_not_go_on_are_ended_and_slow_ones_are_not(server: Any, accounts: Accounts) -> None:
    """Twelve clients that send nothing, half a head, a byte now and then, or half a body; and one with a slow line."""
    body = json.dumps({"max_results": 1, "filter": "name != 'x' AND name != '" + "y" * 1000 + "'"}).encode()
    beginnings = {
        "nothing": b"",
        "half a head": b"GET /version HTTP/1.1\r\nHost: local",
        "a byte now and then": b"GET /version HTTP/1.1\r\nX: ",
        "half a body": head(server, accounts["reader"], "Content-Length: 1000") + b"{",
    }
    links = {f"{name} {number}": link_to(server) for name in beginnings for number in range(3)}
    slow = link_to(server)
    for name, link in links.items():
        link.sendall(beginnings[name[:-2]])
    slow.sendall(head(server, accounts["reader"], f"Content-Length: {len(body)}", "Content-Type: application/json"))
    began, ended = time.monotonic(), dict[str, float]()
    limit = max(pcc_connections.HEAD_S, pcc_connections.BODY_S) + 30
    sent = 0
    while len(ended) < len(links) and time.monotonic() - began < limit:
        time.sleep(0.5)
        piece = body[sent : sent + 60]
        if piece:
            slow.sendall(piece)
            sent += len(piece)
        for name, link in links.items():
            if name in ended:
                continue
            link.settimeout(0.01)
            with contextlib.suppress(TimeoutError):
                try:
                    if name.startswith("a byte"):
                        link.sendall(b"x")
                    closed = link.recv(100) == b""
                except ConnectionError:
                    closed = True
                if closed:
                    ended[name] = time.monotonic() - began
    for link in links.values():
        link.close()
    assert set(ended) == set(links), "held for ever"
    assert min(ended.values()) > 15, "a slow network is no attack"
    assert slow.recv(100).split()[1] in (b"200", b"400")
    slow.close()
