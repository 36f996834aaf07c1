"""Persons that are looked for, as keyed hashes alone: what finds their rows in manifests and in tables of any kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pcc_pipeline.data.columns import as_list, label_rule
from pcc_pipeline.data.contract import CASE_ID
from pcc_pipeline.errors import ConfigError
from pcc_pipeline.persons.keys import WIDTH, Key, Keys

HASH = pa.binary(WIDTH)
Hashes = Mapping[Key, frozenset[bytes]]
BRING_KEY = "bring it, as PCC_LINEAGE_KEY or in lineage.key_file"


@dataclass(frozen=True)
class Sought:
    """Whose rows are meant. By each key, since a hash of one key says nothing in what another one wrote.

    Attributes:
        subjects: of persons.
        cases: of cases that are meant whosever they are.
        their_cases: of cases that the persons had somewhere; elsewhere they are meant where the row names no subject.
    """

    subjects: Hashes = field(default_factory=dict)
    cases: Hashes = field(default_factory=dict)
    their_cases: Hashes = field(default_factory=dict)

    @classmethod
    def of(cls, keys: Keys, subjects: Sequence[str] = (), case_ids: Sequence[str] = ()) -> Sought:
        """By every key that there is."""
        return cls(
            {key: _hashed(key, "subject", subjects) for key in keys.all if subjects},
            {key: _hashed(key, "case", case_ids) for key in keys.all if case_ids},
        )

    @property
    def keys(self) -> list[Key]:
        """Those that hashes are by."""
        return list(dict.fromkeys([*self.subjects, *self.cases, *self.their_cases]))

    def with_their_cases(self, more: Hashes) -> Sought:
        """The same persons, of whom more cases are known."""
        return replace(self, their_cases=union(self.their_cases, more))

    def document(self) -> dict[str, dict[str, list[str]]]:
        """For files: kind -> id of the key -> hashes as hexadecimal digits."""
        return {
            each.name: {key.id: sorted(one.hex() for one in those) for key, those in getattr(self, each.name).items()}
            for each in fields(self)
        }

    @classmethod
    def read(
        cls, document: Mapping[str, Mapping[str, Sequence[str]]], keys: Keys, where: str, fix: str = BRING_KEY
    ) -> Sought:
        """What `document` gave.

        Args:
            fix: what to do where a key is not among these.

        Raises:
            ConfigError: a key is not among these.
            ValueError, KeyError, TypeError, AttributeError: it is no such document.
        """
        kinds: dict[str, dict[Key, frozenset[bytes]]] = {}
        for each in fields(cls):
            kinds[each.name] = {}
            for ident, those in document[each.name].items():
                key = keys.by_id(ident)
                if key is None:
                    raise ConfigError(
                        f"the key {ident} is not here, so nobody can say which rows are meant",
                        where=where,
                        fix=fix,
                    )
                kinds[each.name][key] = frozenset(bytes.fromhex(one) for one in those)
                if any(len(one) != WIDTH for one in kinds[each.name][key]):
                    raise ValueError("no hash of a key")
        return cls(**kinds)

    def is_within(self, other: Sought) -> bool:
        """Whether other persons include all of these, by the hashes of one key at least."""
        return all(
            any(those <= whole.get(key, frozenset()) for key, those in part.items())
            for part, whole in ((self.subjects, other.subjects), (self.cases, other.cases))
            if part
        )

    def joined(self, other: Sought) -> Sought:
        """The persons of both."""
        return Sought(
            union(self.subjects, other.subjects),
            union(self.cases, other.cases),
            union(self.their_cases, other.their_cases),
        )

    def among(self, key: Key, cases: pa.Array, subjects: pa.Array) -> np.ndarray:
        """Which rows are meant, (n,) bool, by the hashes that a key made of their cases and subjects.

        Args:
            subjects: null where a row names none.
        """
        hit: np.ndarray = _is_in(cases, self.cases.get(key)) | _is_in(subjects, self.subjects.get(key))
        if self.their_cases.get(key):
            hit |= _is_in(cases, self.their_cases[key]) & subjects.is_null().to_numpy(zero_copy_only=False)
        return hit

    def named(self, names: Iterable[str]) -> set[str]:
        """Which of these case ids are of cases that are meant."""
        every = sorted(names)
        hit = np.zeros(len(every), dtype=bool)
        for key in self.keys:
            cases = hash_array(key.hashes("case", every))
            hit |= _is_in(cases, self.cases.get(key)) | _is_in(cases, self.their_cases.get(key))
        return {name for name, its in zip(every, hit, strict=True) if its}

    def in_table(
        self, frame: pd.DataFrame, subject_column: str | None, ids: Sequence[str | None] | None = None
    ) -> np.ndarray:
        """Which rows of a table are meant, (n,) bool.

        Args:
            ids: (n,) case ids; by default those of the column `case_id`, where there is one.
        """
        if ids is None:
            ids = names_in(frame, CASE_ID)
        subjects = names_in(frame, subject_column)
        hit = np.zeros(len(frame), dtype=bool)
        for key in self.keys:
            cases = hash_array(key.hashes("case", ids), empty=True)
            hit |= self.among(key, cases, hash_array(key.hashes("subject", subjects), empty=True))
        return hit


def names_in(frame: pd.DataFrame, column: str | None) -> list[str | None]:
    """A column's names in the form that they have in every format of file; None where a row or the table has none."""
    if column is None or column not in frame:
        return [None] * len(frame)
    values, faults = label_rule(frame[column])
    return [None if fault else str(value) for value, fault in zip(as_list(values), faults, strict=True)]


def hash_array(content: bytes, *, empty: bool = False) -> pa.Array:
    """An array of hashes that lie one after another; with `empty`, those of zeros are null."""
    rows = len(content) // WIDTH
    validity = None
    if empty:
        there = np.frombuffer(content, dtype="<u8").reshape(rows, 2).any(axis=1)
        validity = pa.py_buffer(np.packbits(there, bitorder="little").tobytes())
    return pa.Array.from_buffers(HASH, rows, [validity, pa.py_buffer(content)])


def union(one: Hashes, other: Hashes) -> dict[Key, frozenset[bytes]]:
    """The hashes of both, by key."""
    return {key: one.get(key, frozenset()) | other.get(key, frozenset()) for key in [*one, *other]}


def _hashed(key: Key, kind: str, names: Iterable[str]) -> frozenset[bytes]:
    content = key.hashes("case" if kind == "case" else "subject", names)
    return frozenset(content[place : place + WIDTH] for place in range(0, len(content), WIDTH))


def _is_in(hashes: pa.Array, those: frozenset[bytes] | None) -> np.ndarray:
    if not those:
        return np.zeros(len(hashes), dtype=bool)
    mask = pc.is_in(hashes, value_set=pa.array(sorted(those), HASH), skip_nulls=True)
    return np.asarray(mask.to_numpy(zero_copy_only=False), dtype=bool)
