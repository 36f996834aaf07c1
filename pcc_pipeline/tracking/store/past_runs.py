"""What stands in MLflow about past runs and versions, read with a few calls however many runs there are."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType

from mlflow import MlflowClient
from mlflow.entities import Experiment, Run, ViewType

from pcc_pipeline.errors import TrackingError
from pcc_pipeline.tracking.delivery.preflight import demand_server
from pcc_pipeline.tracking.registry.versions import VERSION_TAG, aliases_of, asking, shown_address, versions_of
from pcc_pipeline.tracking.store import experiments
from pcc_pipeline.tracking.store.paging import pages

# Of a promotion: what a gate measured of version and champion on the very same rows, in words.
BESIDE_TAG = "pcc.beside_champion"
LEGACY_STEP = "legacy"
# Of a measurement: the digest of its test rows.
ROWS_TAG = "pcc.test_rows_digest"
_TRAINING = ("train", LEGACY_STEP)
# What a run's error begins with where it is one of ours; of another there is a name and a place, and no text.
_OUR_CLASS = re.compile(r"^[A-Z]\w*Error: ")
_GUARDS = {"RetrainStoppedError": "stopped", "PromotionRefusedError": "refused"}
_NEWEST_FIRST = ["attributes.start_time DESC"]
_FORMS = "v20250729_084352 (or v20250729084352), a registry number such as 3, @champion, or a run's id"


@dataclass(frozen=True)
class RecordedRun:
    """One run as MLflow recorded it.

    Attributes:
        step: the tag `pcc.step`; empty for a run that ended before any step began.
        error: the tag `pcc.error`, why it failed; empty if it did not, or if nobody was left to say.
        ended: None while it runs, or where it was killed without notice.
    """

    run_id: str
    experiment_id: str
    name: str
    status: str
    started: datetime
    ended: datetime | None
    metrics: Mapping[str, float]
    params: Mapping[str, str]
    tags: Mapping[str, str]

    @property
    def step(self) -> str:
        return self.tags.get("pcc.step", "")

    @property
    def error(self) -> str:
        return self.tags.get("pcc.error", "")

    @property
    def stopped(self) -> str:
        """`stopped` or `refused` where a guard or gate ended it, as it was meant to; else empty."""
        return _GUARDS.get(self.error.partition(":")[0], "")

    @property
    def reason(self) -> str:
        """`error` for people: without the name of our class, and whether that was a guard."""
        text = _OUR_CLASS.sub("", self.error)
        return f"{self.stopped}: {text}" if self.stopped else text

    @property
    def pcc_version(self) -> str:
        return self.tags.get(VERSION_TAG, "")

    @property
    def seconds(self) -> float | None:
        return None if self.ended is None else (self.ended - self.started).total_seconds()


@dataclass(frozen=True)
class RegisteredVersion:
    """A version of the registered model."""

    number: str
    run_id: str
    pcc_version: str
    aliases: tuple[str, ...]


@dataclass(frozen=True)
class VersionRecord:
    """A version: the run that trained it, its newest measurement on test rows, its place in the registry.

    Attributes:
        evaluated: a finished evaluation, or the judgement of a promotion, which stands where that was refused too.
    """

    trained: RecordedRun
    evaluated: RecordedRun | None
    registered: RegisteredVersion | None

    @property
    def pcc_version(self) -> str:
        return self.trained.pcc_version

    @property
    def metrics(self) -> Mapping[str, float]:
        return {**self.trained.metrics, **(self.evaluated.metrics if self.evaluated else {})}


def canonical_version(text: str) -> str:
    """`v20250729084352`, as the older system wrote versions, as `v20250729_084352`; anything else as it is."""
    return re.sub(r"^v(\d{8})(\d{6})$", r"v\1_\2", text)


def open_experiment(name: str | None = None, *, create: bool = False) -> Experiment:
    """The experiment of this name, else the one that the environment names, else `pcc-intent`.

    Raises:
        TrackingError: there is none, or MLflow does not answer.
    """
    demand_server(create=create)
    if create:
        return experiments.find_or_make(name)
    if (experiment := experiments.find(name)) is not None:
        return experiment
    with asking("experiments"):
        there = sorted(each.name for each in MlflowClient().search_experiments(max_results=20))
    raise TrackingError(
        f"the experiment {experiments.name_of(name)} does not exist; there are: {', '.join(there) or 'none'}",
        where=shown_address(),
        fix="name one with --experiment, or point MLFLOW_TRACKING_URI at the store that has it",
    )


def recent_runs(
    experiment: Experiment, limit: int | None = None, *, step: str | None = None, failed: bool = False
) -> list[RecordedRun]:
    """The newest runs first, those that failed included.

    Args:
        limit: how many; None for all.
        step: only runs of this step, also within others; by default all runs that are not part of another.
        failed: only those that ended as FAILED or KILLED.
    """
    conditions = ["tags.`mlflow.parentRunId` IS NULL" if step is None else f"tags.`pcc.step` = '{_word(step)}'"]
    if failed:
        conditions += [f"attributes.status != '{status}'" for status in ("FINISHED", "RUNNING", "SCHEDULED")]
    return _search([experiment.experiment_id], conditions, limit)


def recent_versions(
    experiment: Experiment, model_name: str, limit: int | None = None, *, finished: bool = False
) -> list[VersionRecord]:
    """The newest trainings first, those of the older system and, unless `finished`, those that failed included."""
    ids, ended = [experiment.experiment_id], ["attributes.status = 'FINISHED'"]
    by_step = [_search(ids, [f"tags.`pcc.step` = '{step}'", *(ended if finished else [])], limit) for step in _TRAINING]
    trained = sorted([run for runs in by_step for run in runs], key=lambda run: run.started, reverse=True)[:limit]
    if not trained:
        return []
    since = int(trained[-1].started.timestamp() * 1000)
    evaluated: dict[str, RecordedRun] = {}
    for run in _measurements(ids, [f"attributes.start_time >= {since}"]):
        evaluated.setdefault(run.tags.get("pcc.training_run", ""), run)
    registered = {version.run_id: version for version in registered_versions(model_name)}
    return [VersionRecord(run, evaluated.get(run.run_id), registered.get(run.run_id)) for run in trained]


def find_version(reference: str, model_name: str, experiment: Experiment) -> VersionRecord:
    """The version that a person means by its tag, number, alias or training run.

    Raises:
        TrackingError: there is none.
    """
    name, here = canonical_version(reference.strip()), [experiment.experiment_id]
    known = registered_versions(model_name)
    registered = next((version for version in known if _is_meant(version, name)), None)
    trainings: list[RecordedRun] = []
    if registered is not None or re.fullmatch(r"[0-9a-f]{8,32}", name):
        # The first digits of a run's id will do, as `list` shows them.
        condition = f"attributes.run_id LIKE '{registered.run_id if registered is not None else name}%'"
        trainings = _search(here, [condition], 1) or _search(_every_experiment(), [condition], 1)
        if trainings and trainings[0].step not in _TRAINING and trainings[0].pcc_version:
            trainings = _trainings(here, trainings[0].pcc_version) or trainings
    elif re.fullmatch(r"[\w.\- ]+", name) and not name.isdecimal():
        trainings = _trainings(here, name)
    if not trainings:
        shown = ", ".join(f"{version.number} ({version.pcc_version})" for version in known[:10])
        raise TrackingError(
            f"there is no version {reference!r}; {model_name} has {shown or 'no versions'}",
            where=f"experiment {experiment.name} and registry at {shown_address()}",
            fix=f"name {_FORMS}",
        )
    trained = trainings[0]
    places = sorted({trained.experiment_id, experiment.experiment_id})
    about = _measurements(places, [f"tags.`pcc.training_run` = '{trained.run_id}'"])
    registered = registered or next((version for version in known if version.run_id == trained.run_id), None)
    return VersionRecord(trained, about[0] if about else None, registered)


def measurement_of(training_run: str, rows_digest: str) -> RecordedRun | None:
    """The newest measurement of what a run trained; one on the test rows with this digest comes first.

    Raises:
        TrackingError: MLflow does not answer.
    """
    about = _measurements(_every_experiment(), [f"tags.`pcc.training_run` = '{training_run}'"])
    same = [run for run in about if run.tags.get(ROWS_TAG) == rows_digest]
    return next(iter(same or about), None)


def newest_ab_test(challenger: str, champion: str) -> RecordedRun | None:
    """The newest finished `ab_test` of these two versions (`pcc.version`); None where there is none.

    Raises:
        TrackingError: MLflow does not answer.
    """
    pair = [f"tags.`pcc.ab_challenger` = '{challenger}'", f"tags.`pcc.ab_champion` = '{champion}'"]
    about = ["tags.`pcc.step` = 'ab_test'", "status = 'FINISHED'", *pair]
    return next(iter(_search(_every_experiment(), about, 1)), None)


def runs_tagged(tag: str) -> list[RecordedRun]:
    """Every run of every experiment that has a tag of this name, newest first; deleted ones too, whose files stay.

    Raises:
        TrackingError: MLflow does not answer.
    """
    return _search(_every_experiment(ViewType.ALL), [f"tags.`{tag}` LIKE '%'"], None, ViewType.ALL)


def runs_of_step(experiment_id: str, step: str) -> list[RecordedRun]:
    """Every run of a step in an experiment, newest first; deleted ones too, whose copies on this machine stay.

    Raises:
        TrackingError: MLflow does not answer.
    """
    return _search([experiment_id], [f"tags.`pcc.step` = '{_word(step)}'"], None, ViewType.ALL)


def newest_of_step(step: str, tags: Mapping[str, str] | None = None, *, finished: bool = False) -> RecordedRun | None:
    """The newest run of a step in any experiment, with these tags; None where there is none.

    Args:
        finished: only one that ended well; else also one that failed, or goes on.

    Raises:
        TrackingError: MLflow does not answer.
    """
    about = [f"tags.`{name}` = '{_word(text)}'" for name, text in {"pcc.step": step, **(tags or {})}.items()]
    return next(iter(_search(_every_experiment(), [*about, *(["status = 'FINISHED'"] if finished else [])], 1)), None)


def run_of(run_id: str) -> RecordedRun | None:
    """The run of this id; None where it is gone.

    Raises:
        TrackingError: MLflow does not answer.
    """
    return next(iter(_search(_every_experiment(), [f"attributes.run_id = '{_word(run_id)}'"], 1)), None)


def registered_versions(model_name: str) -> list[RegisteredVersion]:
    """All versions of the registered model, newest first; none where there is no such model."""
    versions = versions_of(model_name)
    aliases = aliases_of(model_name) if versions else {}
    return [
        RegisteredVersion(
            str(version.version),
            version.run_id or "",
            version.tags.get(VERSION_TAG, ""),
            aliases.get(str(version.version), ()),
        )
        for version in versions
    ]


def _is_meant(version: RegisteredVersion, name: str) -> bool:
    if name.isdecimal():
        return version.number == name.lstrip("0")
    return version.pcc_version == name or name.removeprefix("@") in version.aliases


def _trainings(places: Sequence[str], pcc_version: str) -> list[RecordedRun]:
    about = _search(places, [f"tags.`{VERSION_TAG}` = '{pcc_version}'"], None)
    return [run for run in about if run.step in _TRAINING]


def _measurements(places: Sequence[str], conditions: Sequence[str]) -> list[RecordedRun]:
    """Runs that measured a version on test rows, newest first."""
    evaluations = _search(places, ["tags.`pcc.step` = 'evaluate'", "status = 'FINISHED'", *conditions], None)
    # A refusal ends its run as failed, and the scores that it was refused for stand. Without them nothing was measured.
    judgements = _search(places, ["tags.`pcc.step` = 'promote'", "metrics.`test/accuracy` >= 0", *conditions], None)
    return sorted([*evaluations, *judgements], key=lambda run: run.started, reverse=True)


def _every_experiment(view: int = ViewType.ACTIVE_ONLY) -> list[str]:
    with asking("experiments"):
        return [experiment.experiment_id for experiment in pages(MlflowClient().search_experiments, view)]


def _word(text: str) -> str:
    if not re.fullmatch(r"[\w.\-]+", text):
        raise TrackingError("a step is named by one word", where=f"step {text!r}", fix="name one such as train")
    return text


def _search(
    places: Sequence[str], conditions: Sequence[str], limit: int | None, view: int = ViewType.ACTIVE_ONLY
) -> list[RecordedRun]:
    about = (list(places), " AND ".join(conditions), view)
    with asking(f"runs of experiment {', '.join(places)}"):
        runs = pages(MlflowClient().search_runs, *about, order_by=_NEWEST_FIRST, limit=limit)
        return [recorded(run) for run in runs]


def recorded(run: Run) -> RecordedRun:
    """A run of MLflow's, as it is told of here."""
    info = run.info
    return RecordedRun(
        info.run_id,
        info.experiment_id,
        info.run_name or "",
        info.status,
        _moment(info.start_time or 0),
        None if info.end_time is None else _moment(info.end_time),
        MappingProxyType(dict(run.data.metrics)),
        MappingProxyType(dict(run.data.params)),
        MappingProxyType(dict(run.data.tags)),
    )


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
