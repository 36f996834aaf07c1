"""Where MLflow keeps what it knows, and the files that runs leave with it."""

from __future__ import annotations

from dataclasses import dataclass

from mlflow import MlflowClient

from pcc_pipeline.tracking.registry.versions import asking, shown_address


@dataclass(frozen=True)
class Places:
    """Addresses without accounts.

    Attributes:
        record: of its server or database.
        files: of the folder that runs' files lie in; `mlflow-artifacts:` where its server alone knows.
    """

    record: str
    files: str


def places_of(run_id: str) -> Places:
    """Where MLflow keeps a run.

    Raises:
        TrackingError: there is no such run, or MLflow does not answer.
    """
    with asking(f"run {run_id}"):
        client = MlflowClient()
        number = str(client.get_run(run_id).info.experiment_id)
        location = str(client.get_experiment(number).artifact_location).rstrip("/")
    # Each experiment has a folder of its number in the one that is meant.
    return Places(shown_address(), location.removesuffix(f"/{number}"))
