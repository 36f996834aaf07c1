"""Files of 100 MiB by the server's proxy, and straight to the bucket with a server that only names the place."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient

pytestmark = pytest.mark.server

SIZE = 100 * 1024 * 1024


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 MiB that do not repeat, so that a part in the wrong place changes the digest."""
    path = tmp_path_factory.mktemp("large") / "model.bin"
    path.write_bytes(np.random.default_rng(7).bytes(SIZE))
    return path


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@pytest.fixture(scope="module")
def direct(server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a second MLflow server that hands out gs:// addresses and serves no artifacts."""
    folder = tmp_path_factory.mktemp("direct")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command += ["--default-artifact-root", f"gs://{server.bucket}/direct", "--no-serve-artifacts"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    given = {**server.environment, "STORAGE_EMULATOR_HOST": server.emulator_address}
    given |= {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    del given["MLFLOW_TRACKING_URI"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=given, cwd=folder)
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except (urllib.error.URLError, OSError):
                assert process.poll() is None, (folder / "log").read_text()
                time.sleep(0.2)
        else:
            pytest.fail(f"the server does not answer: {(folder / 'log').read_text()}")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)


def round_trip(client: MlflowClient, run_id: str, large: Path, target: Path) -> None:
    client.log_artifact(run_id, str(large), "models/large")
    (entry,) = client.list_artifacts(run_id, "models/large")
    assert (entry.path, entry.file_size) == ("models/large/model.bin", SIZE)
    target.mkdir()
    back = Path(client.download_artifacts(run_id, entry.path, str(target)))
    assert digest(back) == digest(large)


def test_a_large_file_by_the_proxy_needs_no_access_to_the_bucket(
    client: MlflowClient, server: Any, large: Path, tmp_path: Path
) -> None:
    assert "STORAGE_EMULATOR_HOST" not in os.environ
    run = client.create_run(client.create_experiment("large by proxy"))
    assert run.info.artifact_uri.startswith("mlflow-artifacts:/")
    round_trip(client, run.info.run_id, large, tmp_path / "back")
    (stored,) = (server.local.objects_folder / "mlflow").rglob("model.bin")
    assert digest(stored) == digest(large)


@pytest.mark.long
def test_a_large_file_straight_to_the_bucket(
    server: Any, direct: str, large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.emulator_address)
    client = MlflowClient(direct)
    run = client.create_run(client.create_experiment("large and direct"))
    assert run.info.artifact_uri.startswith(f"gs://{server.bucket}/direct/")
    round_trip(client, run.info.run_id, large, tmp_path / "back")
    (stored,) = (server.local.objects_folder / "direct").rglob("model.bin")
    assert digest(stored) == digest(large)


def test_an_experiment_of_the_server_with_accounts_may_lie_in_the_bucket(
    client: MlflowClient, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Direct access beside proxied: the experiment names the place, the client needs the bucket's rights itself."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.emulator_address)
    place = f"gs://{server.bucket}/by-clients"
    run = client.create_run(client.create_experiment("direct with accounts", artifact_location=place))
    client.log_text(run.info.run_id, "straight", "a.txt")
    assert Path(client.download_artifacts(run.info.run_id, "a.txt", str(tmp_path))).read_text() == "straight"
    assert list((server.local.objects_folder / "by-clients").rglob("a.txt"))
