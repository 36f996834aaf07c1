"""`pcc alerts webhook` against a real MLflow server: an event of the registry arrives, signed."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from cryptography.fernet import Fernet
from mlflow import MlflowClient

from pcc_pipeline.errors import TrackingError
from pcc_pipeline.tracking.registry import webhooks
from tests import process_state
from tests.http_receiver import HttpReceiver, receiving

pytestmark = pytest.mark.server


@pytest.fixture
def client(outer: dict[str, str], tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[MlflowClient]:
    """Of a server that may send to this machine, which none does by itself."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{tmp_path}/mlflow.db"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    environment = {
        **outer,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": Fernet.generate_key().decode(),
    }
    if request.param == "local":
        environment |= {"MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http", "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true"}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=tmp_path)
    try:
        for _ in range(900):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except (urllib.error.URLError, OSError):
                assert process.poll() is None, (tmp_path / "log").read_text()
                time.sleep(0.2)
        else:
            pytest.fail(f"the server does not answer: {(tmp_path / 'log').read_text()}")
        with process_state.mlflow_undone():
            mlflow.set_tracking_uri(f"http://127.0.0.1:{port}")
            yield MlflowClient()
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.fixture
def heard() -> Iterator[HttpReceiver]:
    with receiving() as one:
        yield one


@pytest.mark.parametrize("client", ["local"], indirect=True)
def test_a_promotion_reaches_the_webhook_until_it_is_removed(client: MlflowClient, heard: HttpReceiver) -> None:
    address = f"http://127.0.0.1:{heard.port}/hook"
    assert webhooks.hooks() == []
    hook = webhooks.set_hook("team", address, ("versions",), None)
    again = webhooks.set_hook("team", address, ("promotions",), "signing-secret")  # set anew, not twice
    assert hook.host == again.host == address.split("/")[2]
    assert [(one.name, one.events) for one in webhooks.hooks()] == [("team", webhooks.EVENTS["promotions"])]
    assert webhooks.try_hook("team") == "it answered 200"
    heard.taken.clear()
    client.create_registered_model("watched")
    run = client.create_run("0").info
    client.create_model_version("watched", f"{run.artifact_uri}/model", run_id=run.run_id)
    client.set_registered_model_alias("watched", "champion", "1")
    for _ in range(100):
        if heard.taken:
            break
        time.sleep(0.1)
    ((headers, content),) = heard.taken
    body = json.loads(content)
    assert (body["entity"], body["action"], body["data"]["alias"]) == ("model_version_alias", "created", "champion")
    assert "X-MLflow-Signature" in headers
    webhooks.remove_hook("team")
    assert webhooks.hooks() == []
    for call in (webhooks.remove_hook, webhooks.try_hook):
        with pytest.raises(TrackingError, match="there is no webhook team"):
            call("team")


@pytest.mark.long
@pytest.mark.parametrize("client", ["by itself"], indirect=True)
def test_an_address_that_is_not_public_is_refused_by_the_server(client: MlflowClient) -> None:
    for address in ("http://example.com/hook", "https://127.0.0.1/hook"):
        with pytest.raises(TrackingError):
            webhooks.set_hook("team", address, ("promotions",), None)
    assert webhooks.hooks() == []
