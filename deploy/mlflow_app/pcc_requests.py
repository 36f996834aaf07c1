"""Who read or wrote which run, model and artifact: a line of an audit log for each request of an account.

The workers of a server share one log (PCC_SERVER_AUDIT names its folder). A line is written before the answer leaves,
so that no kill of a worker loses one; that of a request that writes is also on the disk by then. Requests that come
meanwhile are written together. Where the log cannot be written the server goes on, says so on standard error once a
minute, and puts the number of lost lines into the log when it can be written again. Its end is put among the tags of
MLflow's first experiment every ten minutes, where `pcc audit verify` looks.

What a line holds are names and ids, and the client's address; never what a request carries: no tags' values, no
metrics, no filters.
"""

from __future__ import annotations

import asyncio
import re
import socket
import sys
import time
import urllib.parse
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pcc_rights import Tier, needed

from pcc_pipeline.auditing.chain import Entry, Head
from pcc_pipeline.auditing.log import MEGABYTE, AuditLog
from pcc_pipeline.errors import StorageError

if TYPE_CHECKING:
    from flask import Request

VARIABLE = "PCC_SERVER_AUDIT"
ANCHOR_TAG = "pcc.audit."
ROTATE_BYTES = 50 * MEGABYTE
ANCHOR_SECONDS, COMPLAIN_SECONDS = 600.0, 60.0

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
T = TypeVar("T")

# What MLflow calls a thing -> what a line calls it.
_NAMES = {
    "run_id": "run",
    "run_uuid": "run",
    "run_ids": "runs",
    "experiment_id": "experiment",
    "experiment_ids": "experiments",
    "model_id": "model_id",
    "name": "name",
    "new_name": "new_name",
    "version": "version",
    "alias": "alias",
    "key": "key",
    "path": "artifact",
    "artifact_path": "artifact",
    "username": "account",
    "role_id": "role",
}
_CAMEL = re.compile(r"(?<=[a-z])([A-Z])")
_IN_QUERY = re.compile(r'(\w+)\s*:\s*"([\w-]{1,64})"')
_LONGEST, _MOST = 250, 20
_API = re.compile(r"/(?:ajax-)?api/(.+)")
_ARTIFACT = re.compile(r"[23]\.0/(?:mlflow-artifacts/(?:artifacts|presigned)|mlflow-artifacts/mpu/[^/]+)/(.+)")
_LOGGED_MODEL = re.compile(r"2\.0/mlflow/logged-models/(m-[^/]+)")
# Beside the API; pages and their pictures are nobody's data.
_DATA_PATHS = ("/get-artifact", "/model-versions/get-artifact", "/graphql", "/v1/traces")

# Of the request that is worked on: what it is about, as MLflow's own app reads it.
about: ContextVar[dict[str, Any] | None] = ContextVar("pcc_about", default=None)


class RequestLog:
    """The log of one worker.

    Args:
        anchor: puts the end of the log, and the place where it lies, into MLflow; called in a thread.
    """

    def __init__(self, folder: Path, anchor: Callable[[Head, str], None]) -> None:
        self._log, self._anchor = AuditLog(folder, ROTATE_BYTES), anchor
        self._place = f"{socket.gethostname()}:{folder.resolve()}"
        self._lines, self._syncs = _Batches(self._append), _Batches(self._sync)
        self._lost, self._complained = 0, -COMPLAIN_SECONDS
        self._head: Head | None = None
        self._anchored = -ANCHOR_SECONDS

    async def write(self, entry: Entry, *, durable: bool) -> None:
        """Write a line; where that is not possible, it is counted and told."""
        try:
            await self._lines.take(entry)
            if durable:
                await self._syncs.take(None)
        except Exception as error:  # a defect of the log must not be one of the server
            self._complain(f"a line is lost by a defect, {type(error).__name__}")

    def noting(self, scope: Scope, account: str, send: Send) -> Send:
        """`send`, which writes the request's line before the answer begins; made before the request is worked on.

        What MLflow's app finds out about the request is put into the context variable `about` of this module.
        """
        method, path = scope["method"], scope["path"]
        if not (_API.match(path) or path in _DATA_PATHS):
            return send
        known: dict[str, Any] = {}
        about.set(known)
        writes = is_writing(method, path)

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                on = {"route": f"{method} {route_of(path)}", **client_of(scope), **ids_in_address(scope), **known}
                entry = Entry(account, "write" if writes else "read", on, str(message["status"]))
                await self.write(entry, durable=writes)
            await send(message)

        return noted

    def _append(self, entries: list[Entry]) -> None:
        lost = [Entry("", "log lost", {"lines": self._lost}, "noted")] if self._lost else []
        try:
            self._head = self._log.append([*lost, *entries], durable=False)
            self._lost = 0
        except StorageError as error:
            self._lost += len(entries)
            self._complain(f"{error.what} ({error.where}); {self._lost} lines are lost so far")

    def _sync(self, _: list[None]) -> None:
        try:
            self._log.sync()
        except StorageError as error:
            self._complain(f"{error.what} ({error.where})")
        head, now = self._head, time.monotonic()
        if head is not None and now - self._anchored >= ANCHOR_SECONDS:
            self._anchored = now
            try:
                self._anchor(head, self._place)
            except Exception as error:  # of MLflow's store: a database that is away must not end the lane
                self._complain(f"its end cannot be anchored: {type(error).__name__}")

    def _complain(self, text: str) -> None:
        if time.monotonic() - self._complained >= COMPLAIN_SECONDS:
            self._complained = time.monotonic()
            print(f"the server's audit log: {text}", file=sys.stderr, flush=True)


