"""`manage_models resume`: log to MLflow what earlier runs could not, because it was away."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from pcc_pipeline.errors import PccError, TrackingError
from pcc_pipeline.manage.queries import Question
from pcc_pipeline.tracking.delivery.journal import adopt, folders
from pcc_pipeline.tracking.delivery.operations import Operation, Registered
from pcc_pipeline.tracking.delivery.preflight import demand_account, demand_server
from pcc_pipeline.tracking.delivery.writer import brief_requests
from pcc_pipeline.tracking.payloads import json_text
from pcc_pipeline.tracking.registry.versions import asking

_NAMED = {"log": "entries of runs", "nested": "trials", "model": "models", "end": "ends of runs"}


@dataclass
class _Done:
    counts: Counter[str] = field(default_factory=Counter)
    lines: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    busy: int = 0


def resume(question: Question) -> str:
    """Write everything under `output.unlogged_dir` to MLflow, each thing once, and forget it. May be repeated.

    Raises:
        TrackingError: MLflow does not answer, or refuses some of it; that stays where it is.
    """
    root = Path(question.params.output.unlogged_dir)
    demand_server()
    demand_account()
    done = _Done()
    for folder in folders(root):
        _one(folder, done)
    if done.faults:
        text = "\n".join(f"  {fault}" for fault in done.faults)
        raise TrackingError(
            f"MLflow was not told everything; the rest stays on disk:\n{text}",
            where=str(root),
            fix="mend the cause and resume again; nothing is logged twice",
        )
    if question.as_json:
        return json_text({"logged": dict(done.counts), "models": done.lines, "still_running": done.busy})
    if not done.counts and not done.busy:
        return f"nothing to log: MLflow misses nothing of {root}"
    text = ", ".join(f"{number} {_NAMED[kind]}" for kind, number in sorted(done.counts.items())) or "nothing"
    waiting = [f"{done.busy} processes are still at work and log theirs themselves"] if done.busy else []
    return "\n".join([f"logged {text}", *done.lines, *waiting])


def _one(folder: Path, done: _Done) -> None:
    journal = adopt(folder)
    if journal is None:
        done.busy += 1
        return
    try:
        for entry in journal.entries:
            with asking(str(entry)), brief_requests():
                operation, registered = journal.carry_out(entry)
            done.counts[operation.kind] += 1
            if registered is not None:
                done.lines.append(_model_line(operation, registered))
    except PccError as error:
        # What comes after it in this folder may build on it; other folders do not.
        done.faults.append(str(error).replace("\n", "\n  "))
    finally:
        journal.close()


def _model_line(operation: Operation, registered: Registered) -> str:
    assert operation.kind == "model", "no other operation registers anything"
    if not registered.version:
        return (
            f"logged {registered.model_uri} ({operation.tags.get('pcc.version', '')}); not registered, since its run "
            f"{operation.run_id} was ended from outside: train again, or register it in the MLflow UI"
        )
    version = f"registered {operation.name} version {registered.version} ({operation.tags.get('pcc.version', '')})"
    if registered.alias_moved:
        return f"{version}, alias {operation.alias}"
    return f"{version}; {operation.alias} stays at a version that was trained later"
