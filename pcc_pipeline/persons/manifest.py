"""The manifest of a run: who stood in the rows that it read, where, and on which side; and looking somebody up in it.

A Parquet file with a row for each row that was read: the keyed hashes of case and subject (128 bits each), the side,
the file and the place in it. The key's id stands in its schema. Some 35 bytes a row.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pcc_pipeline.data.contract import CASE_ID, RowPlaces
from pcc_pipeline.errors import DataError
from pcc_pipeline.persons.keys import Key, Keys, Kind
from pcc_pipeline.persons.sought import HASH, Sought, hash_array, names_in

NAME = "lineage.parquet"
_FORMAT = b"1"
_WORDS = pa.dictionary(pa.int32(), pa.string())
_ROWS_A_GROUP = 1 << 17


class Manifest:
    """A manifest that is being made, in memory: `WIDTH` bytes a row and hash, and some more.

    Args:
        subject_column: the column that names whose message a row is; None where each case is its own.
    """

    def __init__(self, key: Key, subject_column: str | None = None) -> None:
        self._key, self._subject_column = key, subject_column
        self._tables: list[pa.Table] = []

    @property
    def key_id(self) -> str:
        """Which key it is made with."""
        return self._key.id

    def add(self, frame: pd.DataFrame, places: RowPlaces, side: str | Sequence[str], source: str) -> None:
        """More rows.

        Args:
            frame: with `case_id` and the column of subjects, as far as the file has them.
            side: what the rows were for, of all or of each; such as train, val, test, scored.
            source: their file, where `places` does not name one of several.
        """
        rows = len(frame)
        # A row that names nobody is its own.
        cases, subjects = names_in(frame, CASE_ID), names_in(frame, self._subject_column)
        files = [source] * rows if places.files is None else list(places.files)
        self._tables.append(
            pa.table(
                {
                    "case": hash_array(self._key.hashes("case", cases), empty=True),
                    "subject": hash_array(self._key.hashes("subject", subjects), empty=True),
                    "side": pa.array([side] * rows if isinstance(side, str) else list(side), _WORDS),
                    "file": pa.array(files, _WORDS),
                    "row": pa.array(np.asarray(places.rows, dtype=np.int64)),
                }
            )
        )

    def to_bytes(self) -> bytes:
        """The file's content; the same rows and key give the same bytes."""
        empty = {"case": HASH, "subject": HASH, "side": _WORDS, "file": _WORDS, "row": pa.int64()}
        schema = pa.schema(empty, {"format": _FORMAT, "key": self._key.id.encode()})
        tables = [table.cast(schema) for table in self._tables]
        table = pa.concat_tables(tables).unify_dictionaries() if tables else schema.empty_table()
        return _written(table.replace_schema_metadata(schema.metadata))


def joined(contents: Sequence[bytes], where: str) -> bytes:
    """Several manifests, all of one key, as one.

    Raises:
        DataError: one is damaged, or they are of several keys.
    """
    if len({key_of(content, where) for content in contents}) > 1:
        raise DataError(
            "the parts were read with different keys of lineage", where=where, fix="write them again, with one key"
        )
    try:
        tables = [pq.read_table(io.BytesIO(content)) for content in contents]
    except (pa.ArrowInvalid, OSError) as error:
        raise _damaged(where) from error
    whole = pa.concat_tables([table.replace_schema_metadata(tables[0].schema.metadata) for table in tables])
    return _written(whole.unify_dictionaries())


@dataclass(frozen=True)
class SoughtRows:
    """The rows of those who are sought, in one manifest.

    Attributes:
        places: (side, file) -> rows, counted from 0 in that file.
        lines: which lines of the manifest they are, counted from 0; ascending.
        cases, subjects: the hashes of their case ids and of those who are named, by the key `key`.
        by_case_only: the manifest has no subjects, so that a search by subject cannot find anybody in it.
    """

    key: Key
    places: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    lines: tuple[int, ...] = ()
    cases: frozenset[bytes] = frozenset()
    subjects: frozenset[bytes] = frozenset()
    by_case_only: bool = False

    @property
    def rows(self) -> int:
        """How many there are, of all sides."""
        return sum(map(len, self.places.values()))


class KeyAbsentError(DataError):
    """A manifest was written by a key that is not here."""


