"""MLflow's basic-auth app behind one more door: no request but /health passes without an account.

MLflow 3.17's own app leaves open whatever starts with /static, /favicon.ico or /health, and server-info. A path that
could lead out of its folder is refused here too, before MLflow and the bucket see it. The folder
pcc_accounts-1.dist-info beside this file names `create_app` to MLflow (`mlflow server --app-name pcc-accounts`); for
that this folder must be on PYTHONPATH, which tracking_server.py sees to.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import os
import re
import secrets
import time
import urllib.parse
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
App = Callable[[Scope, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]

OPEN_PATH = "/health"
# Parts of MLflow that this project has no use for, and that act on the server's machine or call out of it: the
# assistant may run commands there for a browser on the same machine, the gateway passes requests on to others.
SWITCHED_OFF = ("/ajax-api/3.0/mlflow/assistant", "/gateway/", "/ajax-api/2.0/mlflow/gateway-proxy")
# Pages of the UI read these, which do nothing here, and show an error where they are refused. The proxy answers with an
# empty list for want of the address that create_app takes away.
READ_BY_PAGES = (
    "/ajax-api/3.0/mlflow/assistant/config",
    "/ajax-api/3.0/mlflow/assistant/providers",
    "/ajax-api/2.0/mlflow/gateway-proxy",
)
PROXY_ADDRESS = "MLFLOW_DEPLOYMENTS_TARGET"
# A good name and password are not hashed again for this many seconds. Whoever is locked out in between reaches what
# MLflow leaves open (static files) for so long, and nothing else: MLflow checks every other request itself.
REMEMBERED_S, REMEMBERED = 60.0, 1000
# A step upwards, a backslash, a control character, or such a thing encoded once more than the web server decodes.
LEADS_OUT = re.compile(r"(?:^|/)\.\.(?:/|;|$)|\\|[\x00-\x1f]|%(?:2e|2f|5c|25|00|c0)", re.IGNORECASE)


class Door:
    """ASGI app that answers 401 unless `known(name, password)`, only /health passes without."""

    def __init__(self, app: App, known: Callable[[str, str], bool]) -> None:
        self.app = app
        self.known = known
        self.key = secrets.token_bytes(32)  # of this process, so that no digest means anything elsewhere
        self.seen: dict[bytes, float] = {}

    async def __call__(
        self, scope: Scope, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        if scope["type"] == "lifespan" or self._is_open(scope):
            await self.app(scope, receive, send)
        elif not await self._has_account(scope):
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            else:
                await _answer(send, 401, "Log in with your account.", (b"www-authenticate", b'Basic realm="mlflow"'))
        elif leads_out(scope):
            await _answer(send, 400, "This path is not allowed.")
        elif scope["path"].startswith(SWITCHED_OFF) and not (
            scope.get("method") == "GET" and scope["path"] in READ_BY_PAGES
        ):
            await _answer(send, 403, "This part of MLflow is switched off on this server.")
        else:
            await self.app(scope, receive, send)

    @staticmethod
    def _is_open(scope: Scope) -> bool:
        return scope["type"] == "http" and scope["path"] == OPEN_PATH and scope["method"] in ("GET", "HEAD")

    async def _has_account(self, scope: Scope) -> bool:
        header = next((value for name, value in scope["headers"] if name == b"authorization"), None)
        given = _name_and_password(header)
        if header is None or given is None:
            return False
        digest = hmac.new(self.key, header, hashlib.sha256).digest()
        if self.seen.get(digest, 0.0) > time.monotonic():
            return True
        self.seen.pop(digest, None)
        # Hashing a password takes tens of milliseconds; in a thread, other requests go on.
        if not await asyncio.to_thread(self.known, *given):
            return False
        if len(self.seen) >= REMEMBERED:
            self.seen.clear()
        self.seen[digest] = time.monotonic() + REMEMBERED_S
        return True


def leads_out(scope: Scope) -> bool:
    """Whether the path, or one given as `path=` in the query, could name something outside its folder."""
    query = urllib.parse.parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    return any(LEADS_OUT.search(path) for path in [scope["path"], *(value for name, value in query if name == "path")])


async def _answer(
    send: Callable[[Message], Awaitable[None]], status: int, text: str, *headers: tuple[bytes, bytes]
) -> None:
    start = {"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain"), *headers]}
    await send(start)
    await send({"type": "http.response.body", "body": f"{text}\n".encode()})


def _name_and_password(header: bytes | None) -> tuple[str, str] | None:
    scheme, _, credentials = (header or b"").partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        name, colon, password = base64.b64decode(credentials, validate=True).decode("utf-8").partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return (name, password) if colon else None


def create_app() -> Door:
    """What MLflow starts in each worker."""
    os.environ.pop(PROXY_ADDRESS, None)
    from mlflow.server import auth

    return Door(auth.create_app(), auth.store.authenticate_user)
