"""Where a local store's artifacts lie.

MLflow keeps the place of a local experiment as a plain path, and reads it back as if it were percent-encoded
(`mlflow.utils.file_utils.local_file_uri_to_path` decodes what is no `file:` address, too): the files of a project in
the folder `a%20b` land in `a b` beside it. Written as a `file:` address, the same place is read back right, by MLflow's
UI and server as well. Where it removes files, though, it decodes the place twice.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import url2pathname

import mlflow
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from mlflow.store.db.utils import create_sqlalchemy_engine
from mlflow.store.tracking.dbmodels.models import SqlExperiment, SqlLoggedModel, SqlRun
from mlflow.utils.uri import is_local_uri
from sqlalchemy.orm import Session

from pcc_pipeline.errors import TrackingError
from pcc_pipeline.tracking.delivery.outages import is_server


def mended_location(run: Any) -> str:
    """The artifact location of a run, after that of its experiment was written so that MLflow reads it right.

    Raises:
        TrackingError: earlier files of the experiment lie where MLflow read it to be.
    """
    location = str(run.info.artifact_uri)
    address = str(mlflow.get_tracking_uri())
    of_database = not is_server(address) and not is_local_uri(address)
    if not of_database or not location.startswith("/") or url2pathname(location) == location:
        return location
    number = int(run.info.experiment_id)
    with _database() as session:
        place = str(session.get_one(SqlExperiment, number).artifact_location)
    wrong = url2pathname(place)
    if not location.startswith(f"{place}/") or wrong == place:
        return location
    if Path(wrong).exists():
        raise TrackingError(
            "MLflow reads the % in this project's path as the sign of another character, and put earlier files of this "
            "experiment elsewhere",
            where=wrong,
            fix=f"move that folder to {place} and run again; it is then found where it belongs",
        )
    mended = Path(place).as_uri()
    with _database() as session:
        session.get_one(SqlExperiment, number).artifact_location = mended
        for row in session.query(SqlRun).filter_by(experiment_id=number):
            row.artifact_uri = _moved(row.artifact_uri, place, mended)
        for model in session.query(SqlLoggedModel).filter_by(experiment_id=number):
            model.artifact_location = _moved(model.artifact_location, place, mended)
    return _moved(location, place, mended)


@contextmanager
def _database() -> Iterator[Any]:
    """A transaction on MLflow's database, whose client has no call for what is done here: an SQLAlchemy session.

    MLflow's tables are typed for the SQLAlchemy before 2, so it is typed as anything.
    """
    engine = create_sqlalchemy_engine(str(mlflow.get_tracking_uri()))
    try:
        with Session(engine) as session, session.begin():
            yield session
    finally:
        engine.dispose()


def delete_artifacts(repository: Any, name: str | None = None) -> None:
    """Remove a file or folder of an artifact store, or all that is in it; what is not there is gone already."""
    if not isinstance(repository, LocalArtifactRepository):
        repository.delete_artifacts(name)
        return
    path = Path(repository.artifact_dir, *([name] if name else []))
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _moved(location: str, place: str, address: str) -> str:
    return address + location.removeprefix(place) if location.startswith(f"{place}/") else location
