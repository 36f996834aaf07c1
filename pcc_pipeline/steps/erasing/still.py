"""What of persons stands anywhere yet, or again."""

from __future__ import annotations

from pcc_pipeline.config import Params
from pcc_pipeline.persons.keys import Keys
from pcc_pipeline.persons.rows import count_in
from pcc_pipeline.persons.sought import Sought
from pcc_pipeline.steps.erasing.holdings import holdings_of
from pcc_pipeline.steps.erasing.plan import Plan, Scan, held_in
from pcc_pipeline.steps.erasing.published import published_as
from pcc_pipeline.steps.erasing.tables import is_there
from pcc_pipeline.storage.objects import local_copy
from pcc_pipeline.tracking.registry.erased import version_is_there
from pcc_pipeline.tracking.store.run_files import RunFiles


def still_standing(params: Params, persons: Sought, keys: Keys, plan: Plan) -> dict[str, int]:
    """Place -> rows of the persons that stand there, or that a version which stands there learned.

    Args:
        plan: of their erasure, whose files, runs and versions are looked at as well.

    Raises:
        DataError: a manifest or table is damaged.
        StorageError: a bucket cannot be read.
        TrackingError: MLflow does not answer.
    """
    known = holdings_of(params, persons, keys)
    scan = Scan(params, known)
    column, still = params.data.subject_column, dict[str, int]()
    for part in scan.runs():
        rows = sum(part.rows.values()) or sum(part.tables.values()) or sum(part.documents.values())
        if rows:
            still[f"run {part.run_id} ({part.step})"] = rows
    still |= {address: rows for address, rows in scan.copies().items() if rows}
    for address in plan.copies:
        if address not in still and is_there(address):
            with local_copy(address) as path:
                if rows := count_in(path, persons, column):
                    still[address] = rows
    for learned in plan.learned:
        if learned.action != "note":
            for address in published_as(params, learned.run_id, learned.published):
                still[address] = learned.rows
            if learned.name and version_is_there(learned.name, learned.number):
                still[f"{learned.name} version {learned.number}, which learned from them"] = learned.rows
    for part in plan.runs:
        if any(place.startswith(f"run {part.run_id} ") for place in still):
            continue
        its = RunFiles(part.run_id)
        for name, rows in [one for held in held_in(its, its.names(), persons, column) for one in held.items()]:
            still[f"{name} of run {part.run_id}"] = rows
    return still
