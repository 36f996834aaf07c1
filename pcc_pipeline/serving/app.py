"""The routes: `/v1/classify`, MLflow's own forms, health, metrics and the description of all of them."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from pcc_pipeline import __version__
from pcc_pipeline.config import Params
from pcc_pipeline.errors import PccError
from pcc_pipeline.features.full_vectors import FULL_WIDTH
from pcc_pipeline.serving import forms
from pcc_pipeline.serving.access import Access
from pcc_pipeline.serving.batches import Batcher, FullError, LateError, Work
from pcc_pipeline.serving.follow import Duty, Followed
from pcc_pipeline.serving.forms import Answered, Case, RefusedError
from pcc_pipeline.serving.metrics import Metrics
from pcc_pipeline.serving.version import ServedVersion
from pcc_pipeline.steps.answering.challenge import is_challengers
from pcc_pipeline.tracking.logged_models import scoring_protocol as mlflow_form
from pcc_pipeline.tracking.logged_models.served_model import answer_table

JSON = "application/json"
# Who is not asked who it is: what probes a machine, and has no account.
_OPEN = frozenset({"/healthz", "/readyz", "/ping", "/health", "/version", "/openapi.json"})
_PATHS = _OPEN | {"/v1/classify", "/invocations", "/metrics"}
_BYTES_A_MB = 1_000_000
# Of the server, in place of what uvicorn would do at once; see `_drain_first`.
_ENDS = (signal.SIGTERM, signal.SIGINT)

logger = logging.getLogger(__name__)

Scope = Any
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class Service:
    """What the routes share in one process."""

    def __init__(self, params: Params, followed: Followed, metrics: Metrics) -> None:
        self.params, self.followed, self.metrics = params, followed, metrics
        self.batcher = Batcher(params.serving, metrics)
        self.draining = False

    @property
    def not_ready(self) -> str | None:
        """Why no request should be sent here; None where it may."""
        if self.draining:
            return "this server is about to end"
        return None if self.followed.duty.champion else "no version is on duty"

    def duty(self) -> tuple[ServedVersion, Duty]:
        """The champion, and all that are on duty now.

        Raises:
            RefusedError: there is none.
        """
        duty = self.followed.duty
        if duty.champion is None:
            raise RefusedError(503, "no_model", "No version is on duty.", 5)
        return duty.champion, duty

    async def answers(
        self, cases: Sequence[Case], encoder_digest: str | None, deadline: float
    ) -> tuple[ServedVersion, list[Case], list[Answered | None]]:
        """The champion, the cases with what it cannot answer as faults, and the answers to the others.

        Raises:
            RefusedError: there is no room or no version, or the vectors are of another encoder.
        """
        champion, duty = self.duty()
        if encoder_digest is not None:
            for version in (champion, duty.challenger):
                if version is not None and version.model.encoder_digest != encoder_digest:
                    raise RefusedError(
                        409, "another_encoder", f"The vectors are not of the encoder of {version.name}'s training."
                    )
        cases = [_for_version(case, champion) for case in cases]
        good = [place for place, case in enumerate(cases) if not case.fault]
        settings = self.params.ab_test
        shadow = duty.challenger if settings.shadow else None
        works: list[tuple[Work, list[int]]] = []
        for version, places in self._dealt(cases, good, champion, duty):
            texts = [place for place in places if cases[place].text is not None]
            whole = [place for place in places if cases[place].vector is not None]
            work = Work(
                version,
                [str(cases[place].text) for place in texts],
                [vector for place in whole if (vector := cases[place].vector) is not None],
                shadow,
                deadline,
            )
            works.append((work, texts + whole))
        tables = await self._within(deadline, self.batcher.answer([work for work, _ in works])) if works else []
        answers: list[Answered | None] = [None] * len(cases)
        for (work, places), table in zip(works, tables, strict=True):
            for place, row in zip(places, table, strict=True):
                answers[place] = Answered(work.version, row)
        self._count(answers, len(cases) - len(good))
        return champion, cases, answers

    def _dealt(
        self, cases: Sequence[Case], good: list[int], champion: ServedVersion, duty: Duty
    ) -> list[tuple[ServedVersion, list[int]]]:
        """Which version answers which rows."""
        share = self.params.ab_test.challenger_share
        if not good or not share or duty.challenger is None:
            return [(champion, good)] if good else []
        theirs = is_challengers(np.array([cases[place].case_id for place in good], dtype=object), share)
        split = (champion, np.array(good)[~theirs].tolist()), (duty.challenger, np.array(good)[theirs].tolist())
        return [(version, places) for version, places in split if places]

    async def _within(self, deadline: float, waiting: Awaitable[list[np.ndarray]]) -> list[np.ndarray]:
        try:
            async with asyncio.timeout_at(deadline):
                return await waiting
        except FullError as error:
            raise RefusedError(429, "full", "Too many texts wait already.", error.retry_after) from None
        except (TimeoutError, LateError):
            raise RefusedError(
                504, "too_late", f"No answer within {self.params.serving.request_seconds:g} seconds.", 1
            ) from None

    def _count(self, answers: Sequence[Answered | None], refused: int) -> None:
        if refused:
            self.metrics.rows_refused(refused)
        by_version: dict[int, list[Answered]] = {}
        for answer in answers:
            if answer is not None:
                by_version.setdefault(id(answer.version), []).append(answer)
        for each in by_version.values():
            told = [forms.decided(answer) for answer in each]
            self.metrics.answers(each[0].version, [label for label, _, _ in told], [sure for _, sure, _ in told])


def _for_version(case: Case, version: ServedVersion) -> Case:
    """The case, with a fault where this version cannot answer its kind."""
    if case.text is not None and not version.takes_texts:
        return replace(case, text=None, fault=f"text, and {version.name} takes vectors of {FULL_WIDTH} numbers")
    return case


def application(params: Params, model_uri: str | None) -> Guard:
    """The application of one process; versions are loaded when it starts."""
    metrics = Metrics()
    access = Access(params)
    held: list[Service] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        followed = Followed(params, model_uri)
        try:
            await asyncio.to_thread(followed.first)
        except (PccError, OSError) as error:
            # Ready once the registry has one to serve.
            logger.error("no version is on duty: %s", error.what if isinstance(error, PccError) else error)
        service = Service(params, followed, metrics)
        held.append(service)
        _drain_first(service, params.serving.drain_seconds)
        ended = threading.Event()
        threading.Thread(target=followed.follow, args=[ended], daemon=True, name="pcc-follow").start()
        try:
            yield
        finally:
            ended.set()
            await service.batcher.close()

    app = FastAPI(
        title="Privacy Case Classifier",
        version=__version__,
        description="Sorts messages by privacy intent. Nothing that is sent is kept or logged.",
        lifespan=lifespan,
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
    )
    _add_routes(app, held)
    guard = Guard(app, params, access, metrics)
    app.add_exception_handler(RefusedError, guard.refusal)
    app.add_exception_handler(ClientGoneError, guard.refusal)
    app.add_exception_handler(HTTPException, guard.refusal)
    app.add_exception_handler(Exception, guard.refusal)
    return guard


def _drain_first(service: Service, seconds: float) -> None:
    """On SIGTERM or Ctrl-C say no at /readyz, and end as uvicorn does so many seconds later."""
    loop = asyncio.get_running_loop()
    for number in _ENDS:
        ends = signal.getsignal(number)

        def drain(number: int, frame: Any, ends: Any = ends) -> None:
            again, service.draining = service.draining, True
            if callable(ends):
                # Who presses Ctrl-C twice means now.
                loop.call_soon_threadsafe(loop.call_later, 0 if again else seconds, ends, number, None)

        signal.signal(number, drain)


class Guard:
    """Around all routes: who asks, how large and how long a request may be, and what is counted of it."""

    def __init__(self, app: FastAPI, params: Params, access: Access, metrics: Metrics) -> None:
        self.app, self._access, self._metrics = app, access, metrics
        self._settings = params.serving
        self._most_bytes = int(params.serving.request_mb * _BYTES_A_MB)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = asyncio.get_running_loop().time()
        path = scope["path"] if scope["path"] in _PATHS else "other"
        status = 500

        async def counted(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        scope.setdefault("state", {})["deadline"] = began + self._settings.request_seconds
        try:
            if path not in _OPEN:
                headers = dict(scope["headers"])
                address = (scope.get("client") or ("unknown",))[0]
                authorization = headers.get(b"authorization", b"").decode("latin-1")
                self._access.limit.demand(await self._access.caller(authorization, address))
            await self.app(scope, self._bounded(receive), counted)
        except RefusedError as error:  # of this class itself: the application has handlers for those of routes
            await self._reply(error, scope["path"])(scope, receive, counted)
        except Exception as error:  # the application has answered it
            _told(error)
        finally:
            self._metrics.request(path, status, asyncio.get_running_loop().time() - began)

    async def refusal(self, request: Request, error: Exception) -> Response:
        """The reply to a request that failed in a route."""
        if isinstance(error, ClientGoneError):
            return Response(status_code=499)
        if isinstance(error, HTTPException):
            what = {404: "There is no such path.", 405: "This path takes another method."}
            error = RefusedError(error.status_code, "no_route", what.get(error.status_code, "The request is refused."))
        if not isinstance(error, RefusedError):
            error = RefusedError(500, "failed", f"This server failed ({type(error).__name__}); its log has more.")
        return self._reply(error, request.url.path)

    def _bounded(self, receive: Receive) -> Receive:
        """`receive` for a body of no more than `serving.request_mb`."""
        left = self._most_bytes

        async def bounded() -> Any:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise RefusedError(413, "too_large", f"A request may have {self._settings.request_mb:g} MB.")
            return message

        return bounded

    def _reply(self, error: RefusedError, path: str) -> Response:
        body = mlflow_form.refused(error.message) if path == "/invocations" else _json(error.document())
        answer = Response(body, error.status, media_type=JSON)
        if error.status == 401:
            answer.headers["WWW-Authenticate"] = self._access.challenge
        if error.retry_after is not None:
            answer.headers["Retry-After"] = str(error.retry_after)
        if error.status == 413:
            # What is left of the body is not read.
            answer.headers["Connection"] = "close"
        return answer


class ClientGoneError(Exception):
    """Whoever asked has hung up."""


async def _while_there(request: Request, work: Awaitable[Any]) -> Any:
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


async def _body(request: Request) -> bytes:
    """The whole body, within the request's time.

    Raises:
        RefusedError: it does not come in time.
    """
    try:
        async with asyncio.timeout_at(request.state.deadline):
            return await request.body()
    except TimeoutError:
        raise RefusedError(408, "slow_body", "The body did not come in time.") from None


def _add_routes(app: FastAPI, held: list[Service]) -> None:
    @app.post(
        "/v1/classify",
        summary="Classify one message or several",
        response_class=Response,
        responses=_responses(200, 400, 401, 408, 409, 413, 415, 429, 503, 504),
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {JSON: {"schema": forms.REQUEST_SCHEMA, "examples": forms.REQUEST_EXAMPLES}},
            }
        },
    )
    async def classify(request: Request) -> Response:
        service = held[-1]
        # Anything else would let a page in a browser send a request here without asking.
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
            raise RefusedError(415, "not_json", f"Send Content-Type: {JSON}.")
        asked = forms.asked(await _body(request), service.params.serving.request_texts)
        work = service.answers(asked.cases, asked.encoder_digest, request.state.deadline)
        champion, cases, answers = await _while_there(request, work)
        return Response(forms.answer_document(asked, cases, answers, champion), media_type=JSON)

    @app.post("/invocations", summary="MLflow's own form of it", response_class=Response, include_in_schema=False)
    async def invocations(request: Request) -> Response:
        service = held[-1]
        champion, _ = service.duty()
        column = "text" if champion.takes_texts else "embeddings"
        kind = request.headers.get("content-type", "")
        try:
            table = await asyncio.to_thread(mlflow_form.request_table, await _body(request), kind, column)
        except mlflow_form.ProtocolError as error:
            return Response(error.reply, error.status, media_type=error.kind)
        most = service.params.serving.request_texts
        if len(table) > most:
            raise RefusedError(413, "too_many_cases", f"A request may hold {most:,} rows; this one has {len(table):,}.")
        ids = list(table["case_id"]) if "case_id" in table else [None] * len(table)
        cases = [
            forms.case_of(value, case, of_text=champion.takes_texts)
            for value, case in zip(table[column], ids, strict=True)
        ]
        work = service.answers(cases, None, request.state.deadline)
        champion, cases, answers = await _while_there(request, work)
        frame = await asyncio.to_thread(_table, champion, cases, answers)
        return Response(mlflow_form.reply(frame), media_type=JSON)

    @app.get("/healthz", summary="Whether this process runs", response_class=Response, responses=_plain())
    async def healthz() -> Response:
        return Response(_json({"status": "ok"}), media_type=JSON)

    @app.get(
        "/readyz",
        summary="Whether requests may be sent here, and which version answers",
        response_class=Response,
        responses=_plain(503),
    )
    async def readyz() -> Response:
        service, reason = (held[-1], held[-1].not_ready) if held else (None, "it is starting")
        document: dict[str, Any] = {"ready": reason is None}
        if reason is not None:
            document["reason"] = reason
        if service is not None:
            duty = service.followed.duty
            document["champion"] = duty.champion.name if duty.champion else None
            if duty.challenger is not None:
                document["challenger"] = duty.challenger.name
            if service.followed.away is not None:
                document["registry"] = "away"
            if service.followed.refused:
                document["refused"] = [one.model_uri for one in service.followed.refused]
        return Response(_json(document), 200 if reason is None else 503, media_type=JSON)

    @app.get("/metrics", summary="Prometheus' metrics", response_class=Response, responses=_metrics_response())
    async def metrics() -> Response:
        service = held[-1]
        content, kind = await asyncio.to_thread(service.metrics.text, service.followed)
        return Response(content, headers={"Content-Type": kind})

    for path in ("/ping", "/health"):

        @app.get(path, include_in_schema=False)
        async def ping() -> Response:
            return Response("\n", 200 if held and held[-1].followed.duty.champion else 404, media_type=JSON)

    @app.get("/version", include_in_schema=False)
    async def version() -> Response:
        return Response(mlflow_form.VERSION, media_type=JSON)


def _table(champion: ServedVersion, cases: Sequence[Case], answers: Sequence[Answered | None]) -> pd.DataFrame:
    """MLflow's table of answers; rows that have none are the champion's."""
    versions: dict[int, tuple[ServedVersion, list[int]]] = {id(champion): (champion, [])}
    for place, answer in enumerate(answers):
        version = champion if answer is None else answer.version
        versions.setdefault(id(version), (version, []))[1].append(place)
    frames = []
    for version, places in versions.values():
        model = version.model
        manifest = {
            "classes": model.classes,
            "model_version": model.model_version,
            "embedding_model": model.embedding_model,
            "decision": model.decision.document(),
        }
        given = [answer.probabilities for place in places if (answer := answers[place]) is not None]
        probabilities = np.stack(given) if given else np.zeros((0, len(model.classes)))
        faults = [cases[place].fault for place in places]
        frame = answer_table(manifest, [cases[place].case_id for place in places], faults, probabilities)
        frames.append(frame.set_axis(places, axis=0))
    return (pd.concat(frames) if len(frames) > 1 else frames[0]).sort_index()


def _json(document: Any) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode()


def _told(error: Exception) -> None:
    # Frames without values: enough to find a defect, and nothing of a request.
    sys.stderr.write(f"{type(error).__name__}\n" + "".join(traceback.format_tb(error.__traceback__)))


_MEANINGS = {
    400: "The body is none that this server reads.",
    401: "No token or account that it knows.",
    408: "The body did not come in time.",
    409: "The vectors are not of the model's encoder.",
    413: "The body or the number of cases is too large.",
    415: "Another content type than application/json.",
    429: "Too many texts wait, or too many requests of this caller; Retry-After says when to come again.",
    503: "No version is on duty.",
    504: "No answer in time.",
}


def _responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    refused = {"content": {JSON: {"schema": forms.ERROR_SCHEMA}}}
    answered = {"content": {JSON: {"schema": forms.REPLY_SCHEMA, "example": forms.REPLY_EXAMPLE}}}
    return {
        status: {"description": "The predictions, in the order of the cases.", **answered}
        if status == 200
        else {"description": _MEANINGS[status], **refused}
        for status in statuses
    }


def _plain(*others: int) -> dict[int | str, dict[str, Any]]:
    return {
        status: {"description": "JSON", "content": {JSON: {"schema": {"type": "object"}}}} for status in (200, *others)
    }


def _metrics_response() -> dict[int | str, dict[str, Any]]:
    text = {"content": {"text/plain": {"schema": {"type": "string"}}}}
    return {200: {"description": "The text format.", **text}, **_responses(401, 429)}
