"""The older system's registry comes into MLflow once, its bad entries named, and no free text with it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Experiment, Run

from pcc_pipeline.errors import DataError, TrackingError
from pcc_pipeline.tracking.store import legacy_import
from pcc_pipeline.tracking.store.legacy_import import import_runs

MARK = "Zanzibarkowski"
ENTRY: dict[str, Any] = {
    "run_id": "run_20250729084352",
    "timestamp": "2025-07-29T08:43:52",
    "model_version": "v20250729084352",
    "embedding_model": "all-MiniLM-L6-v2",
    "metrics": {"f1_macro": 0.91, "test": {"accuracy": 0.93}, "note": "x", "broken": float("nan"), "good": True},
    "hyperparameters": {"C": 10, "penalty": "l1", "class_weight": None},
    "data_info": {"total_samples": 900, "classes": ["opt_out", "other"], "example": f"delete {MARK} now"},
    "gcs_paths": {"model": "gs://pcc-datasets/pcc-models/v20250729084352/model.joblib"},
    "status": "success",
    "notes": f"a customer, {MARK}, wrote again",
    "processing_duration_seconds": 42.5,
}
FAILED = {**ENTRY, "run_id": "run_2", "timestamp": "2025-07-30T08:43:52+02:00", "status": "failed", "metrics": {}}


@pytest.fixture
def experiment(mlflow_store: Path) -> Experiment:
    client = MlflowClient()
    return client.get_experiment(client.create_experiment("pcc-intent", artifact_location=str(mlflow_store / "a")))


def runs(experiment: Experiment) -> list[Run]:
    return list(MlflowClient().search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"]))


def test_an_entry_becomes_a_run_of_its_time_status_and_values(experiment: Experiment) -> None:
    done = import_runs({"runs": [ENTRY, FAILED]}, experiment)
    assert (done.imported, done.already_there, done.bad) == (("run_20250729084352", "run_2"), 0, ())
    assert dict(done.left_out) == {
        "metrics.note": 1,
        "metrics.broken": 1,
        "metrics.good": 1,
        "data_info.example": 2,
        "notes": 2,
    }
    first, second = runs(experiment)
    assert (first.info.status, second.info.status) == ("FINISHED", "FAILED")
    assert (first.info.start_time, first.info.end_time) == (1753778632000, 1753778674500)
    assert second.info.start_time == 1753857832000
    assert first.data.metrics == {"legacy/f1_macro": 0.91, "legacy/test/accuracy": 0.93}
    assert first.data.params == {
        "best.C": "10",
        "best.penalty": "l1",
        "legacy.data_info.total_samples": "900",
        "legacy.data_info.classes": '["opt_out", "other"]',
        "preprocessing.embedding_model": "all-MiniLM-L6-v2",
    }
    tags = {name: value for name, value in first.data.tags.items() if name.startswith("pcc.")}
    assert tags == {
        "pcc.step": "legacy",
        "pcc.legacy_run_id": "run_20250729084352",
        "pcc.version": "v20250729_084352",
        "pcc.legacy.model_version": "v20250729084352",
        "pcc.legacy.status": "success",
        "pcc.legacy.gcs_paths.model": "gs://pcc-datasets/pcc-models/v20250729084352/model.joblib",
    }
    assert "failed in the older system" in second.data.tags["pcc.error"]
    assert MARK not in str([run.to_dictionary() for run in (first, second)]) + str(done)


def test_free_text_comes_in_when_it_is_asked_for(experiment: Experiment) -> None:
    import_runs({"runs": [FAILED]}, experiment, free_text=True)
    (run,) = runs(experiment)
    assert run.data.tags["mlflow.note.content"] == run.data.tags["pcc.error"] == FAILED["notes"]
    assert MARK in run.data.params["legacy.data_info.example"]


def test_importing_again_changes_nothing_and_brings_in_what_is_new(experiment: Experiment) -> None:
    import_runs({"runs": [ENTRY]}, experiment)
    before = [run.to_dictionary() for run in runs(experiment)]
    again = import_runs({"runs": [ENTRY]}, experiment)
    assert (again.imported, again.already_there) == ((), 1)
    assert [run.to_dictionary() for run in runs(experiment)] == before
    assert import_runs({"runs": [ENTRY, FAILED]}, experiment).imported == ("run_2",)


def test_an_import_that_broke_off_is_completed_by_the_next(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(legacy_import, "log", lambda *_: (_ for _ in ()).throw(ConnectionError("gone")))
        with pytest.raises(TrackingError, match="cannot be reached"):
            import_runs({"runs": [ENTRY]}, experiment)
    assert import_runs({"runs": [ENTRY]}, experiment).imported == ("run_20250729084352",)
    (run,) = runs(experiment)
    assert (run.info.status, run.data.metrics["legacy/f1_macro"]) == ("FINISHED", 0.91)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"run_id": None}, "run_id is missing"),
        ({"run_id": f"about {MARK}"}, "run_id is missing or not a name"),
        ({"timestamp": f"{MARK}"}, "timestamp is missing or not an ISO 8601"),
        ({"timestamp": "1905-01-01"}, "since 1970"),
        ({"status": MARK}, "status is missing or unknown"),
        ({"metrics": [1, 2]}, "metrics is not an object"),
        ({"processing_duration_seconds": "long"}, "not a number of seconds"),
    ],
)
def test_a_bad_entry_is_named_by_its_place_and_the_rest_comes_in(
    change: dict[str, Any], reason: str, experiment: Experiment
) -> None:
    done = import_runs({"runs": [{**copy.deepcopy(ENTRY), **change}, MARK, FAILED, FAILED]}, experiment)
    assert done.imported == ("run_2",)
    assert [bad.place for bad in done.bad] == [1, 2, 4]
    assert reason in done.bad[0].reason
    assert done.bad[1].reason == "it is not an object"
    assert done.bad[2].reason == "its run_id stands in entry 3 already"
    assert MARK not in str(done)


@pytest.mark.parametrize("document", [[], {}, {"runs": {}}, "runs", None])
def test_another_file_is_refused(document: Any, experiment: Experiment) -> None:
    with pytest.raises(DataError, match="no registry of the older system"):
        import_runs(document, experiment)
