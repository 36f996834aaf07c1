"""Versions and aliases: an address leads to one model or to an error that says what there is."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient
from sklearn.linear_model import LogisticRegression

from pcc_pipeline.errors import TrackingError
from pcc_pipeline.tracking.logged_models.log_and_load import (
    LoggedModel,
    TrainedModel,
    load_trained_model,
    log_trained_model,
)
from pcc_pipeline.tracking.registry import versions as registry

NAME = "a customer's model"
NOON = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def experiment(mlflow_store: Path) -> str:
    """An MLflow of this test's own; returns the experiment's id."""
    made = mlflow.create_experiment("test", artifact_location=str(mlflow_store / "artifacts"))
    mlflow.set_experiment(experiment_id=made)
    return str(made)


def logged(pcc_version: str = "v20260101_120000") -> tuple[LoggedModel, str]:
    """A small model in a run of its own, and the run's id."""
    classifier = LogisticRegression().fit(np.eye(4, 584), np.array(["a", "b", "a", "b"], dtype=object))
    model = TrainedModel(classifier, None, ("a", "b"), pcc_version, "elsewhere", "", 584)
    with mlflow.start_run() as run:
        return log_trained_model(model, None, {}), run.info.run_id


def registered(pcc_version: str = "v20260101_120000") -> tuple[str, str, LoggedModel]:
    """Version number, run id and model."""
    model, run_id = logged(pcc_version)
    tags = {"pcc.version": pcc_version, "metric.test_f1_macro": "0.91"}
    return registry.register(model.model_uri, NAME, run_id, tags), run_id, model


def test_every_form_of_address_leads_to_the_same_model() -> None:
    number, run_id, model = registered()
    registered("v20260101_120001")
    registry.set_alias(NAME, "champion", number)
    registry.set_alias(NAME, "blessed", number)
    wanted = registry.Resolved(model.model_id, run_id, NAME, "1", ("blessed", "champion"))
    for uri in (f"models:/{NAME}@champion", f"models:/{NAME}/1", model.model_uri, f"runs:/{run_id}/model"):
        assert registry.resolve(uri) == wanted
        loaded = load_trained_model(uri)
        assert (loaded.version, loaded.run_id, loaded.model_uri) == ("1", run_id, model.model_uri)
        assert loaded.model.model_version == "v20260101_120000"


def test_an_alias_moves_and_is_found_or_absent() -> None:
    assert registry.find_alias(NAME, "champion") is None
    first, _, _ = registered()
    assert registry.find_alias(NAME, "champion") is None
    second, _, model = registered("v20260101_120001")
    registry.set_alias(NAME, "champion", first)
    registry.set_alias(NAME, "champion", second)
    found = registry.find_alias(NAME, "champion")
    assert found is not None
    assert (found.version, found.model_id, found.aliases) == ("2", model.model_id, ("champion",))
    with pytest.raises(TrackingError, match="has no version 9"):
        registry.set_alias(NAME, "champion", "9")


def test_registering_twice_makes_one_version_and_its_tags_stay() -> None:
    number, run_id, model = registered()
    again = registry.register(model.model_uri, NAME, run_id, {"pcc.version": "v20260101_120000"})
    assert (number, again) == ("1", "1")
    version = MlflowClient().get_model_version(NAME, number)
    assert version.tags == {"pcc.version": "v20260101_120000", "metric.test_f1_macro": "0.91"}
    assert version.run_id == run_id


def test_a_versions_page_is_described_anew_and_what_a_person_wrote_stays() -> None:
    number, _, _ = registered()

    def page() -> str | None:
        description: str | None = MlflowClient().get_model_version(NAME, number).description
        return description

    registry.describe_version(NAME, number, "**LogisticRegression v1**: not tested yet")
    registry.describe_version(NAME, number, "**LogisticRegression v1**: macro F1 0.9")
    assert page() == "**LogisticRegression v1**: macro F1 0.9"
    MlflowClient().update_model_version(NAME, number, f"Serves since May.\n\n{page()}")
    registry.describe_version(NAME, number, "**LogisticRegression v1**: macro F1 0.8")
    assert page() == "Serves since May.\n\n**LogisticRegression v1**: macro F1 0.8"
    MlflowClient().update_model_version(NAME, number, "My own words.")
    registry.describe_version(NAME, number, "**LogisticRegression v1**: macro F1 0.7")
    assert page() == "My own words."
    registry.describe_model(NAME, "What it is.")
    registry.describe_model(NAME, "Something else.")
    assert MlflowClient().get_registered_model(NAME).description == "What it is."


def test_two_models_cannot_share_a_version() -> None:
    registered()
    model, run_id = logged()
    with pytest.raises(TrackingError, match=r"v20260101_120000 is taken: version 1 of"):
        registry.register(model.model_uri, NAME, run_id, {"pcc.version": "v20260101_120000"})
    with pytest.raises(TrackingError, match="not by run elsewhere"):
        registry.register(model.model_uri, NAME, "elsewhere", {"pcc.version": "v20260101_120009"})


