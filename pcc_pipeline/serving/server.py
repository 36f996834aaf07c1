"""The processes of the server: one socket, workers that are started anew when they die, and an orderly end."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from pcc_pipeline.config import Params
from pcc_pipeline.config.paths import local_path
from pcc_pipeline.config.serving_settings import ServingParams
from pcc_pipeline.errors import ConfigError
from pcc_pipeline.files import scratch_folder
from pcc_pipeline.serving.access import Access
from pcc_pipeline.serving.follow import Followed
from pcc_pipeline.serving.metrics import SEVERAL_PROCESSES

if TYPE_CHECKING:
    from pcc_pipeline.serving.guard import Guard

# What is at work when the end comes is finished within so many seconds.
_GRACE_SECONDS = 30
_BACKLOG = 2048
# For loading a model and an encoder from a slow disk.
_START_SECONDS = 120.0
# A worker looks so often whether its parent lives.
_PARENT_SECONDS = 1.0


def run(
    params: Params, model_uri: str | None, ready: Callable[[str, str | None], None], begin: Callable[[str], None]
) -> None:
    """Serve until a signal ends it.

    Args:
        model_uri: what to serve; None is the champion, now and later.
        ready: told the server's address once it answers, and the version on duty; None where there is none yet.
        begin: called in each process with `logging.level`.

    Raises:
        PccError: there is nothing to serve, or the address cannot be listened at.
    """
    settings = params.serving
    # What a user can mend is told here, before anything listens; the model is then on this machine for the workers.
    Access(params).demand_callers()
    Followed(params, model_uri).bring()
    _demand_certificate(settings)
    with _listening(settings.host, settings.port) as listener, scratch_folder() as folder:
        if settings.workers > 1:
            os.environ[SEVERAL_PROCESSES] = str(folder)
        scheme = "https" if settings.tls_certificate else "http"
        address = f"{scheme}://{_shown_host(settings.host)}:{listener.getsockname()[1]}"
        application = partial(_application, params, model_uri, begin)
        _serve(params.serving, application, listener, lambda: ready(address, _on_duty(address)))


def _demand_certificate(settings: ServingParams) -> None:
    for option in ("tls_certificate", "tls_key"):
        file = getattr(settings, option)
        if file is not None and not local_path(file).is_file():
            raise ConfigError("there is no such file", where=f"serving.{option}: {file}", fix="name a PEM file")
    if settings.tls_certificate is None or settings.tls_key is None:
        return
    certificate, key = local_path(settings.tls_certificate), local_path(settings.tls_key)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, lambda: b"")
    except (OSError, ValueError) as error:  # ssl's own errors are OSErrors
        raise ConfigError(
            f"certificate and key cannot be used: {getattr(error, 'reason', None) or error}",
            where=f"serving.tls_certificate: {certificate}, serving.tls_key: {key}",
            fix="name PEM files of one pair, the key without a password",
        ) from error


def _serve(
    settings: ServingParams, application: Callable[[], Guard], listener: socket.socket, ready: Callable[[], None]
) -> None:
    import uvicorn
    from uvicorn.supervisors import Multiprocess

    from pcc_pipeline.serving.connections import Bounded

    class Workers(Multiprocess):
        """Those that uvicorn starts anew; the first of them to answer is told of."""

        def init_processes(self) -> None:
            super().init_processes()
            if self.processes[0].wait_until_ready(_START_SECONDS, self.should_exit):
                ready()

    config = uvicorn.Config(
        application,
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        http=Bounded,
        ws="none",
        access_log=False,  # the metrics count requests; who asks and for what is nobody's to read
        log_level="warning",
        server_header=False,
        # Longer than what proxies keep connections for, so that none is used as it closes: AWS' load balancers 60 s,
        # Caddy two minutes, Google's ten.
        timeout_keep_alive=620,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        timeout_worker_healthcheck=30,  # a batch of long texts may hold the interpreter for seconds on a busy machine
        backlog=_BACKLOG,
        ssl_certfile=None if settings.tls_certificate is None else str(local_path(settings.tls_certificate)),
        ssl_keyfile=None if settings.tls_key is None else str(local_path(settings.tls_key)),
    )
    Workers(config, sockets=[listener]).run()


def _application(params: Params, model_uri: str | None, begin: Callable[[str], None]) -> Guard:
    """In a worker."""
    begin(params.logging.level)
    threading.Thread(target=_end_with, args=[os.getppid()], daemon=True, name="pcc-parent").start()
    from pcc_pipeline.serving.app import application

    return application(params, model_uri)


def _end_with(parent: int) -> None:
    """Finish what was taken once the parent is gone, which was killed: it would hold the address from the next one."""
    while os.getppid() == parent:
        time.sleep(_PARENT_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)


def _on_duty(address: str) -> str | None:
    """The version that a server on this machine has on duty."""
    context = ssl.create_default_context()
    # Its certificate is for another name, and it was started a moment ago by this very process.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        try:
            answer = opener.open(f"{address}/readyz", timeout=3)
        except urllib.error.HTTPError as not_ready:  # it says as much
            answer = not_ready
        with answer:
            champion: str | None = json.load(answer)["champion"]
            return champion
    except (OSError, ValueError, KeyError):
        return None


def _listening(host: str, port: int) -> socket.socket:
    where = f"serving.host: {host}, serving.port: {port}"
    try:
        family, *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(
            f"this address cannot be listened at: {reason}",
            where=where,
            fix="name another port (--port 0 takes a free one) or address, or end what listens there",
        ) from error


def _shown_host(host: str) -> str:
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{shown}]" if ":" in shown else shown


def example(address: str, settings: ServingParams) -> list[str]:
    """A line to copy that asks the server something."""
    who = {"tokens": ' -H "Authorization: Bearer $PCC_TOKEN"', "tracking": " -u $MLFLOW_TRACKING_USERNAME"}
    body = '\'{"text": "please delete everything you have on me"}\''
    own = " --cacert CERTIFICATE" if settings.tls_certificate else ""
    return [
        f"curl -s{own}{who.get(settings.accounts or '', '')} {address}/v1/classify \\",
        f"  -H 'Content-Type: application/json' -d {body}",
    ]
