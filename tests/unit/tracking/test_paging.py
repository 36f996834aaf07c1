"""Everything that a search finds is read, however many pages MLflow makes of it."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType

from pcc_pipeline.tracking.store import paging
from pcc_pipeline.tracking.store.paging import name_is, pages


@pytest.fixture(autouse=True)
def _short_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "_PAGE", 2)


def test_every_page_is_read_in_order_and_no_more_than_the_limit(mlflow_store: Path) -> None:
    client = MlflowClient()
    experiment = client.create_experiment("five", artifact_location=str(mlflow_store / "artifacts"))
    made = [client.create_run(experiment, start_time=moment).info.run_id for moment in range(1, 6)]
    about = ([experiment], "", ViewType.ACTIVE_ONLY)
    for limit, expected in ((None, made), (5, made), (9, made), (4, made[:4]), (3, made[:3]), (1, made[:1]), (0, [])):
        runs = pages(client.search_runs, *about, order_by=["attributes.start_time ASC"], limit=limit)
        assert [run.info.run_id for run in runs] == expected, limit


def test_every_search_of_mlflows_client_can_be_read_so(mlflow_store: Path) -> None:
    client, name = MlflowClient(), "a customer's model"
    experiments = [client.create_experiment(str(number), artifact_location=str(mlflow_store)) for number in range(3)]
    assert {*experiments} < {each.experiment_id for each in pages(client.search_experiments, ViewType.ALL)}
    for each in (name, 'the "other" one', "third"):
        client.create_registered_model(each)
    assert len(list(pages(client.search_registered_models))) == 3
    for _ in range(3):
        client.create_model_version(name, "gs://bucket/model")
    numbers = [int(version.version) for version in pages(client.search_model_versions, name_is(name))]
    assert numbers == [3, 2, 1]
    assert not list(pages(client.search_model_versions, name_is('the "other" one')))
    mlflow.set_experiment(experiment_id=experiments[0])
    logged = {mlflow.create_external_model(name=f"m{number}").model_id for number in range(3)}
    assert {model.model_id for model in pages(client.search_logged_models, [experiments[0]])} == logged