def test_a_version_is_found_by_its_tag() -> None:
    registered()
    _, run_id, _ = registered("v20260101_120001")
    found = registry.find_version(NAME, "v20260101_120001")
    assert found is not None
    assert (found.version, found.run_id) == ("2", run_id)
    assert registry.find_version(NAME, "v20260101_120002") is None
    assert registry.find_version("nobody", "v20260101_120000") is None


def claimed(now: datetime) -> str:
    """The version that a new run claims; its tag must say so."""
    with mlflow.start_run() as run:
        version = registry.claim_pcc_version(NAME, now, run.info.run_id)
    assert MlflowClient().get_run(run.info.run_id).data.tags["pcc.version"] == version
    return version


def test_a_new_version_is_the_second_in_utc_or_a_free_one_soon_after() -> None:
    assert claimed(datetime(2026, 1, 1, 1, 30, 0, 999, tzinfo=timezone(timedelta(hours=3)))) == "v20251231_223000"
    registered()
    with mlflow.start_run(tags={"pcc.version": "v20260101_120001"}) as run:
        pass
    MlflowClient().delete_run(run.info.run_id)
    assert "v20260101_120001" < claimed(NOON) <= "v20260101_120009"
    assert claimed(NOON - timedelta(seconds=1)) == "v20260101_115959"


def test_a_version_that_another_experiment_has_claimed_is_taken() -> None:
    assert claimed(NOON) == "v20260101_120000"
    mlflow.set_experiment("another")
    assert claimed(NOON) > "v20260101_120000"


def test_runs_that_claim_a_version_in_one_moment_all_get_another() -> None:
    runs = []
    for _ in range(8):
        with mlflow.start_run() as run:
            runs.append(run.info.run_id)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda run_id: registry.claim_pcc_version(NAME, NOON, run_id), runs))
    assert len(set(found)) == 8


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("models:/nobody@champion", "no model is registered as nobody"),
        ("models:/nobody/1", "no model is registered as nobody"),
        (f"models:/{NAME}@champion", r"no alias champion; it has versions 2, 1 and aliases: challenger \(version 2\)"),
        (f"models:/{NAME}/7", r"no version 7; it has versions 2, 1 and aliases: challenger \(version 2\)"),
        (f"models:/m-{'0' * 32}", "no such logged model"),
        (f"runs:/{'0' * 32}/model", "no such run"),
        ("models:/x", "not the address of a model"),
        ("models:/x/latest", "not the address of a model"),
        ("folder/model", "not the address of a model"),
    ],
)
def test_an_address_that_leads_nowhere_says_what_there_is(uri: str, said: str) -> None:
    registered()
    number, _, _ = registered("v20260101_120001")
    registry.set_alias(NAME, "challenger", number)
    with pytest.raises(TrackingError, match=said) as refusal:
        load_trained_model(uri)
    assert refusal.value.where == uri
    assert refusal.value.fix


def test_a_run_without_a_model_says_so() -> None:
    with mlflow.start_run() as run:
        pass
    with pytest.raises(TrackingError, match="has no model at model; it logged: none"):
        registry.resolve(f"runs:/{run.info.run_id}/model")
    _, run_id = logged()
    with pytest.raises(TrackingError, match=f"it logged: runs:/{run_id}/model"):
        registry.resolve(f"runs:/{run_id}/best")


def test_a_version_of_another_make_is_refused(tmp_path: Path) -> None:
    MlflowClient().create_registered_model("foreign")
    MlflowClient().create_model_version("foreign", source=str(tmp_path), run_id=logged()[1])
    with pytest.raises(TrackingError, match="not registered from a logged model"):
        registry.resolve("models:/foreign/1")


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://me:S3/CR@127.0.0.1:1/x", "postgresql://me:***@127.0.0.1:1/x"),
        ("postgresql://127.0.0.1:1/x?user=me&password=S3CR", "postgresql://127.0.0.1:1/x?user=me&password=***"),
        ("http://me:S3/CR@127.0.0.1:9", "http://127.0.0.1:9"),
        ("sqlite:////a@b/c:d.db", "sqlite:////a@b/c:d.db"),
    ],
)
def test_mlflows_address_is_shown_without_its_secrets(
    address: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: address)
    assert registry.shown_address() == shown


def test_a_server_that_does_not_answer_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    mlflow.set_tracking_uri("http://someone:secret@127.0.0.1:9")
    for ask in (
        lambda: registry.resolve("models:/x/1"),
        lambda: registry.resolve(f"models:/m-{'0' * 32}"),
        lambda: registry.resolve("runs:/x/model"),
        lambda: registry.find_alias("x", "champion"),
        lambda: registry.claim_pcc_version("x", NOON, "0"),
    ):
        with pytest.raises(TrackingError, match=r"(?s)did not answer.*http://127\.0\.0\.1:9") as refusal:
            ask()
        assert "secret" not in str(refusal.value)
