"""What a reader, a trainer and the admin may do: every route that MLflow has, and the attacks that were possible."""

from __future__ import annotations

import base64
import re
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

sys.path.insert(0, str(Path(__file__).parents[2] / "deploy" / "mlflow_app"))

from pcc_rights import READING_MUTATIONS, Tier, needed

pytestmark = pytest.mark.server

Accounts = dict[str, tuple[str, str]]
Routes = list[tuple[str, list[str]]]

# Every other route that is neither a reader's nor a trainer's: what MLflow has, and only the admin needs.
ADMINS = """
GET /signup
POST /v1/traces
POST {api}/2.0/mlflow/runs/create-promptlab-run
POST {api}/2.0/mlflow/traces
PATCH {api}/2.0/mlflow/traces/x
PATCH,DELETE {api}/2.0/mlflow/traces/x/tags
POST {api}/2.0/mlflow/traces/delete-traces
POST {api}/2.0/mlflow/traces/link-prompts
POST {api}/2.0/mlflow/traces/link-to-run
POST {api}/2.0/mlflow/users/create
POST {api}/2.0/mlflow/users/create-ui
DELETE {api}/2.0/mlflow/users/delete
PATCH {api}/2.0/mlflow/users/update-admin
GET,POST {api}/2.0/mlflow/webhooks
GET,PATCH,DELETE {api}/2.0/mlflow/webhooks/x
POST {api}/2.0/mlflow/webhooks/x/test
POST {api}/3.0/jobs/
PATCH {api}/3.0/jobs/cancel/x
POST {api}/3.0/jobs/search
GET {api}/3.0/jobs/x
DELETE {api}/3.0/mlflow/datasets/x
POST {api}/3.0/mlflow/datasets/x/add-experiments
POST,DELETE {api}/3.0/mlflow/datasets/x/records
POST {api}/3.0/mlflow/datasets/x/remove-experiments
PATCH {api}/3.0/mlflow/datasets/x/tags
DELETE {api}/3.0/mlflow/datasets/x/tags/x
POST {api}/3.0/mlflow/datasets/create
POST {api}/3.0/mlflow/genai/evaluate/invoke
POST {api}/3.0/mlflow/issues
PATCH {api}/3.0/mlflow/issues/x
POST {api}/3.0/mlflow/issues/invoke
PATCH {api}/3.0/mlflow/jobs/cancel/x
POST {api}/3.0/mlflow/label-schemas/create
DELETE {api}/3.0/mlflow/label-schemas/delete
PATCH {api}/3.0/mlflow/label-schemas/update
POST {api}/3.0/mlflow/mcp-servers
PATCH,DELETE {api}/3.0/mlflow/mcp-servers/x
POST {api}/3.0/mlflow/mcp-servers/x/aliases
DELETE {api}/3.0/mlflow/mcp-servers/x/aliases/x
POST {api}/3.0/mlflow/mcp-servers/x/endpoints
PATCH,DELETE {api}/3.0/mlflow/mcp-servers/x/endpoints/x
POST {api}/3.0/mlflow/mcp-servers/x/tags
DELETE {api}/3.0/mlflow/mcp-servers/x/tags/x
POST {api}/3.0/mlflow/mcp-servers/x/versions
PATCH,DELETE {api}/3.0/mlflow/mcp-servers/x/versions/x
POST {api}/3.0/mlflow/mcp-servers/x/versions/x/tags
DELETE {api}/3.0/mlflow/mcp-servers/x/versions/x/tags/x
POST {api}/3.0/mlflow/prompt-optimization/jobs
DELETE {api}/3.0/mlflow/prompt-optimization/jobs/x
POST {api}/3.0/mlflow/prompt-optimization/jobs/x/cancel
POST {api}/3.0/mlflow/review-queues/create
POST {api}/3.0/mlflow/review-queues/delete
POST {api}/3.0/mlflow/review-queues/get-or-create-user
POST {api}/3.0/mlflow/review-queues/items/add
POST {api}/3.0/mlflow/review-queues/items/remove
POST {api}/3.0/mlflow/review-queues/items/set-status
POST {api}/3.0/mlflow/review-queues/update
POST {api}/3.0/mlflow/roles/assign
POST {api}/3.0/mlflow/roles/create
DELETE {api}/3.0/mlflow/roles/delete
POST {api}/3.0/mlflow/roles/permissions/add
DELETE {api}/3.0/mlflow/roles/permissions/remove
PATCH {api}/3.0/mlflow/roles/permissions/update
DELETE {api}/3.0/mlflow/roles/unassign
PATCH {api}/3.0/mlflow/roles/update
POST {api}/3.0/mlflow/scorer/invoke
DELETE {api}/3.0/mlflow/scorers/delete
PUT {api}/3.0/mlflow/scorers/online-config
POST {api}/3.0/mlflow/scorers/register
POST {api}/3.0/mlflow/traces
POST {api}/3.0/mlflow/traces/x/assessments
PATCH,DELETE {api}/3.0/mlflow/traces/x/assessments/x
PATCH,DELETE {api}/3.0/mlflow/traces/x/tags
POST {api}/3.0/mlflow/traces/delete-traces
POST {api}/3.0/mlflow/users/permissions/grant
POST {api}/3.0/mlflow/users/permissions/revoke
POST {api}/3.0/mlflow/workspaces
PATCH,DELETE {api}/3.0/mlflow/workspaces/x
"""
# The whole trees that nobody needs.
OFF = re.compile(r"/gateway/.*|\{api\}/[23]\.0/mlflow/(assistant|gateway|gateway-proxy|demo|ui-telemetry)(/.*)?")


