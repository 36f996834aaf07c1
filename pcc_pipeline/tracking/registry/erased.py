"""Versions that learned from the rows of erased persons: marked, kept from promotion, and at last removed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from mlflow import MlflowClient
from mlflow.entities import LoggedModel
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from pcc_pipeline.errors import TrackingError
from pcc_pipeline.tracking.registry.champion import standing
from pcc_pipeline.tracking.registry.holds import HOLD_TAG
from pcc_pipeline.tracking.registry.locks import turn
from pcc_pipeline.tracking.registry.versions import asking
from pcc_pipeline.tracking.store.expired import remove_files
from pcc_pipeline.tracking.store.paging import name_is, pages

# Of a version, the erasure that it stands against, in words; of a run, the erasure that took rows out of its files.
ERASURE_TAG = "pcc.erasure"
# Of a registered model, the digests of the lists of erased persons, each with the time since when, as runs tell it
# (milliseconds since 1970); where one tag is full, the next ones stand in one of this name with ".2", then ".3", …
# Of a training, the digest of the list that it read by.
LIST_TAG = "pcc.suppression"
# MLflow's store takes 5000 characters a tag. No entry is ever dropped: a training that began before some erasures may
# be registered after them, and is judged by the list that was the last one when it began.
_LONGEST_TAG = 4900
_GONE = ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND")


def erasure_of(name: str, number: str) -> str:
    """What a version's mark says; empty where it has none.

    Raises:
        TrackingError: there is no such version, or MLflow does not answer.
    """
    with asking(f"models:/{name}/{number}"):
        return str(MlflowClient().get_model_version(name, number).tags.get(ERASURE_TAG, ""))


def note_list(name: str, digest: str, run_id: str, who: str = "") -> None:
    """Say on a registered model by which list of erased persons it is trained from now on, if there is such a model.

    In the turn of promotions: none that was allowed by the list before is made after this.

    Args:
        run_id: of the erasure, whose start is that of the list.
        who: is named to those who wait for the turn in vain.

    Raises:
        BusyError: promotions had the turn for minutes.
        TrackingError: MLflow refuses or does not answer.
    """
    client = MlflowClient()
    with asking(f"registered model {name}"):
        if not list(client.search_registered_models(name_is(name), max_results=1)):
            return
    with turn(name, who) as own:
        own.check()
        with asking(f"registered model {name}"):
            since = client.get_run(run_id).info.start_time
            tags = client.get_registered_model(name).tags
            lists = _lists(tags)
            if lists and lists[-1][0] == digest:
                return  # it put nobody on the list who was not there
            entry, last = f"{digest} {since}", (_list_tags(tags) or [LIST_TAG])[-1]
            longer = ";".join(filter(None, [tags.get(last, ""), entry]))
            if len(longer) <= _LONGEST_TAG:
                client.set_registered_model_tag(name, last, longer)
            else:
                client.set_registered_model_tag(name, f"{LIST_TAG}.{_place(last) + 1}", entry)


def read_without_list(name: str, number: str) -> bool:
    """Whether a version was registered after an erasure, and not by the list that this left.

    So is one of a machine that lacks it, and one of a training that had read its rows before.

    Raises:
        TrackingError: there is no such version, or MLflow does not answer.
    """
    client = MlflowClient()
    with asking(f"models:/{name}/{number}"):
        lists = _lists(client.get_registered_model(name).tags)
        if not lists:
            return False
        version = client.get_model_version(name, number)
        listed = client.get_run(str(version.run_id)).data.tags.get(LIST_TAG)
        before = [digest for digest, since in lists if since <= version.creation_timestamp]
        return bool(before) and listed != before[-1]


def _lists(tags: Mapping[str, str]) -> list[tuple[str, int]]:
    """The digest of each list, with the time since when, in the order of the erasures."""
    entries = [entry.split(" ") for tag in _list_tags(tags) for entry in tags[tag].split(";")]
    return [(digest, int(since)) for digest, since in entries]


def _list_tags(tags: Mapping[str, str]) -> list[str]:
    form = re.compile(re.escape(LIST_TAG) + r"(\.\d+)?")
    return sorted((tag for tag in tags if form.fullmatch(tag)), key=_place)


def _place(tag: str) -> int:
    """Which of the tags that hold lists one is, from 1."""
    return int(tag.removeprefix(LIST_TAG).removeprefix(".") or 1)


def mark_versions(name: str, texts: Mapping[str, str], who: str, *, out_of_use: str = "") -> str | None:
    """Mark versions of a model in the turn of promotions: one that is made champion was not marked, and is known here.

    A version or model that is gone is no error.

    Args:
        texts: version -> its mark.
        who: is named to those who wait for the turn in vain.
        out_of_use: an alias that is taken away from them.

    Returns:
        The number of the version that was champion when they were marked.

    Raises:
        BusyError: promotions had the turn for minutes.
        TrackingError: MLflow refuses or does not answer.
    """
    if not any(version_is_there(name, number) for number in texts):
        return None
    with turn(name, who) as own:
        champion = standing(name).champion
        for number, text in texts.items():
            own.check()
            mark_version(name, number, text)
            if out_of_use:
                take_alias(name, number, out_of_use)
        return champion


def mark_version(name: str, number: str, text: str) -> None:
    """Mark a version; one that is gone is no error. By itself it waits for no turn: see `mark_versions`.

    Raises:
        TrackingError: MLflow refuses or does not answer.
    """
    with asking(f"models:/{name}/{number}"):
        if _version(name, number) is not None:
            MlflowClient().set_model_version_tag(name, number, ERASURE_TAG, text)


def take_alias(name: str, number: str, *aliases: str) -> None:
    """Take aliases away from a version; those that it does not have are left alone.

    Raises:
        TrackingError: MLflow refuses or does not answer.
    """
    with asking(f"models:/{name}/{number}"):
        version = _version(name, number)
        for alias in version.aliases if version is not None else ():
            if not aliases or alias in aliases:
                MlflowClient().delete_registered_model_alias(name, alias)


def remove_version(name: str, number: str, run_id: str) -> None:
    """Remove a version, its aliases, and the models that its run logged with their files; its run stays, as a record.

    What is gone already is no error; a training that made no version has no name and number.

    Raises:
        TrackingError: it is held, as `demand_let_go`; MLflow refuses or does not answer.
    """
    client = MlflowClient()
    demand_let_go(run_id)
    if name:
        take_alias(name, number)
    with asking(f"models of run {run_id}"):
        for model in _models_of(client, run_id):
            # The files go first, so that a removal that broke off finds them again.
            remove_files(model.artifact_location, model.model_id)
            client.delete_logged_model(model.model_id)
        if name and _version(name, number) is not None:
            client.delete_model_version(name, number)


def demand_let_go(run_id: str) -> None:
    """See that nobody holds a version of this training: of whatever number it is, its files are the training's.

    Raises:
        TrackingError: somebody does; or MLflow does not answer.
    """
    with asking(f"versions of run {run_id}"):
        made = list(pages(MlflowClient().search_model_versions, filter_string=f"run_id = '{run_id}'"))
    for version in made:
        if HOLD_TAG in (version.tags or {}):
            raise TrackingError(
                f"{version.name} version {version.version} is held since this was begun (a legal hold, an order to "
                "keep it), so it stays, and nothing takes its place",
                where=f"models:/{version.name}/{version.version}",
                fix="carry it out again: what is held is left out",
            )


def model_is_there(run_id: str) -> bool:
    """Whether a model that a run logged is there still.

    Raises:
        TrackingError: MLflow does not answer.
    """
    with asking(f"models of run {run_id}"):
        return next(_models_of(MlflowClient(), run_id), None) is not None


def version_is_there(name: str, number: str) -> bool:
    """Whether a version is registered.

    Raises:
        TrackingError: MLflow does not answer.
    """
    with asking(f"models:/{name}/{number}"):
        return _version(name, number) is not None


def _models_of(client: MlflowClient, run_id: str) -> Iterator[LoggedModel]:
    outputs = client.get_run(run_id).outputs
    for output in outputs.model_outputs if outputs else []:
        try:
            yield client.get_logged_model(output.model_id)
        except MlflowException as error:
            if error.error_code not in _GONE:
                raise


def _version(name: str, number: str) -> ModelVersion | None:
    try:
        return MlflowClient().get_model_version(name, number)
    except MlflowException as error:
        if error.error_code not in _GONE:
            raise
        return None
