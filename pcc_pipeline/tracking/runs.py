"""Runs that always end: whatever leaves a step early closes its run as FAILED or KILLED and says why.

Under `mlflow run` the first step takes over the run that MLflow made and never sets an experiment; steps inside a
step become nested runs.
"""

from __future__ import annotations

import json
import logging
import os
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import yaml
from mlflow import MlflowClient
from mlflow.entities import RunStatus
from mlflow.exceptions import MlflowException

from pcc_pipeline import interruption
from pcc_pipeline.config import Params
from pcc_pipeline.data.split_record import SplitRecord
from pcc_pipeline.errors import Interrupted, PccError, TrackingError
from pcc_pipeline.evaluation.page.facts import TrainedFacts
from pcc_pipeline.files import scratch_folder
from pcc_pipeline.tracking import run_names
from pcc_pipeline.tracking.delivery.operations import BUNDLE, FILES, Describe, End, Log, Model, Registered
from pcc_pipeline.tracking.delivery.session import alive, session, start
from pcc_pipeline.tracking.delivery.writer import RESUME, KeptError, Writer, brief_requests
from pcc_pipeline.tracking.logged_models.log_and_load import TrainedModel, write_model
from pcc_pipeline.tracking.payloads import Payload, Tags, rendered
from pcc_pipeline.tracking.registry.versions import asking

logger = logging.getLogger(__name__)
SPLIT_FILE, SPLIT_TAG = "split.parquet", "pcc.split_digest"
# MLflow refuses longer tag values.
_TAG_LENGTH = 5000
# What MLflow calls a run.
_NAME_TAG = "mlflow.runName"


@dataclass(frozen=True)
class Place:
    """Where in the registry a model goes: the next version of `name`, with these tags and this alias.

    Attributes:
        description: Markdown of the version's page, with `NUMBER` for its number; `model_description` of the model's.
    """

    name: str
    alias: str
    tags: Mapping[str, str]
    description: str = ""
    model_description: str = ""


@dataclass(frozen=True)
class StepRun:
    """An open run of one step.

    Attributes:
        started_at: seconds since 1970 by this machine's clock.
        has_own_name: whether a person named it, by --run-name.
    """

    run_id: str
    experiment_id: str
    writer: Writer
    started_at: float
    has_own_name: bool = False

    def rename(self, name: str) -> None:
        """Call it so from now on, unless a person named it.

        Raises:
            TrackingError: MLflow refuses.
        """
        if not self.has_own_name:
            self.log(Tags({_NAME_TAG: name}))

    def log(self, *payloads: Payload) -> None:
        """Write payloads to this run; while MLflow is away they are kept on disk and written later.

        Raises:
            TrackingError: MLflow refuses them.
        """
        with asking("this run"), _folder() as folder:
            batch = rendered(payloads, _made(folder / FILES))
            self.writer.write(Log(run_id=self.run_id, batch=batch), folder)

    def log_model(
        self,
        model: TrainedModel,
        encoder_folder: Path | None,
        metadata: Mapping[str, Any],
        payloads: Sequence[Payload],
        place: Place,
    ) -> Registered:
        """Log a model with what is known of it and register it, all as one: wholly now, or wholly by `resume`.

        Args:
            encoder_folder: the encoder's folder, copied into the model; None for the bundled encoder.
            metadata: JSON values for the model's MLmodel file. They must hold nothing that a customer wrote.
            payloads: metrics among them may be `OF_THE_MODEL`.

        Raises:
            KeptError: MLflow stayed away for longer than `tracking.patience`; all is kept on disk.
            TrackingError: MLflow refuses.
        """
        with asking(f"model of run {self.run_id}"), _folder() as folder:
            facts = write_model(model, encoder_folder, metadata, _made(folder) / BUNDLE)
            operation = Model(
                run_id=self.run_id,
                experiment_id=self.experiment_id,
                facts=facts,
                batch=rendered(payloads, _made(folder / FILES)),
                name=place.name,
                alias=place.alias,
                tags=place.tags,
                description=place.description,
                model_description=place.model_description,
            )
            return self.writer.demand(operation, folder)

    def describe(self, name: str, version: str, description: str, tags: Mapping[str, str]) -> None:
        """Set what a registered version's page says, unless that is empty, and tags of it.

        Kept like all else while MLflow is away.

        Raises:
            TrackingError: MLflow refuses, for another reason than this account.
        """
        with asking(f"models:/{name}/{version}"):
            self.writer.write(Describe(name=name, version=version, description=description, tags=tags))


