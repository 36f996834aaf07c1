"""MLflow's database is looked at before MLflow opens it: where it lies, whether it opens, and who made it."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from mlflow.store.db.utils import _get_latest_schema_revision

from pcc_pipeline.errors import TrackingError
from pcc_pipeline.tracking.runs import step_run
from pcc_pipeline.tracking.store import past_runs
from pcc_pipeline.tracking.store.database import demand_database

OLDER, UNKNOWN = "0584bdc529eb", "ffffffffffff"


def with_revision(path: Path, revision: str) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    connection.close()
    os.utime(path, (time.time() - 3600,) * 2)  # nobody is making it just now


def tables(path: Path) -> list[str]:
    connection = sqlite3.connect(path)
    found = [name for (name,) in connection.execute("SELECT name FROM sqlite_master ORDER BY name")]
    connection.close()
    return found


@pytest.fixture
def by_default(mlflow_store: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """The store that MLflow takes by itself, in a folder of this name."""

    def enter(name: str) -> Path:
        folder = mlflow_store / name
        folder.mkdir()
        shutil.copyfile(mlflow_store / "mlflow.db", folder / "mlflow.db")
        monkeypatch.chdir(folder)
        mlflow.set_tracking_uri(None)  # type: ignore[arg-type] # as MLflow's own tests reset it
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        return folder

    return enter


@pytest.mark.parametrize("name", ["a b", "a%20b", "a#b", "a?b", "a~b", "é ü", "it's (1) & 2"])
def test_the_store_is_found_in_a_folder_of_any_name(by_default: Callable[[str], Path], name: str) -> None:
    folder = by_default(name)
    with pytest.raises(TrackingError, match="the experiment pcc-intent does not exist"):
        past_runs.open_experiment()
    (folder / "mlflow.db").unlink()
    with pytest.raises(TrackingError, match="there is no MLflow database here"):
        past_runs.open_experiment()


@pytest.mark.parametrize("create", [True, False])
def test_a_database_of_an_older_mlflow_is_named_with_the_command_that_changes_it(
    mlflow_store: Path, create: bool
) -> None:
    """And stays as it is: MLflow itself would add its tables to it."""
    path = mlflow_store / "mlflow.db"
    connection = sqlite3.connect(path)
    connection.execute("DROP TABLE logged_model_tags")
    connection.close()
    with_revision(path, OLDER)
    before = tables(path)
    message = (
        f"(?s)an older MLflow made this database.*{OLDER}.*{_get_latest_schema_revision()}.*mlflow db upgrade sqlite"
    )
    with pytest.raises(TrackingError, match=message):
        demand_database(create=create)
    with pytest.raises(TrackingError, match="an older MLflow"):
        past_runs.open_experiment()
    with pytest.raises(TrackingError, match="an older MLflow"), step_run("train"):
        pass
    assert tables(path) == before


def test_a_database_of_a_newer_mlflow_is_named(mlflow_store: Path) -> None:
    with_revision(mlflow_store / "mlflow.db", UNKNOWN)
    for open_it in (past_runs.open_experiment, lambda: step_run("train").__enter__()):
        with pytest.raises(TrackingError, match=rf"(?s){mlflow.__version__} does not know the revision {UNKNOWN}"):
            open_it()


def test_runs_of_an_older_mlflow_in_plain_files_are_named_with_the_way_out(
    mlflow_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (mlflow_store / "mlruns" / "0").mkdir(parents=True)
    (mlflow_store / "mlruns" / "0" / "meta.yaml").write_text("experiment_id: '0'\n", encoding="utf-8")
    for address in (None, "mlruns", f"file://{mlflow_store}/mlruns"):
        mlflow.set_tracking_uri(address)  # type: ignore[arg-type] # as above
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        for open_it in (past_runs.open_experiment, lambda: step_run("train").__enter__()):
            with pytest.raises(TrackingError, match=r"(?s)plain files.*mlflow migrate-filestore --source mlruns"):
                open_it()


def test_a_file_that_is_no_database_is_told_at_once(mlflow_store: Path) -> None:
    (mlflow_store / "mlflow.db").write_bytes(b"no database at all" * 100)
    began = time.monotonic()
    for create in (True, False):
        with pytest.raises(TrackingError, match="cannot be opened: file is not a database"):
            demand_database(create=create)
    assert time.monotonic() - began < 20  # MLflow tries for over a minute


def test_an_empty_file_or_another_programs_database_holds_no_runs(mlflow_store: Path) -> None:
    path = mlflow_store / "mlflow.db"
    path.write_bytes(b"")
    with pytest.raises(TrackingError, match="there is no MLflow database here"):
        past_runs.open_experiment()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE recipes (name TEXT)")
    connection.close()
    os.utime(path, (time.time() - 3600,) * 2)
    with pytest.raises(TrackingError, match="this database holds no runs of MLflow"):
        past_runs.open_experiment()
    assert tables(path) == ["recipes"]


def test_a_database_server_that_is_away_is_told_at_once(mlflow_store: Path) -> None:
    mlflow.set_tracking_uri("postgresql+psycopg://anna:secret@127.0.0.1:1/mlflow")
    began = time.monotonic()
    with pytest.raises(TrackingError, match=r"cannot be opened.*connection") as caught:
        demand_database(create=True)
    assert time.monotonic() - began < 20
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("password", ["S3/CR", "S3@CR", "S3?CR", "S3#CR"])
def test_no_part_of_a_database_servers_password_is_told(password: str, mlflow_store: Path) -> None:
    mlflow.set_tracking_uri(f"postgresql+psycopg://anna:{password}@127.0.0.1:1/mlflow")
    with pytest.raises(TrackingError, match=r"cannot be opened") as caught:
        demand_database(create=True)
    assert not {"S3", "CR"} & set(re.split(r"\W+", str(caught.value)))


def test_a_driver_that_is_not_installed_is_told(mlflow_store: Path) -> None:
    mlflow.set_tracking_uri("mysql+pymysql://anna@127.0.0.1/mlflow")
    with pytest.raises(TrackingError, match=r"driver of this database is not installed: .*pymysql"):
        demand_database(create=True)
