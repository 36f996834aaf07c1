"""Who trained a model does not make it the champion, by whatever road: the attacks by role, by REST and by pages."""

from __future__ import annotations

import time
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from pcc_pipeline.errors import TrackingError
from pcc_pipeline.tracking.registry.champion import promote

pytestmark = pytest.mark.server

Accounts = dict[str, tuple[str, str]]


@pytest.fixture
def guarded(server: Any, accounts: Accounts, as_user: Any) -> str:
    """A registered model of which the trainer made version 1, and the approver version 2."""
    name = f"approved-{time.time_ns()}"
    for role in ("trainer", "approver"):
        as_user(*accounts[role])
        client = MlflowClient(server.address)
        if role == "trainer":
            client.create_registered_model(name)
            experiment = client.create_experiment(name)
        model = client.create_logged_model(experiment, "model")
        client.create_model_version(name, f"models:/{model.model_id}", model_id=model.model_id)
    return name


def aliases(server: Any, name: str) -> dict[str, str]:
    return {
        alias: str(version)
        for alias, version in MlflowClient(server.address).get_registered_model(name).aliases.items()
    }


def test_nobody_but_another_approver_moves_the_aliases(
    server: Any, guarded: str, accounts: Accounts, raw: Any, as_user: Any
) -> None:
    def ask(role: str, method: str, action: str, **body: str) -> tuple[int, bytes]:
        answers = {
            raw(method, f"{api}/2.0/mlflow/{action}", accounts[role], body)[::2] for api in ("/api", "/ajax-api")
        }
        (answer,) = answers
        return answer

    alias = "registered-models/alias"
    for name in ("champion", "previous"):
        for role, version in (
            ("reader", "2"),
            ("trainer", "1"),
            ("trainer", "2"),
            ("approver", "2"),
            ("approver", "02"),
        ):
            status, content = ask(role, "POST", alias, name=guarded, alias=name, version=version)
            assert status == 403, (role, version, content)
            assert b"approve" in content or role == "reader"
    assert ask("admin", "POST", alias, name=guarded, alias="champion", version="9")[0] == 404
    assert ask("trainer", "POST", alias, name=guarded, alias="challenger", version="1")[0] == 200
    assert aliases(server, guarded) == {"challenger": "1"}

    # The roads around it.
    key, by = "pcc.registered_by", accounts["trainer"][0]
    attacks: list[tuple[str, str, str, dict[str, Any]]] = [
        ("approver", "POST", "model-versions/set-tag", {"version": "2", "key": key, "value": by}),
        ("admin", "POST", "model-versions/set-tag", {"version": "2", "key": "pcc.approved_by", "value": by}),
        ("approver", "DELETE", "model-versions/delete-tag", {"version": "2", "key": key}),
        ("approver", "POST", "model-versions/create", {"source": "models:/m-x", "tags": [{"key": key, "value": by}]}),
        ("trainer", "DELETE", "registered-models/delete", {}),
        ("trainer", "POST", "registered-models/rename", {"new_name": "elsewhere"}),
    ]
    for role, method, action, body in attacks:
        status, content = ask(role, method, action, name=guarded, **body)
        assert status == 403, (action, content)
    other = f"free-{time.time_ns()}"
    assert raw("POST", "/api/2.0/mlflow/registered-models/create", accounts["trainer"], {"name": other})[0] == 200
    body = {"name": other, "new_name": f"{guarded}-too"}
    assert raw("POST", "/api/2.0/mlflow/registered-models/rename", accounts["trainer"], body)[0] == 403

    # Another's version is approved; from then on that version may come back.
    assert ask("approver", "POST", alias, name=guarded, alias="champion", version="1")[0] == 200
    assert ask("admin", "POST", alias, name=guarded, alias="champion", version="2")[0] == 200
    assert aliases(server, guarded)["champion"] == "2"
    assert ask("approver", "POST", alias, name=guarded, alias="previous", version="2")[0] == 200
    as_user(*accounts["admin"])
    tags = MlflowClient(server.address).get_model_version(guarded, "2").tags
    assert (tags[key], tags["pcc.approved_by"]) == (accounts["approver"][0], "admin")
    for method, action, body in (
        ("DELETE", "registered-models/alias", {"alias": "champion"}),
        ("DELETE", "model-versions/delete", {"version": "2"}),
    ):
        assert ask("trainer", method, action, name=guarded, **body)[0] == 403
    assert aliases(server, guarded) == {"challenger": "1", "champion": "2", "previous": "2"}