def look_up(content: bytes, keys: Keys, sought: Sought, where: str) -> SoughtRows:
    """The rows of those who are sought.

    Raises:
        KeyAbsentError: the manifest's key is not among these.
        DataError: it is damaged.
    """
    file, key = _opened(content, keys, where)
    places: dict[tuple[str, str], list[int]] = {}
    lines: list[int] = []
    cases: set[bytes] = set()
    named: set[bytes] = set()
    subjects, before = False, 0
    for group in range(file.num_row_groups):
        hashes = file.read_row_group(group, columns=["case", "subject"]).combine_chunks()
        subjects = subjects or hashes["subject"].null_count < len(hashes)
        hit = sought.among(key, *(_whole(hashes[name]) for name in ("case", "subject")))
        if hit.any():
            lines += (np.flatnonzero(hit) + before).tolist()
            columns = ["case", "subject", "side", "file", "row"]
            for row in file.read_row_group(group, columns=columns).filter(pa.array(hit)).to_pylist():
                places.setdefault((row["side"], row["file"]), []).append(row["row"])
                cases |= {row["case"]} - {None}
                named |= {row["subject"]} - {None}
        before += len(hashes)
    return SoughtRows(key, places, tuple(lines), frozenset(cases), frozenset(named), by_case_only=not subjects)


def without(content: bytes, lines: Sequence[int], where: str) -> bytes:
    """The manifest without some of its lines.

    Raises:
        DataError: it is damaged.
    """
    try:
        table = pq.read_table(io.BytesIO(content))
    except (pa.ArrowInvalid, OSError) as error:
        raise _damaged(where) from error
    kept = np.ones(len(table), dtype=bool)
    kept[list(lines)] = False
    return _written(table.filter(pa.array(kept)))


@dataclass(frozen=True)
class Hits:
    """Which of some hashes stand in a manifest.

    Attributes:
        hits: (kind, hash).
        subjectless: it names no subjects at all.
    """

    hits: list[tuple[Kind, bytes]]
    subjectless: bool


def stand_in(content: bytes, hashes: Mapping[Kind, frozenset[bytes]], where: str) -> Hits:
    """Which of these hashes, made with the key of `key_of`, stand in a manifest; it needs no key.

    Raises:
        DataError: it is damaged.
    """
    file, _ = _described(content, where)
    hits: set[tuple[Kind, bytes]] = set()
    subjectless = True
    for group in range(file.num_row_groups):
        table = file.read_row_group(group, columns=["case", "subject"])
        subjectless = subjectless and table["subject"].null_count == len(table)
        for kind, values in hashes.items():
            if values:
                column = table[kind]
                there = column.filter(pc.is_in(column, pa.array(sorted(values), HASH)))
                hits |= {(kind, value) for value in there.unique().to_pylist()}
    return Hits(sorted(hits), subjectless)


def key_of(content: bytes, where: str) -> str:
    """The id of the key that wrote a manifest.

    Raises:
        DataError: it is damaged.
    """
    return _described(content, where)[1]


def rows_by_side(content: bytes, where: str) -> Counter[tuple[str, str]]:
    """How many rows stand on each side of each file; it needs no key.

    Raises:
        DataError: it is damaged.
    """
    try:
        table = pq.read_table(io.BytesIO(content), columns=["side", "file"])
    except (pa.ArrowInvalid, OSError, KeyError) as error:
        raise _damaged(where) from error
    counts = table.group_by(["side", "file"]).aggregate([([], "count_all")]).to_pylist()
    return Counter({(row["side"], row["file"]): row["count_all"] for row in counts})


def _opened(content: bytes, keys: Keys, where: str) -> tuple[pq.ParquetFile, Key]:
    file, ident = _described(content, where)
    key = keys.by_id(ident)
    if key is None:
        raise KeyAbsentError(
            f"the key {ident}, which wrote the manifest, is not here",
            where=where,
            fix="look where the run was made, or add its key to lineage.key_file",
        )
    return file, key


def _described(content: bytes, where: str) -> tuple[pq.ParquetFile, str]:
    try:
        file = pq.ParquetFile(io.BytesIO(content))
        facts = file.schema_arrow.metadata
        ident, form = facts[b"key"].decode(), facts[b"format"]
    except (pa.ArrowInvalid, OSError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise _damaged(where) from error
    if form != _FORMAT:
        raise DataError("the manifest is of a newer pcc_pipeline", where=where, fix="look with that version")
    return file, ident


def _damaged(where: str) -> DataError:
    return DataError("the manifest is damaged", where=where, fix="find out who changed it; search by case id instead")


def _written(table: pa.Table) -> bytes:
    content = io.BytesIO()
    pq.write_table(
        table,
        content,
        row_group_size=_ROWS_A_GROUP,
        use_dictionary=["side", "file"],
        column_encoding={"row": "DELTA_BINARY_PACKED"},
        compression="zstd",
        write_statistics=False,
    )
    return content.getvalue()


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
