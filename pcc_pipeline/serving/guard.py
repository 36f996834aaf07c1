"""Around all routes: who asks, how large and how long a request may be, what is counted of it, and what failed.

The two routes that are asked most are called from here: FastAPI's own way to a route takes longer than theirs.
"""

from __future__ import annotations

import asyncio
import json
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from pcc_pipeline.config import Params
from pcc_pipeline.serving.access import Access
from pcc_pipeline.serving.forms import RefusedError
from pcc_pipeline.serving.metrics import Metrics
from pcc_pipeline.tracking.logged_models import scoring_protocol as mlflow_form

JSON = "application/json"
# Who is not asked who it is: what probes a machine, and has no account.
_OPEN = frozenset({"/healthz", "/readyz", "/ping", "/health", "/version", "/openapi.json"})
_BYTES_A_MB = 1_000_000
# Bodies of the greatest size that may be in memory at a time.
_BODIES_AT_ONCE = 16
_NO_ROUTE = {404: "There is no such path.", 405: "This path takes another method."}

Scope = Any
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Route = Callable[[Request], Awaitable[Response]]


class Guard:
    """The whole application, as ASGI has it.

    Args:
        posts: what answers a POST at these paths.
    """

    def __init__(
        self, app: FastAPI, posts: Mapping[str, Route], params: Params, access: Access, metrics: Metrics
    ) -> None:
        self.app, self._posts, self._access, self._metrics = app, posts, access, metrics
        self._open = {*_OPEN, "/metrics"} if params.serving.open_metrics else _OPEN
        self._paths = {*_OPEN, *posts, "/metrics"}
        self._settings = params.serving
        self._most_bytes = int(params.serving.request_mb * _BYTES_A_MB)
        self._held_bytes = 0
        app.add_exception_handler(HTTPException, self._no_route)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = asyncio.get_running_loop().time()
        path, status = scope["path"], 0

        async def counted(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        scope.setdefault("state", {})["deadline"] = began + self._settings.request_seconds
        reply: Response | None = None
        try:
            if path not in self._open:
                await self._demand_caller(scope)
            if (route := self._posts.get(path)) is None:
                await self.app(scope, receive, counted)
            elif scope["method"] != "POST":
                raise RefusedError(405, "no_route", _NO_ROUTE[405])
            else:
                with self._bounded(receive) as bounded:
                    async with asyncio.timeout_at(began + self._settings.request_seconds):
                        reply = await route(Request(scope, bounded))
        except RefusedError as error:
            reply = self._refusal(error, path)
            if error.status in (401, 413, 429) and not scope["state"].get("read"):
                # What is left of the body is not read.
                reply.headers["Connection"] = "close"
        except TimeoutError:
            reply = self._refusal(self._late(scope), path)
        except ClientGoneError:
            status = 499
        except Exception as error:  # any may quote the request: neither uvicorn nor a caller is told its words
            _log_frames(error)
            failed = RefusedError(500, "failed", f"This server failed ({type(error).__name__}); its log has more.")
            # FastAPI has answered already, if it was one of its routes.
            reply = None if status else self._refusal(failed, path)
        try:
            if reply is not None:
                await reply(scope, receive, counted)
        finally:
            counts_as = path if path in self._paths else "other"
            self._metrics.request(counts_as, status, asyncio.get_running_loop().time() - began)

    def _late(self, scope: Scope) -> RefusedError:
        if not scope["state"].get("read"):
            return RefusedError(408, "slow_body", "The body did not come in time.")
        return RefusedError(504, "too_late", f"No answer within {self._settings.request_seconds:g} seconds.", 1)

    async def _demand_caller(self, scope: Scope) -> None:
        authorization = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        address = (scope.get("client") or ("unknown",))[0]
        self._access.limit.demand(await self._access.caller(authorization.decode("latin-1"), address))

    async def _no_route(self, request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        message = _NO_ROUTE.get(status, "The request is refused.")
        return self._refusal(RefusedError(status, "no_route", message), request.url.path)

    @contextmanager
    def _bounded(self, receive: Receive) -> Iterator[Receive]:
        """`receive` for a body of no more than `serving.request_mb`, while there is memory for it."""
        own = 0

        async def bounded() -> Any:
            nonlocal own
            message = await receive()
            size = len(message.get("body", b""))
            own += size
            self._held_bytes += size
            if own > self._most_bytes:
                raise RefusedError(413, "too_large", f"A request may have {self._settings.request_mb:g} MB.")
            if self._held_bytes > _BODIES_AT_ONCE * self._most_bytes:
                raise RefusedError(429, "full", "Too many large requests are at work.", 1)
            return message

        try:
            yield bounded
        finally:
            self._held_bytes -= own

    def _refusal(self, error: RefusedError, path: str) -> Response:
        body = mlflow_form.refused(error.message) if path == "/invocations" else as_json(error.document())
        answer = Response(body, error.status, media_type=JSON)
        if error.status == 401:
            answer.headers["WWW-Authenticate"] = self._access.challenge
        if error.status == 405:
            answer.headers["Allow"] = "POST" if path in self._posts else "GET"
        if error.retry_after is not None:
            answer.headers["Retry-After"] = str(error.retry_after)
        return answer


class ClientGoneError(Exception):
    """Whoever asked has hung up."""


async def while_there(request: Request, work: Awaitable[Any]) -> Any:
    """What `work` gives, unless the caller hangs up before.

    Raises:
        ClientGoneError: the caller did; the work is given up.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGoneError
        return task.result()
    finally:
        gone.cancel()
        task.cancel()


async def body_of(request: Request) -> bytes:
    """The whole body.

    Raises:
        ClientGoneError: the caller hung up before its end.
    """
    try:
        body = await request.body()
    except ClientDisconnect as error:
        raise ClientGoneError from error
    request.state.read = True
    return body


def as_json(document: Any) -> bytes:
    """A document's bytes."""
    return json.dumps(document, ensure_ascii=False).encode()


def _log_frames(error: Exception) -> None:
    # Frames without values: enough to find a defect, and nothing of a request.
    sys.stderr.write(f"{type(error).__name__}\n" + "".join(traceback.format_tb(error.__traceback__)))
