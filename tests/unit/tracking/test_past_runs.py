"""Past runs and versions are found by what a person calls them, with calls that do not grow with their number."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Experiment, Metric, Param, RunTag

from pcc_pipeline.errors import TrackingError
from pcc_pipeline.tracking.store import paging, past_runs

MODEL = "pcc-intent-classifier"
START = 1_767_268_800_000  # 2026-01-01 12:00 UTC


@pytest.fixture
def experiment(mlflow_store: Path) -> Experiment:
    client = MlflowClient()
    return client.get_experiment(client.create_experiment("pcc-intent", artifact_location=str(mlflow_store / "a")))


def recorded(
    experiment: Experiment,
    step: str,
    minute: int,
    *,
    status: str = "FINISHED",
    metrics: dict[str, float] | None = None,
    params: dict[str, str] | None = None,
    **tags: str,
) -> str:
    """A run of a step; underscores of `tags` stand for dots after `pcc`."""
    client, moment = MlflowClient(), START + minute * 60_000
    given = {name.replace("pcc_", "pcc.", 1): value for name, value in tags.items()}
    run_id = str(client.create_run(experiment.experiment_id, moment, run_name=step or "x").info.run_id)
    client.log_batch(
        run_id,
        [Metric(name, value, moment, 0) for name, value in (metrics or {}).items()],
        [Param(name, value) for name, value in (params or {}).items()],
        [RunTag(name, value) for name, value in (given | ({"pcc.step": step} if step else {})).items()],
    )
    client.set_terminated(run_id, status, moment + 30_000)
    return run_id


def trained(experiment: Experiment, version: str, minute: int, **more: str) -> str:
    return recorded(experiment, "train", minute, metrics={"val/f1_macro": 0.8}, pcc_version=version, **more)


def registered(run_id: str, version: str) -> str:
    client = MlflowClient()
    if not client.search_registered_models(f"name='{MODEL}'"):
        client.create_registered_model(MODEL)
    return str(client.create_model_version(MODEL, "gs://bucket/model", run_id, {"pcc.version": version}).version)


def test_recent_runs_come_newest_first_with_failed_ones_and_those_that_never_reached_a_step(
    experiment: Experiment,
) -> None:
    root = recorded(experiment, "pipeline", 0)
    MlflowClient().set_tag(recorded(experiment, "train", 1), "mlflow.parentRunId", root)
    broken = recorded(experiment, "", 2, status="FAILED", pcc_error="ConfigError: 2 faults\n  where: params.yaml")
    killed = recorded(experiment, "train", 3, status="KILLED", pcc_error="ended from outside (SIGTERM)")
    runs = past_runs.recent_runs(experiment)
    assert [run.run_id for run in runs] == [killed, broken, root]
    assert [run.step for run in runs] == ["train", "", "pipeline"]
    assert runs[1].error.startswith("ConfigError: 2 faults")
    assert runs[2].seconds == 30
    assert [run.run_id for run in past_runs.recent_runs(experiment, failed=True)] == [killed, broken]
    assert [run.run_id for run in past_runs.recent_runs(experiment, 1)] == [killed]
    assert len(past_runs.recent_runs(experiment, step="train")) == 2
    with pytest.raises(TrackingError, match="one word"):
        past_runs.recent_runs(experiment, step="' OR 1")


def test_many_runs_take_one_call_a_page_and_none_a_run(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [recorded(experiment, "embed", minute) for minute in range(7)]
    monkeypatch.setattr(paging, "_PAGE", 3)
    calls = []
    real = MlflowClient.search_runs
    monkeypatch.setattr(MlflowClient, "search_runs", lambda *a, **k: (calls.append(1), real(*a, **k))[1])
    assert [run.run_id for run in past_runs.recent_runs(experiment)] == wanted[::-1]
    assert len(calls) == 3
    assert [run.run_id for run in past_runs.recent_runs(experiment, 5)] == wanted[:1:-1]


def test_a_version_is_its_training_with_its_newest_finished_evaluation(experiment: Experiment) -> None:
    run = trained(experiment, "v20260101_120000", 0)
    other = trained(experiment, "v20260101_120100", 1)
    about = {"pcc_version": "v20260101_120000", "pcc_training_run": run}
    recorded(experiment, "evaluate", 2, metrics={"test/f1_macro": 0.5}, **about)
    newest = recorded(experiment, "evaluate", 3, metrics={"test/f1_macro": 0.7}, **about)
    recorded(experiment, "evaluate", 4, metrics={"test/f1_macro": 0.1}, status="FAILED", **about)
    number = registered(run, "v20260101_120000")
    MlflowClient().set_registered_model_alias(MODEL, "champion", number)
    second, first = past_runs.recent_versions(experiment, MODEL)
    assert (first.trained.run_id, second.trained.run_id) == (run, other)
    assert (second.evaluated, second.registered) == (None, None)
    assert first.evaluated is not None
    assert first.evaluated.run_id == newest
    assert first.metrics == {"val/f1_macro": 0.8, "test/f1_macro": 0.7}
    assert first.registered == past_runs.RegisteredVersion("1", run, "v20260101_120000", ("champion",))
    for name in ("v20260101_120000", "v20260101120000", " 1", "01", "@champion", "champion", run, run[:9], newest):
        assert past_runs.find_version(name, MODEL, experiment) == first, name


def test_a_version_of_another_experiment_is_found_by_its_number(experiment: Experiment) -> None:
    client = MlflowClient()
    elsewhere = client.get_experiment(client.create_experiment("elsewhere"))
    run = trained(elsewhere, "v20260101_120000", 0)
    registered(run, "v20260101_120000")
    assert past_runs.find_version("1", MODEL, experiment).trained.run_id == run


@pytest.mark.parametrize("name", ["v20990101000000", "7", "@blessed", "x' OR tags.a = 'b", "deadbeef"])
def test_an_unknown_version_is_answered_with_those_there_are(name: str, experiment: Experiment) -> None:
    registered(trained(experiment, "v20260101_120000", 0), "v20260101_120000")
    with pytest.raises(TrackingError, match=r"there is no version .*has 1 \(v20260101_120000\)"):
        past_runs.find_version(name, MODEL, experiment)


def test_the_experiment_is_the_named_one_then_the_environments_then_pcc_intent(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = MlflowClient().create_experiment("other")
    assert past_runs.open_experiment().name == "pcc-intent"
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "other")
    assert past_runs.open_experiment().experiment_id == other
    assert past_runs.open_experiment("pcc-intent").name == "pcc-intent"
    with pytest.raises(TrackingError, match=r"nowhere does not exist; there are: .*other, pcc-intent"):
        past_runs.open_experiment("nowhere")
    assert past_runs.open_experiment("nowhere", create=True).name == "nowhere"


def test_a_question_in_a_folder_without_a_store_makes_none(mlflow_store: Path) -> None:
    (mlflow_store / "mlflow.db").unlink()
    with pytest.raises(TrackingError, match="no MLflow database here"):
        past_runs.open_experiment()
    assert not (mlflow_store / "mlflow.db").exists()
