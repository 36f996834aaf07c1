"""Runs that always end: whatever leaves a step early closes its run as FAILED or KILLED and says why.

Under `mlflow run` the first step takes over the run that MLflow made and never sets an experiment; steps inside a
step become nested runs.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import RunStatus
from mlflow.exceptions import MlflowException

from pcc_pipeline.errors import Interrupted, PccError, TrackingError
from pcc_pipeline.tracking.payloads import Payload, log

DEFAULT_EXPERIMENT = "pcc-intent"
# MLflow refuses longer tag values.
_TAG_LENGTH = 5000


@dataclass(frozen=True)
class StepRun:
    """An open run of one step."""

    run_id: str
    experiment_id: str

    def log(self, *payloads: Payload) -> None:
        """Write payloads to this run."""
        with tracking_errors():
            log(MlflowClient(), self.run_id, payloads)


@contextmanager
def step_run(step: str) -> Iterator[StepRun]:
    """The run of `step`: the one `mlflow run` made, a nested one inside another step, or a new one.

    Raises:
        TrackingError: the tracking server cannot be reached or refuses.
    """
    with tracking_errors():
        run = _start(step)
        opened = StepRun(run.info.run_id, run.info.experiment_id)
        client = MlflowClient()
        client.set_tag(opened.run_id, "pcc.step", step)
    try:
        yield opened
    except BaseException as error:
        # A server that is gone must not replace the error that ended the step.
        try:
            client.set_tag(opened.run_id, "pcc.error", describe(error)[:_TAG_LENGTH])
            mlflow.end_run(RunStatus.to_string(_status(error)))
        except MlflowException as unreachable:
            error.add_note(f"the run {opened.run_id} could not be closed: {unreachable}")
        raise
    with tracking_errors():
        mlflow.end_run()


def describe(error: BaseException) -> str:
    """What a run's `pcc.error` says: our own message whole, another's type and place.

    The text of an exception that is not ours may quote a customer's message, so it is left out.
    """
    if isinstance(error, PccError):
        return f"{type(error).__name__}: {error}"
    if isinstance(error, Interrupted | KeyboardInterrupt):
        return "ended from outside (SIGTERM)" if isinstance(error, Interrupted) else "ended from outside (SIGINT)"
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else ""  # noqa: PTH119 # a frame's file name need not be a path
    return f"{type(error).__name__}{place}"


@contextmanager
def tracking_errors() -> Iterator[None]:
    """Turn MLflow's refusals into a TrackingError that names the server."""
    try:
        yield
    except MlflowException as error:
        raise TrackingError(
            f"MLflow refused or did not answer: {str(error).splitlines()[0]}",
            where=mlflow.get_tracking_uri(),
            fix="check MLFLOW_TRACKING_URI, that the server runs, and that this account may write to the experiment",
        ) from error


def _start(step: str) -> Any:
    if mlflow.active_run() is not None:
        return mlflow.start_run(run_name=step, nested=True)
    if not os.environ.get("MLFLOW_RUN_ID"):
        if not (os.environ.get("MLFLOW_EXPERIMENT_NAME") or os.environ.get("MLFLOW_EXPERIMENT_ID")):
            mlflow.set_experiment(DEFAULT_EXPERIMENT)
        return mlflow.start_run(run_name=step)
    return mlflow.start_run()


def _status(error: BaseException) -> int:
    outside = isinstance(error, Interrupted | KeyboardInterrupt)
    return int(RunStatus.KILLED if outside else RunStatus.FAILED)
