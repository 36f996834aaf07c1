"""Runs that always end: whatever leaves a step early closes its run as FAILED or KILLED and says why.

Under `mlflow run` the first step takes over the run that MLflow made and never sets an experiment; steps inside a
step become nested runs.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import yaml
from mlflow import MlflowClient
from mlflow.entities import RunStatus
from mlflow.exceptions import MlflowException
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

from pcc_pipeline.config import Params
from pcc_pipeline.errors import Interrupted, PccError, TrackingError
from pcc_pipeline.tracking.payloads import Payload, log
from pcc_pipeline.tracking.registry import asking, shown_address

DEFAULT_EXPERIMENT = "pcc-intent"
# What MLflow calls a run that `mlflow run` was given no --run-name for, such as handsome-mole-150.
_RANDOM_NAME = re.compile(r"[a-z]+-[a-z]+-\d+")
# MLflow refuses longer tag values.
_TAG_LENGTH = 5000


@dataclass(frozen=True)
class StepRun:
    """An open run of one step."""

    run_id: str
    experiment_id: str

    def log(self, *payloads: Payload) -> None:
        """Write payloads to this run."""
        with asking("this run"):
            log(MlflowClient(), self.run_id, payloads)


@dataclass(frozen=True)
class TrainingRun:
    """What a training run left on record."""

    params: Params
    tags: Mapping[str, str]
    metrics: Mapping[str, Any]
    metadata: Mapping[str, Any]


@contextmanager
def step_run(step: str) -> Iterator[StepRun]:
    """The run of `step`: the one `mlflow run` made, a nested one inside another step, or a new one.

    Raises:
        TrackingError: the tracking server cannot be reached or refuses.
    """
    with asking("this run"):
        run = _start(step)
        opened = StepRun(run.info.run_id, run.info.experiment_id)
        client = MlflowClient()
        if _RANDOM_NAME.fullmatch(run.info.run_name or ""):
            client.update_run(opened.run_id, name=step)
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
    with asking("this run"):
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


def note_failure(error: BaseException) -> None:
    """Set `pcc.error` of the run that `mlflow run` made, where the error came before any step took it over."""
    run_id = os.environ.get("MLFLOW_RUN_ID")
    if run_id:
        with suppress(MlflowException):  # the error itself is what the user must see
            MlflowClient().set_tag(run_id, "pcc.error", describe(error)[:_TAG_LENGTH])


def read_training_run(run_id: str) -> TrainingRun:
    """The record of a finished training run.

    Raises:
        TrackingError: there is no such run, or it holds no training record.
    """
    with asking(f"run {run_id}"), tempfile.TemporaryDirectory(prefix="pcc-") as folder:
        client = MlflowClient()
        tags = dict(client.get_run(run_id).data.tags)
        documents = {}
        for name in ("params.yaml", "metrics.json", "metadata.json"):
            documents[name] = Path(client.download_artifacts(run_id, name, folder)).read_text(encoding="utf-8")
        params = Params.model_validate(yaml.safe_load(documents["params.yaml"]))
        return TrainingRun(params, tags, json.loads(documents["metrics.json"]), json.loads(documents["metadata.json"]))


def _start(step: str) -> Any:
    if mlflow.active_run() is not None:
        return mlflow.start_run(run_name=step, nested=True)
    _demand_server()
    if not os.environ.get("MLFLOW_RUN_ID"):
        if not (os.environ.get("MLFLOW_EXPERIMENT_NAME") or os.environ.get("MLFLOW_EXPERIMENT_ID")):
            mlflow.set_experiment(DEFAULT_EXPERIMENT)
        return mlflow.start_run(run_name=step)
    return mlflow.start_run()


def _demand_server() -> None:
    """Ask an MLflow server for a sign of life: MLflow itself would try for minutes, in silence.

    Raises:
        TrackingError: it does not answer. Later calls keep MLflow's patience, so that a server may restart meanwhile.
    """
    address = mlflow.get_tracking_uri()
    if not address.startswith(("http://", "https://")):
        return
    try:
        # mlflow leaves these two untyped.
        account = get_default_host_creds(address)  # type: ignore[no-untyped-call]
        http_request(account, "/health", "GET", max_retries=1, timeout=10, raise_on_status=False)  # type: ignore[no-untyped-call]
    except MlflowException as error:
        raise TrackingError(
            "no MLflow server answers", where=shown_address(), fix="start it, or point MLFLOW_TRACKING_URI at another"
        ) from error


def _status(error: BaseException) -> int:
    outside = isinstance(error, Interrupted | KeyboardInterrupt)
    return int(RunStatus.KILLED if outside else RunStatus.FAILED)