def asked(routes: Routes) -> set[tuple[str, str]]:
    """(method, path) of every request that a route answers, parameters filled in."""
    return {
        (method, re.sub(r"<[^>]+>|\{[^}]+\}", "x", path))
        for path, methods in routes
        for method in methods
        if method not in ("HEAD", "OPTIONS")
    }


def test_every_route_of_mlflow_has_a_role(listed_routes: Routes) -> None:
    """A route that a new MLflow brings is the admin's until somebody has looked at it, and stands here or there."""
    admins = {
        (method, line.split(" ")[1]) for line in ADMINS.strip().splitlines() for method in line.split(" ")[0].split(",")
    }
    found: dict[Tier, set[tuple[str, str]]] = {tier: set() for tier in Tier}
    for method, path in asked(listed_routes):
        if path != "/health":
            found[needed(method, path)].add((method, re.sub("^/(ajax-)?api/", "{api}/", path)))
    assert found[Tier.ADMIN] == admins
    assert [path for _, path in found[Tier.NOBODY] if not OFF.fullmatch(path)] == []
    assert len(found[Tier.READER]) > 80
    assert len(found[Tier.TRAINER]) > 35


def test_mlflows_graphql_has_no_mutation_that_nobody_has_looked_at() -> None:
    from mlflow.server.graphql.graphql_schema_extensions import schema

    assert set(schema.graphql_schema.mutation_type.fields) == {*READING_MUTATIONS, "testMutation"}


@pytest.mark.parametrize("role", ["reader", "trainer", "approver", "admin"])
def test_no_account_passes_where_its_role_ends(role: str, listed_routes: Routes, accounts: Accounts, raw: Any) -> None:
    tier = Tier[role.upper()]
    closed = {
        (method, path) for method, path in asked(listed_routes) if needed(method, path) > tier and path != "/health"
    }
    assert len(closed) > 20
    answers = {key: raw(*key, accounts[role], {}) for key in closed}
    assert {key: status for key, (status, _, _) in answers.items() if status != 403} == {}
    assert all(b"PERMISSION_DENIED" in content for (_, path), (_, _, content) in answers.items() if "api/" in path)


def test_a_route_that_is_not_known_is_closed_to_readers_and_trainers(accounts: Accounts, raw: Any) -> None:
    for path in ("/api/4.0/mlflow/new", "/api/2.0/mlflow/runs/new", "/new", "//api/2.0/mlflow/runs/search"):
        for role in ("reader", "trainer", "approver"):
            assert [raw(method, path, accounts[role])[0] for method in ("GET", "POST", "PUT")] == [403] * 3
        assert raw("GET", path, accounts["admin"])[0] != 403


@pytest.fixture
def before(client: MlflowClient) -> dict[str, set[str]]:
    return contents(client)


def contents(client: MlflowClient) -> dict[str, set[str]]:
    return {
        "experiments": {each.name for each in client.search_experiments()},
        "models": {each.name for each in client.search_registered_models()},
    }


