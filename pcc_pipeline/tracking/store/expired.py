"""Which runs are old enough to go and referred to by nothing, and their removal with all that is theirs.

`mlflow gc` leaves logged models in the bucket; here their files go before their records, so that a removal that broke
off finds them again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from mlflow import MlflowClient
from mlflow.entities import LifecycleStage, LoggedModel, Run, ViewType
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from pcc_pipeline.errors import TrackingError
from pcc_pipeline.tracking.delivery.outages import status_of
from pcc_pipeline.tracking.registry.holds import HOLD_TAG
from pcc_pipeline.tracking.registry.versions import VERSION_TAG, asking, shown_address
from pcc_pipeline.tracking.store.locations import delete_artifacts
from pcc_pipeline.tracking.store.paging import pages
from pcc_pipeline.tracking.store.past_runs import RecordedRun, recorded

_DAY_MS = 86_400_000
# The record of decisions (of an erasure with its certificate), and what was brought in from the older system: small,
# and asked for years later.
KEPT_STEPS = ("promote", "publish", "erase", "legacy")
# What an erasure would do is no decision yet.
_ONLY_PLANNED = ("erase", "planned")
# Of a run: which of its files retention removed.
REMOVED_TAG = "pcc.removed"
_MISSING = ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND", "ENDPOINT_NOT_FOUND")


@dataclass(frozen=True)
class Tree:
    """A run with all runs within it, the inner ones first."""

    runs: tuple[Run, ...]
    models: tuple[LoggedModel, ...]
    versions: tuple[ModelVersion, ...]
    size: int

    @property
    def root(self) -> Run:
        return self.runs[-1]


@dataclass(frozen=True)
class Plan:
    """What would go, and how many trees stay for which reason though they are old."""

    going: tuple[Tree, ...]
    staying: Mapping[str, int]


def plan(
    experiment_id: str, days: int, now: float, why_held: Callable[[Sequence[RecordedRun]], str] = lambda runs: ""
) -> Plan:
    """The trees of runs of an experiment that ended more than `days` days before `now` (seconds since 1970).

    A tree stays if a run of it is younger or has not ended; if a version of it has an alias, was ever champion or is
    held; if it measured such a version; if it records a decision, as that on an erasure, whose certificate lies there;
    if something else made it; or if it is held.

    Args:
        why_held: of a tree that could go otherwise, why it is held; empty where it is not.

    Raises:
        TrackingError: MLflow does not answer.
    """
    client = MlflowClient()
    with asking(f"experiment {experiment_id}"):
        versions = _versions(client)
        trees = _trees(pages(client.search_runs, [experiment_id], "", ViewType.ACTIVE_ONLY))
        models = _models(client, experiment_id)
        every = [version for each in versions.values() for version in each]
        protected = _names_of(version for version in every if _is_in_use(version))
        held = _names_of(version for version in every if HOLD_TAG in version.tags)
        before = now * 1000 - days * _DAY_MS
        going, staying = [], dict[str, int]()
        for runs in trees:
            if not _is_old(runs, before):
                continue
            if reason := _why_it_stays(runs, protected, held) or why_held([recorded(run) for run in runs]):
                staying[reason] = staying.get(reason, 0) + 1
                continue
            ids = [run.info.run_id for run in runs]
            logged = tuple(model for run_id in ids for model in models[run_id])
            registered = tuple(version for run_id in ids for version in versions[run_id])
            going.append(Tree(tuple(runs), logged, registered, _size(client, runs, logged)))
    return Plan(tuple(going), staying)


def remove(tree: Tree) -> None:
    """Remove a tree: registered versions, models and runs, the files of each before its record.

    Raises:
        TrackingError: an alias points at a version of it by now, or MLflow refuses. Doing it again completes it.
    """
    client = MlflowClient()
    with asking(f"run {tree.root.info.run_id}"), _permission():
        for version in tree.versions:
            fresh = _version(client, version)
            if fresh is None:
                continue
            if _is_in_use(fresh) or HOLD_TAG in fresh.tags:
                raise TrackingError(
                    f"{version.name} version {version.version} has got an alias or a hold meanwhile, so its run stays",
                    where=f"run {version.run_id}",
                )
            with _gone_already():
                client.delete_model_version(version.name, str(version.version))
        for model in tree.models:
            remove_files(model.artifact_location, model.model_id)
            with _gone_already():
                client.delete_logged_model(model.model_id)
        for run in tree.runs:
            if _has_files(run):
                remove_files(run.info.artifact_uri, run.info.run_id)
            with _gone_already():
                if run.data.tags.get("pcc.step") == "evaluate":  # nobody has to look for its predictions again
                    _say_removed(client, run.info.run_id, "all")
                client.delete_run(run.info.run_id)


def table_size(run: RecordedRun, name: str) -> int | None:
    """Bytes of one of a run's files; None where it has none of this name.

    Raises:
        TrackingError: MLflow does not answer.
    """
    with asking(f"files of run {run.run_id}"):
        files = MlflowClient().list_artifacts(run.run_id)
    return next((int(file.file_size or 0) for file in files if file.path == name), None)


def remove_table(run: RecordedRun, name: str) -> bool:
    """Remove one of a run's files, of which a tag says from then on that it was removed (`REMOVED_TAG`).

    False where it is gone already.

    Raises:
        TrackingError: MLflow refuses. Doing it again completes it.
    """
    client = MlflowClient()
    with asking(f"{name} of run {run.run_id}"), _permission():
        info = client.get_run(run.run_id).info
        there = table_size(run, name) is not None
        if there:
            remove_files(str(info.artifact_uri), run.run_id, name)
        _say_removed(client, run.run_id, name)
    return there


def _say_removed(client: MlflowClient, run_id: str, name: str) -> None:
    if client.get_run(run_id).info.lifecycle_stage == LifecycleStage.ACTIVE:  # a deleted run takes no tag
        client.set_tag(run_id, REMOVED_TAG, name)


@contextmanager
def _gone_already() -> Iterator[None]:
    """Passes over what another removal was quicker with."""
    try:
        yield
    except MlflowException as error:
        if error.error_code not in _MISSING:
            raise


@contextmanager
def _permission() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # of MLflow, requests or a bucket's client; all but 403 goes its way
        if status_of(error) != 403:
            raise
        raise TrackingError(
            "this account may not delete runs",
            where=shown_address(),
            fix="ask for the right to manage the experiment and the registered model, or let an admin do it",
        ) from error


def _is_in_use(version: ModelVersion) -> bool:
    return bool(version.aliases) or "pcc.state" in version.tags


def _is_old(runs: Sequence[Run], before: float) -> bool:
    ended = all(run.info.status in ("FINISHED", "FAILED", "KILLED") for run in runs)
    return ended and all((run.info.end_time or run.info.start_time) < before for run in runs)


def _why_it_stays(runs: Sequence[Run], protected: set[str], held: set[str]) -> str:
    steps = {run.data.tags.get("pcc.step", "") for run in runs}
    if "" in steps:
        return "made by something else"
    if any(_is_record(run) for run in runs):
        return "record of a decision, or of the older system"
    if any(run.info.run_id in protected for run in runs):
        return "made a version that has an alias or was champion"
    if any(_measured(run) & protected for run in runs):
        return "measured a version that has an alias or was champion"
    if any({run.info.run_id, *_measured(run)} & held for run in runs):
        return "made or measured a version that is held"
    return ""


def _is_record(run: Run) -> bool:
    step, action = (run.data.tags.get(tag, "") for tag in ("pcc.step", "pcc.action"))
    return step in KEPT_STEPS and (step, action) != _ONLY_PLANNED


def _measured(run: Run) -> set[str]:
    """What names the version that a run measured: its training, or of an `ab_test` the version itself."""
    return {run.data.tags[tag] for tag in ("pcc.training_run", "pcc.ab_challenger") if tag in run.data.tags}


def _names_of(versions: Iterable[ModelVersion]) -> set[str]:
    """By what runs name versions: by their trainings, and by `pcc.version`."""
    return {name for each in versions for name in (each.run_id, each.tags.get(VERSION_TAG)) if name}


def _trees(runs: Iterator[Run]) -> list[list[Run]]:
    """Each tree with the inner runs before the outer; oldest tree first."""
    known = {run.info.run_id: run for run in runs}
    within: dict[str, list[Run]] = defaultdict(list)
    roots: list[Run] = []
    for run in known.values():
        parent = run.data.tags.get("mlflow.parentRunId", "")
        (within[parent] if parent in known else roots).append(run)

    def inner_first(run: Run) -> list[Run]:
        return [*(one for inner in within[run.info.run_id] for one in inner_first(inner)), run]

    return [inner_first(root) for root in sorted(roots, key=lambda run: run.info.start_time)]


def _models(client: MlflowClient, experiment_id: str) -> dict[str, list[LoggedModel]]:
    """Run -> the models that it logged."""
    models: dict[str, list[LoggedModel]] = defaultdict(list)
    for model in pages(client.search_logged_models, [experiment_id]):
        models[model.source_run_id or ""].append(model)
    return models


def _versions(client: MlflowClient) -> dict[str, list[ModelVersion]]:
    """Run -> the registered versions of it, of every registered model, with their aliases."""
    versions: dict[str, list[ModelVersion]] = defaultdict(list)
    for version in pages(client.search_model_versions):
        # MLflow's searches leave the aliases out of the versions that they find.
        if (whole := _version(client, version)) is not None:
            versions[whole.run_id or ""].append(whole)
    return versions


def _version(client: MlflowClient, version: ModelVersion) -> ModelVersion | None:
    try:
        return client.get_model_version(version.name, str(version.version))
    except MlflowException as error:
        if error.error_code in _MISSING:
            return None
        raise


def _has_files(run: Run) -> bool:
    return bool(run.data.tags.get("pcc.step") != "trial")


def _size(client: MlflowClient, runs: Sequence[Run], models: Sequence[LoggedModel]) -> int:
    """Bytes of all files, as far as the artifact store tells."""
    places = [run.info.artifact_uri for run in runs if _has_files(run)]
    places += [model.artifact_location for model in models]
    return sum(_size_of(place) for place in places)


def _size_of(place: str) -> int:
    repository, waiting, size = get_artifact_repository(place), [""], 0
    while waiting:
        for entry in repository.list_artifacts(waiting.pop() or None):
            if entry.is_dir:
                waiting.append(entry.path)
            else:
                size += int(entry.file_size or 0)
    return size


def remove_files(place: str, owner: str, name: str | None = None) -> None:
    """Remove a folder of the artifact store that is named after its owner, or a file in it, and no other."""
    if owner not in place.split("/"):
        raise TrackingError("this folder is not its owner's alone, so it stays", where=f"{place} of {owner}")
    try:
        delete_artifacts(get_artifact_repository(place), name)
    except Exception as error:  # of any kind of store; what an earlier removal emptied answers 404
        if getattr(getattr(error, "response", None), "status_code", None) != 404:
            raise
