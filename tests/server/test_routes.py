"""Nothing is open but /health: every route that the server's app lists is tried without an account."""

from __future__ import annotations

import base64
import http.client
import re
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytestmark = pytest.mark.server

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


@pytest.fixture(scope="module")
def routes(listed_routes: list[tuple[str, list[str]]]) -> list[str]:
    """The paths of all routes, their parameters filled in."""
    return sorted({re.sub(r"<[^>]+>|\{[^}]+\}", "x", path) for path, _ in listed_routes})


Ask = Callable[..., int]


@pytest.fixture
def ask(server: Any) -> Iterator[Ask]:
    """`ask(method, path, authorization=…)`: the status, with nothing of the path changed on its way."""
    connection = http.client.HTTPConnection("127.0.0.1", server.local.ports["mlflow"], timeout=60)

    def call(method: str, path: str, authorization: str | None = None, **headers: str) -> int:
        given = dict(headers) if authorization is None else {**headers, "Authorization": authorization}
        connection.request(method, path, headers=given)
        answer = connection.getresponse()
        answer.read()
        return answer.status

    yield call
    connection.close()


def basic(name: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"


def test_the_list_of_routes_is_whole(routes: list[str]) -> None:
    """Otherwise the tests below would hold of little."""
    assert len(routes) > 350
    assert {
        "/",
        "/health",
        "/version",
        "/signup",
        "/static-files/x",
        "/v1/traces",
        "/get-artifact",
        "/graphql",
        "/api/2.0/mlflow/runs/create",
        "/ajax-api/2.0/mlflow/runs/create",
        "/api/2.0/mlflow/users/create",
        "/api/2.0/mlflow-artifacts/artifacts/x",
        "/api/3.0/mlflow/server-info",
        "/ajax-api/3.0/jobs/x",
        "/gateway/proxy/x/x",
        "/ajax-api/3.0/mlflow/assistant/config",
        "/api/3.0/mlflow/mcp-servers",
    } <= set(routes)


def test_no_route_but_health_answers_without_an_account(routes: list[str], ask: Ask) -> None:
    answers = {(method, path): ask(method, path) for path in routes for method in METHODS}
    assert {key for key, status in answers.items() if status != 401} == {("GET", "/health"), ("HEAD", "/health")}
    assert answers["GET", "/health"] == 200


@pytest.mark.parametrize(
    "path",
    ["/health/", "/healthz", "/health/../version", "//health", "/health/x", "/health;x", "/HEALTH", "/static",
     "/static-files/../version", "/favicon.ico", "/metrics", "/docs", "/openapi.json", "/nowhere"],
)  # fmt: skip
def test_paths_beside_the_open_one_are_closed(path: str, ask: Ask) -> None:
    """MLflow leaves open what merely starts like these."""
    assert ask("GET", path) == 401


@pytest.mark.long
def test_a_false_account_opens_nothing(server: Any, ask: Ask) -> None:
    false = [
        basic(server.user, "another-password"),
        basic("nobody", server.password),
        basic(server.user, ""),
        basic(server.user, server.password[:-1]),
        basic(server.user.upper(), server.password),
        f"Bearer {server.password}",
        "Basic",
        "Basic !!!",
        "Basic " + base64.b64encode(b"\xff\xfe:x").decode(),
        "Basic " + base64.b64encode(server.user.encode()).decode(),
        basic("admin", "password1234"),
    ]
    for path in ("/", "/version", "/static-files/x", "/api/2.0/mlflow/users/current", "/api/3.0/mlflow/server-info"):
        assert [ask("GET", path, header) for header in false] == [401] * len(false)


def test_the_admin_gets_in(server: Any, ask: Ask) -> None:
    """So that 401 everywhere is not a server that is merely broken."""
    right = basic(server.user, server.password)
    for path in ("/", "/version", "/api/2.0/mlflow/users/current", "/api/3.0/mlflow/server-info"):
        assert ask("GET", path, right) == 200


def test_a_websocket_is_refused(server: Any) -> None:
    with socket.create_connection(("127.0.0.1", server.local.ports["mlflow"]), timeout=30) as link:
        link.sendall(
            b"GET /v1/traces HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        assert link.recv(100).split()[1] in (b"401", b"403")


def test_a_host_name_that_is_not_allowed_is_refused(server: Any, ask: Ask) -> None:
    right = basic(server.user, server.password)
    assert ask("GET", "/version", right, Host="evil.example.org") in (200, 403)
    assert ask("GET", "/api/2.0/mlflow/users/current", right, Host="evil.example.org") == 403
    assert ask("GET", "/api/2.0/mlflow/users/current", right, Host=f"localhost:{server.local.ports['mlflow']}") == 200


def test_a_page_of_another_site_cannot_change_anything(server: Any, ask: Ask) -> None:
    """A browser that is logged in sends the account along, and the page's own address as Origin."""
    right = basic(server.user, server.password)
    path = "/ajax-api/2.0/mlflow/experiments/create"
    assert ask("POST", path, right, Origin="https://evil.example.org") == 403


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/ajax-api/3.0/mlflow/assistant/config"),
        ("GET", "/ajax-api/3.0/mlflow/assistant/providers/ollama/health"),
        ("POST", "/ajax-api/3.0/mlflow/assistant/message"),
        ("POST", "/gateway/mlflow/v1/chat/completions"),
        ("POST", "/ajax-api/2.0/mlflow/gateway-proxy"),
    ],
)
def test_what_acts_on_the_servers_machine_or_calls_out_of_it_is_switched_off(
    server: Any, ask: Ask, method: str, path: str
) -> None:
    assert ask(method, path, basic(server.user, server.password)) == 403