def test_a_reader_writes_nothing(
    client: MlflowClient, before: dict[str, set[str]], accounts: Accounts, raw: Any, server: Any, tmp_path: Path
) -> None:
    """The attacks, each as the account that could do it."""
    run = client.create_run(client.create_experiment(f"read only {time.time_ns()}")).info
    before["experiments"].add(client.get_experiment(run.experiment_id).name)
    place = f"mlflow-artifacts:/{run.experiment_id}/{run.run_id}/artifacts"
    attacks: list[tuple[str, str, Any]] = [
        ("POST", "/api/2.0/mlflow/experiments/create", {"name": "a", "artifact_location": f"file://{tmp_path}"}),
        ("POST", "/ajax-api/2.0/mlflow/experiments/create", {"name": "b", "artifact_location": place}),
        ("POST", "/api/2.0/mlflow/experiments/create", {"name": "c"}),
        ("POST", "/api/2.0/mlflow/registered-models/create", {"name": "pcc-intent-classifier.promoting"}),
        ("POST", "/ajax-api/2.0/mlflow/registered-models/create", {"name": "d"}),
        ("POST", "/api/2.0/mlflow/runs/create", {"experiment_id": run.experiment_id}),
        ("POST", "/api/2.0/mlflow/runs/set-tag", {"run_id": run.run_id, "key": "a", "value": "b"}),
        ("PUT", f"/api/2.0/mlflow-artifacts/artifacts/{run.experiment_id}/{run.run_id}/artifacts/a.txt", b"x"),
        ("POST", f"/ajax-api/2.0/mlflow/upload-artifact?run_uuid={run.run_id}&path=a.txt", b"x"),
        ("POST", "/ajax-api/3.0/mlflow/demo/generate", {}),
        ("POST", "/ajax-api/3.0/mlflow/gateway/secrets/create", {"secret_name": "s", "secret_value": "v"}),
        ("POST", "/api/2.0/mlflow/webhooks", {"name": "w", "url": "https://example.org", "events": []}),
        ("POST", "/api/3.0/mlflow/datasets/create", {"name": "e", "experiment_ids": [run.experiment_id]}),
        ("POST", "/graphql", {"query": 'mutation { testMutation(inputString: "x") { output } }'}),
        ("POST", "/graphql", {"query": "mutation { ...f } fragment f on Mutation { testMutation { output } }"}),
        ("PATCH", "/api/2.0/mlflow/users/update-password", {"username": "admin", "password": "a new long one"}),
    ]
    for method, path, body in attacks:
        status, _, content = raw(method, path, accounts["reader"], body)
        assert status == 403, (path, content)
    assert contents(client) == before
    assert client.list_artifacts(run.run_id) == []
    assert client.get_run(run.run_id).data.tags.get("a") is None
    assert raw("GET", "/version", accounts["admin"])[0] == 200


def test_a_reader_reads_everything_and_changes_the_own_password(
    client: MlflowClient, accounts: Accounts, raw: Any, server: Any, as_user: Any, tmp_path: Path
) -> None:
    run = client.create_run(client.create_experiment(f"to be read {time.time_ns()}")).info
    client.log_text(run.run_id, "content", "a.txt")
    client.log_metric(run.run_id, "m", 1.0)
    as_user(*accounts["reader"])
    reader = MlflowClient(server.address)
    assert run.experiment_id in {each.experiment_id for each in reader.search_experiments()}
    assert [each.info.run_id for each in reader.search_runs([run.experiment_id])] == [run.run_id]
    assert len(reader.get_metric_history(run.run_id, "m")) == 1
    assert Path(reader.download_artifacts(run.run_id, "a.txt", str(tmp_path))).read_text() == "content"
    reader.search_registered_models()
    reader.search_model_versions()
    reader.search_logged_models([run.experiment_id])
    with pytest.raises(MlflowException, match="An account that may only read cannot do this"):
        reader.log_metric(run.run_id, "m", 2.0)
    query = f'query {{ mlflowGetRun(input: {{runId: "{run.run_id}"}}) {{ run {{ info {{ runId }} }} }} }}'
    assert run.run_id.encode() in raw("POST", "/graphql", accounts["reader"], {"query": query})[2]
    search = f'mutation {{ mlflowSearchRuns(input: {{experimentIds: ["{run.experiment_id}"]}}) {{ runs {{ info {{ runId }} }} }} }}'  # noqa: E501 # one query
    assert run.run_id.encode() in raw("POST", "/graphql", accounts["reader"], {"query": search})[2]
    name, password = accounts["reader"]
    for new in (f"{password}, the second", password):
        document = {"username": name, "password": new, "current_password": accounts["reader"][1]}
        status, _, content = raw("PATCH", "/api/2.0/mlflow/users/update-password", accounts["reader"], document)
        assert status == 200, content
        accounts["reader"] = (name, new)


