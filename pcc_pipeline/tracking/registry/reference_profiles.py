"""Where a version's reference profile lies: with the evaluation on its own test rows, else with its training."""

from __future__ import annotations

import hashlib
from pathlib import Path

from mlflow import MlflowClient

from pcc_pipeline.errors import ModelError, TrackingError
from pcc_pipeline.files import scratch_folder
from pcc_pipeline.monitoring.profile import ReferenceProfile
from pcc_pipeline.monitoring.profile_file import NAME, from_bytes
from pcc_pipeline.tracking.registry.versions import Resolved, asking

DIGEST_TAG, RUN_TAG = "pcc.profile_digest", "pcc.reference_run"


def read_profile(source: Resolved) -> ReferenceProfile:
    """The profile of a model, once its file is the one that was logged.

    Raises:
        TrackingError: it has none; or MLflow does not answer.
        ModelError: the file was altered.
    """
    if (content := profile_content(source)) is None:
        raise TrackingError(
            "this model has no reference profile, so nothing says what its messages were like: it was trained by an "
            "earlier pcc_pipeline, or on too few rows",
            where=source.model_uri,
            fix="train again: pcc run --data FILE",
        )
    return from_bytes(content, f"{NAME} of {source.model_uri}")


def profile_content(source: Resolved) -> bytes | None:
    """The profile's file; None where the model has none. Errors as of `read_profile`."""
    client = MlflowClient()
    with asking(f"reference profile of {source.model_uri}"), scratch_folder() as folder:
        run = source.run_id
        if source.name is not None and source.version is not None:
            run = client.get_model_version(source.name, source.version).tags.get(RUN_TAG, run)
        digest = client.get_run(run).data.tags.get(DIGEST_TAG)
        if digest is None:
            return None
        content = Path(client.download_artifacts(run, NAME, str(folder))).read_bytes()
    if hashlib.sha256(content).hexdigest() != digest:
        raise ModelError(
            "the reference profile was altered after it was logged",
            where=f"{NAME} of run {run}",
            fix="find out who changed it; evaluate the version again to have a new one",
        )
    return content
