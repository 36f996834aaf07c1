"""Before long work: does MLflow answer, is the account right, can an artifact be written? All in seconds."""

from __future__ import annotations

import logging
import os
import uuid
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from pcc_pipeline.errors import TrackingError
from pcc_pipeline.files import scratch_folder
from pcc_pipeline.masking import masked
from pcc_pipeline.tracking.delivery.outages import (
    ACCOUNT_FIX,
    ask,
    is_account,
    is_server,
    no_temporary_room,
    reason_of,
    within,
)
from pcc_pipeline.tracking.registry.versions import shown_address
from pcc_pipeline.tracking.store.database import demand_database
from pcc_pipeline.tracking.store.locations import delete_artifacts

# For each question. What hangs is told in under ten seconds; a busy server gets the time it needs.
_SECONDS = 8.0
_PROBE = "preflight.txt"

logger = logging.getLogger(__name__)


def demand_server(*, create: bool = True) -> None:
    """Ask an MLflow server for a sign of life, or look at its database: MLflow itself would try for minutes.

    Args:
        create: a database that is not there yet will do.

    Raises:
        TrackingError: it does not answer, or MLflow cannot use it. Later calls keep MLflow's patience, so that a server
            may restart meanwhile.
    """
    if not is_server(mlflow.get_tracking_uri()):
        demand_database(create=create)
        return
    try:
        within(_SECONDS, lambda: ask("/health", timeout=_SECONDS))
    except (MlflowException, TimeoutError) as error:
        raise TrackingError(
            "no MLflow server answers", where=shown_address(), fix="start it, or point MLFLOW_TRACKING_URI at another"
        ) from error


def demand_account() -> None:
    """Ask an MLflow server something that takes an account.

    Raises:
        TrackingError: it refuses the account, or is no MLflow server.
    """
    if not is_server(mlflow.get_tracking_uri()):
        return
    path = "/api/2.0/mlflow/experiments/search"
    try:
        answer = within(_SECONDS, lambda: ask(path, "POST", timeout=_SECONDS, json={"max_results": 1}))
    except (MlflowException, TimeoutError) as error:
        raise TrackingError(
            "the MLflow server answers its health check and nothing else",
            where=shown_address(),
            fix="look at its log: most often its database is away",
        ) from error
    if answer.status_code in (401, 403):
        named = _variables_set()
        raise TrackingError(
            f"the MLflow server refuses this account ({answer.status_code}); {named}",
            where=shown_address(),
            fix=ACCOUNT_FIX,
        )
    if answer.status_code != 200 or not answer.text.lstrip().startswith("{"):
        raise TrackingError(
            f"this is no MLflow server, or it is not well: it answered {answer.status_code} to a question about its "
            "experiments",
            where=shown_address(),
            fix="check MLFLOW_TRACKING_URI, and what stands between here and the server, such as a login page",
        )


def demand_artifacts(location: str) -> None:
    """Write a tiny file where a run's artifacts go, and remove it.

    Args:
        location: the run's artifact location.

    Raises:
        TrackingError: it cannot be written, within seconds.
    """
    shown = masked(location)
    try:
        within(_SECONDS, lambda: _probe(location))
    except TimeoutError as error:
        raise TrackingError(
            f"MLflow's artifact store does not take a file within {_SECONDS:g} s",
            where=shown,
            fix=_store_fix(location),
        ) from error
    except _NoCredentialsError as error:
        raise TrackingError(
            "there are no Google Cloud credentials for MLflow's artifact store",
            where=shown,
            fix=_store_fix(location),
        ) from error
    except Exception as error:  # as wide as MLflow's kinds of stores, all of which are asked here
        if full := no_temporary_room(error):
            raise TrackingError(
                "there is no room for temporary files", where=full, fix="make room there, or point TMPDIR elsewhere"
            ) from error
        raise TrackingError(
            f"MLflow's artifact store takes no file: {reason_of(error)}",
            where=shown,
            fix=ACCOUNT_FIX if is_account(error) else _store_fix(location),
        ) from error


class _NoCredentialsError(Exception):
    pass


def _probe(location: str) -> None:
    repository = get_artifact_repository(location)
    if _is_anonymous(getattr(repository, "client", None)):
        raise _NoCredentialsError
    with scratch_folder() as folder:
        path = folder / _PROBE
        path.write_text(uuid.uuid4().hex, encoding="utf-8")
        repository.log_artifact(str(path))
    try:
        delete_artifacts(repository, _PROBE)
    except Exception as error:  # of any kind of store, as above
        # That a file can be written is what was asked. Who may write need not be allowed to delete: it then stays.
        logger.debug("the file %s stays in %s: %s", _PROBE, masked(location), type(error).__name__)


def _is_anonymous(client: Any) -> bool:
    """Whether MLflow found no credentials and fell back to a client without; an emulator's needs none."""
    if os.environ.get("STORAGE_EMULATOR_HOST"):
        return False
    return type(getattr(client, "_credentials", None)).__name__ == "AnonymousCredentials"


def _store_fix(location: str) -> str:
    if location.startswith("gs://"):
        return (
            "run `gcloud auth application-default login`, or point GOOGLE_APPLICATION_CREDENTIALS at a key file that "
            "may write to the bucket (for an emulator, set STORAGE_EMULATOR_HOST)"
        )
    if location.startswith(("mlflow-artifacts:", "http")):
        return "see that the server's own artifact store is there, writable and not full; its log says more"
    return "see that the folder is there, may be written and has space left"


def _variables_set() -> str:
    names = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
    there = [name for name in names if os.environ.get(name)]
    return f"set are {', '.join(there)}" if there else f"none of {', '.join(names)} is set"
