"""Artifacts lie where the experiment says, also in a folder whose name MLflow would read as another."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.utils.file_utils import path_to_local_sqlite_uri

from pcc_pipeline.errors import TrackingError
from pcc_pipeline.tracking.payloads import Text
from pcc_pipeline.tracking.runs import step_run


@pytest.fixture(params=["a%20b", "100%25 é", "a b#c?d~"])
def folder(mlflow_store: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Path]:
    found = mlflow_store / "around" / str(request.param)
    found.mkdir(parents=True)
    shutil.copyfile(mlflow_store / "mlflow.db", found / "mlflow.db")
    monkeypatch.chdir(found)
    mlflow.set_tracking_uri(path_to_local_sqlite_uri(Path("mlflow.db")))
    yield found
    mlflow.set_tracking_uri(f"sqlite:///{mlflow_store}/mlflow.db")


def files(root: Path) -> list[Path]:
    return [path.relative_to(root) for path in root.rglob("*") if path.is_file() and path.name != "mlflow.db"]


@pytest.mark.parametrize("made_before", [False, True])
def test_artifacts_lie_in_the_project_whatever_its_folder_is_called(
    folder: Path, monkeypatch: pytest.MonkeyPatch, made_before: bool
) -> None:
    """Also where `mlflow run` made the experiment and the run."""
    if made_before:
        client = MlflowClient()
        run = client.create_run(client.create_experiment("spring"))
        monkeypatch.setenv("MLFLOW_RUN_ID", run.info.run_id)
        monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", run.info.experiment_id)
    with step_run("train") as opened:
        opened.log(Text("note.txt", "hello"))
        with step_run("evaluate") as inner:
            inner.log(Text("inner.txt", "hello"))
    found = files(folder.parent)
    assert {path.name for path in found} == {"note.txt", "inner.txt"}
    assert all(path.parts[0] == folder.name for path in found)
    assert Path(MlflowClient().download_artifacts(opened.run_id, "note.txt")).read_text(encoding="utf-8") == "hello"
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    with step_run("train") as again:
        again.log(Text("again.txt", "hello"))
    assert {path.name for path in files(folder)} == {"note.txt", "inner.txt", "again.txt"}


def test_files_that_mlflow_put_elsewhere_before_are_named_and_not_forgotten(
    mlflow_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = mlflow_store / "a%20b"
    folder.mkdir()
    monkeypatch.chdir(folder)
    shutil.copyfile(mlflow_store / "mlflow.db", folder / "mlflow.db")
    mlflow.set_tracking_uri(path_to_local_sqlite_uri(Path("mlflow.db")))
    client = MlflowClient()
    number = client.create_experiment("pcc-intent")
    earlier = client.create_run(number).info.run_id
    client.log_text(earlier, "earlier", "note.txt")
    wrong = mlflow_store / "a b" / "mlruns" / number
    # If this fails, MLflow reads such places right: `tracking/locations.py` can go.
    assert (wrong / earlier / "artifacts" / "note.txt").is_file()
    message = rf"(?s)put earlier files.*{wrong}.*move that folder to .*a%20b/mlruns"
    with pytest.raises(TrackingError, match=message), step_run("train"):
        pass
    (folder / "mlruns").mkdir()
    wrong.rename(folder / "mlruns" / number)
    with step_run("train") as opened:
        opened.log(Text("note.txt", "hello"))
    assert Path(client.download_artifacts(earlier, "note.txt")).read_text(encoding="utf-8") == "earlier"
