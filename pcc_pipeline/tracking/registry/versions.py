"""The MLflow Model Registry: versions, aliases, and what an address of a model leads to."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import mlflow
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, ViewType
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from pcc_pipeline.errors import PccError, TrackingError
from pcc_pipeline.interruption import allowed, protected
from pcc_pipeline.masking import masked
from pcc_pipeline.model.lineage import Numbered
from pcc_pipeline.tracking.delivery.outages import (
    ACCOUNT_FIX,
    is_account,
    is_outage,
    is_server,
    no_temporary_room,
    reason_of,
    status_of,
)
from pcc_pipeline.tracking.store.paging import name_is, pages

VERSION_TAG = "pcc.version"
# On a version while something is wrong with it, and on the run that saw it.
ALERT_TAG = "pcc.alert"
# Of what kinds that is: the first parts of the metrics that say so, parted by blanks.
ALERT_KINDS_TAG = "pcc.alert_kinds"
_FORMS = "models:/<name>@<alias>, models:/<name>/<version number>, models:/m-<model id> or runs:/<run id>/model"
_MISSING = ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND", "INVALID_PARAMETER_VALUE")
# What MLflow's store takes.
_LONGEST_DESCRIPTION = 5000
_REFUSED_FIX = "mend what it refuses; its address is right, since it answered"


@dataclass(frozen=True)
class Resolved:
    """What an address led to. Name and version are None for a model that is not registered."""

    model_id: str
    run_id: str
    name: str | None = None
    version: str | None = None
    aliases: tuple[str, ...] = ()

    @property
    def model_uri(self) -> str:
        """The address that no later move of an alias can change."""
        return f"models:/{self.model_id}"


@contextmanager
def asking(where: str) -> Iterator[None]:
    """Turns MLflow's errors into a TrackingError that says what was asked for.

    Where MLflow is a database, signals wait: one that raised within its transaction would leave the database locked by
    this process. A request to a server may be cut off at any place.

    Raises:
        TrackingError: the server does not answer, or it refused.
    """
    try:
        with nullcontext() if is_server(mlflow.get_tracking_uri()) else protected():
            yield
    except Exception as error:  # an artifact store's client raises its own; `status_of` tells what is about MLflow
        if isinstance(error, PccError) or status_of(error) is None:
            raise
        if full := no_temporary_room(error):
            raise TrackingError(
                "there is no room for temporary files", where=full, fix="make room there, or point TMPDIR elsewhere"
            ) from error
        if not is_outage(error):
            raise TrackingError(f"MLflow refused: {reason_of(error)}", where=where, fix=_REFUSED_FIX) from error
        verb = "refused or did not answer" if isinstance(error, MlflowException) else "cannot be reached"
        fix = ACCOUNT_FIX if is_account(error) else _server_fix()
        raise TrackingError(f"MLflow {verb}: {reason_of(error)}", where=where, fix=fix) from error


def asked_over_a_network() -> AbstractContextManager[object]:
    """Lets signals through where MLflow is a server, though the section is protected: its answers may take long."""
    return allowed() if is_server(mlflow.get_tracking_uri()) else nullcontext()


def _server_fix() -> str:
    return f"check that MLFLOW_TRACKING_URI names a running server or a readable database; it is {shown_address()}"


def shown_address() -> str:
    """MLflow's address as a message may show it."""
    return masked(str(mlflow.get_tracking_uri()))


def resolve(uri: str) -> Resolved:
    """The model that `models:/name@alias`, `models:/name/3`, `models:/m-<id>` or `runs:/<id>/model` stands for now.

    Raises:
        TrackingError: there is no such name, alias, version, run or model, or MLflow does not answer.
    """
    if match := re.fullmatch(r"models:/(m-[0-9a-f]{32})", uri):
        return _of_logged_model(match[1], uri)
    if match := re.fullmatch(r"models:/([^/:@]+)@([^/:@]+)", uri):
        return _of_version(match[1], uri, alias=match[2])
    if match := re.fullmatch(r"models:/([^/:@]+)/([0-9]+)", uri):
        return _of_version(match[1], uri, version=match[2])
    if match := re.fullmatch(r"runs:/([^/]+)/(.+)", uri):
        return _of_run(match[1], match[2], uri)
    raise TrackingError("this is not the address of a model", where=uri, fix=f"use {_FORMS}")


def register(model_uri: str, name: str, run_id: str, tags: Mapping[str, str]) -> str:
    """Register a logged model as the next version of `name`; returns its number. Doing it twice makes one version.

    Raises:
        TrackingError: another model is already registered under this `pcc.version`, or MLflow refuses.
    """
    model = resolve(model_uri)
    if VERSION_TAG in tags and (known := find_version(name, tags[VERSION_TAG])) is not None:
        if known.model_id == model.model_id and known.version is not None:
            return known.version
        raise TrackingError(
            f"{tags[VERSION_TAG]} is taken: version {known.version} of {name} carries it already",
            where=f"run {run_id}",
            fix="train again: each training gets a version of its own",
        )
    if model.run_id != run_id:
        raise TrackingError(f"this model was logged by run {model.run_id}, not by run {run_id}", where=model_uri)
    with asking(f"registered model {name}"):
        # Not the client's own call: this one also links the logged model's page to the version.
        return str(mlflow.register_model(model.model_uri, name, tags=dict(tags)).version)


