"""What a run writes to MLflow, as documents that can be written now or, if MLflow is away, from disk later.

Each operation changes nothing the second time, so one whose answer was lost may be done again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from mlflow import MlflowClient
from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from pcc_pipeline import interruption
from pcc_pipeline.errors import TrackingError
from pcc_pipeline.tracking.delivery.heartbeat import ERROR_TAG, SWEPT
from pcc_pipeline.tracking.delivery.outages import is_account
from pcc_pipeline.tracking.logged_models.log_and_load import BundleFacts, log_bundle
from pcc_pipeline.tracking.payloads import Batch, write
from pcc_pipeline.tracking.registry import versions
from pcc_pipeline.tracking.registry.versions import VERSION_TAG

logger = logging.getLogger(__name__)

# By it a run is found again whose creation got no answer.
KEY_TAG = "pcc.key"
# Stands in a description for the number of the version, which is known once it is registered.
NUMBER = "@number"
# Folders beside an operation's document.
FILES, BUNDLE = "files", "bundle"


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Log(_Document):
    """Numbers, words and the files of the folder `files`, for a run that is there."""

    kind: Literal["log"] = "log"
    run_id: str
    batch: Batch


class Nested(_Document):
    """A whole run within another: made, filled and ended. Times are in milliseconds since 1970."""

    kind: Literal["nested"] = "nested"
    experiment_id: str
    key: str
    name: str
    tags: Mapping[str, str]
    start: int
    end: int
    status: str
    batch: Batch


class Model(_Document):
    """A model in the folder `bundle`, what is logged with it, and its place in the registry.

    Attributes:
        description: of the version, with `NUMBER` for its number.
        model_description: of the registered model, where it has none.
        ended: its run was ended from outside before the model was registered. The model is logged, so that the work is
            not lost, but such a run moves nothing any more: no version, no alias.
    """

    kind: Literal["model"] = "model"
    run_id: str
    experiment_id: str
    facts: BundleFacts
    batch: Batch
    name: str
    alias: str
    tags: Mapping[str, str]
    description: str = ""
    model_description: str = ""
    ended: bool = False


class Describe(_Document):
    """What the page of a registered version says, and tags of it. See `versions.describe_version`."""

    kind: Literal["describe"] = "describe"
    name: str
    version: str
    description: str
    tags: Mapping[str, str] = {}


class End(_Document):
    """The end of a run. `error` is why it failed; empty if it did not."""

    kind: Literal["end"] = "end"
    run_id: str
    status: str
    error: str = ""


Operation = Annotated[Log | Nested | Model | Describe | End, Field(discriminator="kind")]
DOCUMENTS: TypeAdapter[Operation] = TypeAdapter(Operation)


@dataclass(frozen=True)
class Registered:
    """A model that stands in MLflow.

    Attributes:
        version: empty where the model was logged only.
        alias_moved: False where the alias already stood at a version that was trained later.
    """

    model_uri: str
    version: str
    alias_moved: bool


def carry_out(
    operation: Operation, folder: Path, *, again: bool, placed: Callable[[], None] = lambda: None
) -> Registered | None:
    """Write an operation to MLflow.

    Args:
        folder: holds the operation's `files` and `bundle`, where it has any.
        again: it was tried before, so it may be there already, in whole or in part.
        placed: called once a model is registered, before a signal that came meanwhile raises.

    Raises:
        MlflowException, OSError, …: as MLflow's client does; `outages` tells which are worth another try.
        TrackingError: the registry holds another model in this one's place.
    """
    client = MlflowClient()
    match operation:
        case Log():
            write(client, operation.run_id, operation.batch, folder / FILES)
        case Nested():
            _nested(client, operation, folder, again=again)
        case Model():
            return _model(client, operation, folder, again=again, placed=placed)
        case Describe():
            _describe(operation)
        case End():
            _end(client, operation)
    return None


def run_of_key(client: MlflowClient, experiment_id: str, key: str) -> Run | None:
    """The run with this `pcc.key`; None if there is none.

    Of two, which a server makes of one request that it answered too late, the first; the other is taken away.
    """
    runs = client.search_runs(
        [experiment_id], f"tags.`{KEY_TAG}` = '{key}'", ViewType.ACTIVE_ONLY, order_by=["attributes.start_time ASC"]
    )
    for surplus in runs[1:]:
        client.set_tag(
            surplus.info.run_id, ERROR_TAG, f"made twice by an answer that was lost: see {runs[0].info.run_id}"
        )
        client.set_terminated(surplus.info.run_id, "KILLED")
        try:
            client.delete_run(surplus.info.run_id)
        except MlflowException as error:
            # An account that may write need not be one that may delete.
            if not is_account(error):
                raise
    return runs[0] if runs else None


def _nested(client: MlflowClient, operation: Nested, folder: Path, *, again: bool) -> None:
    run = run_of_key(client, operation.experiment_id, operation.key) if again else None
    if run is None:
        tags = {**operation.tags, KEY_TAG: operation.key}
        run = client.create_run(operation.experiment_id, operation.start, tags, run_name=operation.name)
    write(client, run.info.run_id, operation.batch, folder / FILES)
    client.set_terminated(run.info.run_id, operation.status, operation.end)


def _model(
    client: MlflowClient, operation: Model, folder: Path, *, again: bool, placed: Callable[[], None]
) -> Registered:
    logged = log_bundle(operation.run_id, operation.experiment_id, folder / BUNDLE, operation.facts, again=again)
    write(client, operation.run_id, operation.batch, folder / FILES, model_id=logged.model_id)
    if operation.ended:
        return Registered(logged.model_uri, "", False)
    interruption.check()
    with interruption.protected():
        registered = _placed(client, operation, logged.model_uri)
        placed()
    return registered


def _placed(client: MlflowClient, operation: Model, model_uri: str) -> Registered:
    """Register a logged model. A signal that comes before the last step, the alias, still prevents that one."""
    number = versions.register(model_uri, operation.name, operation.run_id, operation.tags)
    if operation.description:
        text = operation.description.replace(NUMBER, number)
        _describe(Describe(name=operation.name, version=number, description=text))
        versions.describe_model(operation.name, operation.model_description)
    # What was kept on disk may come after a training that began later: its alias stays where it is.
    standing = versions.find_alias(operation.name, operation.alias)
    moved = standing is None or standing.version == number or _is_newer(client, operation, standing.version)
    interruption.check()
    if moved:
        versions.set_alias(operation.name, operation.alias, number)
    return Registered(model_uri, number, moved)


def _describe(operation: Describe) -> None:
    """An account that may measure a version need not be one that may write on its page, which may be gone by now."""
    try:
        if operation.description:
            versions.describe_version(operation.name, operation.version, operation.description)
        versions.tag_version(operation.name, operation.version, operation.tags)
    except TrackingError as error:
        cause = error.__cause__
        gone = isinstance(cause, MlflowException) and cause.error_code == "RESOURCE_DOES_NOT_EXIST"
        if not gone and not (cause is not None and is_account(cause)):
            raise
        logger.info("version %s of %s was not described: %s", operation.version, operation.name, error.what)


def _is_newer(client: MlflowClient, operation: Model, standing: str | None) -> bool:
    there: Mapping[str, Any] = client.get_model_version(operation.name, str(standing)).tags
    return operation.tags.get(VERSION_TAG, "") >= str(there.get(VERSION_TAG, ""))


def _end(client: MlflowClient, operation: End) -> None:
    if operation.error:
        client.set_tag(operation.run_id, ERROR_TAG, operation.error)
    elif client.get_run(operation.run_id).data.tags.get(ERROR_TAG) == SWEPT:
        try:
            client.delete_tag(operation.run_id, ERROR_TAG)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
    client.set_terminated(operation.run_id, operation.status)
