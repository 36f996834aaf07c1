"""What certificates of earlier erasures tell: that persons were erased, from where, and which versions stayed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pcc_pipeline.errors import PccError
from pcc_pipeline.persons.holds import Holds
from pcc_pipeline.persons.keys import Keys
from pcc_pipeline.persons.sought import Sought, union
from pcc_pipeline.plurals import counted
from pcc_pipeline.steps.erasing.certificate import persons_of, read_certificate
from pcc_pipeline.steps.erasing.held import holds_on
from pcc_pipeline.steps.erasing.plan import LearnedVersion, Plan, made_since
from pcc_pipeline.steps.erasing.state import State, read_state, unfinished
from pcc_pipeline.steps.erasing.telling.sentences import BY_POLICY
from pcc_pipeline.steps.erasing.telling.vocabulary import moment
from pcc_pipeline.tracking.registry.erased import version_is_there
from pcc_pipeline.tracking.registry.holds import read_holds

_LEFT = (
    "rows without a person's name that were put back after {}, of others too: one of these is held now, and which case "
    "is whose the certificate does not tell, so they are left where they stand"
)
_TOGETHER = (
    "these were erased together with others, and which case is whose that certificate does not tell: where somebody "
    "put rows back that name no person, those of the others go as well"
)


@dataclass(frozen=True)
class Earlier:
    """Erasures of persons, or of more than these, by the certificates in a folder; the newest last.

    Attributes:
        persons: all of whom they were; of one that was of others too, of whom somebody is held now, without the cases.
        files: where the certificates lie.
        others: of whom those were that others stand in too, and whose cases are looked for: whose a case is these do
            not tell, so that a hold on any of them is asked for.
        left: how many there are of which cases are not looked for.
    """

    persons: Sought
    plans: tuple[Plan, ...] = ()
    files: tuple[Path, ...] = ()
    ended: tuple[str, ...] = ()
    others: Sought = field(default_factory=Sought)
    left: int = 0

    @property
    def words(self) -> str:
        """When it was, and by which certificate."""
        return f"on {moment(self.ended[-1])} (certificate {self.pages[-1]})"

    @property
    def pages(self) -> list[Path]:
        """The certificates as pages."""
        return [file.with_suffix(".html") for file in self.files]

    @property
    def unseen(self) -> list[str]:
        """What was not looked into, in words."""
        return [_LEFT.format(counted(self.left, "earlier erasure"))] if self.left else []

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to know of a plan for these persons alone."""
        return (_TOGETHER,) if self.others.keys else ()

    @cached_property
    def kept(self) -> list[LearnedVersion]:
        """Versions that a hold kept and that are there still, and what was made after they were erased; each once."""
        every = [version for plan in self.plans for version in standing(plan) if version.held]
        every += [version for plan in self.plans for version in made_since(plan)]
        return list({(version.run_id, version.name, version.number): version for version in every}.values())


def standing(plan: Plan) -> list[LearnedVersion]:
    """The versions that a plan let stay, by a hold or by the policy, and that are there still."""
    return [
        each
        for each in plan.learned
        if each.action == "note" and each.name and version_is_there(each.name, each.number)
    ]


def words(version: LearnedVersion) -> str:
    """As a certificate and a summary name one."""
    why = version.held or BY_POLICY
    if version.held and read_holds().keeping(version.name, version.number, version.run_id) is None:
        learned = f"{version.title} learned from {counted(version.rows, 'row')} of theirs"
        return f"{learned} and was kept by a hold that is over ({why}): pcc erase of these persons replaces it now"
    return f"{version.title} learned from {counted(version.rows, 'row')} of theirs and stays ({why})"


def earlier_erasures(folder: Path, keys: Keys, sought: Sought, holds: Holds) -> Earlier:
    """Those whose certificates cover these persons."""
    every = sorted(_certificates(folder, keys, sought.is_within), key=lambda one: str(one[1]["ended"]))
    persons, others, left = Sought(), Sought(), 0
    for _, _, its in every:
        alone = its.is_within(sought)
        if not alone and holds_on(its, holds):
            left += bool(its.their_cases)
            its = replace(its, their_cases={})
        elif not alone:
            others = others.joined(its)
        persons = persons.joined(its)
    return Earlier(
        persons,
        tuple(Plan.of(document["plan"]) for _, document, _ in every),
        tuple(file for file, _, _ in every),
        tuple(str(document["ended"]) for _, document, _ in every),
        others,
        left,
    )


def erasures_with(folder: Path, keys: Keys, sought: Sought) -> Earlier:
    """Those whose certificates cover these persons, or cases that were erased with whose they were."""
    every = sorted(
        _certificates(folder, keys, lambda its: sought.is_within(_by_every_case(its))),
        key=lambda one: str(one[1]["ended"]),
    )
    persons = Sought()
    for _, _, its in every:
        persons = persons.joined(its)
    plans = tuple(Plan.of(document["plan"]) for _, document, _ in every)
    return Earlier(persons, plans, tuple(file for file, _, _ in every), tuple(str(one["ended"]) for _, one, _ in every))


def begun_with(folder: Path, keys: Keys, sought: Sought) -> list[State]:
    """Erasures of these persons, or of whose cases these are, that were begun and have not ended.

    Raises:
        ConfigError: the state of one is damaged, or a key of it is not here.
    """
    states = [state for ident in unfinished(folder) if (state := read_state(folder, ident, keys)) is not None]
    return [state for state in states if sought.is_within(_by_every_case(state.persons))]


def _by_every_case(persons: Sought) -> Sought:
    return replace(persons, cases=union(persons.cases, persons.their_cases))


def _certificates(
    folder: Path, keys: Keys, covered: Callable[[Sought], bool]
) -> Iterator[tuple[Path, Mapping[str, Any], Sought]]:
    for file in folder.glob("*.certificate.json"):
        try:
            document = read_certificate(file, keys)
            persons = persons_of(document, keys, str(file))
        except PccError:  # of a key that is not here, or none of ours: it tells nothing
            continue
        if covered(persons):
            yield file, document, persons
