"""What MLflow's users, and `mlflow run`, say by environment variables: read here alone, and handed on as values."""

from __future__ import annotations

import os
from dataclasses import dataclass

import mlflow

from pcc_pipeline.processes import user


@dataclass(frozen=True)
class NamedExperiment:
    """The experiment that runs go to: `mlflow run` hands on its number, as `mlflow.set_experiment` does.

    Attributes:
        number: its id, which goes before its name; None where it is not named by it.
    """

    number: str | None
    name: str | None


def named_experiment() -> NamedExperiment:
    """What MLFLOW_EXPERIMENT_ID and MLFLOW_EXPERIMENT_NAME say."""
    return NamedExperiment(_set("MLFLOW_EXPERIMENT_ID"), _set("MLFLOW_EXPERIMENT_NAME"))


def run_to_take_over() -> str | None:
    """The run that `mlflow run` made for this process, until a step takes it over; None without one."""
    return _set("MLFLOW_RUN_ID")


def account() -> str:
    """Who asks: the account of the tracking server, or else the system's user."""
    return _set("MLFLOW_TRACKING_USERNAME") or user()


def name_user() -> None:
    """See that MLflow can name the user, which it asks the system for with each run."""
    os.environ["LOGNAME"] = user()


def _set(name: str) -> str | None:
    return os.environ.get(name) or None


def tracking_address() -> str:
    """Where MLflow is asked."""
    return str(mlflow.get_tracking_uri())


def use_tracking_address(address: str) -> None:
    """Ask MLflow there from now on, in this process."""
    if address != tracking_address():
        mlflow.set_tracking_uri(address)