def test_only_the_admin_says_where_artifacts_lie(
    client: MlflowClient, accounts: Accounts, raw: Any, server: Any, tmp_path: Path
) -> None:
    victim = client.create_run(client.create_experiment(f"victim {time.time_ns()}")).info
    places = [
        f"file://{tmp_path}",
        str(tmp_path),
        "gs://another-bucket/x",
        f"mlflow-artifacts:/{victim.experiment_id}/{victim.run_id}/artifacts/model",
    ]
    for number, place in enumerate(places):
        name = f"of a trainer {time.time_ns()}-{number}"
        for body in (
            {"name": name, "artifact_location": place},
            {"name": name, "artifactLocation": place},
            f'{{"name": "{name}", "artifact_location": "", "artifactLocation": "{place}"}}'.encode(),
            f'{{"name": "{name}", "artifact_location": "", "artifact_location": "{place}"}}'.encode(),
        ):
            status, _, content = raw("POST", "/api/2.0/mlflow/experiments/create", accounts["trainer"], body)
            assert status in (400, 403), content
            assert client.get_experiment_by_name(name) is None
    status, _, content = raw(
        "POST", "/ajax-api/2.0/mlflow/experiments/create", accounts["trainer"], {"name": "e", "artifact_location": "x"}
    )
    assert (status, b"the admin's to choose" in content) == (403, True)
    plain = {"name": f"plain {time.time_ns()}", "artifact_location": ""}
    assert raw("POST", "/api/2.0/mlflow/experiments/create", accounts["trainer"], plain)[0] == 200
    admins = {"name": f"of the admin {time.time_ns()}", "artifact_location": "gs://another-bucket/x"}
    assert raw("POST", "/api/2.0/mlflow/experiments/create", accounts["admin"], admins)[0] == 200


def test_a_trainers_version_has_no_source_outside_the_servers_own_place(
    client: MlflowClient, accounts: Accounts, raw: Any
) -> None:
    name = f"sources-{time.time_ns()}"
    assert raw("POST", "/api/2.0/mlflow/registered-models/create", accounts["trainer"], {"name": name})[0] == 200
    for source in ("gs://another-bucket/secret", "s3://b/x", "https://127.0.0.1/x", "file:///etc", "/etc"):
        body = {"name": name, "source": source}
        status, _, content = raw("POST", "/api/2.0/mlflow/model-versions/create", accounts["trainer"], body)
        assert (status, b"source begins with" in content) == (403, True), content
    assert client.search_model_versions(f"name='{name}'") == []


def test_a_request_with_two_logins_has_none(accounts: Accounts, server: Any) -> None:
    """So that MLflow and the check before it can never mean different accounts."""
    given = [base64.b64encode(":".join(accounts[role]).encode()).decode() for role in ("admin", "reader")]
    lines = "".join(f"Authorization: Basic {each}\r\n" for each in given)
    with socket.create_connection(("127.0.0.1", server.local.ports["mlflow"]), timeout=60) as link:
        link.sendall(f"GET /version HTTP/1.1\r\nHost: localhost\r\n{lines}Connection: close\r\n\r\n".encode())
        assert link.recv(100).split()[1] == b"401"


def test_a_trainer_does_all_that_a_training_does(server: Any, accounts: Accounts, as_user: Any, tmp_path: Path) -> None:
    import mlflow
    from mlflow.entities import Metric, Param, RunTag

    as_user(*accounts["trainer"])
    client, name = MlflowClient(server.address), f"by a trainer {time.time_ns()}"
    experiment = client.create_experiment(name)
    run = client.create_run(experiment).info.run_id
    client.log_batch(run, [Metric("m", 1.0, 1, 0)], [Param("p", "1")], [RunTag("t", "1")])
    client.log_text(run, "content", "folder/a.txt")
    assert Path(client.download_artifacts(run, "folder/a.txt", str(tmp_path))).read_text() == "content"
    model = client.create_logged_model(experiment, "model", source_run_id=run, tags={"t": "1"})
    client.set_logged_model_tags(model.model_id, {"u": "2"})
    client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(run, [mlflow.entities.LoggedModelOutput(model.model_id, 0)])
    client.create_registered_model(name)
    version = client.create_model_version(name, f"models:/{model.model_id}", run, model_id=model.model_id).version
    client.set_registered_model_alias(name, "champion", version)
    client.set_model_version_tag(name, version, "t", "1")
    client.set_registered_model_tag(name, "t", "1")
    client.delete_registered_model_tag(name, "t")
    client.delete_tag(run, "t")
    client.set_terminated(run)
    assert client.get_model_version_by_alias(name, "champion").version == version
    client.delete_registered_model(name)
    client.delete_run(run)
