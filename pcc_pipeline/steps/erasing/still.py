"""What of persons stands anywhere yet, or again."""

from __future__ import annotations

from pcc_pipeline.config import Params
from pcc_pipeline.data.contract import CASE_ID
from pcc_pipeline.errors import DataError, PccError
from pcc_pipeline.persons.keys import Keys
from pcc_pipeline.persons.rows import count_in
from pcc_pipeline.persons.sought import Sought
from pcc_pipeline.steps.erasing.holdings import holdings_of
from pcc_pipeline.steps.erasing.plan import Plan, Scan, held_in, made_since
from pcc_pipeline.steps.erasing.published import published_as
from pcc_pipeline.steps.erasing.tables import is_there
from pcc_pipeline.steps.erasing.telling.vocabulary import JOBS
from pcc_pipeline.steps.inputs.datasets import read
from pcc_pipeline.storage.objects import local_copy
from pcc_pipeline.tracking.registry.erased import version_is_there
from pcc_pipeline.tracking.store.run_files import RunFiles


def in_inputs(plan: Plan, persons: Sought, subject_column: str | None) -> dict[str, int | None]:
    """The owner's file that an erasure was told of -> the persons' rows in it now; None where nobody can tell.

    That is where it is gone or cannot be read, and where it names neither cases nor subjects.
    """
    rows: dict[str, int | None] = {}
    for address in plan.inputs:
        rows[address] = 0
        try:
            for batch in read(address, one=is_there(address), may_be_empty=True):
                if CASE_ID not in batch and subject_column not in batch:
                    raise DataError("its rows name nobody")
                rows[address] = (rows[address] or 0) + int(persons.in_table(batch, subject_column).sum())
        except (PccError, OSError):
            rows[address] = None
    return rows


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
            still[f"run {part.run_id} (a {JOBS.get(part.step, part.step)} on record in MLflow)"] = rows
    still |= {address: rows for address, rows in scan.copies().items() if rows} | scan.pages()
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
    for late in made_since(plan):
        still[f"{late.called}, which was made after it and learned from them"] = late.rows
    for part in plan.runs:
        if any(place.startswith(f"run {part.run_id} ") for place in still):
            continue
        its = RunFiles(part.run_id)
        for name, rows in [one for held in held_in(its, its.names(), persons, column) for one in held.items()]:
            still[f"{name} of run {part.run_id}"] = rows
    return still