def test_no_model_comes_by_another_name_to_a_champion_that_nobody_approved(
    server: Any, guarded: str, accounts: Accounts, raw: Any, as_user: Any
) -> None:
    """An approver is free to set the champion of a model of her own, which must not take the guarded one's name."""
    as_user(*accounts["approver"])
    client, own = MlflowClient(server.address), f"free-{time.time_ns()}"
    client.create_registered_model(own)
    model = client.create_logged_model(client.create_experiment(own), "model")
    client.create_model_version(own, f"models:/{model.model_id}", model_id=model.model_id)
    client.set_registered_model_alias(own, "champion", "1")
    client.set_registered_model_alias(guarded, "champion", "1")

    def rename(role: str, name: str, new_name: str) -> tuple[int, bytes]:
        body = {"name": name, "new_name": new_name}
        answers = {
            raw("POST", f"{api}/2.0/mlflow/registered-models/rename", accounts[role], body)[::2]
            for api in (("/api",) if role == "admin" else ("/api", "/ajax-api"))
        }
        (answer,) = answers
        return answer

    for name, new_name in ((guarded, f"elsewhere-{guarded}"), (own, f"{guarded}-too"), (guarded, f"{guarded}-too")):
        status, content = rename("approver", name, new_name)
        assert (status, b"the admin's" in content) == (403, True), content
    assert rename("admin", guarded, f"elsewhere-{guarded}")[0] == 200
    assert rename("approver", own, guarded)[0] == 403
    client.rename_registered_model(own, f"{own}-too")  # what nobody guards is renamed as ever
    assert aliases(server, f"{own}-too") == {"champion": "1"}


def test_the_digest_of_a_models_files_stays_as_it_was_logged(
    server: Any, accounts: Accounts, raw: Any, as_user: Any
) -> None:
    """Who may write to the artifacts could else put another model where the champion's files are."""
    as_user(*accounts["trainer"])
    client, digest, other = MlflowClient(server.address), "1" * 64, "2" * 64
    experiment = client.create_experiment(f"digest-{time.time_ns()}")
    logged = client.create_logged_model(experiment, "model", tags={"pcc.bundle_digest": digest}).model_id
    bare = client.create_logged_model(experiment, "model").model_id

    def tags(role: str, api: str, model: str, *values: str, key: str = "pcc.bundle_digest") -> int:
        body = {"tags": [{"key": key, "value": value} for value in values]}
        return int(raw("PATCH", f"{api}/2.0/mlflow/logged-models/{model}/tags", accounts[role], body)[0])

    for api in ("/api", "/ajax-api"):
        for role in ("trainer", "approver", "admin"):
            assert tags(role, api, logged, other) == 403, role
            assert tags(role, api, logged, digest, other) == 403, role
            for key in ("pcc.bundle_digest", "pcc%2Ebundle%5fdigest"):
                path = f"{api}/2.0/mlflow/logged-models/{logged}/tags/{key}"
                assert raw("DELETE", path, accounts[role])[0] == 403, key
        # Logging that was cut off is tried again, and other tags are anybody's.
        assert tags("trainer", api, logged, digest) == 200
        assert tags("trainer", api, bare, digest) == 200
        assert tags("trainer", api, bare, other) == 403
        assert tags("trainer", api, logged, "a note", key="note") == 200
        assert raw("DELETE", f"{api}/2.0/mlflow/logged-models/{logged}/tags/note", accounts["trainer"])[0] == 200
        assert tags("trainer", api, "m-" + "0" * 32, digest) == 404
    assert client.get_logged_model(logged).tags["pcc.bundle_digest"] == digest
    assert client.get_logged_model(bare).tags["pcc.bundle_digest"] == digest


def test_who_may_not_move_an_alias_is_told_what_to_do(
    server: Any, guarded: str, accounts: Accounts, as_user: Any, mlflow_of_its_own: None
) -> None:
    as_user(*accounts["trainer"])
    mlflow.set_tracking_uri(server.address)
    with pytest.raises(TrackingError, match="this account may not move champion, and nothing was moved") as refused:
        promote(guarded, "1", {})
    assert "asks an approver" in refused.value.fix
    assert "champion" not in aliases(server, guarded)


def test_of_other_models_a_trainer_moves_the_aliases_as_ever(server: Any, accounts: Accounts, as_user: Any) -> None:
    as_user(*accounts["trainer"])
    client, name = MlflowClient(server.address), f"not-{time.time_ns()}"
    client.create_registered_model(name)
    model = client.create_logged_model(client.create_experiment(name), "model")
    client.create_model_version(name, f"models:/{model.model_id}", model_id=model.model_id)
    client.set_registered_model_alias(name, "champion", "1")
    assert client.get_model_version(name, "1").tags == {"pcc.registered_by": accounts["trainer"][0]}
    client.delete_registered_model_alias(name, "champion")
    client.delete_registered_model(name)
    with pytest.raises(MlflowException, match="not found"):
        client.get_registered_model(name)
