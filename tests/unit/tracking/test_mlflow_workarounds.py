"""Faults of MLflow 3.17 that our code works around. Each test fails once MLflow has mended its own, and says what goes.

Others stand beside what they are about: its set-up race in pipeline/test_new_store.py, its forms of requests in
test_served_model.py, where it puts files in test_locations.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from pathlib import Path
from types import SimpleNamespace

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, LoggedModelOutput
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import _validate_prediction_input
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from mlflow.store.tracking import sqlalchemy_store
from mlflow.types.schema import ColSpec, DataType, Schema

from pcc_pipeline.tracking.payloads import _log_datasets, link_made
from pcc_pipeline.tracking.store.locations import delete_artifacts


def new_run(client: MlflowClient) -> str:
    return str(client.create_run("0").info.run_id)


def test_it_removes_nothing_in_a_folder_whose_name_holds_a_percent_sign(tmp_path: Path) -> None:
    """Once it does, `locations.delete_artifacts` can be the repository's own method."""
    folder = tmp_path / "a%20b"
    folder.mkdir()
    (folder / "model.npz").write_text("numbers")
    repository = LocalArtifactRepository(folder.as_uri())
    assert Path(repository.artifact_dir) == folder
    repository.delete_artifacts("model.npz")
    assert (folder / "model.npz").exists()
    delete_artifacts(repository, "model.npz")
    assert not (folder / "model.npz").exists()


@pytest.mark.usefixtures("mlflow_store")
def test_it_links_a_model_to_a_run_once_only() -> None:
    """Once it links one twice without an error, `payloads.link_made` can be `log_outputs`."""
    client = MlflowClient()
    run = new_run(client)
    model = client.create_logged_model("0", source_run_id=run).model_id
    client.log_outputs(run, [LoggedModelOutput(model, step=0)])
    with pytest.raises(MlflowException, match="UNIQUE constraint failed: inputs"):
        client.log_outputs(run, [LoggedModelOutput(model, step=0)])
    link_made(client, run, [model])


@pytest.mark.usefixtures("mlflow_store")
def test_one_of_two_that_name_a_new_file_at_once_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other run comes between its look and its writing. Once both pass, `payloads._log_datasets` can go."""
    client = MlflowClient()
    named = [DatasetInput(Dataset("cases.csv", "0123456789abcdef", "local", "{}"))]

    run = new_run(client)
    with monkeypatch.context() as patched:

        def meanwhile() -> uuid.UUID:
            patched.undo()
            client.log_inputs(new_run(client), named)
            return uuid.uuid4()

        patched.setattr(sqlalchemy_store, "uuid", SimpleNamespace(uuid4=meanwhile))
        with pytest.raises(MlflowException, match="UNIQUE constraint failed: datasets"):
            client.log_inputs(run, named)
    _log_datasets(client, run, named)
    assert [one.dataset.name for one in client.get_run(run).inputs.dataset_inputs] == ["cases.csv"]


def test_it_calls_a_run_finished_whose_process_failed(mlflow_store: Path) -> None:
    """By a hook of its own at the end of the process. Once it does not, `runs._leave` need not step out first."""
    failing = (
        "import os, sys, mlflow\n"
        f"mlflow.set_tracking_uri('sqlite:///{mlflow_store}/mlflow.db')\n"
        "print(mlflow.start_run().info.run_id)\nsys.exit(3)\n"
    )
    done = subprocess.run([sys.executable, "-c", failing], capture_output=True, text=True, timeout=120, env=os.environ)
    assert done.returncode == 3, done.stderr
    assert mlflow.get_run(done.stdout.split()[-1]).info.status == "FINISHED"


@pytest.mark.parametrize("quiet", [False, True])
def test_it_quotes_the_table_that_its_schema_does_not_fit(monkeypatch: pytest.MonkeyPatch, quiet: bool) -> None:
    """Once it does not, a served model need not set MLFLOW_DISABLE_SCHEMA_DETAILS."""
    monkeypatch.setenv("MLFLOW_DISABLE_SCHEMA_DETAILS", str(quiet).lower())
    schema = Schema([ColSpec(DataType.long, "text")])
    with pytest.raises(MlflowException) as raised:
        _validate_prediction_input(pd.DataFrame({"text": ["delete what Tutanchamun ordered"]}), None, schema, None)
    assert ("Tutanchamun" in str(raised.value)) is not quiet
