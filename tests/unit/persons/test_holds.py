"""Legal holds: who is held is known by keyed hashes alone, and what cannot be told is kept."""

from __future__ import annotations

import pytest

from pcc_pipeline.errors import DataError
from pcc_pipeline.persons.holds import Holds, Person, PersonHold, VersionHold, hold_on
from pcc_pipeline.persons.keys import Keys, Kind
from tests.unit.persons.test_manifest import KEY, OTHER, made

FACTS = {"reason": "case 12", "since": "2026-11-01", "by": "officer"}


def holds(kind: Kind, name: str, keys: Keys | None = None) -> Holds:
    return Holds(persons=[hold_on(kind, name, keys or Keys((KEY,)), **FACTS)])


def test_a_run_in_which_a_held_person_stands_is_kept_and_no_other() -> None:
    content = made()
    for kind, name in (("subject", "anna"), ("case", "c5")):
        assert "case 12" in holds(kind, name).why_kept(content, "m")
    for kind, name in (("subject", "c5"), ("case", "anna"), ("subject", "nobody")):
        assert holds(kind, name).why_kept(content, "m") == ""
    assert Holds().why_kept(None, "m") == ""


def test_what_nobody_can_tell_is_kept() -> None:
    held = holds("subject", "anna")
    assert "left no manifest" in held.why_kept(None, "m")
    assert "older than the key" in held.why_kept(made(OTHER), "m")
    assert "no subjects" in held.why_kept(made(column=None), "m")
    assert holds("case", "c9").why_kept(made(column=None), "m") == ""
    both = holds("subject", "nobody", Keys((OTHER, KEY)))
    assert both.why_kept(made(), "m") == both.why_kept(made(OTHER), "m") == ""
    with pytest.raises(DataError, match="damaged"):
        held.why_kept(made()[:-20], "m")


def test_a_hold_is_read_as_it_was_written_and_names_nobody() -> None:
    (hold,) = holds("subject", "anna", Keys((OTHER, KEY))).persons
    assert PersonHold.from_json(hold.to_json()) == hold
    assert "anna" not in hold.to_json()
    for text in ("", "{}", "[]", hold.to_json().replace("subject", "object"), '{"kind": "case", "hashes": {}}'):
        with pytest.raises(ValueError, match=r".*"):
            PersonHold.from_json(text)


def test_a_person_is_asked_for_by_name_and_by_their_rows() -> None:
    held, keys = holds("subject", "anna"), Keys((OTHER, KEY))
    assert held.on_person(Person("anna"), keys) is held.persons[0]
    assert held.on_person(Person("bea", "anna"), keys) is None
    assert held.on_person(Person("anna"), Keys((OTHER,))) is None
    anna, bea = (KEY.hashes("subject", [name]) for name in ("anna", "bea"))
    assert held.on_rows(KEY.id, [], [bea, anna]) is held.persons[0]
    assert held.on_rows(KEY.id, [anna], [bea]) is None
    assert held.on_rows(OTHER.id, [], [anna]) is None
    of_version = Holds(versions=[VersionHold("pcc", "3", **FACTS)])
    assert of_version.on_version("pcc", "3") is of_version.versions[0]
    assert of_version.on_version("pcc", "4") is None
