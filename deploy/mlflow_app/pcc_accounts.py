"""MLflow's basic-auth app behind one more door: no request but /health passes without an account that may make it.

MLflow 3.17's own app leaves open whatever starts with /static, /favicon.ico or /health, and server-info; it admits
pages of every address on the browser's own machine, and reads a body of any size. A path that could lead out of its
folder is refused here too, before MLflow and the bucket see it. The folder pcc_accounts-1.dist-info beside this file
names `create_app` to MLflow (`mlflow server --app-name pcc-accounts`); for that this folder must be on PYTHONPATH,
which tracking_server.py sees to.
"""

from __future__ import annotations

import json
import os
import re
import urllib.parse
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pcc_approvals import fault_of_approval, note
from pcc_logins import BusyError, Logins, name_and_password
from pcc_requests import ANCHOR_TAG, RequestLog, learn
from pcc_requests import VARIABLE as AUDIT_VARIABLE
from pcc_rights import APPROVER_ROLE, TRAINER_ROLE, Tier, account, current, fault_of_request, needed, tracking_store

if TYPE_CHECKING:
    from pcc_pipeline.auditing.chain import Head

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN_PATH = "/health"
# The gateway's proxy, which pages read, answers with an empty list for want of the address that create_app takes away.
PROXY_ADDRESS = "MLFLOW_DEPLOYMENTS_TARGET"
# A step upwards, a backslash, a control character, or such a thing encoded once more than the web server decodes.
LEADS_OUT = re.compile(r"(?:^|/)\.\.(?:/|;|$)|\\|[\x00-\x1f]|%(?:2e|2f|5c|25|00|c0)", re.IGNORECASE)
# MLflow's largest message, a batch of 1,000 metrics with long keys, has 1 MB; an artifact goes to disk as it comes.
LARGEST_MESSAGE, LARGEST_ARTIFACT = 20 * 2**20, 64 * 2**30
ARTIFACTS = re.compile(r"/(?:ajax-)?api/2\.0/mlflow-artifacts/artifacts/")
WHY = {
    Tier.TRAINER: "An account that may only read cannot do this.",
    Tier.ADMIN: "This is the admin's to do.",
    Tier.NOBODY: "This part of MLflow is switched off on this server.",
}


class Door:
    """ASGI app that lets a request through if its account may make it; only /health needs none.

    Args:
        logins: tells the account.
        origins: addresses under which browsers know this server.
        requests: the log of what accounts ask for; None for none.
    """

    def __init__(self, app: App, logins: Logins, origins: frozenset[str], requests: RequestLog | None = None) -> None:
        self.app = app
        self.logins = logins
        self.origins = origins
        self.requests = requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or self._is_open(scope):
            await self.app(scope, receive, send)
            return
        if is_of_another_page(scope, self.origins):
            await _refuse(scope, send, 403, "Pages of other addresses may not use this server.")
            return
        login = _header(scope, b"authorization", alone=True)
        try:
            tier = await self.logins.tier(login)
        except BusyError:
            again = (b"retry-after", b"1")
            await _refuse(scope, send, 429, "Too many logins are being checked; try again in a second.", again)
            return
        name, _ = name_and_password(login) or ("", "")
        if tier is not None and self.requests is not None and scope["type"] == "http":
            send = self.requests.noting(scope, name, send)
        if tier is None:
            await _refuse(scope, send, 401, "Log in with your account.", (b"www-authenticate", b'Basic realm="mlflow"'))
        elif scope["type"] == "websocket":
            await _refuse(scope, send, 403, "")
        elif leads_out(scope):
            await _refuse(scope, send, 400, "This path is not allowed.")
        elif (least := needed(scope["method"], scope["path"])) > tier:
            await _refuse(scope, send, 403, WHY[least])
        elif (largest := _largest(scope)) < _announced(scope):
            await _refuse(scope, send, 413, f"A request of this kind has at most {largest:,} bytes.", CLOSE)
        else:
            tokens = current.set(tier), account.set(name)
            try:
                await self._bounded(scope, receive, send, largest)
            finally:
                current.reset(tokens[0])
                account.reset(tokens[1])

    async def _bounded(self, scope: Scope, receive: Receive, send: Send, largest: int) -> None:
        """Let a request through that does not say how long it is; from `largest` bytes on it is cut off."""
        size, answered, cut = 0, False, False

        async def counted() -> Message:
            nonlocal size, cut
            message = await receive()
            size += len(message.get("body", b""))
            if size > largest:
                if not answered:
                    await _refuse(scope, send, 413, f"A request of this kind has at most {largest:,} bytes.", CLOSE)
                cut = True
                raise _TooLargeError
            return message

        async def noted(message: Message) -> None:
            nonlocal answered
            answered = True
            if not cut:  # else it is what the app makes of the error
                await send(message)

        try:
            await self.app(scope, counted, noted)
        except* _TooLargeError:
            pass

    @staticmethod
    def _is_open(scope: Scope) -> bool:
        return scope["type"] == "http" and scope["path"] == OPEN_PATH and scope["method"] in ("GET", "HEAD")


