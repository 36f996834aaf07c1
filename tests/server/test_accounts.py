"""`deploy/accounts.py`: accounts come, change and go; what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from pcc_pipeline.auditing.log import AuditLog
from pcc_pipeline.processes import login_here

pytestmark = pytest.mark.server

PROGRAM = Path(__file__).parents[2] / "deploy" / "accounts.py"


def audit_folder(server: Any) -> Path:
    return Path(server.local.state).parent / "audit-of-accounts"


def accounts(server: Any, *arguments: str, said: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(PROGRAM), *arguments]
    given = {"PCC_AUDIT__FOLDER": str(audit_folder(server)), **server.environment, **environment}
    return subprocess.run(command, env=given, input=said, capture_output=True, text=True, timeout=60)


def test_python_alone_suffices(server: Any, tmp_path: Path) -> None:
    """An admin's machine may have no packages: here there is no folder of them."""
    environment = {
        **server.environment,
        "PCC_AUDIT__FOLDER": str(tmp_path),
        "PCC_ACCOUNT_PASSWORD": "a long enough one",
    }
    for arguments in (["add", "plain", "--role", "reader"], ["remove", "plain"]):
        command = [sys.executable, "-IS", str(PROGRAM), *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")
    lines = [line.fields for line in AuditLog(tmp_path).lines() if line is not None]
    assert [line["outcome"] for line in lines if line["what"] == "account remove"] == ["begun", "done"]
    assert {line["login"] for line in lines[1:]} == {login_here()}


def test_an_account_comes_changes_and_goes(server: Any, as_user: Any) -> None:
    done = accounts(server, "add", "passing", said="the first password\n")
    assert (done.returncode, done.stdout) == (0, "added passing, who may look, train and promote\n"), done.stderr
    as_user("passing", "the first password")
    client = MlflowClient(server.address)
    client.create_experiment("of one who passes")
    assert accounts(server, "password", "passing", PCC_ACCOUNT_PASSWORD="the second password").returncode == 0
    as_user("passing", "the second password")
    assert client.get_experiment_by_name("of one who passes")
    assert accounts(server, "remove", "passing").returncode == 0
    as_user("passing", "a third password")
    with pytest.raises(MlflowException, match="401"):
        client.get_experiment_by_name("of one who passes")


@pytest.mark.long
def test_an_account_gets_each_role_and_is_listed_with_it_and_all_is_on_record(server: Any) -> None:
    assert accounts(server, "add", "rising", "--role", "reader", said="a long enough one\n").returncode == 0
    for role in ("approver", "admin", "trainer", "reader"):
        done = accounts(server, "role", "rising", role)
        assert done.stdout.startswith(f"rising is {role} now, who may "), done.stderr
        if role in ("approver", "trainer"):
            assert json.loads(accounts(server, "list", "--json").stdout)["rising"] == role
    listed = accounts(server, "list").stdout.splitlines()
    assert [line.split() for line in listed if line.startswith(("admin", "rising"))] == [
        ["admin", "admin"],
        ["rising", "reader"],
    ]
    assert accounts(server, "remove", "rising").returncode == 0
    assert "there is no account rising" in accounts(server, "role", "rising", "admin").stderr
    lines = [line for line in AuditLog(audit_folder(server)).lines() if line is not None]
    told = [
        (line.what, line.on.get("role"), line.fields["outcome"]) for line in lines if line.on.get("account") == "rising"
    ]
    assert told[:4] == [
        ("account add", "reader", "begun"),
        ("account add", "reader", "done"),
        ("account role", "approver", "begun"),
        ("account role", "approver", "done"),
    ]
    assert told[-3:] == [
        ("account remove", None, "done"),
        ("account role", "admin", "begun"),
        ("account role", "admin", "failed"),
    ]
    assert {line.fields["who"] for line in lines[1:]} <= {"admin"}


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (("add", "admin"), {}, "error: the server answered 400: User (username=admin) already exists"),
        (("remove", "nobody-here"), {}, "error: the server answered 404: User with username=nobody-here not found"),
        (("add", "x"), {"PCC_ACCOUNT_PASSWORD": "short"}, "error: a password has at least 12 characters"),
        (("add", "x"), {"MLFLOW_TRACKING_PASSWORD": "false"}, "error: the server answered 401"),
        (("add", "x"), {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}, "error: http://127.0.0.1:9 does not answer"),
        (("add", "x"), {"MLFLOW_TRACKING_URI": "http://127.0.0.1:a"}, "error: http://127.0.0.1:a does not answer"),
        (("add", "x"), {"MLFLOW_TRACKING_URI": "http://[::1"}, "error: http://[::1 does not answer"),
        (
            ("add", "x"),
            {"MLFLOW_TRACKING_URI": "http://admin:scrypt@127.0.0.1:9"},
            "error: MLFLOW_TRACKING_URI is to be http://127.0.0.1:9, with no account",
        ),
        (
            ("add", "x"),
            {"MLFLOW_TRACKING_URI": "http://admin:1/scrypt@127.0.0.1:9"},
            "error: MLFLOW_TRACKING_URI is to be http://127.0.0.1:9, with no account",
        ),
        (("add", "x"), {"MLFLOW_TRACKING_URI": "sqlite:///x.db"}, "error: MLFLOW_TRACKING_URI names no server"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    server: Any, arguments: tuple[str, ...], environment: dict[str, str], message: str
) -> None:
    done = accounts(server, *arguments, **{"PCC_ACCOUNT_PASSWORD": "a long enough one", **environment})
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(message)
    assert len(done.stderr.splitlines()) == 1
    assert "scrypt" not in done.stderr