def set_alias(name: str, alias: str, version: str) -> None:
    """Point `alias` at a version of `name`, whatever it pointed at before.

    Raises:
        TrackingError: there is no such version, or MLflow refuses the alias.
    """
    resolve(f"models:/{name}/{version}")
    with asking(f"alias {alias} of {name}"):
        MlflowClient().set_registered_model_alias(name, alias, version)


def find_alias(name: str, alias: str) -> Resolved | None:
    """The version that an alias points at; None where there is no such alias or no such model yet.

    Raises:
        TrackingError: MLflow does not answer.
    """
    if not (versions := versions_of(name)):
        return None
    aliases = aliases_of(name)
    matching = [version for version in versions if alias in aliases.get(str(version.version), ())]
    return _resolved(matching[0]) if matching else None


def find_version(name: str, pcc_version: str) -> Resolved | None:
    """The registered version with the tag `pcc.version`; None where there is none.

    Raises:
        TrackingError: MLflow does not answer.
    """
    matching = [version for version in versions_of(name) if version.tags.get(VERSION_TAG) == pcc_version]
    return _resolved(matching[0]) if matching else None


def claim_pcc_version(name: str, now: datetime, run_id: str) -> str:
    """`vYYYYMMDD_HHMMSS` in UTC, of `now` or soon after it, that no version and no other run carries; tags the run.

    The tag is set before anybody else's is looked for, so of two runs that claim one version at once the later sees
    the other and goes on; both may, so each goes on by a random step.

    Raises:
        TrackingError: MLflow does not answer.
    """
    taken = {version.tags.get(VERSION_TAG) for version in versions_of(name)}
    client = MlflowClient()
    moment = now.astimezone(UTC)
    with asking(f"run {run_id}"):
        experiments = [each.experiment_id for each in pages(client.search_experiments, ViewType.ALL)]
        while True:
            candidate = f"v{moment:%Y%m%d_%H%M%S}"
            if candidate not in taken:
                client.set_tag(run_id, VERSION_TAG, candidate)
                condition = f"tags.`{VERSION_TAG}` = '{candidate}'"
                carriers = client.search_runs(experiments, condition, ViewType.ALL, max_results=2)
                if {run.info.run_id for run in carriers} <= {run_id}:
                    return candidate
            moment += timedelta(seconds=1 + secrets.randbelow(3))


def demand_model(name: str) -> None:
    """Make the registered model where there is none yet, empty, so that there is something to take turns at.

    Raises:
        TrackingError: MLflow refuses or does not answer.
    """
    client = MlflowClient()
    with asking(f"registered model {name}"):
        if list(pages(client.search_registered_models, name_is(name))):
            return
        try:
            client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another process was faster
                raise


def tag_version(name: str, version: str, tags: Mapping[str, str]) -> None:
    """Set tags of a registered version.

    Raises:
        TrackingError: there is no such version, or MLflow does not answer.
    """
    client = MlflowClient()
    with asking(f"models:/{name}/{version}"):
        for key, value in tags.items():
            client.set_model_version_tag(name, version, key, value)


def set_alert(name: str, version: str, alert: str, kinds: Sequence[str] = ()) -> None:
    """Say on a version what is wrong, and of what kinds that is; an empty text takes both away.

    Raises:
        TrackingError: there is no such version, or MLflow does not answer.
    """
    client = MlflowClient()
    with asking(f"models:/{name}/{version}"):
        known = client.get_model_version(name, version).tags
        for tag, text in {ALERT_KINDS_TAG: " ".join(kinds), ALERT_TAG: alert[:_LONGEST_DESCRIPTION]}.items():
            if alert:
                client.set_model_version_tag(name, version, tag, text)
            elif tag in known:
                client.delete_model_version_tag(name, version, tag)


def describe_version(name: str, version: str, description: str) -> None:
    """Set what a version's page says. What a person put before it stays, and a text of a person's own stays whole.

    Args:
        description: Markdown; its first line, up to the first colon, stays the same whenever the version is described.

    Raises:
        TrackingError: there is no such version, or MLflow refuses or does not answer.
    """
    client = MlflowClient()
    with asking(f"models:/{name}/{version}"):
        before = client.get_model_version(name, version).description or ""
        start = before.find(description.partition(":")[0])
        if (before and start < 0) or before[start:] == description:
            return
        client.update_model_version(name, version, (before[: max(start, 0)] + description)[:_LONGEST_DESCRIPTION])


