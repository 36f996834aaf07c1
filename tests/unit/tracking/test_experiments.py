"""A deleted experiment is told as one, with the way back, wherever runs are made or looked up."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from pcc_pipeline.errors import TrackingError
from pcc_pipeline.tracking.registry.versions import asking
from pcc_pipeline.tracking.runs import step_run
from pcc_pipeline.tracking.store import past_runs


@pytest.mark.parametrize("by", ["default", "name", "number"])
def test_a_deleted_experiment_is_told_with_the_command_that_restores_it(
    mlflow_store: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    client = MlflowClient()
    name = "pcc-intent" if by == "default" else "spring"
    number = client.create_experiment(name)
    client.delete_experiment(number)
    if by != "default":
        monkeypatch.setenv(f"MLFLOW_EXPERIMENT_{'NAME' if by == 'name' else 'ID'}", name if by == "name" else number)
    message = f"(?s)the experiment {name} is deleted.*mlflow experiments restore --experiment-id {number}"
    with pytest.raises(TrackingError, match=message), step_run("train"):
        pass
    with pytest.raises(TrackingError, match=message):
        past_runs.open_experiment()
    client.restore_experiment(number)
    with step_run("train") as opened:
        pass
    assert opened.experiment_id == past_runs.open_experiment().experiment_id == number


def test_what_mlflow_refuses_is_not_told_as_a_wrong_address(mlflow_store: Path) -> None:
    with pytest.raises(TrackingError, match=r"(?s)MLflow refused: .*its address is right") as caught, asking("it"):
        MlflowClient().get_run("0" * 32)
    assert isinstance(caught.value.__cause__, MlflowException)
    assert "MLFLOW_TRACKING_URI" not in str(caught.value)
