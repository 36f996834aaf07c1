"""Versions that learned from persons who were erased, and stayed because they were held."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pcc_pipeline.errors import PccError
from pcc_pipeline.persons.keys import Keys
from pcc_pipeline.persons.sought import Sought
from pcc_pipeline.steps.erasing.certificate import persons_of, read_certificate
from pcc_pipeline.steps.erasing.plan import LearnedVersion, Plan
from pcc_pipeline.steps.records.summary import counted
from pcc_pipeline.tracking.registry.erased import version_is_there


def standing(plan: Plan) -> list[LearnedVersion]:
    """The versions that a plan let stay, by a hold or by the policy, and that are there still."""
    return [
        each
        for each in plan.learned
        if each.action == "note" and each.name and version_is_there(each.name, each.number)
    ]


def words(version: LearnedVersion) -> str:
    """As a certificate and a summary name one."""
    why = version.held or "registry.erasure_policy: note"
    return f"{version.title} learned from {counted(version.rows, 'row')} of theirs and stays ({why})"


def kept_by_holds(folder: Path, keys: Keys, sought: Sought) -> list[LearnedVersion]:
    """Those of earlier erasures of these persons, or of more than these, by the certificates in a folder; each once."""
    plans = _plans(folder, keys, sought)
    every = [version for plan in plans for version in standing(plan) if version.held]
    return list({(version.name, version.number): version for version in every}.values())


def _plans(folder: Path, keys: Keys, sought: Sought) -> Iterator[Plan]:
    for file in sorted(folder.glob("*.certificate.json")):
        try:
            document = read_certificate(file, keys)
            persons = persons_of(document, keys, str(file))
        except PccError:  # of a key that is not here, or none of ours: it tells nothing
            continue
        if sought.is_within(persons):
            yield Plan.of(document["plan"])