def describe_model(name: str, description: str) -> None:
    """Set what a registered model's page says, where it says nothing yet and the account may.

    Raises:
        TrackingError: MLflow does not answer.
    """
    client = MlflowClient()
    with asking(f"registered model {name}"):
        if client.get_registered_model(name).description:
            return
        try:
            client.update_registered_model(name, description)
        except MlflowException as error:
            if not is_account(error):
                raise


def versions_of(name: str) -> list[ModelVersion]:
    """All versions of a registered model, newest first; none where the name is unknown.

    Raises:
        TrackingError: MLflow does not answer.
    """
    with asking(f"registered model {name}"):
        versions = list(pages(MlflowClient().search_model_versions, name_is(name)))
    return sorted(versions, key=lambda version: -int(version.version))


def aliases_of(name: str) -> dict[str, tuple[str, ...]]:
    """Version -> its aliases. MLflow's searches leave them out of the versions they find.

    Raises:
        TrackingError: there is no such registered model, or MLflow does not answer.
    """
    table: dict[str, tuple[str, ...]] = {}
    with asking(f"registered model {name}"):
        for alias, version in sorted(MlflowClient().get_registered_model(name).aliases.items()):
            table[str(version)] = (*table.get(str(version), ()), alias)
    return table


def numbered_versions(name: str) -> list[Numbered]:
    """The versions that have a number (`pcc.semver`), newest first; none where the name is unknown.

    Raises:
        TrackingError: MLflow does not answer.
    """
    if not (versions := versions_of(name)):
        return []
    aliases = aliases_of(name)
    numbered = []
    for version in versions:
        is_champion = "champion" in aliases.get(str(version.version), ())
        numbered.append(Numbered.of_tags(version.tags.get(VERSION_TAG, ""), version.tags, is_champion=is_champion))
    return [version for version in numbered if version is not None]


def _resolved(version: ModelVersion) -> Resolved:
    # MLflow's SQL store leaves `model_id` empty; the source names it.
    source = re.fullmatch(r"models:/(m-[0-9a-f]{32})", str(version.source))
    if source is None:
        raise TrackingError(
            "this version was not registered from a logged model, so it is none of pcc_pipeline's",
            where=f"models:/{version.name}/{version.version}",
            fix="name a version that the train entry point registered",
        )
    aliases = aliases_of(version.name).get(str(version.version), ())
    return Resolved(source[1], version.run_id or "", version.name, str(version.version), aliases)


def _of_version(name: str, uri: str, *, alias: str = "", version: str = "") -> Resolved:
    versions = versions_of(name)
    if not versions:
        raise TrackingError(
            f"no model is registered as {name}",
            where=uri,
            fix="train first, or set registry.model_name to a model that is; the MLflow UI lists them under Models",
        )
    aliases = aliases_of(name)
    for each in versions:
        number = str(each.version)
        if number == version.lstrip("0") or alias in aliases.get(number, ()):
            return _resolved(each)
    numbers = ", ".join(str(each.version) for each in versions[:20]) + (", …" if len(versions) > 20 else "")
    there = [f"{one} (version {number})" for number, names in aliases.items() for one in names]
    missing = f"alias {alias}" if alias else f"version {version}"
    raise TrackingError(
        f"{name} has no {missing}; it has versions {numbers} and aliases: {', '.join(there) or 'none'}",
        where=uri,
        fix="name one of these, or set the alias in the MLflow UI or with the promote entry point",
    )


def _of_logged_model(model_id: str, uri: str) -> Resolved:
    with asking(uri):
        try:
            model: LoggedModel = MlflowClient().get_logged_model(model_id)
        except MlflowException as error:
            if error.error_code not in _MISSING:
                raise
            raise TrackingError("there is no such logged model", where=uri, fix=f"use {_FORMS}") from error
    run_id = model.source_run_id or ""
    with asking(uri):
        versions = [
            version
            for version in MlflowClient().search_model_versions(f"run_id='{run_id}'")
            if version.source == f"models:/{model_id}"
        ]
    if not versions:
        return Resolved(model_id, run_id)
    return _resolved(max(versions, key=lambda version: int(version.version)))


def _of_run(run_id: str, path: str, uri: str) -> Resolved:
    client = MlflowClient()
    with asking(uri):
        try:
            run = client.get_run(run_id)
        except MlflowException as error:
            if error.error_code not in _MISSING:
                raise
            raise TrackingError(
                "there is no such run", where=uri, fix="copy the run's id from the head of its page in the MLflow UI"
            ) from error
        outputs = run.outputs.model_outputs if run.outputs else []
        models = [client.get_logged_model(output.model_id) for output in outputs]
    # `model` is the run's own, whatever its page is headed with.
    named = [model for model in models if path in (model.name, "model")]
    if not named:
        logged = f"runs:/{run_id}/model" if models else "none"
        raise TrackingError(
            f"this run has no model at {path}; it logged: {logged}",
            where=uri,
            fix="name a run of the train step; a run that failed or only evaluated has no model",
        )
    # A run that logged again means its last.
    return _of_logged_model(max(named, key=lambda model: model.creation_timestamp).model_id, uri)