class _Batches(Generic[T]):
    """Work in a thread of its own, on all at once that came while the last work was under way."""

    def __init__(self, work: Callable[[list[T]], None]) -> None:
        self._work, self._lane = work, ThreadPoolExecutor(1, "pcc-audit")
        self._waiting: list[T] = []
        self._next: asyncio.Future[None] | None = None
        self._running: asyncio.Future[None] | None = None

    async def take(self, item: T) -> None:
        """Return when the work on this item is done."""
        self._waiting.append(item)
        if self._next is None:
            self._next = asyncio.ensure_future(self._go())
        await asyncio.shield(self._next)

    async def _go(self) -> None:
        if self._running is not None:
            await asyncio.wait([self._running])
        batch, self._waiting, self._next = self._waiting, [], None
        self._running = asyncio.get_running_loop().run_in_executor(self._lane, self._work, batch)
        await self._running


def is_writing(method: str, path: str) -> bool:
    """Whether a request may change something, by its method and route."""
    if method in ("GET", "HEAD", "OPTIONS"):
        return False
    return method != "POST" or needed(method, path) != Tier.READER


def route_of(path: str) -> str:
    """A path as lines name it: without what it is about, which has fields of its own."""
    match = _API.fullmatch(path)
    if match is None:
        return path
    route = match[1]
    for pattern in (_ARTIFACT, _LOGGED_MODEL):
        if part := pattern.match(route):
            route = route[: part.start(1)].rstrip("/") + route[part.end(1) :]
    return route.partition("mlflow/")[2] if route[3:].startswith("/mlflow/") else route


def client_of(scope: Scope) -> dict[str, Any]:
    """The client's address; behind one of PCC_SERVER_PROXIES what the proxy tells, which uvicorn has put here."""
    client = scope.get("client")
    return {"client": str(client[0])[:_LONGEST]} if client else {}


def ids_in_address(scope: Scope) -> dict[str, Any]:
    """What path and query name."""
    query = urllib.parse.parse_qs(scope["query_string"].decode("latin-1"))
    ids = ids_of({name: values if len(values) > 1 else values[0] for name, values in query.items()})
    if match := _API.fullmatch(scope["path"]):
        if part := _ARTIFACT.match(match[1]):
            ids["artifact"] = part[1][:_LONGEST]
        elif part := _LOGGED_MODEL.match(match[1]):
            ids["model_id"] = part[1]
    return ids


def ids_of(fields: object) -> dict[str, Any]:
    """What of a request's fields are names and ids, each cut to a length that none has."""
    ids: dict[str, Any] = {}
    if isinstance(fields, dict):
        for name, value in fields.items():
            known = _NAMES.get(_CAMEL.sub(lambda letter: f"_{letter[1].lower()}", str(name)))
            if known is None:
                continue
            if isinstance(value, list):
                ids[known] = [str(each)[:_LONGEST] for each in value[:_MOST]]
            elif isinstance(value, str | int):
                ids[known] = str(value)[:_LONGEST]
    return ids


def learn(request: Request) -> None:
    """Put what a request's body names where its line is made of; Flask's, when MLflow has read it."""
    known = about.get()
    if known is None or request.mimetype != "application/json":
        return
    body = request.get_json(force=True, silent=True)
    known.update(ids_of(body))
    if request.path == "/graphql" and isinstance(body, dict):
        known.update(ids_of(dict(_IN_QUERY.findall(str(body.get("query"))))))
        variables = body.get("variables")
        for value in variables.values() if isinstance(variables, dict) else ():
            known.update(ids_of(value))
