"""The experiment that runs go to: one that somebody deleted takes no runs, and MLflow says so in many ways."""

from __future__ import annotations

from mlflow import MlflowClient
from mlflow.entities import Experiment, LifecycleStage
from mlflow.exceptions import MlflowException

from pcc_pipeline.errors import TrackingError
from pcc_pipeline.tracking.environment import named_experiment
from pcc_pipeline.tracking.registry.versions import asking, shown_address

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


def find(name: str | None = None) -> Experiment | None:
    """The experiment of this name, else the one that the environment names, else the default; None if there is none.

    Raises:
        TrackingError: it is deleted, MLflow does not answer, or has none of the number that the environment names.
    """
    number = named_experiment().number
    experiment: Experiment | None
    if name is None and number is not None:
        with asking(f"experiment {number}"):
            experiment = MlflowClient().get_experiment(number)
    else:
        with asking(f"experiment {name_of(name)}"):
            experiment = MlflowClient().get_experiment_by_name(name_of(name))
    return None if experiment is None else active(experiment)


def find_or_make(name: str | None = None) -> Experiment:
    """The experiment that `find` means, made if it is not there yet.

    Raises:
        TrackingError: as `find`, or MLflow refuses.
    """
    if (experiment := find(name)) is not None:
        return experiment
    client = MlflowClient()
    with asking(f"experiment {name_of(name)}"):
        try:
            return client.get_experiment(client.create_experiment(name_of(name)))
        except MlflowException as error:
            # Another process made it meanwhile.
            if error.error_code != "RESOURCE_ALREADY_EXISTS" or (experiment := find(name)) is None:
                raise
            return experiment


def name_of(name: str | None) -> str:
    """What the experiment is called that `find` looks for by name."""
    return name or named_experiment().name or DEFAULT_EXPERIMENT
