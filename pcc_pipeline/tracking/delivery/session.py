"""What an outermost step opens for itself and the steps within it: checks, a writer that loses nothing, a heartbeat."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient

from pcc_pipeline.config import Params
from pcc_pipeline.config.paths import local_path
from pcc_pipeline.errors import TrackingError
from pcc_pipeline.persons.keys import use_keys
from pcc_pipeline.sealing.keys import writing_key
from pcc_pipeline.tracking import run_names
from pcc_pipeline.tracking.delivery import heartbeat, preflight
from pcc_pipeline.tracking.delivery.heartbeat import Heartbeat
from pcc_pipeline.tracking.delivery.journal import Journal, left_behind
from pcc_pipeline.tracking.delivery.operations import KEY_TAG, run_of_key
from pcc_pipeline.tracking.delivery.outages import is_outage
from pcc_pipeline.tracking.delivery.writer import RESUME, Writer, brief_requests
from pcc_pipeline.tracking.environment import name_user, run_to_take_over
from pcc_pipeline.tracking.registry.versions import asked_over_a_network, asking
from pcc_pipeline.tracking.store import local_store
from pcc_pipeline.tracking.store.experiments import find_or_make
from pcc_pipeline.tracking.store.locations import mended_location

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Session:
    """One process's dealings with MLflow, from its outermost step's start to its end."""

    writer: Writer
    checks: bool
    now: float


_current: ContextVar[Session | None] = ContextVar("pcc_session", default=None)


@contextmanager
def session(params: Params | None) -> Iterator[tuple[Session, bool]]:
    """The session of the step around this one, or a new one; and whether it is new.

    Raises:
        ConfigError: what is kept is to be encrypted, and there is no key.
        TrackingError: no server answers, or it refuses the account.
    """
    if (around := _current.get()) is not None:
        yield around, False
        return
    options = params or Params()
    use_keys(local_path(options.lineage.key_file))
    if options.output.encrypts:
        writing_key()  # before anything is done that could not be kept
    name_user()
    local_store.prepare()
    preflight.demand_server()
    if options.tracking.preflight:
        preflight.demand_account()
    root = Path(options.output.unlogged_dir)
    writer = Writer(Journal.new(root, sealed=options.output.encrypts), options.tracking.patience)
    token = _current.set(Session(writer, options.tracking.preflight, heartbeat.server_now()))
    try:
        if waiting := left_behind(root):
            logger.warning("%s holds what MLflow misses of %d earlier runs; log it by: %s", root, len(waiting), RESUME)
        yield _current.get() or _unreachable(), True
    finally:
        _current.reset(token)
        writer.close()


def _unreachable() -> Session:
    raise AssertionError("it was set just now")


def start(step: str, opened: Session, *, outermost: bool, experiment: str | None = None) -> Any:
    """Start the MLflow run of a step, once, whatever happens to the server's answer.

    Args:
        experiment: id of the one that a run goes to that is neither within another nor `mlflow run`'s; default is the
            one that the environment names.

    Raises:
        TrackingError: MLflow refuses, or stays away.
    """
    key, name = uuid.uuid4().hex, run_names.of_step(step)
    tags = {"pcc.step": step, KEY_TAG: key}
    if outermost:
        tags |= heartbeat.first_tags(opened.now)
    if (around := mlflow.active_run()) is not None:
        return _start_once(opened.writer, key, tags, name, around.info.experiment_id)
    if run_to_take_over() is not None:
        run = mlflow.start_run()  # takes that one over, and the variable out of the environment
        MlflowClient().log_batch(run.info.run_id, tags=[mlflow.entities.RunTag(*pair) for pair in tags.items()])
        return run
    return _start_once(opened.writer, key, tags, name, experiment or find_or_make().experiment_id)


def _start_once(writer: Writer, key: str, tags: dict[str, str], name: str, experiment: str) -> Any:
    writer.settle()
    nested = mlflow.active_run() is not None

    def new() -> Any:
        return mlflow.start_run(tags=tags, run_name=name, experiment_id=experiment, nested=nested)

    try:
        with brief_requests():
            return new()
    except Exception as error:  # of any store; what is no outage goes its way
        if not is_outage(error):
            raise
        logger.info("the start of a run got no answer; looking whether it was made")

    def again() -> Any:
        with brief_requests():
            made = run_of_key(MlflowClient(), experiment, key)
            return new() if made is None else mlflow.start_run(made.info.run_id, nested=nested)

    return writer.patiently(again)


@contextmanager
def alive(run: Any, opened: Session) -> Iterator[None]:
    """While this holds, an outermost run beats.

    Before, runs of this experiment whose process is gone are closed, and an artifact is tried.

    Raises:
        TrackingError: the artifact store takes no file.
    """
    location = mended_location(run)
    local_store.keep_artifacts_private(location)
    if opened.checks:
        preflight.demand_artifacts(location)
    try:
        with asking("runs that their process left open"), asked_over_a_network():
            heartbeat.sweep(run.info.experiment_id, opened.now)
    except TrackingError as error:
        # Such as an account that may not close others' runs: no reason to stop.
        logger.info("runs whose process is gone were not closed: %s", error.what)
    beat = Heartbeat(run.info.run_id, opened.now - time.time())
    beat.start()
    try:
        yield
    finally:
        beat.stop()