@dataclass(frozen=True)
class TrainingRun:
    """What a training run left on record."""

    run_id: str
    params: Params
    tags: Mapping[str, str]
    metrics: Mapping[str, Any]
    metadata: Mapping[str, Any]


@contextmanager
def step_run(step: str, params: Params | None = None, *, experiment: str | None = None) -> Iterator[StepRun]:
    """The run of `step`: the one `mlflow run` made, a nested one inside another step, or a new one.

    Args:
        params: how long to wait for MLflow and where to keep what it misses; a step within another need not say.
        experiment: id of the one that a new run goes to; default is the one that the environment names.

    Raises:
        TrackingError: the tracking server cannot be reached or refuses.
        KeptError: it went away and stayed away; what it misses is kept on disk.
    """
    with interruption.handled(), session(params) as (at_hand, outermost), interruption.protected() as section:
        with asking("this run"):
            run = start(step, at_hand, outermost=outermost, experiment=experiment)
        name, made_up = run.info.run_name, run_names.is_made_up(run.info.run_name)
        own = not made_up and name != run_names.of_step(step)
        opened = StepRun(run.info.run_id, run.info.experiment_id, at_hand.writer, run.info.start_time / 1000, own)
        try:
            if made_up:
                with asking("this run"):
                    MlflowClient().update_run(opened.run_id, name=run_names.of_step(step))
            with alive(run, at_hand) if outermost else nullcontext(), section.lifted():
                yield opened
        except BaseException as error:  # whatever leaves a step early closes its run; raised again below
            _close_failed(opened, step, error)
            raise
        _close(opened, step, wait=outermost)


def _close(opened: StepRun, step: str, *, wait: bool) -> None:
    try:
        with asking("this run"):
            opened.writer.write(End(run_id=opened.run_id, status="FINISHED"))
            if wait:
                opened.writer.settle()
        interruption.check()
    except KeyboardInterrupt as ended:
        _note_end(ended, opened, step, "FINISHED")
        raise
    finally:
        _leave("FINISHED")


def _close_failed(opened: StepRun, step: str, error: BaseException) -> None:
    """A server that is gone must not replace the error that ended the step."""
    # All that this run was for is kept and can be logged later, or is registered and was done before the signal.
    complete = (isinstance(error, KeptError) and error.run_id == opened.run_id) or (
        isinstance(error, KeyboardInterrupt) and opened.writer.complete == opened.run_id
    )
    status = "FINISHED" if complete else RunStatus.to_string(_status(error))
    why = "" if complete else describe(error)[:_TAG_LENGTH]
    try:
        with asking("this run"):
            opened.writer.try_once()
            opened.writer.write(End(run_id=opened.run_id, status=status, error=why))
    except TrackingError as unreachable:
        error.add_note(f"the run {opened.run_id} ({step}) could not be closed: {unreachable}")
    else:
        if isinstance(error, KeyboardInterrupt):
            _note_end(error, opened, step, status)
        elif opened.writer.kept is not None and not isinstance(error, KeptError):
            where = f"the run {opened.run_id} could not be closed; {opened.writer.kept} holds what MLflow misses"
            logger.warning("%s; once it is back: %s", where, RESUME)
            error.add_note(where)
    finally:
        # Whatever became of that: MLflow ends as FINISHED what is left active when the process exits.
        _leave(status)


def _note_end(error: KeyboardInterrupt, opened: StepRun, step: str, status: str) -> None:
    """What the person who sent the signal reads of a run, once it is so."""
    if opened.writer.kept is not None:
        error.add_note(
            f"the run {opened.run_id} ({step}) is {status}, which MLflow could not be told: {opened.writer.kept} holds "
            f"what it misses; once it is back: {RESUME}"
        )
    elif status == "KILLED":
        error.add_note(f"the run {opened.run_id} ({step}) is closed as KILLED")
    else:
        error.add_note(f"the run {opened.run_id} ({step}) had done its work and is {status}")


def _leave(status: str) -> None:
    """Step out of MLflow's active run; that it has ended is written, kept or told already."""
    try:
        with interruption.protected(), brief_requests():
            mlflow.end_run(status)
    except Exception as error:  # of any store; a refusal has been told by the operation that came before
        logger.debug("stepping out of a run: %s", type(error).__name__)


