"""Whether somebody who is to be erased must be kept, and whom of the list that is."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from pcc_pipeline.config import Params
from pcc_pipeline.errors import PccError
from pcc_pipeline.persons.holds import Holds, PersonHold
from pcc_pipeline.persons.keys import Key, Keys
from pcc_pipeline.persons.sought import Sought
from pcc_pipeline.steps.erasing.holdings import Holdings, holdings_of
from pcc_pipeline.steps.erasing.spelling import LISTS
from pcc_pipeline.steps.erasing.telling.vocabulary import moment

_SHOWN = 5


class HeldError(PccError):
    """Somebody who is to be erased must be kept."""


def holds_on(persons: Sought, holds: Holds, seen: Collection[tuple[Key, bytes]] = ()) -> list[PersonHold]:
    """The holds on persons, on cases of theirs, and on whose their cases are.

    Args:
        seen: hashes of cases and subjects that stand in their rows.
    """

    def is_on(hold: PersonHold, key: Key) -> bool:
        kinds = [persons.subjects] if hold.kind == "subject" else [persons.cases, persons.their_cases]
        its = hold.hashes.get(key.id)
        return its is not None and ((key, its) in seen or any(its in hashes.get(key, ()) for hashes in kinds))

    return [hold for hold in holds.persons if any(is_on(hold, key) for key in persons.keys)]


def demand_not_held(
    params: Params,
    known: Holdings,
    names: Mapping[str, Sequence[str]],
    keys: Keys,
    holds: Holds,
    *,
    others: Sought | None = None,
    so: str = "so nothing was planned",
) -> None:
    """See whether one of the persons must be kept.

    Args:
        names: `subjects` and `case_ids`, of whom the error says by their place who is held: their names stay unsaid.
        others: of erased persons whose case ids are looked for as well, all.

    Raises:
        HeldError: one must.
        DataError: a manifest is damaged.
        TrackingError: MLflow does not answer.
    """
    held = holds_on(known.persons, holds, known.seen)
    its = {hold.id: f"{hold.words}; that is {_whom(params, hold, names, keys)}" for hold in held}
    for hold in holds_on(others or Sought(), holds):
        its.setdefault(hold.id, f"{hold.words}; that is somebody who was erased together with one of the list")
    if its:
        first = next(hold for hold in holds.persons if hold.id in its)
        raise HeldError(
            f"{'; '.join(its.values())}, {so}",
            where=f"hold {first.id}, set by the login or account {first.by} on {moment(first.since)}",
            fix="leave that name out of the list, or ask who set the hold; once nothing has to be kept any more: "
            f'pcc hold remove --hold {first.id} --reason "WHO LET IT, AND WHY"',
        )


def _whom(params: Params, hold: PersonHold, names: Mapping[str, Sequence[str]], keys: Keys) -> str:
    """Where in the list who is held stands, by name or by their rows."""
    hashes = {key: frozenset([hold.hashes[key.id]]) for key in keys.all if key.id in hold.hashes}
    if direct := _places(names, keys, {(key, one) for key, those in hashes.items() for one in those}):
        return direct
    persons = Sought(subjects=hashes) if hold.kind == "subject" else Sought(cases=hashes)
    if by_rows := _places(names, keys, holdings_of(params, persons, keys).seen):
        return f"{by_rows}, by its rows"
    return "somebody of the list, by what an earlier erasure knew of their cases"


def _places(names: Mapping[str, Sequence[str]], keys: Keys, those: Collection[tuple[Key, bytes]]) -> str:
    # A case and a subject of one name have different hashes.
    places = [
        f"name {place} of the list of {list_of}"
        for option, kind, list_of in LISTS
        for place, name in enumerate(names[option], start=1)
        if any((key, key.hashes(kind, [name])) in those for key in keys.all)
    ]
    return ", ".join([*places[:_SHOWN], *([f"{len(places) - _SHOWN} more"] if len(places) > _SHOWN else [])])
