"""Manifests: whoever has the key finds a person's rows, and nobody else anything; 35 bytes a row."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pcc_pipeline.data.contract import RowPlaces
from pcc_pipeline.errors import DataError
from pcc_pipeline.persons.keys import Key, Keys
from pcc_pipeline.persons.manifest import KeyAbsentError, Manifest, look_up, rows_by_side
from pcc_pipeline.persons.sought import Sought

KEY, OTHER = Key(b"k" * 32), Key(b"o" * 32)


def places(rows: int, files: list[str] | None = None) -> RowPlaces:
    return RowPlaces(np.arange(rows), None if files is None else np.array(files, dtype=object))


def person(subject: str | None = None, case_id: str | None = None) -> Sought:
    keys = Keys((OTHER, KEY))
    return Sought.of(keys, [subject] if subject else [], [case_id] if case_id else [])


def made(key: Key = KEY, column: str | None = "who") -> bytes:
    manifest = Manifest(key, column)
    frame = pd.DataFrame({"case_id": ["c1", "c2", "c3", "c4"], "who": ["anna", "bea", "anna", None]})
    manifest.add(frame, places(4), ["train", "train", "val", "test"], "a.csv")
    more = pd.DataFrame({"case_id": ["c1", "c5"], "who": [7, 7.0]})
    manifest.add(more, places(2, ["x.csv", "y.csv"]), "scored", "both")
    return manifest.to_bytes()


def test_a_subject_and_a_case_are_found_where_they_stand() -> None:
    content, keys = made(), Keys((OTHER, KEY))
    assert look_up(content, keys, person("anna"), "m").places == {("train", "a.csv"): [0], ("val", "a.csv"): [2]}
    assert look_up(content, keys, person(case_id="c1"), "m").places == {
        ("train", "a.csv"): [0],
        ("scored", "x.csv"): [0],
    }
    both = look_up(content, keys, person("bea", "c4"), "m")
    assert both.places == {("train", "a.csv"): [1], ("test", "a.csv"): [3]}
    assert both.rows == 2
    # One form of a number, as labels have it, whatever column it stands in.
    assert look_up(content, keys, person("7"), "m").places == {("scored", "x.csv"): [0], ("scored", "y.csv"): [1]}
    assert look_up(content, keys, person("nobody"), "m").places == {}


def test_a_case_is_no_subject_and_no_row_belongs_to_nobody() -> None:
    keys = Keys((KEY,))
    assert look_up(made(), keys, person("c1"), "m").places == {}
    assert look_up(made(), keys, person(case_id="anna"), "m").places == {}
    assert not look_up(made(), keys, person("anna"), "m").by_case_only
    without = look_up(made(column=None), keys, person("anna"), "m")
    assert without.places == {}
    assert without.by_case_only


def test_nothing_of_it_can_be_read_without_the_key() -> None:
    content = made()
    for word in (b"anna", b"bea", b"c1", b"c5", KEY.secret):
        assert word not in content
    with pytest.raises(KeyAbsentError, match=f"the key {KEY.id}, which wrote the manifest, is not here"):
        look_up(content, Keys((OTHER,)), person("anna"), "run 1")
    assert rows_by_side(content, "m") == {
        ("train", "a.csv"): 2,
        ("val", "a.csv"): 1,
        ("test", "a.csv"): 1,
        ("scored", "x.csv"): 1,
        ("scored", "y.csv"): 1,
    }


def test_the_same_rows_give_the_same_bytes_and_none_a_whole_file() -> None:
    assert made() == made()
    assert made() != made(OTHER)
    empty = Manifest(KEY).to_bytes()
    assert look_up(empty, Keys((KEY,)), person("anna"), "m").places == {}
    assert rows_by_side(empty, "m") == {}


@pytest.mark.parametrize("content", [b"", b"PAR1", made()[:-9], made()[:40] + b"x" * 60])
def test_a_damaged_manifest_is_an_error_that_says_so(content: bytes) -> None:
    with pytest.raises(DataError, match="damaged"):
        look_up(content, Keys((KEY,)), person("anna"), "run 1")
    with pytest.raises(DataError, match="damaged"):
        rows_by_side(content, "run 1")


def test_a_row_takes_less_than_a_hundred_bytes() -> None:
    rows = 50_000
    manifest = Manifest(KEY, "who")
    frame = pd.DataFrame({"case_id": [f"case-{n}" for n in range(rows)], "who": [f"p{n % 7919}" for n in range(rows)]})
    manifest.add(frame, places(rows), list(np.where(np.arange(rows) % 5, "train", "test")), "a.csv")
    assert len(manifest.to_bytes()) < 40 * rows
