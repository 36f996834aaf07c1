"""The application of one process: its routes, MLflow's own forms among them, and the description of all of them."""

from __future__ import annotations

import asyncio
import logging
import math
import signal
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from fastapi import FastAPI, Request, Response

from pcc_pipeline import __version__
from pcc_pipeline.config import Params
from pcc_pipeline.errors import PccError
from pcc_pipeline.serving import forms
from pcc_pipeline.serving.access import Access
from pcc_pipeline.serving.follow import Followed
from pcc_pipeline.serving.forms import Answered, Case, RefusedError
from pcc_pipeline.serving.guard import JSON, Guard, as_json, body_of, while_there
from pcc_pipeline.serving.metrics import Metrics
from pcc_pipeline.serving.service import Service
from pcc_pipeline.serving.version import ServedVersion
from pcc_pipeline.tracking.logged_models import scoring_protocol as mlflow_form
from pcc_pipeline.tracking.logged_models.served_model import TooManyRowsError, answer_table

_FEW, _LARGE_BYTES = 8, 100_000
# Of the server, in place of what uvicorn would do at once; see `_drain_first`.
_ENDS = (signal.SIGTERM, signal.SIGINT)
_PRESSED_TWICE_SECONDS = 1.5

Read = TypeVar("Read")

_readers = ThreadPoolExecutor(2, thread_name_prefix="pcc-read")

logger = logging.getLogger(__name__)


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
        except PccError as error:
            # Ready once the registry has one to serve.
            logger.error("no version is on duty: %s", error.what)
        service = Service(params, followed, metrics, access)
        held.append(service)
        _drain_first(service, params.serving.drain_seconds)
        ended = threading.Event()
        threading.Thread(target=followed.follow, args=[ended, metrics.duty], daemon=True, name="pcc-follow").start()
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
    app.openapi = partial(_described, app.openapi)  # type: ignore[method-assign] # as FastAPI has it done
    posts = {"/v1/classify": partial(_classify, held), "/invocations": partial(_invocations, held)}
    return Guard(app, posts, params, access, metrics)


def _drain_first(service: Service, seconds: float) -> None:
    """On SIGTERM or Ctrl-C say no at /readyz, and end as uvicorn does so many seconds later."""
    loop = asyncio.get_running_loop()
    first = math.inf
    for number in _ENDS:
        ends = signal.getsignal(number)

        def drain(number: int, frame: Any, ends: Any = ends) -> None:
            nonlocal first
            again = loop.time() - first > _PRESSED_TWICE_SECONDS
            if service.draining and not again:
                return  # a signal to the whole group comes twice, from its sender and from the parent
            first, service.draining = min(first, loop.time()), True
            if callable(ends):
                # Who presses Ctrl-C twice means now.
                loop.call_soon_threadsafe(loop.call_later, 0 if again else seconds, ends, number, None)

        signal.signal(number, drain)


async def _classify(held: list[Service], request: Request) -> Response:
    service = held[-1]
    # Anything else would let a page in a browser send a request here without asking.
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
        raise RefusedError(415, "not_json", f"Send Content-Type: {JSON}.")
    read = partial(forms.read_request, most=service.params.serving.request_texts)
    parsed = await _off_the_loop(read, await body_of(request))
    work = service.answers(parsed.cases, parsed.encoder_digest, request.state.deadline)
    # Of a few texts there is little to give up, and to watch for the caller takes as long as a tenth of one.
    few = len(parsed.cases) < _FEW
    champion, cases, answers = await (work if few else while_there(request, work))
    return Response(forms.answer_document(parsed, cases, answers, champion), media_type=JSON)


async def _off_the_loop(read: Callable[[bytes], Read], body: bytes) -> Read:
    """What is read of a body, in a thread where it is large, so that others need not wait for it.

    A few at a time: what is read takes many times the bytes of a body, and goes on after its caller was given up.
    """
    if len(body) < _LARGE_BYTES:
        return read(body)
    return await asyncio.get_running_loop().run_in_executor(_readers, read, body)


async def _invocations(held: list[Service], request: Request) -> Response:
    service = held[-1]
    champion, _ = service.duty()
    column = "text" if champion.takes_texts else "embeddings"
    kind = request.headers.get("content-type", "")
    most = service.params.serving.request_texts
    read = partial(mlflow_form.request_table, content_type=kind, column=column, most=most)
    try:
        table = await _off_the_loop(read, await body_of(request))
    except mlflow_form.ProtocolError as error:
        return Response(error.reply, error.status, media_type=error.kind)
    except TooManyRowsError as error:
        raise RefusedError(413, "too_many_cases", f"A request may hold {most:,} rows.") from error
    ids = list(table["case_id"]) if "case_id" in table else [None] * len(table)
    cases = [
        forms.case_of(value, case, of_text=champion.takes_texts) for value, case in zip(table[column], ids, strict=True)
    ]
    work = service.answers(cases, None, request.state.deadline)
    champion, cases, answers = await while_there(request, work)
    frame = await asyncio.to_thread(_table, champion, cases, answers)
    return Response(mlflow_form.reply(frame), media_type=JSON)


def _add_routes(app: FastAPI, held: list[Service]) -> None:
    @app.get("/healthz", summary="Whether this process runs", response_class=Response, responses=_plain())
    async def healthz() -> Response:
        return Response(as_json({"status": "ok"}), media_type=JSON)

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
        return Response(as_json(document), 200 if reason is None else 503, media_type=JSON)

    @app.get("/metrics", summary="Prometheus' metrics", response_class=Response, responses=_metrics_response())
    async def metrics() -> Response:
        service = held[-1]
        service.metrics.duty(service.followed)
        content, kind = await asyncio.to_thread(service.metrics.text)
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
        rows = [answer.probabilities for place in places if (answer := answers[place]) is not None]
        probabilities = np.stack(rows) if rows else np.zeros((0, len(model.classes)))
        faults = [cases[place].fault for place in places]
        frame = answer_table(manifest, [cases[place].case_id for place in places], faults, probabilities)
        frames.append(frame.set_axis(places, axis=0))
    return (pd.concat(frames) if len(frames) > 1 else frames[0]).sort_index()


def _described(own: Any) -> dict[str, Any]:
    """FastAPI's description, and in it the route that is called without it."""
    document: dict[str, Any] = own()
    if "/v1/classify" not in document["paths"]:
        statuses = (200, 400, 401, 408, 409, 413, 415, 429, 500, 503, 504)
        classify = {
            "summary": "Classify one message or several",
            "operationId": "classify",
            "requestBody": {
                "required": True,
                "content": {JSON: {"schema": forms.REQUEST_SCHEMA, "examples": forms.REQUEST_EXAMPLES}},
            },
            "responses": {str(status): answer for status, answer in _responses(*statuses).items()},
        }
        document["paths"] = {"/v1/classify": {"post": classify}, **document["paths"]}
    return document


_MEANINGS = {
    400: "The body is none that this server reads.",
    401: "No token or account that it knows.",
    408: "The body did not come in time.",
    409: "The vectors are not of the model's encoder.",
    413: "The body or the number of cases is too large.",
    415: "Another content type than application/json.",
    429: "Too many texts wait, or too many requests of this caller; Retry-After says when to come again.",
    500: "This server failed; its log has more.",
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
