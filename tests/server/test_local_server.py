"""`deploy/local_server.py`: what it refuses, what it leaves behind, and that it ends its own processes alone."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from mlflow import MlflowClient

from tests.server.contents import files_of

pytestmark = pytest.mark.server

REPOSITORY = Path(__file__).parents[2]
PROGRAM = REPOSITORY / "deploy" / "local_server.py"


def program(*arguments: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(PROGRAM), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture
def good(new_secrets: Callable[[], dict[str, str]], outer: dict[str, str]) -> dict[str, str]:
    return {**outer, **new_secrets()}


@pytest.mark.parametrize("script", ["local_server.py", "tracking_server.py"])
def test_nothing_starts_without_the_secrets(script: str, outer: dict[str, str], tmp_path: Path) -> None:
    given = {**outer, "MLFLOW_AUTH_ADMIN_PASSWORD": "short-one", "PCC_SERVER_DB_PASSWORD": ""}
    arguments = ["start", "--state", str(tmp_path / "state")] if script == "local_server.py" else []
    command = [sys.executable, str(REPOSITORY / "deploy" / script), *arguments]
    done = subprocess.run(command, env=given, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "MLFLOW_AUTH_ADMIN_PASSWORD has 9 characters, fewer than 12" in done.stderr
    assert "MLFLOW_FLASK_SERVER_SECRET_KEY is not set" in done.stderr
    assert "PCC_SERVER_DB_PASSWORD is not set" in done.stderr
    assert "openssl rand -hex 24" in done.stderr
    assert "short-one" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_second_start_says_that_it_runs_already(server: Any) -> None:
    given = {**server.local.environment}
    done = program("start", "--state", str(server.local.state), "--port", "0", environment=given)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"error: the server is running already at {server.address}" in done.stderr
    done = program("status", "--state", str(server.local.state), environment=given)
    assert done.returncode == 0
    assert done.stdout.count("running on 127.0.0.1") == 3


def test_a_taken_port_is_named_and_nothing_starts(good: dict[str, str], folder: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = program("start", "--state", str(folder), "--port", str(port), environment=good)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"port {port} for mlflow is taken; name another: make server PORT=5050" in done.stderr
    assert not (folder / "postgres").exists()


def test_stop_without_a_server_is_no_error(good: dict[str, str], folder: Path) -> None:
    done = program("stop", "--state", str(folder), environment=good)
    assert (done.returncode, done.stdout) == (0, "no tracking server was running\n")


def test_a_start_that_fails_half_way_ends_what_it_had_started(
    good: dict[str, str], folder: Path, local_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = local_server.LocalServer(folder, good, port=0, say=lambda line: None)
    broken = [sys.executable, "-c", "raise SystemExit('no server today')"]
    monkeypatch.setattr(half, "_mlflow", lambda: (broken, dict(good), {}), raising=True)
    seen = []
    monkeypatch.setattr(half, "say", lambda line: seen.append((line.split()[0], half.running())))
    with pytest.raises(local_server.ServerError, match=r"mlflow ended with code 1; its log ends:\n  no server today"):
        half.start()
    assert seen[-1] == ("emulator", {"postgres", "emulator"})
    assert half.running() == set()
    assert [process for process in psutil.process_iter() if str(folder) in " ".join(command_line(process))] == []


def command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_stop_spares_a_process_that_got_the_number_of_ours(
    local_server: Any, good: dict[str, str], folder: Path
) -> None:
    """After a restart of the machine the numbers in the state folder belong to strangers."""
    stranger = subprocess.Popen(["sleep", "120"])
    try:
        folder.mkdir()
        parts = {part: {"pid": stranger.pid, "began": "1"} for part in local_server.PARTS}
        (folder / "state.json").write_text(json.dumps({"ports": {}, "mark": "x", "parts": parts}))
        server = local_server.LocalServer(folder, good)
        assert server.running() == set()
        assert server.stop() is False
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_the_children_of_a_killed_server_are_ended_too(local_server: Any, good: dict[str, str], folder: Path) -> None:
    """MLflow's first process may die and leave its workers, which hold the port."""
    folder.mkdir()
    mark = "0123456789abcdef"
    orphan = subprocess.Popen(["sleep", "120"], env={**good, local_server.MARK: f"{mark}-mlflow"})
    stranger = subprocess.Popen(["sleep", "120"], env={**good, local_server.MARK: "another-mlflow"})
    try:
        parts = {"mlflow": {"pid": 2**22 - 1, "began": "1"}}
        (folder / "state.json").write_text(json.dumps({"ports": {}, "mark": mark, "parts": parts}))
        server = local_server.LocalServer(folder, good)
        assert server.running() == {"mlflow"}
        assert server.stop() is True
        assert orphan.wait(timeout=10) != 0
        assert stranger.poll() is None
    finally:
        for process in (orphan, stranger):
            process.kill()
            process.wait()


