"""Which old runs stay: the records of decisions, and what measured a version in use."""

from __future__ import annotations

import time
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from pcc_pipeline.tracking.store import expired

_DAY_MS = 86_400_000


@pytest.fixture
def experiment(store: Path) -> str:
    return str(MlflowClient().search_experiments(filter_string="name = 'test'")[0].experiment_id)


def old_run(experiment: str, step: str, **tags: str) -> str:
    """A run of 400 days ago that keeps a file."""
    client, start = MlflowClient(), int(time.time() * 1000 - 400 * _DAY_MS)
    named = {f"pcc.{name}": text for name, text in tags.items()}
    run_id = str(client.create_run(experiment, start, {"pcc.step": step, **named}).info.run_id)
    client.log_text(run_id, "{}", "certificate.json")
    client.set_terminated(run_id, "FINISHED", start + 1000)
    return run_id


def left_after_a_year(experiment: str) -> set[str]:
    for tree in expired.plan(experiment, 365, time.time()).going:
        expired.remove(tree)
    return {run.info.run_id for run in MlflowClient().search_runs([experiment])}


def test_a_certificate_of_an_erasure_stays_and_what_was_only_planned_goes(experiment: str) -> None:
    erased = old_run(experiment, "erase", action="erased", erasure="3f9a0c21b7de")
    looked_at_again = old_run(experiment, "erase", action="verified")
    refused = old_run(experiment, "erase")  # somebody was held, or it was cut off: what it did stands in the audit log
    planned = old_run(experiment, "erase", action="planned", plan="3f9a0c21b7de")
    promoted = old_run(experiment, "promote", action="promoted")
    assert left_after_a_year(experiment) == {erased, looked_at_again, refused, promoted}
    assert planned not in left_after_a_year(experiment)
    assert [file.path for file in MlflowClient().list_artifacts(erased)] == ["certificate.json"]


def test_the_field_test_by_which_a_champion_was_promoted_stays(experiment: str) -> None:
    client = MlflowClient()
    client.create_registered_model("m")
    with mlflow.start_run() as run:
        trained = run.info.run_id
    model = client.create_logged_model(experiment, name="model", source_run_id=trained)
    version = client.create_model_version("m", f"models:/{model.model_id}", trained, tags={"pcc.version": "v2"})
    won = old_run(experiment, "ab_test", version="v2", ab_challenger="v2", ab_champion="v1")
    lost = old_run(experiment, "ab_test", version="v3", ab_challenger="v3", ab_champion="v2")
    client.set_registered_model_alias("m", "champion", version.version)
    assert left_after_a_year(experiment) == {trained, won}
    assert lost not in left_after_a_year(experiment)
