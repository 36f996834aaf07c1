"""Retention: what is older than `retention` allows goes, unless it is held, in use, or not ours.

On this machine only files go that a run named as its own and was the last to change, and vectors of our cache; in
MLflow only what runs of the experiment logged. Each removal is one act that another process may have done before: two
at once, or one that is killed and done again, come to the same.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

from pcc_pipeline.config import Params
from pcc_pipeline.config.paths import addresses_in, local_path
from pcc_pipeline.encoder.caches.entries import Aged, CachePlace
from pcc_pipeline.errors import ConfigError, DataError, StorageError, TrackingError
from pcc_pipeline.persons.holds import Holds
from pcc_pipeline.steps.inputs.caches import cache_places
from pcc_pipeline.steps.records.audit import Audit
from pcc_pipeline.steps.records.copies import STEPS, Copy, CopyKind, copies
from pcc_pipeline.steps.records.persons import READING_STEPS
from pcc_pipeline.storage.objects import BUCKET_SCHEME
from pcc_pipeline.tracking.registry.holds import read_holds
from pcc_pipeline.tracking.store import expired, past_runs
from pcc_pipeline.tracking.store.expired import REMOVED_TAG, Tree
from pcc_pipeline.tracking.store.manifests import KEY_TAG, manifest_of
from pcc_pipeline.tracking.store.past_runs import RecordedRun

_DAY = 86_400.0
_PREDICTIONS = "predictions.parquet"
_NOT_OURS = "not what a run left there: it was changed since, is a link, or another account's"


class LoggedTable(NamedTuple):
    """A file that a run logged to MLflow."""

    run: RecordedRun
    name: str
    size: int


class Amount(NamedTuple):
    """How much of a kind."""

    number: int
    size: int


@dataclass(frozen=True)
class RetentionPlan:
    """What would go, and how many old ones stay for which reason.

    Attributes:
        caches: those of which `vectors` go, which were made before the day `before`.
    """

    holds: Holds
    copies: Sequence[tuple[CopyKind, Copy]] = ()
    tables: Sequence[LoggedTable] = ()
    caches: Sequence[CachePlace] = ()
    vectors: Sequence[Aged] = ()
    before: date = date.min
    trees: Sequence[Tree] = ()
    staying: Counter[str] = field(default_factory=Counter)

    @property
    def amounts(self) -> dict[str, Amount]:
        """Kind -> how much would go; kinds of which nothing would are left out."""
        return _amounts(
            [
                *((f"{kind} files", 1, copy.size) for kind, copy in self.copies),
                *((f"logged {table.name}", 1, table.size) for table in self.tables),
                *(("vectors of the cache", aged.vectors, aged.size) for aged in self.vectors),
                *(("runs", len(tree.runs), tree.size) for tree in self.trees),
            ]
        )


@dataclass(frozen=True)
class RetentionOutcome:
    """What went, of each kind, and how many old ones stayed for which reason."""

    removed: dict[str, Amount]
    staying: Counter[str]
    warnings: tuple[str, ...] = ()

    @property
    def summary(self) -> list[str]:
        lines = [f"{amount.number:,} {kind}, {amount.size / 1e6:,.1f} MB" for kind, amount in self.removed.items()]
        first, *more = [*(f"removed {line}" for line in lines), *staying_lines(self.staying)] or [
            "nothing is old enough"
        ]
        return [f"retention  {first}", *(f"           {line}" for line in more), *self.warnings]


def is_set(params: Params) -> bool:
    """Whether anything is to go at all."""
    return any(days is not None for days in params.retention.model_dump().values())


def staying_lines(staying: Counter[str]) -> list[str]:
    """What stays, as a person reads it."""
    return [f"{number:,} old ones stay: {reason}" for reason, number in sorted(staying.items())]


def plan(params: Params, experiment_id: str) -> RetentionPlan:
    """What is older than `retention` allows, of an experiment's runs and of what they wrote on this machine.

    Raises:
        ConfigError: nothing is to go at all.
        TrackingError: MLflow does not answer, or a hold cannot be read.
    """
    if not is_set(params):
        raise ConfigError("nothing is to go: no option of retention has days", where="retention", fix="set some there")
    days, now, holds = params.retention, time.time(), read_holds()
    kept, staying = _Kept(holds), Counter[str]()
    ages: dict[CopyKind, int | None]
    ages = {"embedded": days.embedded, "predictions": days.predictions, "scores": days.scores}
    going = [
        (kind, copy)
        for kind, age in ages.items()
        if age is not None
        for copy in _old_copies(kind, age, now, experiment_id, kept, staying)
    ]
    tables = [] if days.predictions is None else _old_tables(days.predictions, now, experiment_id, kept, staying)
    before, caches, vectors = date.min, list[CachePlace](), list[Aged]()
    if days.caches is not None:
        before = datetime.fromtimestamp(now, UTC).date() - timedelta(days.caches)
        caches = [*cache_places(params)]
        vectors = [aged for place in caches for aged in place.aged(before)]
        if vectors and holds.persons:
            staying["vectors of the cache: somebody is held, and nobody can tell whose a vector is"] += len(vectors)
            vectors = []
    trees: Sequence[Tree] = ()
    if days.runs is not None:
        trees, reasons = runs_plan(experiment_id, days.runs, kept)
        staying.update({f"runs: {reason}": number for reason, number in reasons.items()})
    return RetentionPlan(holds, going, tables, caches, vectors, before, trees, staying)


def runs_plan(experiment_id: str, days: int, kept: _Kept | None = None) -> tuple[Sequence[Tree], dict[str, int]]:
    """The trees of runs that are older than some days, and how many stay for which reason.

    Raises:
        TrackingError: MLflow does not answer, or a hold cannot be read.
    """
    known = kept or _Kept(read_holds())
    result = expired.plan(experiment_id, days, time.time(), known.why_tree)
    return result.going, dict(result.staying)


def carry_out(planned: RetentionPlan, audit: Audit) -> RetentionOutcome:
    """Remove what a plan names, as far as it is still there and still as it was.

    Args:
        audit: says of each tree, and of what else goes, that it was begun and how it ended.

    Raises:
        FeatureError, StorageError, TrackingError: something cannot be removed, or a hold came meanwhile; doing it again
            completes it.
    """
    removed: list[tuple[str, int, int]] = []
    staying = Counter(planned.staying)
    _demand_same_holds(planned.holds)
    if planned.copies or planned.vectors or planned.tables:
        runs = {run.run_id for _, copy in planned.copies if (run := copy.run) is not None}
        about = {"files": len(planned.copies), "vectors": sum(aged.vectors for aged in planned.vectors)}
        with audit.act("retention", {**about, "runs": sorted(runs | {table.run.run_id for table in planned.tables})}):
            _remove_files(planned, removed)
    for tree in planned.trees:
        _demand_same_holds(planned.holds)
        about_tree = {
            "run": tree.root.info.run_id,
            "runs": len(tree.runs),
            "models": [model.model_id for model in tree.models],
            "versions": [f"{version.name}/{version.version}" for version in tree.versions],
        }
        with audit.act("retention", about_tree):
            expired.remove(tree)
        removed.append(("runs", len(tree.runs), tree.size))
    return RetentionOutcome(_amounts(removed), staying, tuple(audit.warnings))


def _remove_files(planned: RetentionPlan, removed: list[tuple[str, int, int]]) -> None:
    for kind, copy in planned.copies:
        try:
            gone = copy.remove()
        except OSError as error:
            raise StorageError(
                f"an old file cannot be removed: {error.strerror}",
                where=str(copy.path),
                fix="mend the folder's permissions, and do this again",
            ) from error
        if gone:
            removed.append((f"{kind} files", 1, copy.size))
    for place in planned.caches if planned.vectors else ():
        for aged in place.forget_aged(planned.before):
            removed.append(("vectors of the cache", aged.vectors, aged.size))
    for table in planned.tables:
        if expired.remove_table(table.run, table.name):
            removed.append((f"logged {table.name}", 1, table.size))


def run(params: Params) -> RetentionOutcome:
    """Plan and carry out, in the experiment that runs go to.

    Raises:
        ConfigError, FeatureError, StorageError, TrackingError: as `plan` and `carry_out`.
    """
    return carry_out(plan(params, past_runs.open_experiment().experiment_id), Audit(params))


class _Kept:
    """Why runs and what they wrote must be kept, though they are old."""

    def __init__(self, holds: Holds) -> None:
        self._holds = holds
        self._reasons: dict[str, str] = {}
        trained = [run for hold in holds.versions if hold.run_id and (run := past_runs.run_of(hold.run_id)) is not None]
        self._runs = {run.run_id for run in trained}
        # The run around the training, in which its file was embedded, too.
        self._around = {run.tags["mlflow.parentRunId"] for run in trained if "mlflow.parentRunId" in run.tags}
        self._files = {
            local_path(address).resolve()
            for run in trained
            for name in ("data.path", "data.test_path")
            for address in addresses_in(run.params.get(name, "None"))
            if not address.startswith(BUCKET_SCHEME)
        }

    def why_run(self, run: RecordedRun) -> str:
        """Why what a run left must be kept; empty where nothing says so."""
        about = {run.run_id, run.tags.get("pcc.training_run")}
        if about & self._runs or run.tags.get("mlflow.parentRunId") in self._around:
            return "made, measured or used by a version that is held"
        if run.run_id not in self._reasons:
            self._reasons[run.run_id] = self._why_rows(run)
        return self._reasons[run.run_id]

    def why_copy(self, copy: Copy) -> str:
        """The same of a file on this machine."""
        if copy.run is None:
            return _NOT_OURS
        if copy.path.resolve() in self._files:
            return "a version that is held learned from it"
        return self.why_run(copy.run)

    def why_tree(self, runs: Sequence[RecordedRun]) -> str:
        """The same of a tree of runs."""
        return next((reason for run in runs if (reason := self.why_run(run))), "")

    def _why_rows(self, run: RecordedRun) -> str:
        if not self._holds.persons or run.step not in READING_STEPS:
            return ""
        try:
            content = manifest_of(run) if KEY_TAG in run.tags else None
            return self._holds.why_kept(content, f"run {run.run_id}")
        except DataError as error:
            return f"{error.what}, so nobody can tell whether somebody who is held stands in it"


def _old_copies(
    kind: CopyKind, days: int, now: float, experiment_id: str, kept: _Kept, staying: Counter[str]
) -> Iterable[Copy]:
    for copy in copies(kind, past_runs.runs_of_step(experiment_id, STEPS[kind])):
        if copy.written < now - days * _DAY:
            if reason := kept.why_copy(copy):
                staying[f"{kind} files: {reason}"] += 1
            else:
                yield copy


def _old_tables(days: int, now: float, experiment_id: str, kept: _Kept, staying: Counter[str]) -> list[LoggedTable]:
    result = []
    for run in past_runs.runs_of_step(experiment_id, "evaluate"):
        if run.ended is None or run.ended.timestamp() >= now - days * _DAY or REMOVED_TAG in run.tags:
            continue
        size = expired.table_size(run, _PREDICTIONS)
        if size is None:
            continue
        if reason := kept.why_run(run):
            staying[f"logged {_PREDICTIONS}: {reason}"] += 1
        else:
            result.append(LoggedTable(run, _PREDICTIONS, size))
    return result


def _demand_same_holds(holds: Holds) -> None:
    if read_holds() != holds:
        raise TrackingError(
            "holds were changed meanwhile, so what is left stays", where="pcc hold list", fix="do this again"
        )


def _amounts(parts: Iterable[tuple[str, int, int]]) -> dict[str, Amount]:
    result: dict[str, Amount] = {}
    for kind, number, size in parts:
        before = result.get(kind, Amount(0, 0))
        if number:
            result[kind] = Amount(before.number + number, before.size + size)
    return result
