"""Telling MLflow what processes that ended could not tell it, each thing once."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from pcc_pipeline.errors import PccError
from pcc_pipeline.tracking.delivery.journal import adopt, folders
from pcc_pipeline.tracking.delivery.operations import Operation, Registered
from pcc_pipeline.tracking.delivery.writer import brief_requests
from pcc_pipeline.tracking.registry.versions import asking


@dataclass
class CaughtUp:
    """What was told.

    Attributes:
        counts: kinds of operations, and how many of each.
        lines: one for each model.
        faults: what MLflow refused, or cannot be read; it stays where it is.
        busy: processes that live, and tell theirs themselves.
    """

    counts: Counter[str] = field(default_factory=Counter)
    lines: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    busy: int = 0


def catch_up(root: Path) -> CaughtUp:
    """Write everything under `root` to MLflow and forget it; may be repeated, and by several at once."""
    done = CaughtUp()
    for folder in folders(root):
        _one(folder, done)
    return done


def _one(folder: Path, done: CaughtUp) -> None:
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
