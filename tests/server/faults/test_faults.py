"""Faults with real processes killed for real: what the user sees, and that nothing is lost and nothing doubled."""

from __future__ import annotations

import contextlib
import http.server
import os
import shutil
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
import requests
from mlflow import MlflowClient

from pcc_pipeline.config import Params
from pcc_pipeline.errors import TrackingError
from pcc_pipeline.tracking import payloads
from pcc_pipeline.tracking.delivery import preflight
from pcc_pipeline.tracking.delivery.preflight import demand_account, demand_artifacts, demand_server
from pcc_pipeline.tracking.runs import step_run
from pcc_pipeline.tracking.store.locations import delete_artifacts

pytestmark = [pytest.mark.server, pytest.mark.pipeline]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# At the start


def test_a_server_that_is_not_there_is_told_at_once(tmp_path: Path, cases: Path, shell: Any) -> None:
    address = f"http://user:geheim-im-uri@127.0.0.1:{free_port()}"
    process = shell.train(cases, MLFLOW_TRACKING_URI=address)
    assert process.wait(timeout=120) == 1
    said = shell.said("train")
    assert "no MLflow server answers" in said
    assert "MLFLOW_TRACKING_URI" in said
    assert "Traceback" not in said
    assert "geheim" not in said


def test_a_server_that_takes_calls_and_never_answers_is_told_in_seconds(here: Any) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        mlflow.set_tracking_uri(f"http://127.0.0.1:{silent.getsockname()[1]}")
        began = time.monotonic()
        with pytest.raises(TrackingError, match="no MLflow server answers"), step_run("train"):
            pass
        assert time.monotonic() - began < 10


def test_a_wrong_account_is_told_by_the_names_of_its_variables(here: Any, as_user: Any) -> None:
    as_user("admin", "falsches-geheimnis")
    with pytest.raises(TrackingError, match=r"(?s)refuses this account \(401\).*MLFLOW_TRACKING_PASSWORD") as caught:
        demand_account()
    assert "falsches" not in str(caught.value)
    with pytest.raises(TrackingError, match="refuses this account"), step_run("train"):
        pass


