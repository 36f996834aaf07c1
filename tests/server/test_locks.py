"""The queue of promotions on a server with accounts: no reader stops it, and no dead trainer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

pytestmark = pytest.mark.server

Accounts = dict[str, tuple[str, str]]

PROGRAM = """
import sys, time
from pathlib import Path
import mlflow
from pcc_pipeline.tracking.registry import locks
name, stale, folder, number, holds = sys.argv[1], float(sys.argv[2]), Path(sys.argv[3]), sys.argv[4], float(sys.argv[5])
locks.STALE_SECONDS, locks._BEAT_SECONDS = stale, stale / 12
with locks.turn(name, number) as own:
    inside = folder / "inside"
    inside.mkdir()  # fails if another is inside
    (folder / f"had-{number}").touch()
    time.sleep(holds)
    own.check()
    inside.rmdir()
"""


def start(
    server: Any, account: tuple[str, str], name: str, folder: Path, number: int, stale: float = 60, holds: float = 0.1
) -> subprocess.Popen[str]:
    login = {"MLFLOW_TRACKING_USERNAME": account[0], "MLFLOW_TRACKING_PASSWORD": account[1]}
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, name, str(stale), str(folder), str(number), str(holds)]
    return subprocess.Popen(
        command, env={**server.environment, **login}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.fixture
def model(client: MlflowClient) -> str:
    name = f"turns-{time.time_ns()}"
    client.create_registered_model(name)
    return name


def left(client: MlflowClient, name: str) -> list[str]:
    models = [model.name for model in client.search_registered_models() if model.name.startswith(f"{name}.")]
    return models + [tag for tag in client.get_registered_model(name).tags if tag.startswith("pcc.")]


@pytest.mark.long
def test_trainers_who_come_at_once_each_get_their_turn_and_nothing_is_left(
    server: Any, client: MlflowClient, accounts: Accounts, model: str, tmp_path: Path
) -> None:
    roles = ["admin", "trainer"]
    processes = [start(server, accounts[roles[number % 2]], model, tmp_path, number) for number in range(5)]
    outputs = [process.communicate(timeout=500)[0] for process in processes]
    assert [(process.returncode, output) for process, output in zip(processes, outputs, strict=True)] == [(0, "")] * 5
    assert len(list(tmp_path.glob("had-*"))) == 5
    assert left(client, model) == []


@pytest.mark.long
def test_the_turn_of_a_killed_trainer_is_taken_away_by_another(
    server: Any, client: MlflowClient, accounts: Accounts, model: str, tmp_path: Path
) -> None:
    """Of an account that may delete nothing of the other's; several wait at once."""
    dead = start(server, accounts["admin"], model, tmp_path, 0, holds=600)
    until = time.monotonic() + 200
    while not (tmp_path / "had-0").exists():
        assert dead.poll() is None, dead.communicate()[0]
        assert time.monotonic() < until
        time.sleep(0.1)
    os.kill(dead.pid, signal.SIGKILL)
    dead.communicate()
    assert left(client, model) != []
    (tmp_path / "inside").rmdir()
    waiting = [start(server, accounts["trainer"], model, tmp_path, number, stale=20) for number in (1, 2, 3)]
    outputs = [process.communicate(timeout=500)[0] for process in waiting]
    assert [process.returncode for process in waiting] == [0, 0, 0], outputs
    assert left(client, model) == []


@pytest.mark.long
def test_a_reader_takes_no_turn(
    server: Any, client: MlflowClient, accounts: Accounts, model: str, raw: Any, tmp_path: Path
) -> None:
    for method, route, body in (
        ("POST", "registered-models/create", {"name": f"{model}.promoting"}),
        ("POST", "registered-models/set-tag", {"name": model, "key": "pcc.turn.0", "value": "1"}),
        ("DELETE", "registered-models/delete-tag", {"name": model, "key": "pcc.turn.0"}),
    ):
        for prefix in ("/api", "/ajax-api"):
            assert raw(method, f"{prefix}/2.0/mlflow/{route}", accounts["reader"], body)[0] == 403
    process = start(server, accounts["reader"], model, tmp_path, 0)
    output = process.communicate(timeout=200)[0]
    assert process.returncode == 1
    assert "An account that may only read cannot do this" in output
    assert left(client, model) == []
    process = start(server, accounts["trainer"], model, tmp_path, 1)
    assert (process.communicate(timeout=200)[0], process.returncode) == ("", 0)
