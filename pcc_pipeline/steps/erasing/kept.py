"""What certificates of earlier erasures tell: that persons were erased, from where, and which versions stayed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pcc_pipeline.errors import PccError
from pcc_pipeline.persons.keys import Keys
from pcc_pipeline.persons.sought import Sought
from pcc_pipeline.steps.erasing.certificate import moment, persons_of, read_certificate
from pcc_pipeline.steps.erasing.plan import LearnedVersion, Plan
from pcc_pipeline.steps.records.summary import counted
from pcc_pipeline.tracking.registry.erased import version_is_there
from pcc_pipeline.tracking.registry.holds import read_holds


@dataclass(frozen=True)
class Earlier:
    """Erasures of persons, or of more than these, by the certificates in a folder; the newest last.

    Attributes:
        persons: all of whom they were.
        files: where the certificates lie.
    """

    persons: Sought
    plans: tuple[Plan, ...] = ()
    files: tuple[Path, ...] = ()
    ended: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """When it was, and by which certificate."""
        return f"on {moment(self.ended[-1])} (certificate {self.files[-1].with_suffix('.html')})"

    @property
    def kept(self) -> list[LearnedVersion]:
        """Versions that a hold kept and that are there still, each once."""
        every = [version for plan in self.plans for version in standing(plan) if version.held]
        return list({(version.name, version.number): version for version in every}.values())


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
    if version.held and read_holds().on_version(version.name, version.number) is None:
        learned = f"{version.title} learned from {counted(version.rows, 'row')} of theirs"
        return f"{learned} and was kept by a hold that is over ({why}): pcc erase of these persons replaces it now"
    return f"{version.title} learned from {counted(version.rows, 'row')} of theirs and stays ({why})"


def earlier_erasures(folder: Path, keys: Keys, sought: Sought) -> Earlier:
    """Those whose certificates cover these persons."""
    every = sorted(_certificates(folder, keys, sought), key=lambda one: str(one[1]["ended"]))
    persons = Sought()
    for _, _, its in every:
        persons = persons.joined(its)
    return Earlier(
        persons,
        tuple(Plan.of(document["plan"]) for _, document, _ in every),
        tuple(file for file, _, _ in every),
        tuple(str(document["ended"]) for _, document, _ in every),
    )


def _certificates(folder: Path, keys: Keys, sought: Sought) -> Iterator[tuple[Path, Mapping[str, Any], Sought]]:
    for file in folder.glob("*.certificate.json"):
        try:
            document = read_certificate(file, keys)
            persons = persons_of(document, keys, str(file))
        except PccError:  # of a key that is not here, or none of ours: it tells nothing
            continue
        if sought.is_within(persons):
            yield file, document, persons
