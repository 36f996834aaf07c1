"""`manage_models retention`: show, and if asked remove, what is older than some days and referred to by nothing."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from pcc_pipeline.errors import ConfigError
from pcc_pipeline.manage.queries import Question
from pcc_pipeline.manage.tables import table
from pcc_pipeline.tracking.payloads import json_text
from pcc_pipeline.tracking.store import expired, past_runs
from pcc_pipeline.tracking.store.expired import Tree

_MB = 1_000_000


def retention(question: Question, *, days: int, delete: bool = False) -> str:
    """The runs of the experiment that ended more than `days` days ago, with their models; removed if `delete`.

    Raises:
        ConfigError: days is not at least 1.
        TrackingError: MLflow refuses or does not answer; asking again completes it.
    """
    if days < 1:
        raise ConfigError(f"{days} days would spare nothing", where="--days", fix="give 1 or more")
    experiment = past_runs.open_experiment(question.experiment)
    plan = expired.plan(experiment.experiment_id, days, time.time())
    if delete:
        for tree in plan.going:
            expired.remove(tree)
    if question.as_json:
        return json_text(
            {"removed": delete, "runs": [_document(tree) for tree in plan.going], "staying": dict(plan.staying)}
        )
    lines = []
    if plan.going:
        head = ("started (UTC)", "run", "step", "runs", "models", "versions", "MB")
        lines += [table(head, [_row(tree) for tree in plan.going]), ""]
    runs, size = sum(len(tree.runs) for tree in plan.going), sum(tree.size for tree in plan.going)
    amount = f"{runs} runs that ended more than {days} days ago, {size / _MB:,.1f} MB"
    lines.append(f"removed {amount}" if delete else f"would remove {amount}")
    lines += [f"{number} old ones stay: {reason}" for reason, number in sorted(plan.staying.items())]
    if plan.going and not delete:
        lines.append("nothing was removed; --delete removes them")
    return "\n".join(lines)


def _row(tree: Tree) -> tuple[str, ...]:
    versions = ", ".join(f"{version.name}/{version.version}" for version in tree.versions)
    return (
        _started(tree).strftime("%Y-%m-%d %H:%M"),
        tree.root.info.run_id[:8],
        tree.root.data.tags["pcc.step"],
        str(len(tree.runs)),
        str(len(tree.models)),
        versions,
        f"{tree.size / _MB:,.1f}",
    )


def _document(tree: Tree) -> dict[str, Any]:
    return {
        "run_id": tree.root.info.run_id,
        "started": _started(tree).isoformat(),
        "runs": [run.info.run_id for run in tree.runs],
        "models": [model.model_id for model in tree.models],
        "versions": [f"{version.name}/{version.version}" for version in tree.versions],
        "bytes": tree.size,
    }


def _started(tree: Tree) -> datetime:
    return datetime.fromtimestamp(tree.root.info.start_time / 1000, UTC)