def test_no_account_is_told(here: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME")
    monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD")
    with pytest.raises(TrackingError, match="none of MLFLOW_TRACKING_USERNAME"):
        demand_account()


def test_a_page_in_the_servers_place_is_told(here: Any) -> None:
    with answering(200) as address:
        mlflow.set_tracking_uri(address)
        demand_server()
        with pytest.raises(TrackingError, match="this is no MLflow server"):
            demand_account()


def test_a_bucket_without_credentials_is_told_in_seconds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """MLflow itself falls back to an anonymous client and tries for more than a minute."""
    for name in ("STORAGE_EMULATOR_HOST", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    began = time.monotonic()
    with pytest.raises(TrackingError, match=r"(?s)no Google Cloud credentials.*gs://pcc-nobody/x"):
        demand_artifacts("gs://pcc-nobody/x")
    assert time.monotonic() - began < 10


def test_a_bucket_that_hangs_is_told_in_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{silent.getsockname()[1]}")
        began = time.monotonic()
        with pytest.raises(TrackingError, match="does not take a file within"):
            demand_artifacts("gs://pcc-nobody/x")
        assert time.monotonic() - began < 10


def test_the_check_writes_an_artifact_and_leaves_none(here: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []

    def look_and_delete(repository: Any, name: str) -> None:
        written.extend(file.path for file in repository.list_artifacts())
        delete_artifacts(repository, name)

    monkeypatch.setattr(preflight, "delete_artifacts", look_and_delete)
    with step_run("train") as run:
        left = MlflowClient().list_artifacts(run.run_id)
    assert len(written) == 1
    assert left == []


def test_the_check_can_be_switched_off(here: Any, as_user: Any) -> None:
    params = Params.model_validate({"tracking": {"preflight": False}})
    as_user("admin", "falsch")
    with pytest.raises(TrackingError) as caught, step_run("train", params):
        pass
    assert "refuses this account" not in str(caught.value)
    assert "MLFLOW_TRACKING_PASSWORD" in str(caught.value)


# In mid-search


@pytest.mark.long
def test_a_server_that_dies_and_comes_back_has_every_trial_once(shell: Any, server: Any, cases: Path) -> None:
    with server.whole():
        process = shell.train(cases)
        shell.wait_for(lambda: shell.step("trial"), process)
        server.kill("mlflow")
        # The search goes on without it.
        shell.wait_for(lambda: len(shell.kept()) >= 3, process)
        server.start("mlflow")
        assert process.wait(timeout=240) == 0, shell.said("train")
    shell.demand_whole_training()
    said = shell.said("train")
    assert "MLflow is away" in said
    assert "MLflow is back" in said
    assert "Traceback" not in said


@pytest.mark.long
def test_what_a_server_that_stays_away_misses_is_logged_by_resume(shell: Any, server: Any, cases: Path) -> None:
    with server.whole():
        process = shell.train(cases, PCC_TRACKING__PATIENCE="1")
        shell.wait_for(lambda: shell.step("trial"), process)
        server.kill("mlflow")
        assert process.wait(timeout=240) == 1
        said = shell.said("train")
        assert "Nothing is lost" in said
        assert "pcc models resume" in said
        assert "Traceback" not in said
        # Without a server, resume says so and keeps all.
        kept = shell.kept()
        refused = shell.manage("resume")
        assert refused.returncode == 1
        assert "no MLflow server answers" in refused.stdout
        assert shell.kept() == kept
        server.start("mlflow")
        # One that is killed in the middle, and two at once, log nothing twice.
        first = shell.start("manage_models", "resume")
        shell.wait_for(lambda: len(shell.kept()) < len(kept), first)
        first.send_signal(signal.SIGKILL)
        first.wait(timeout=60)
        others = [shell.start("manage_models", "resume") for _ in range(2)]
        assert {other.wait(timeout=240) for other in others} == {0}, shell.said("manage_models")
    shell.demand_whole_training()
    assert "nothing to log" in shell.manage("resume").stdout


@pytest.mark.long
def test_a_trainer_killed_while_the_server_was_away_leaves_its_trials_to_resume(
    shell: Any, server: Any, cases: Path
) -> None:
    with server.whole():
        process = shell.train(cases)
        shell.wait_for(lambda: shell.step("trial"), process)
        server.kill("mlflow")
        shell.wait_for(lambda: len(shell.kept()) >= 2, process)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=60)
        server.start("mlflow")
        before, kept = len(shell.step("trial")), len(shell.kept())
        # The next start closes the dead run, and tells of what is kept.
        shell.start("embed", "--params-file", shell.params_file, "--data", str(cases)).wait(timeout=120)
        assert "pcc models resume" in shell.said("embed")
        (train,) = shell.step("train")
        assert train.info.status == "KILLED"
        assert train.data.tags["pcc.error"] == "its process ended without closing it"
        done = shell.manage("resume")
    assert done.returncode == 0, done.stdout
    assert f"logged {kept} trials" in done.stdout
    # One may have been under way when the server died.
    assert len({run.info.run_name for run in shell.step("trial")}) == len(shell.step("trial")) >= before + kept - 1
    assert {run.info.status for run in shell.step("trial")} == {"FINISHED"}
    assert not shell.unlogged.exists()


@pytest.mark.long
def test_an_account_that_expires_in_mid_run_loses_nothing(shell: Any, server: Any, cases: Path) -> None:
    name, old, new = f"u{time.time_ns()}", "first-password-12", "second-password-34"
    users = f"{server.address}/api/2.0/mlflow/users"
    admin = (server.user, server.password)
    made = requests.post(f"{users}/create", json={"username": name, "password": old}, auth=admin, timeout=60)
    assert made.status_code == 200, made.text
    requests.patch(f"{users}/update-admin", json={"username": name, "is_admin": True}, auth=admin, timeout=60)
    shell.environment |= {"MLFLOW_TRACKING_USERNAME": name, "MLFLOW_TRACKING_PASSWORD": old}
    # Long enough for the server's workers to ask again for a password that they have checked: see basic_auth.ini.
    slower = "model.search_space={n_estimators:[900,910,920,930,940,950],max_depth:[4,5,6,7]}"
    process = shell.train(cases, "--set", slower)
    shell.wait_for(lambda: shell.step("trial"), process)
    changed = {"username": name, "password": new}
    requests.patch(f"{users}/update-password", json=changed, auth=admin, timeout=60).raise_for_status()
    assert process.wait(timeout=240) == 1
    said = shell.said("train")
    assert "does not take this account any more" in said
    assert "MLFLOW_TRACKING_PASSWORD" in said
    assert "Nothing is lost" in said
    assert "password-" not in said
    refused = shell.manage("resume")
    assert (refused.returncode, "refuses this account" in refused.stdout) == (1, True)
    shell.environment["MLFLOW_TRACKING_PASSWORD"] = new
    done = shell.manage("resume")
    assert done.returncode == 0, done.stdout
    assert "registered" in done.stdout
    shell.demand_whole_training()


# The bucket


class _Answering(http.server.BaseHTTPRequestHandler):
    status = 503

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        self.rfile.read(length)
        self.send_response(self.status)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"busy\n")

    do_GET = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815  (the names that http.server calls)

    def log_message(self, format: str, *args: Any) -> None:
        return


@contextlib.contextmanager
def answering(status: int, port: int = 0) -> Iterator[str]:
    """An HTTP server that gives every request the same answer."""
    handler = type("Handler", (_Answering,), {"status": status})
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), handler) as busy:
        thread = threading.Thread(target=busy.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{busy.server_port}"
        finally:
            busy.shutdown()
            thread.join()


@pytest.mark.long
def test_a_bucket_that_is_busy_for_a_while_has_every_file_in_the_end(here: Any, server: Any) -> None:
    """Real 503s from where the bucket was; the server tries again, and what it gives up on, the run tries again."""
    port = int(server.emulator_address.rpartition(":")[2])
    with server.whole(), step_run("embed") as run:
        server.stop("emulator")

        def come_back() -> None:
            with answering(503, port):
                time.sleep(6)
            server.start("emulator")

        returning = threading.Thread(target=come_back)
        returning.start()
        run.log(payloads.Json("metrics.json", {"a": 1}), payloads.Metrics({"rows": 3.0}))
        returning.join()
    client = MlflowClient()
    assert [file.path for file in client.list_artifacts(run.run_id)] == ["metrics.json"]
    assert client.get_run(run.run_id).info.status == "FINISHED"
    assert not here.unlogged.exists()


# A full disk


@pytest.fixture
def small_disk(disk: Callable[[str], Path]) -> Path:
    """A file system of 3 MB."""
    return disk("size=3m")


@pytest.mark.long
def test_a_full_disk_under_the_local_store_loses_nothing(
    small_disk: Path, tmp_path: Path, cases: Path, empty_mlflow_database: Path, new_shell: Any
) -> None:
    shutil.copyfile(empty_mlflow_database, small_disk / "mlflow.db")
    address = f"sqlite:///{small_disk}/mlflow.db"
    client = MlflowClient(address)
    client.create_experiment("full", artifact_location=str(tmp_path / "artifacts"))
    hidden = ("MLFLOW_", "PCC_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    environment |= {"MLFLOW_TRACKING_URI": address, "MLFLOW_EXPERIMENT_NAME": "full"}
    environment |= {"PCC_REGISTRY__MODEL_NAME": "full", "PCC_TRACKING__PATIENCE": "1"}
    shell = new_shell(tmp_path, environment, client, "full")
    process = shell.train(cases)
    shell.wait_for(lambda: shell.step("trial"), process)
    filler = small_disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 4096)
    assert process.wait(timeout=240) == 1
    said = shell.said("train")
    assert "disk is full" in said
    assert "Nothing is lost" in said
    with contextlib.closing(sqlite3.connect(small_disk / "mlflow.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    filler.unlink()
    done = shell.manage("resume")
    assert done.returncode == 0, done.stdout
    shell.demand_whole_training()


def test_a_store_that_is_full_from_the_start_is_told(
    small_disk: Path, tmp_path: Path, cases: Path, empty_mlflow_database: Path, new_shell: Any
) -> None:
    shutil.copyfile(empty_mlflow_database, small_disk / "mlflow.db")
    with contextlib.suppress(OSError), (small_disk / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 4096)
    hidden = ("MLFLOW_", "PCC_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    address = f"sqlite:///{small_disk}/mlflow.db"
    shell = new_shell(tmp_path, environment | {"MLFLOW_TRACKING_URI": address}, MlflowClient(address), "pcc-intent")
    assert shell.train(cases).wait(timeout=120) == 1
    said = shell.said("train")
    assert "disk is full" in said
    assert "Traceback" not in said