def test_no_secret_stands_in_a_command_line_a_log_or_a_file(client: MlflowClient, server: Any) -> None:
    client.create_experiment("secrets-are-nowhere")
    hidden = [secret.encode() for secret in server.secrets.values()]
    lines = [" ".join(command_line(process)).encode() for process in psutil.process_iter()]
    assert any(b"pcc-accounts" in line for line in lines)
    assert [line for line in lines if any(secret in line for secret in hidden)] == []
    files = files_of(server.local.state.parent)
    assert {"mlflow.log", "postgres.log", "PG_VERSION", "state.json"} <= {path.name for path in files}
    assert [path for path, content in files.items() if any(secret in content for secret in hidden)] == []
    for name in ("postgres", "state.json"):  # what the other parts' users have no business with
        assert (server.local.state / name).exists()
    assert (server.local.postgres_folder.stat().st_mode & 0o077) == 0


def test_no_other_login_may_read_what_the_server_keeps(client: MlflowClient, server: Any) -> None:
    """Logs, the record, PostgreSQL's folder and the bucket; the state folder itself may at most be passed through."""
    state = server.local.state
    assert (state.stat().st_mode & 0o077) in (0, 0o011)
    assert {
        path.name: oct(path.stat().st_mode & 0o077) for path in state.iterdir() if path.stat().st_mode & 0o077
    } == {}


def test_everything_listens_on_this_machine_alone(server: Any) -> None:
    ports = set(server.local.ports.values())
    found = [link for link in psutil.net_connections("inet") if link.status == "LISTEN" and link.laddr.port in ports]
    assert {link.laddr.port for link in found} == ports
    assert {link.laddr.ip for link in found} == {"127.0.0.1"}


def test_postgres_wants_its_password_and_shows_nothing_to_others(server: Any) -> None:
    import psycopg

    place = {"host": "127.0.0.1", "port": server.local.ports["postgres"]}
    for user, password, why in (
        ("mlflow", "another-password", "password authentication failed"),
        ("postgres", server.secrets["PCC_SERVER_DB_PASSWORD"], "no pg_hba.conf entry"),
    ):
        with pytest.raises(psycopg.OperationalError, match=why):
            psycopg.connect(**place, user=user, password=password, dbname="postgres")
    with psycopg.connect(server.database.replace("+psycopg", "")) as link:
        assert link.execute("SELECT rolsuper, rolcreatedb FROM pg_roles WHERE rolname = 'mlflow'").fetchone() == (
            False,
            False,
        )


@pytest.mark.long
def test_each_part_is_stopped_killed_and_started_again(client: MlflowClient, server: Any) -> None:
    experiment = client.create_experiment("parts-come-back")
    with server.whole():
        server.kill("mlflow")
        assert server.local.running() == {"postgres", "emulator"}
        server.kill("postgres")
        server.stop("emulator")
        assert server.local.running() == set()
        for part in ("postgres", "emulator", "mlflow"):
            server.start(part)
    assert client.get_experiment(experiment).name == "parts-come-back"


@pytest.mark.long
def test_backup_and_restore_bring_runs_files_and_accounts_back(
    good: dict[str, str], folder: Path, as_user: Callable[[str, str], None], local_server: Any
) -> None:
    """The scripts that the README names: dump, copy the bucket, lose everything, restore; the server starts anew."""
    server = local_server.LocalServer(folder, good, port=0, workers=1, say=lambda line: None)
    saved = folder.parent / "saved"

    def script(name: str) -> None:
        where = {"PGHOST": "127.0.0.1", "PGPORT": str(server.ports["postgres"]), "PGUSER": "mlflow"}
        tools = f"{Path(local_server.programs()['psql']).parent}{os.pathsep}{os.environ['PATH']}"
        given = {**good, **where, "PGPASSWORD": good["PCC_SERVER_DB_PASSWORD"], "PATH": tools}
        command = [str(REPOSITORY / "deploy" / name), str(saved)]
        done = subprocess.run(command, env=given, capture_output=True, text=True, timeout=120)
        assert (done.returncode, done.stderr) == (0, "")

    as_user("admin", good["MLFLOW_AUTH_ADMIN_PASSWORD"])
    try:
        server.start()
        client = MlflowClient(server.address)
        run = client.create_run(client.create_experiment("before the loss"))
        client.log_metric(run.info.run_id, "test/f1_macro", 0.87)
        client.log_text(run.info.run_id, "kept", "notes.txt")
        client.create_registered_model("kept")
        script("backup.sh")
        shutil.copytree(server.bucket_folder, saved / "bucket")
        client.create_experiment("after the backup")
        server.stop()
        shutil.rmtree(server.postgres_folder)
        shutil.rmtree(server.bucket_folder)

        server.start_part("postgres")
        shutil.copytree(saved / "bucket", server.bucket_folder)
        script("restore.sh")
        for part in ("emulator", "mlflow"):
            server.start_part(part)
        client = MlflowClient(server.address)
        assert client.get_run(run.info.run_id).data.metrics == {"test/f1_macro": 0.87}
        assert [version.name for version in client.search_registered_models()] == ["kept"]
        assert client.get_experiment_by_name("after the backup") is None
        path = client.download_artifacts(run.info.run_id, "notes.txt", str(saved))
        assert Path(path).read_text() == "kept"
    finally:
        server.stop()
