"""`manage_models retention`: show, and if asked remove, what is older than it may be and neither in use nor held."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any

from pcc_pipeline.errors import ConfigError
from pcc_pipeline.manage.queries import Question
from pcc_pipeline.manage.tables import shown, table
from pcc_pipeline.plurals import counted
from pcc_pipeline.steps import retention
from pcc_pipeline.steps.records.audit import Audit
from pcc_pipeline.steps.retention import Amount, RetentionPlan, staying_lines
from pcc_pipeline.tracking.payloads import json_text
from pcc_pipeline.tracking.registry.holds import read_holds
from pcc_pipeline.tracking.store import past_runs
from pcc_pipeline.tracking.store.expired import Tree

_MB = 1_000_000


def show_or_remove(question: Question, *, days: int | None, delete: bool = False) -> str:
    """What is older than `retention` allows, or with `days` the runs that ended longer ago; removed if `delete`.

    Raises:
        ConfigError: days is not at least 1, or nothing is to go at all.
        TrackingError: MLflow refuses or does not answer; asking again completes it.
    """
    if days is not None and days < 1:
        raise ConfigError(f"{days} days would spare nothing", where="--days", fix="give 1 or more")
    if days is None and not retention.is_set(question.params):
        raise ConfigError(
            "nothing is to go: no option of retention has days",
            where="retention in the parameter file",
            fix="set some there, or give --days for runs alone",
        )
    experiment = past_runs.open_experiment(question.experiment).experiment_id
    if days is None:
        planned = retention.plan(question.params, experiment)
    else:
        trees, staying = retention.runs_plan(experiment, days)
        planned = RetentionPlan(read_holds(), trees=trees, staying=Counter(staying))
    audit = Audit(question.params)
    removed = retention.carry_out(planned, audit).removed if delete else planned.amounts
    if question.as_json:
        return json_text(_plan_document(planned, removed=delete))
    lines = []
    if files := _files(planned):
        lines += [table(("written (UTC)", "what", "MB", "where"), files), ""]
    if planned.trees:
        head = ("started (UTC)", "run", "step", "runs", "models", "versions", "MB")
        lines += [table(head, [_row(tree) for tree in planned.trees]), ""]
    if days is not None:
        runs, size = removed.get("runs", Amount(0, 0))
        amount = f"{counted(runs, 'run')} that ended more than {counted(days, 'day')} ago, {size / _MB:,.1f} MB"
        lines.append(f"removed {amount}" if delete else f"would remove {amount}")
    else:
        did = "removed" if delete else "would remove"
        amounts = [f"{part.number:,} {kind}, {part.size / _MB:,.1f} MB" for kind, part in removed.items()]
        lines += [f"{did} {amount}" for amount in amounts] or ["nothing is old enough"]
    lines += staying_lines(planned.staying)
    if removed and not delete:
        lines.append("nothing was removed; --delete removes them")
    return "\n".join([*lines, *audit.warnings])


def _files(planned: RetentionPlan) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]]
    rows = [(_day(copy.written), kind, _megabytes(copy.size), shown(str(copy.path))) for kind, copy in planned.copies]
    rows += [
        (_day(one.run.started.timestamp()), "predictions", _megabytes(one.size), f"{one.name} of run {one.run.run_id}")
        for one in planned.tables
    ]
    rows += [
        (f"before {planned.before}", counted(aged.vectors, "vector"), _megabytes(aged.size), shown(aged.where))
        for aged in planned.vectors
    ]
    return rows


def _row(tree: Tree) -> tuple[str, ...]:
    versions = ", ".join(f"{version.name}/{version.version}" for version in tree.versions)
    return (
        _day(tree.root.info.start_time / 1000),
        tree.root.info.run_id[:8],
        tree.root.data.tags["pcc.step"],
        str(len(tree.runs)),
        str(len(tree.models)),
        versions,
        _megabytes(tree.size),
    )


def _plan_document(planned: RetentionPlan, *, removed: bool) -> dict[str, Any]:
    return {
        "removed": removed,
        "runs": [_document(tree) for tree in planned.trees],
        "files": [
            {"kind": kind, "path": str(copy.path), "run_id": copy.run.run_id, "bytes": copy.size}
            for kind, copy in planned.copies
            if copy.run is not None
        ],
        "logged": [{"run_id": one.run.run_id, "file": one.name, "bytes": one.size} for one in planned.tables],
        "vectors": [{"file": one.where, "vectors": one.vectors, "bytes": one.size} for one in planned.vectors],
        "staying": dict(planned.staying),
    }


def _document(tree: Tree) -> dict[str, Any]:
    return {
        "run_id": tree.root.info.run_id,
        "started": datetime.fromtimestamp(tree.root.info.start_time / 1000, UTC).isoformat(),
        "runs": [run.info.run_id for run in tree.runs],
        "models": [model.model_id for model in tree.models],
        "versions": [f"{version.name}/{version.version}" for version in tree.versions],
        "bytes": tree.size,
    }


def _day(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M")


def _megabytes(size: int) -> str:
    return f"{size / _MB:,.1f}"
