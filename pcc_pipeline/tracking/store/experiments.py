"""The experiment that runs go to: one that somebody deleted takes no runs, and MLflow says so in many ways."""

from __future__ import annotations

import os

from mlflow import MlflowClient
from mlflow.entities import Experiment, LifecycleStage

from pcc_pipeline.errors import TrackingError
from pcc_pipeline.tracking.store.versions import asking, shown_address

DEFAULT_EXPERIMENT = "pcc-intent"


def runs_page(server: str, experiment_id: str, run_id: str | None = None) -> str:
    """The address, in the UI of the MLflow server at the address `server`, of an experiment's runs or of one of them.

    Without the parameter MLflow's UI opens on what it calls GenAI, with traces in place of runs.
    """
    place = "runs" if run_id is None else f"runs/{run_id}"
    return f"{server.rstrip('/')}/#/experiments/{experiment_id}/{place}?workflowType=machine_learning"


def active(experiment: Experiment) -> Experiment:
    """This experiment.

    Raises:
        TrackingError: it is deleted.
    """
    if experiment.lifecycle_stage == LifecycleStage.ACTIVE:
        return experiment
    raise TrackingError(
        f"the experiment {experiment.name} is deleted",
        where=shown_address(),
        fix=f"restore it: mlflow experiments restore --experiment-id {experiment.experiment_id}; or name another: "
        "--experiment-name of mlflow run, --experiment of pcc models, or MLFLOW_EXPERIMENT_NAME",
    )


def demand_active() -> None:
    """See that the experiment that the environment names, or the default one, is not a deleted one.

    Raises:
        TrackingError: it is deleted, or MLflow does not answer.
    """
    if (experiment := current()) is not None:
        active(experiment)


def current() -> Experiment | None:
    """The experiment that the environment names, or the default one; None if it is not there yet.

    Raises:
        TrackingError: MLflow does not answer, or has no experiment of the number that the environment names.
    """
    number, name = os.environ.get("MLFLOW_EXPERIMENT_ID"), os.environ.get("MLFLOW_EXPERIMENT_NAME")
    with asking(f"experiment {name or number or DEFAULT_EXPERIMENT}"):
        if number and not name:
            return MlflowClient().get_experiment(number)
        return MlflowClient().get_experiment_by_name(name or DEFAULT_EXPERIMENT)
