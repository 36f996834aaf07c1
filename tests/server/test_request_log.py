"""The server's own log: who read or wrote which run, model and artifact; nothing of what requests carry."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from pcc_pipeline.auditing.chain import Entry
from pcc_pipeline.auditing.log import AuditLog
from pcc_pipeline.command_line import pcc
from tests import process_state
from tests.server.conftest import Raw

sys.path.insert(0, str(Path(__file__).parents[2] / "deploy" / "mlflow_app"))

from pcc_requests import RequestLog, ids_of, is_writing, route_of

pytestmark = pytest.mark.server

Accounts = dict[str, tuple[str, str]]


def test_who_read_and_wrote_a_run_a_model_and_an_artifact_is_on_record_and_no_contents(
    server: Any, accounts: Accounts, as_user: Any, raw: Any, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    name = f"recorded-{time.time_ns()}"
    as_user(*accounts["trainer"])
    client = MlflowClient(server.address)
    experiment = client.create_experiment(name)
    run = client.create_run(experiment).info.run_id
    client.log_batch(run, [Metric("m", 0.123456, 1, 0)], [Param("p", "a secret value")], [RunTag("t", "another one")])
    client.log_text(run, "what a customer wrote", "folder/a.txt")
    model = client.create_logged_model(experiment, "model", source_run_id=run)
    client.create_registered_model(name)
    client.create_model_version(name, f"models:/{model.model_id}", run, model_id=model.model_id)
    client.set_registered_model_alias(name, "champion", "1")
    as_user(*accounts["reader"])
    reader = MlflowClient(server.address)
    reader.get_run(run)
    reader.download_artifacts(run, "folder/a.txt", str(tmp_path))
    document = {"run_id": run, "key": "k", "value": "a third one"}
    assert raw("POST", "/api/2.0/mlflow/runs/set-tag", accounts["reader"], document)[0] == 403
    query = f'query {{ mlflowGetRun(input: {{runId: "{run}"}}) {{ run {{ info {{ runId }} }} }} }}'
    assert raw("POST", "/graphql", accounts["reader"], {"query": query})[0] == 200

    lines = [line for line in AuditLog(server.local.audit_folder).lines() if line is not None]
    told = {(line.fields["who"], line.what, line.on.get("route"), line.fields["outcome"]) for line in lines}
    trainer, looking = accounts["trainer"][0], accounts["reader"][0]
    of_run = [line for line in lines if run in str(line.on)]
    assert {(line.fields["who"], line.what, line.on["route"]) for line in of_run} >= {
        (trainer, "write", "POST runs/log-batch"),
        (trainer, "write", "PUT 2.0/mlflow-artifacts/artifacts"),
        (looking, "read", "GET runs/get"),
        (looking, "read", "GET 2.0/mlflow-artifacts/artifacts"),
        (looking, "read", "POST /graphql"),
    }
    assert (looking, "write", "POST runs/set-tag", "403") in told  # refused before anybody read what it is about
    (uploaded,) = [line for line in of_run if line.on["route"].startswith("PUT")]
    assert uploaded.on["artifact"] == f"{experiment}/{run}/artifacts/folder/a.txt"
    (moved,) = [line for line in lines if line.on.get("name") == name and line.on.get("alias") == "champion"]
    assert (moved.what, moved.on["version"], moved.fields["outcome"]) == ("write", "1", "200")
    assert (trainer, "write", "POST runs/create", "200") in told
    everything = "".join(json.dumps(line.fields) for line in lines)
    for content in ("a secret value", "another one", "a third one", "0.123456", "customer wrote", "password of"):
        assert content not in everything

    # Read and checked as anybody would, on a copy; the server keeps the log's end in MLflow, where nobody changes it.
    copy = tmp_path / "server-audit"
    shutil.copytree(server.local.audit_folder, copy)
    as_user(*accounts["admin"])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)

    def asked(*words: str) -> tuple[int, Any]:
        capsys.readouterr()
        with process_state.entry_point_undone():
            code = pcc.main(["audit", *words, "--folder", str(copy), "--json"])
        return code, json.loads(capsys.readouterr().out)

    code, read = asked("--on", run, "--who", looking, "--what", "read")
    assert (code, {line["who"] for line in read}) == (0, {looking})
    code, whole = asked("verify")
    assert (code, whole["whole"], whole["anchored"] > 0) == (0, True, True)
    (file,) = copy.glob("*.jsonl")
    content = file.read_bytes().splitlines(keepends=True)
    changed = content[5].replace(b'"outcome":"200"', b'"outcome":"403"')
    file.write_bytes(b"".join([*content[:5], changed or content[5][::-1], *content[6:]]))
    code, altered = asked("verify")
    assert code == 1
    assert any("line 6 was changed" in fault for fault in altered["faults"])
    (tag,) = [key for key in MlflowClient(server.address).get_experiment("0").tags if key.startswith("pcc.audit.")]
    for action, body in (("set-experiment-tag", {"value": "1 x"}), ("delete-experiment-tag", {})):
        document = {"experiment_id": "0", "key": tag, **body}
        assert raw("POST", f"/api/2.0/mlflow/experiments/{action}", accounts["admin"], document)[0] == 403


def test_strangers_and_pages_write_no_lines(server: Any, accounts: Accounts, raw: Any) -> None:
    before = AuditLog(server.local.audit_folder).head()
    assert raw("GET", "/api/2.0/mlflow/runs/get?run_id=stranger", ("nobody", "no password"))[0] == 401
    assert raw("GET", "/version", accounts["reader"])[0] == 200
    assert raw("GET", "/health")[0] == 200
    assert before is not None
    after = [line for line in AuditLog(server.local.audit_folder).lines() if line is not None and line.seq > before.seq]
    assert not [line for line in after if "stranger" in str(line.on) or "version" in str(line.on.get("route"))]


def test_a_line_tells_the_clients_address_and_nobody_who_is_no_proxy_can_write_another(
    server: Any, accounts: Accounts, raw: Any
) -> None:
    claimed = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}
    address = f"/api/2.0/mlflow/runs/get?run_id=claimed-{time.time_ns()}"
    assert raw("GET", address, accounts["admin"], headers=claimed)[0] == 404
    lines = [line for line in AuditLog(server.local.audit_folder).lines() if line is not None]
    (line,) = [line for line in lines if line.on.get("run") == address.rpartition("=")[2]]
    assert line.on["client"] == "127.0.0.1"
    assert "203.0.113.9" not in server.local.log("mlflow").read_text()


@pytest.mark.long
def test_a_killed_server_has_a_line_for_each_request_that_it_answered(server: Any, accounts: Accounts) -> None:
    ended, mark = threading.Event(), f"killed-{time.time_ns()}"
    answered: list[str] = []

    def ask(client: int) -> None:
        asking, number = Raw(server.local.ports["mlflow"]), 0
        while not ended.is_set():
            name = f"{mark}-{client}-{number}"
            with contextlib.suppress(ConnectionError, http.client.HTTPException):
                asking(
                    "GET", f"/api/2.0/mlflow/experiments/get-by-name?experiment_name=x&name={name}", accounts["reader"]
                )
                answered.append(name)
            number += 1

    threads = [threading.Thread(target=ask, args=(client,)) for client in range(4)]
    with server.whole():
        for thread in threads:
            thread.start()
        time.sleep(3)
        server.kill("mlflow")
        ended.set()
        for thread in threads:
            thread.join()
    lines = {line.on.get("name") for line in AuditLog(server.local.audit_folder).lines() if line is not None}
    assert len(answered) > 10
    assert {*answered} <= lines
    assert AuditLog(server.local.audit_folder).verify().faults == []


def test_a_log_that_cannot_be_written_holds_nobody_up_and_its_gap_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    anchored: list[int] = []
    log = RequestLog(tmp_path / "file" / "audit", lambda head, place: anchored.append(head.seq))

    async def ask(*numbers: int) -> None:
        entries = [Entry("anna", "write", {"run": str(number)}, "200") for number in numbers]
        await asyncio.gather(*(log.write(entry, durable=bool(place % 2)) for place, entry in enumerate(entries)))

    async def both() -> None:
        await ask(*range(50))
        (tmp_path / "file").unlink()
        await ask(*range(50, 80))

    asyncio.run(both())
    said = capsys.readouterr().err
    assert "the server's audit log: the audit log cannot be written" in said
    assert said.count("\n") == 1
    written = AuditLog(tmp_path / "file" / "audit")
    lines = [line for line in written.lines() if line is not None]
    assert [line.on for line in lines if line.what == "log lost"] == [{"lines": 50}]
    assert [line.on["run"] for line in lines if line.what == "write"] == [str(number) for number in range(50, 80)]
    assert written.verify().faults == []
    assert anchored


@pytest.mark.parametrize(
    ("method", "path", "writes", "route"),
    [
        ("GET", "/api/2.0/mlflow/runs/get", False, "runs/get"),
        ("POST", "/ajax-api/2.0/mlflow/runs/search", False, "runs/search"),
        ("POST", "/api/2.0/mlflow/runs/log-batch", True, "runs/log-batch"),
        ("PATCH", "/api/2.0/mlflow/users/update-password", True, "users/update-password"),
        ("DELETE", "/api/2.0/mlflow-artifacts/artifacts/1/r/a.txt", True, "2.0/mlflow-artifacts/artifacts"),
        ("GET", "/ajax-api/2.0/mlflow/logged-models/m-1/artifacts/files", False, "logged-models/artifacts/files"),
        ("POST", "/api/3.0/mlflow/new", True, "new"),
        ("GET", "/get-artifact", False, "/get-artifact"),
    ],
)
def test_what_a_request_does_is_told_by_its_route(method: str, path: str, writes: bool, route: str) -> None:
    assert (is_writing(method, path), route_of(path)) == (writes, route)


def test_only_names_and_ids_are_kept_of_a_request() -> None:
    body = {
        "runId": "r",
        "key": "k",
        "value": "secret",
        "experiment_ids": ["1"] * 30,
        "tags": [{"key": "x"}],
        "name": {},
    }
    assert ids_of(body) == {"run": "r", "key": "k", "experiments": ["1"] * 20}
    assert ids_of("no object") == {}
