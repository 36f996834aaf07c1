"""Legal holds: what must be kept, whatever retention or erasure would do to it.

A version is held by its name and number. A person is held by keyed hashes, as manifests have them, so the hold tells
nobody who it is; it is found in manifests without a key. A hold knows the keys that were here when it was made: of a
manifest that a later key wrote nobody can tell whether the person stands in it, and what nobody can tell is kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pcc_pipeline.persons.keys import Keys, Kind
from pcc_pipeline.persons.manifest import key_of, stand_in

_KINDS: tuple[Kind, ...] = ("case", "subject")


@dataclass(frozen=True)
class Person:
    """Who is looked for: a subject, a case, or both, of which either is enough."""

    subject: str | None = None
    case_id: str | None = None


@dataclass(frozen=True)
class VersionHold:
    """A registered version that is held.

    Attributes:
        run_id: of its training; empty where it is not known yet.
    """

    name: str
    number: str
    reason: str
    since: str
    by: str
    run_id: str = ""

    @property
    def words(self) -> str:
        """As a plan names it."""
        return f"{self.name} version {self.number} is held (a legal hold, an order to keep it): {self.reason}"


@dataclass(frozen=True)
class PersonHold:
    """A person, or one case, that is held.

    Attributes:
        hashes: key's id -> keyed hash.
    """

    kind: Kind
    hashes: Mapping[str, bytes]
    reason: str
    since: str
    by: str

    @property
    def id(self) -> str:
        """What it is called: the beginning of its first hash."""
        return next(iter(self.hashes.values())).hex()[:12]

    @property
    def words(self) -> str:
        """As a plan names it."""
        return f"a {self.kind} is held (legal hold {self.id}, an order to keep its rows): {self.reason}"

    def to_json(self) -> str:
        """For the place where holds are kept."""
        hashes = {key: value.hex() for key, value in self.hashes.items()}
        document = {"kind": self.kind, "hashes": hashes, "reason": self.reason, "since": self.since, "by": self.by}
        return json.dumps(document, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> PersonHold:
        """Raises ValueError for what `to_json` did not write."""
        try:
            document = json.loads(text)
            kind: Kind = _KINDS[_KINDS.index(document["kind"])]
            hashes = {str(key): bytes.fromhex(value) for key, value in document["hashes"].items()}
            hold = cls(kind, hashes, *(str(document[name]) for name in ("reason", "since", "by")))
            hold.id  # noqa: B018 # there is at least one hash
        except (LookupError, TypeError, AttributeError, StopIteration) as error:
            raise ValueError("no hold") from error
        return hold


@dataclass(frozen=True)
class Holds:
    """All holds that there are."""

    versions: Sequence[VersionHold] = ()
    persons: Sequence[PersonHold] = ()
    _by_version: Mapping[tuple[str, str], VersionHold] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_version", {(hold.name, hold.number): hold for hold in self.versions})

    def on_version(self, name: str, number: str) -> VersionHold | None:
        """The hold on a registered version."""
        return self._by_version.get((name, number))

    def keeping(self, name: str, number: str, run_id: str) -> VersionHold | None:
        """The hold by which a version stays: on it, or on another one of its training, whose files are the same."""
        same = (hold for hold in self.versions if run_id and hold.run_id == run_id)
        return self.on_version(name, number) or next(same, None)

    def on_person(self, person: Person, keys: Keys) -> PersonHold | None:
        """The hold on a subject or a case, by its name.

        Of what they are held for by the other kind, their rows tell: see `on_rows`.
        """
        return next((hold for hold in self.persons if names(hold, person, keys)), None)

    def on_rows(self, key_id: str, cases: Sequence[bytes], subjects: Sequence[bytes]) -> PersonHold | None:
        """The hold on somebody among rows of a manifest, by the hashes that it has of them."""
        among = {"case": frozenset(cases), "subject": frozenset(subjects)}
        return next((hold for hold in self.persons if hold.hashes.get(key_id) in among[hold.kind]), None)

    def why_kept(self, content: bytes | None, where: str) -> str:
        """Why what a run left must be kept, by its manifest; empty where nothing says so.

        Args:
            content: of the manifest; None where the run left none, or it was removed.

        Raises:
            DataError: the manifest is damaged.
        """
        if not self.persons:
            return ""
        if content is None:
            return "it left no manifest, so nobody can tell whether somebody who is held stands in it"
        key_id = key_of(content, where)
        known = {
            kind: {hold.hashes[key_id]: hold for hold in self.persons if hold.kind == kind and key_id in hold.hashes}
            for kind in _KINDS
        }
        result = stand_in(content, {kind: frozenset(hashes) for kind, hashes in known.items()}, where)
        if result.hits:
            kind, value = result.hits[0]
            return known[kind][value].words
        if any(key_id not in hold.hashes for hold in self.persons):
            return f"a hold is older than the key {key_id}, which wrote its manifest: `pcc hold add` it again"
        if known["subject"] and result.subjectless:
            return "its manifest has no subjects, so nobody can tell whether a subject who is held stands in it"
        return ""


def names(hold: PersonHold, person: Person, keys: Keys) -> bool:
    """Whether a hold is on this subject or case."""
    name = person.subject if hold.kind == "subject" else person.case_id
    return name is not None and any(
        hold.hashes[key.id] == key.hashes(hold.kind, [name]) for key in keys.all if key.id in hold.hashes
    )


def hold_on(kind: Kind, name: str, keys: Keys, *, reason: str, since: str, by: str) -> PersonHold:
    """A hold on a subject or a case, by every key that is here; there must be one."""
    return PersonHold(kind, {key.id: key.hashes(kind, [name]) for key in keys.all}, reason, since, by)