def describe(error: BaseException) -> str:
    """What a run's `pcc.error` says: our own message whole, another's type and place.

    The text of an exception that is not ours may quote a customer's message, so it is left out.
    """
    if isinstance(error, PccError):
        return f"{type(error).__name__}: {error}"
    if isinstance(error, KeyboardInterrupt):
        return f"ended from outside ({error.number.name if isinstance(error, Interrupted) else 'SIGINT'})"
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else ""  # noqa: PTH119 # a frame's file name need not be a path
    return f"{type(error).__name__}{place}"


def note_failure(run_id: str, error: BaseException) -> None:
    """Set `pcc.error` of the run that `mlflow run` made, where the error came before any step took it over."""
    with interruption.protected(), suppress(MlflowException):  # the error itself is what the user must see
        MlflowClient().set_tag(run_id, "pcc.error", describe(error)[:_TAG_LENGTH])


@contextmanager
def _folder() -> Iterator[Path]:
    """A path for an operation's folder, which may be moved away."""
    with scratch_folder() as folder:
        yield folder / "operation"


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def read_training_run(run_id: str) -> TrainingRun:
    """The record of a finished training run.

    Raises:
        TrackingError: there is no such run, or it holds no training record.
    """
    with asking(f"run {run_id}"), scratch_folder() as folder:
        client = MlflowClient()
        tags = dict(client.get_run(run_id).data.tags)
        documents = {}
        for name in ("params.yaml", "metrics.json", "metadata.json"):
            documents[name] = Path(client.download_artifacts(run_id, name, str(folder))).read_text(encoding="utf-8")
        params = Params.model_validate(yaml.safe_load(documents["params.yaml"]))
        return TrainingRun(
            run_id, params, tags, json.loads(documents["metrics.json"]), json.loads(documents["metadata.json"])
        )


def read_settings(run_id: str) -> tuple[Params, dict[str, str]]:
    """The configuration of a training and its tags, also of one that was cut off after its split.

    Raises:
        TrackingError: there is no such run, or MLflow does not answer.
    """
    with asking(f"run {run_id}"), scratch_folder() as folder:
        client = MlflowClient()
        tags = dict(client.get_run(run_id).data.tags)
        text = Path(client.download_artifacts(run_id, "params.yaml", str(folder))).read_text(encoding="utf-8")
        return Params.model_validate(yaml.safe_load(text)), tags


def outermost_step(run_id: str) -> str:
    """The step (`pcc.step`) within which all else ran that led to this run; empty where it is not on record.

    Raises:
        TrackingError: there is no such run, or MLflow does not answer.
    """
    client, step, around = MlflowClient(), "", run_id
    with asking(f"run {run_id}"):
        while around:
            try:
                tags = client.get_run(around).data.tags
            except MlflowException as error:
                if around == run_id or error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                return ""  # somebody deleted it for good
            step, around = tags.get("pcc.step", ""), tags.get("mlflow.parentRunId", "")
    return step


def read_trained_facts(run_id: str) -> TrainedFacts:
    """What a training left on record, also one of an earlier release, whose configuration may have other options.

    Raises:
        TrackingError: there is no such run, or it holds no training record.
    """
    with asking(f"run {run_id}"), scratch_folder() as folder:
        client = MlflowClient()
        tags = client.get_run(run_id).data.tags
        metadata, metrics = (
            json.loads(Path(client.download_artifacts(run_id, name, str(folder))).read_text(encoding="utf-8"))
            for name in ("metadata.json", "metrics.json")
        )
        return TrainedFacts(metadata, metrics, tags.get("pcc.data_digest", ""))


def read_split(training: TrainingRun) -> SplitRecord | None:
    """Where the training's rows went, once it is what the training wrote; None of a run that kept no such record.

    Raises:
        DataError: the record was altered.
        TrackingError: it is not where MLflow says, or MLflow does not answer.
    """
    digest = training.tags.get(SPLIT_TAG)
    if digest is None:
        return None
    where = f"{SPLIT_FILE} of run {training.run_id}"
    with asking(where), scratch_folder() as folder:
        return SplitRecord.read(
            Path(MlflowClient().download_artifacts(training.run_id, SPLIT_FILE, str(folder))), digest, where
        )


def _status(error: BaseException) -> int:
    outside = isinstance(error, KeyboardInterrupt)
    return int(RunStatus.KILLED if outside else RunStatus.FAILED)
