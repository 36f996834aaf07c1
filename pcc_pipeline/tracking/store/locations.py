"""Where a local store's artifacts lie.

MLflow keeps the place of a local experiment as a plain path, and reads it back as if it were percent-encoded
(`mlflow.utils.file_utils.local_file_uri_to_path` decodes what is no `file:` address, too): the files of a project in
the folder `a%20b` land in `a b` beside it. Written as a `file:` address, the same place is read back right, by MLflow's
UI and server as well. Where it removes files, though, it decodes the place twice.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any
from urllib.request import url2pathname

import mlflow
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from mlflow.store.tracking.dbmodels.models import SqlExperiment, SqlLoggedModel, SqlRun
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.tracking._tracking_service.utils import _get_store

from pcc_pipeline.errors import TrackingError
from pcc_pipeline.tracking.delivery.outages import is_server


def mended_location(run: Any) -> str:
    """The artifact location of a run, after that of its experiment was written so that MLflow reads it right.

    Raises:
        TrackingError: earlier files of the experiment lie where MLflow read it to be.
    """
    found = str(run.info.artifact_uri)
    if is_server(mlflow.get_tracking_uri()) or not found.startswith("/") or url2pathname(found) == found:
        return found
    store = _get_store()
    if not isinstance(store, SqlAlchemyStore):
        return found
    number = int(run.info.experiment_id)
    with store.ManagedSessionMaker() as session:
        place = str(session.get(SqlExperiment, number).artifact_location)
    wrong = url2pathname(place)
    if not found.startswith(f"{place}/") or wrong == place:
        return found
    if Path(wrong).exists():
        raise TrackingError(
            "MLflow reads the % in this project's path as the sign of another character, and put earlier files of this "
            "experiment elsewhere",
            where=wrong,
            fix=f"move that folder to {place} and run again; it is then found where it belongs",
        )
    address = Path(place).as_uri()
    with store.ManagedSessionMaker(read_only=False) as session:
        session.get(SqlExperiment, number).artifact_location = address
        for row in session.query(SqlRun).filter_by(experiment_id=number):
            row.artifact_uri = _moved(row.artifact_uri, place, address)
        for model in session.query(SqlLoggedModel).filter_by(experiment_id=number):
            model.artifact_location = _moved(model.artifact_location, place, address)
    return _moved(found, place, address)


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