CLOSE = (b"connection", b"close")


class _TooLargeError(Exception):
    pass


def is_of_another_page(scope: Scope, origins: frozenset[str]) -> bool:
    """Whether a browser makes the request for a page of another address; it would send the user's account along.

    A link to this server may be followed from anywhere. Programs send neither of the two headers.
    """
    origin = _header(scope, b"origin")
    if origin is not None:
        return origin.decode("latin-1") not in origins
    if _header(scope, b"sec-fetch-site") in (None, b"same-origin", b"none"):
        return False
    followed = (_header(scope, b"sec-fetch-mode"), _header(scope, b"sec-fetch-dest")) == (b"navigate", b"document")
    return not (followed and scope.get("method") in ("GET", "HEAD"))


def leads_out(scope: Scope) -> bool:
    """Whether the path, or one given as `path=` in the query, could name something outside its folder."""
    query = urllib.parse.parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    return any(LEADS_OUT.search(path) for path in [scope["path"], *(value for name, value in query if name == "path")])


def _largest(scope: Scope) -> int:
    to_disk = scope["method"] == "PUT" and ARTIFACTS.match(scope["path"])
    return LARGEST_ARTIFACT if to_disk else LARGEST_MESSAGE


def _announced(scope: Scope) -> int:
    length = _header(scope, b"content-length") or b"0"
    return int(length) if length.isdigit() else 0  # what is no number, the web server has refused


def _header(scope: Scope, name: bytes, *, alone: bool = False) -> bytes | None:
    """The first header of a name; None where there is none, or where it should stand alone and does not."""
    values = [value for key, value in scope["headers"] if key == name]
    return values[0] if len(values) == 1 or (values and not alone) else None


async def _refuse(scope: Scope, send: Send, status: int, text: str, *headers: tuple[bytes, bytes]) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    kind, body = b"text/plain", f"{text}\n"
    if status == 403 and "api/" in scope["path"]:  # as MLflow's own refusals, which its clients show
        kind, body = b"application/json", json.dumps({"error_code": "PERMISSION_DENIED", "message": text})
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind), *headers]})
    await send({"type": "http.response.body", "body": body.encode()})


def own_origins(hosts: str, origin: str) -> frozenset[str]:
    """The addresses under which browsers know the server: the one of its proxy, else its hosts by plain http."""
    return frozenset([origin] if origin else [f"http://{host.strip()}" for host in hosts.split(",") if host.strip()])


def create_app() -> Door:
    """What MLflow starts in each worker."""
    os.environ.pop(PROXY_ADDRESS, None)
    import flask
    from mlflow.exceptions import MlflowException
    from mlflow.server import app as pages
    from mlflow.server import auth

    def check_content() -> flask.Response | None:
        try:
            fault = fault_of_request(flask.request) or fault_of_approval(flask.request)
        except MlflowException as error:
            return flask.Response(error.serialize_as_json(), error.get_http_status_code(), mimetype="application/json")
        if not fault:
            return None
        text = json.dumps({"error_code": "PERMISSION_DENIED", "message": fault})
        return flask.Response(text, 403, mimetype="application/json")

    def tier_of(name: str, password: str) -> Tier | None:
        if not auth.store.authenticate_user(name, password):
            return None
        user = auth.store.get_user(name)
        if user.is_admin:
            return Tier.ADMIN
        roles = {role.name for role in auth.store.list_user_roles(user.id)}
        return Tier.APPROVER if APPROVER_ROLE in roles else Tier.TRAINER if TRAINER_ROLE in roles else Tier.READER

    def after(response: flask.Response) -> flask.Response:
        learn(flask.request)
        return note(flask.request, response)

    pages.before_request(check_content)
    pages.after_request(after)
    origins = own_origins(os.environ.get("PCC_SERVER_ALLOWED_HOSTS", ""), os.environ.get("PCC_SERVER_ORIGIN", ""))
    return Door(auth.create_app(), Logins(tier_of), origins, _requests())


def _requests() -> RequestLog | None:
    """The log of the folder that the environment names; its end is anchored in MLflow's first experiment."""
    from mlflow.entities import ExperimentTag

    def anchor(head: Head, place: str) -> None:
        tracking_store().set_experiment_tag(
            "0", ExperimentTag(f"{ANCHOR_TAG}{head.log}", f"{head.seq} {head.hash} {place}")
        )

    folder = os.environ.get(AUDIT_VARIABLE)
    return RequestLog(Path(folder), anchor) if folder else None
