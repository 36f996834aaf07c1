"""Runs that always end, under the right name, in the right experiment, telling no customer's words."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import mlflow
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run

from pcc_pipeline.config import Params
from pcc_pipeline.errors import DataError, Interrupted, PccError, SearchError, TrackingError
from pcc_pipeline.search.trials import Trial
from pcc_pipeline.tracking import payloads
from pcc_pipeline.tracking.runs import describe, read_training_run, step_run
from pcc_pipeline.tracking.trial_runs import TrialRuns

pytestmark = pytest.mark.usefixtures("mlflow_store")
SECRET = "Zanzibarkowski wants out"


def runs() -> list[Run]:
    """All runs of the store, oldest first."""
    client = MlflowClient()
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return list(client.search_runs(experiments, order_by=["attributes.start_time ASC"]))


def named(name: str) -> Run:
    (run,) = [run for run in runs() if run.info.run_name == name]
    return run


def fail(step: str, error: BaseException) -> None:
    with step_run(step):
        raise error


def test_a_step_that_ends_well_is_finished_and_tagged() -> None:
    with step_run("embed") as run:
        run.log(payloads.Metrics({"rows": 3.0}), payloads.LoggedParams({"data.path": "x"}))
        assert MlflowClient().get_run(run.run_id).info.status == "RUNNING"
    found = named("embed")
    assert found.info.run_id == run.run_id
    assert (found.info.status, found.data.tags["pcc.step"]) == ("FINISHED", "embed")
    assert (found.data.metrics, found.data.params) == ({"rows": 3.0}, {"data.path": "x"})
    assert "pcc.error" not in found.data.tags


def test_our_own_error_leaves_the_run_failed_with_the_whole_message() -> None:
    error = DataError("the file has no column intent", where="cases.csv", fix="set data.label_column")
    with pytest.raises(DataError):
        fail("train", error)
    found = named("train")
    assert found.info.status == "FAILED"
    assert found.data.tags["pcc.error"] == f"DataError: {error}"
    assert "set data.label_column" in found.data.tags["pcc.error"]


def test_another_error_leaves_its_type_and_place_and_no_text() -> None:
    with pytest.raises(ValueError, match="Zanzibarkowski"):
        fail("train", ValueError(f"could not convert string to float: {SECRET!r}"))
    found = named("train")
    assert found.info.status == "FAILED"
    tag = found.data.tags["pcc.error"]
    assert tag.startswith("ValueError at test_runs.py:")
    assert "Zanzibarkowski" not in "".join(found.data.tags.values())


@pytest.mark.parametrize(
    ("error", "told"), [(Interrupted(), "SIGTERM"), (KeyboardInterrupt(), "SIGINT"), (SystemExit(2), "SystemExit at")]
)
def test_an_end_from_outside_leaves_the_run_killed(error: BaseException, told: str) -> None:
    with pytest.raises(type(error)):
        fail("train", error)
    found = named("train")
    assert found.info.status == ("FAILED" if isinstance(error, SystemExit) else "KILLED")
    assert told in found.data.tags["pcc.error"]


def test_a_long_message_is_cut_to_what_mlflow_takes() -> None:
    with pytest.raises(SearchError):
        fail("train", SearchError("x" * 20_000))
    assert len(named("train").data.tags["pcc.error"]) == 5000
    assert named("train").info.status == "FAILED"


def test_steps_within_a_step_are_nested_and_end_with_it() -> None:
    def broken() -> None:
        with step_run("pipeline"):
            with step_run("embed"):
                pass
            with step_run("train"):
                raise PccError("no")

    with pytest.raises(PccError):
        broken()
    parent, embed, train = named("pipeline"), named("embed"), named("train")
    assert [run.info.status for run in (parent, embed, train)] == ["FAILED", "FINISHED", "FAILED"]
    for child in (embed, train):
        assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert child.info.experiment_id == parent.info.experiment_id
    assert parent.data.tags["pcc.error"] == train.data.tags["pcc.error"] == "PccError: no"
    assert "mlflow.parentRunId" not in parent.data.tags


def experiment_of(run: Run) -> str:
    return str(MlflowClient().get_experiment(run.info.experiment_id).name)


def test_the_experiment_is_pcc_intent_by_default() -> None:
    for _ in range(2):
        with step_run("train"):
            pass
    assert {experiment_of(run) for run in runs()} == {"pcc-intent"}
    assert len(runs()) == 2


def test_the_environment_names_another_experiment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    with step_run("train"):
        pass
    assert experiment_of(named("train")) == "mine"
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", MlflowClient().create_experiment("by-id"))
    with step_run("embed"):
        pass
    assert experiment_of(named("embed")) == "by-id"
    assert MlflowClient().get_experiment_by_name("pcc-intent") is None


def test_under_mlflow_run_the_run_that_mlflow_made_is_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    client = MlflowClient()
    experiment = client.create_experiment("projects")
    made = client.create_run(experiment, run_name="made-by-mlflow").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", made)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment)
    with step_run("pipeline") as run, step_run("train") as nested:
        assert run.run_id == made
        assert nested.run_id != made
    (found,) = [run for run in runs() if run.info.run_id == made]
    assert (found.info.status, found.data.tags["pcc.step"]) == ("FINISHED", "pipeline")
    assert found.info.run_name == "made-by-mlflow"
    assert {experiment_of(run) for run in runs()} == {"projects"}
    assert client.get_experiment_by_name("pcc-intent") is None


def test_the_random_name_that_mlflow_gave_becomes_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    client = MlflowClient()
    experiment = client.create_experiment("projects")
    made = client.create_run(experiment).info
    assert made.run_name != "pipeline"
    monkeypatch.setenv("MLFLOW_RUN_ID", made.run_id)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment)
    with step_run("pipeline"):
        pass
    assert client.get_run(made.run_id).info.run_name == "pipeline"


def test_an_error_under_mlflow_run_fails_the_run_that_mlflow_made(monkeypatch: pytest.MonkeyPatch) -> None:
    client = MlflowClient()
    experiment = client.create_experiment("projects")
    made = client.create_run(experiment).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", made)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment)
    with pytest.raises(DataError):
        fail("train", DataError("no"))
    assert client.get_run(made).info.status == "FAILED"
    assert client.get_run(made).data.tags["pcc.error"] == "DataError: no"


def test_a_run_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    with pytest.raises(TrackingError, match=r"MLflow refused: .*0000"), step_run("train"):
        pass


def test_a_process_ended_by_a_signal_leaves_its_runs_killed(mlflow_store: Path) -> None:
    """The handler is that of the entry points; both runs, the outer and the nested, must be closed."""
    code = (
        "import signal, time\nfrom pcc_pipeline.errors import Interrupted\n"
        "from pcc_pipeline.tracking.runs import step_run\n"
        "def stop(number, frame):\n    raise Interrupted\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "with step_run('pipeline'), step_run('train'):\n    print('ready', flush=True)\n    time.sleep(60)\n"
    )
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{mlflow_store}/mlflow.db"}
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 1
    assert {(run.info.run_name, run.info.status) for run in runs()} == {("pipeline", "KILLED"), ("train", "KILLED")}
    assert all("SIGTERM" in run.data.tags["pcc.error"] for run in runs())


def test_a_store_that_goes_away_does_not_hide_the_error(mlflow_store: Path, tmp_path: Path) -> None:
    def lose_the_store() -> None:
        with step_run("train"):
            mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/no/such/folder.db")
            raise DataError("the first error")

    with pytest.raises(DataError, match="the first error") as caught:
        lose_the_store()
    mlflow.set_tracking_uri(f"sqlite:///{mlflow_store}/mlflow.db")
    while mlflow.active_run() is not None:
        mlflow.end_run()
    assert any("could not be closed" in note for note in caught.value.__notes__)


def test_describe_of_an_error_without_a_place() -> None:
    assert describe(ValueError(SECRET)) == "ValueError"


def test_a_training_record_comes_back() -> None:
    params = Params()
    with step_run("train") as run:
        run.log(
            payloads.Text("params.yaml", yaml.safe_dump(params.document())),
            payloads.Json("metrics.json", {"test": {"f1_macro": 0.5}}),
            payloads.Json("metadata.json", {"classifier": "SGD"}),
            payloads.Tags({"pcc.version": "v20260101_000000"}),
        )
    record = read_training_run(run.run_id)
    assert record.params == params
    assert record.tags["pcc.version"] == "v20260101_000000"
    assert record.metrics == {"test": {"f1_macro": 0.5}}
    assert record.metadata == {"classifier": "SGD"}


def test_a_run_without_a_training_record_is_told() -> None:
    with step_run("embed") as run:
        pass
    with pytest.raises(TrackingError, match=f"(?s)MLflow.*where: run {run.run_id}"):
        read_training_run(run.run_id)
    with pytest.raises(TrackingError, match="where: run absent"):
        read_training_run("absent")


def trial(number: int, **changes: Any) -> Trial:
    given: dict[str, Any] = {
        "number": number,
        "hyperparameters": {"C": 1.5, "penalty": "l1"},
        "state": "complete",
        "score": 0.6,
        "std": 0.1,
        "fold_scores": ({"f1_macro": 0.5, "accuracy": float("nan")}, {"f1_macro": 0.7, "accuracy": 0.9}),
        "seconds": 2.0,
        "started_at": time.time() - 2,
        "reason": "",
    }
    return Trial(**{**given, **changes})


def test_each_trial_is_a_nested_run_with_its_scores() -> None:
    with step_run("train") as parent, TrialRuns(parent, "f1_macro", lambda values: "scikit-learn") as logged:
        logged.log(trial(7))
    found = named("trial-007")
    assert found.info.status == "FINISHED"
    assert found.data.tags["mlflow.parentRunId"] == parent.run_id
    assert (found.data.tags["pcc.step"], found.data.tags["pcc.trial_state"]) == ("trial", "complete")
    assert found.data.params == {"model.hyperparameters.C": "1.5", "model.hyperparameters.penalty": "l1"}
    assert found.data.metrics["cv/f1_macro_mean"] == 0.6
    assert found.data.metrics["cv/f1_macro_std"] == 0.1
    history = MlflowClient().get_metric_history(found.info.run_id, "cv/f1_macro")
    assert [(item.step, item.value) for item in history] == [(0, 0.5), (1, 0.7)]
    assert [item.step for item in MlflowClient().get_metric_history(found.info.run_id, "cv/accuracy")] == [1]
    assert abs(found.info.end_time - found.info.start_time - 2000) <= 1


def test_a_failed_trial_is_a_failed_run_with_its_reason_and_the_parent_goes_on() -> None:
    with step_run("train") as parent:
        failed = trial(0, state="failed", score=None, std=None, fold_scores=(), reason="ModelError: no")
        with TrialRuns(parent, "f1_macro", lambda values: "scikit-learn") as logged:
            logged.log(failed)
        with TrialRuns(parent, "f1_macro", lambda values: "scikit-learn") as logged:
            logged.log(trial(1))
    assert (named("trial-000").info.status, named("trial-000").data.tags["pcc.error"]) == ("FAILED", "ModelError: no")
    assert named("trial-000").data.metrics == {}
    assert named("trial-001").info.status == "FINISHED"
    assert named("train").info.status == "FINISHED"


def test_a_resumed_trial_gets_no_second_run() -> None:
    with step_run("train") as parent, TrialRuns(parent, "f1_macro", lambda values: "scikit-learn") as logged:
        logged.log(trial(0, resumed=True))
    assert [run.info.run_name for run in runs()] == ["train"]
