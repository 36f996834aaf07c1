"""A whole file after the contract, its fingerprint, and the limit on rejected rows, which streaming callers share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from typing import Any

import numpy as np
import pandas as pd

from pcc_pipeline.data.columns import OPTIONAL_RULES, as_list
from pcc_pipeline.data.contract import (
    CASE_ID,
    REJECTED_COLUMNS,
    SOURCE,
    TEXT,
    CheckedBatch,
    Contract,
    ContractChecker,
    RowPlaces,
)
from pcc_pipeline.data.formats.bounds import Room
from pcc_pipeline.data.labels import near_equal, near_equal_line, spellings
from pcc_pipeline.data.notes import ReadNotes
from pcc_pipeline.data.vector_column import Vectors
from pcc_pipeline.data.vector_file import GrowingVectors, digest_of, taken
from pcc_pipeline.data.vector_origin import file_of, origin_of
from pcc_pipeline.errors import DataError

Strings = np.ndarray[Any, np.dtype[np.object_]]


class Fingerprint:
    """SHA-256 over the good rows' case id, text, label and group, in order: what decides a split and its measurement.

    It is the same for every file format and batch size.
    """

    def __init__(self, label_column: str | None, group_column: str | None = None) -> None:
        self._columns = [CASE_ID, TEXT, label_column]
        if group_column is not None:
            self._columns.append(group_column)
        self._hash = sha256()

    def update(self, good: pd.DataFrame) -> None:
        """Adds the good rows of one batch."""
        width = len(self._columns)
        parts = [""] * (width * len(good))
        for place, name in enumerate(self._columns):
            values = [""] * len(good) if name is None else as_list(good[name])
            # Lengths keep neighbouring fields apart whatever they hold.
            parts[place::width] = [f"{len(value)}:{value}" for value in values]
        self._hash.update("".join(parts).encode())

    def hexdigest(self) -> str:
        """Returns 64 hex digits for the rows so far."""
        return self._hash.hexdigest()


@dataclass(frozen=True)
class Dataset:
    """A checked file.

    frame: the good rows, index 0..n-1. places: where they stand in the file. vectors: float32 (n, 384 or 584) or None.
    rejected: see CheckedBatch.
    digest: the Fingerprint. total_rows: good and rejected. contract: what was asked of the file.
    encoder_digest: of the encoder that made the vectors; None where there are none, or where nobody said.
    notes: what to know about the file that its good rows do not show. blank_lines: that are no rows.
    files: of several files that are one data set, each one's record; see `CheckedFile.files`.
    kept_out: rows that the contract keeps out; they count nowhere else.
    whose: of the rejected rows, their case ids and subjects, with their places; None where there are none.
    """

    frame: pd.DataFrame
    places: RowPlaces
    vectors: Vectors | None
    rejected: pd.DataFrame
    digest: str
    total_rows: int
    contract: Contract
    encoder_digest: str | None = None
    notes: tuple[str, ...] = ()
    blank_lines: int = 0
    files: tuple[dict[str, Any], ...] = ()
    kept_out: int = 0
    whose: tuple[pd.DataFrame, RowPlaces] | None = None

    @cached_property
    def vectors_digest(self) -> str | None:
        """SHA-256 of the vectors that the data brings, in order; None where it brings none."""
        return None if self.vectors is None else digest_of(self.vectors)

    @property
    def rows_digest(self) -> str:
        """SHA-256 of the good rows' case ids, texts and labels, in whatever order they stand."""
        fingerprint = Fingerprint(self.contract.label_column)
        fingerprint.update(self.frame.sort_values(CASE_ID))
        return fingerprint.hexdigest()

    @property
    def rejection_line(self) -> tuple[str, ...]:
        """How many rows were rejected and why, as one line; none where all were good."""
        if not len(self.rejected):
            return ()
        reasons = ", ".join(rejection_reasons(self.rejected, 3))
        return (f"{len(self.rejected):,} of {self.total_rows:,} rows rejected: {reasons}",)

    def take(self, rows: np.ndarray[Any, Any]) -> Dataset:
        """Some of the good rows, by positions or a mask, with their vectors; digest and counts stay the file's."""
        places = np.flatnonzero(rows) if rows.dtype == bool else rows
        vectors = None if self.vectors is None else taken(self.vectors, places)
        frame = self.frame.iloc[rows].reset_index(drop=True)
        return replace(self, frame=frame, places=self.places.take(rows), vectors=vectors)

    @property
    def texts(self) -> list[str]:
        return as_list(self.frame[TEXT])

    @property
    def labels(self) -> Strings:
        """(n,) str objects; DataError where the contract asked for no labels."""
        if self.contract.label_column is None:
            raise DataError("this data was read without labels", fix="name the label column in the contract")
        return self.frame[self.contract.label_column].to_numpy(dtype=object)

    @property
    def case_ids(self) -> Strings:
        return self.frame[CASE_ID].to_numpy(dtype=object)

    @property
    def groups(self) -> Strings | None:
        """(n,) str objects, None where no group column is named."""
        return (
            None
            if self.contract.group_column is None
            else self.frame[self.contract.group_column].to_numpy(dtype=object)
        )


@dataclass
class _Part:
    """One of several files, as far as it was read."""

    file: str
    fingerprint: Fingerprint
    rows: int = 0
    rejected: int = 0


class CheckedFile:
    """The batches of a file against its contract, in order, and what is known of the file at its end.

    kept: whether the good rows stay in memory, for `dataset`.
    """

    def __init__(self, contract: Contract, source: str, *, kept: bool = True) -> None:
        self._contract = contract
        self.source = source
        self._kept = kept
        self._checker = ContractChecker(contract, source=source)
        self._fingerprint = Fingerprint(contract.label_column, contract.group_column)
        self._room = Room(source)
        # Other columns are not held: only `embed` passes them on.
        self._columns = {CASE_ID, SOURCE, *contract.demanded, *OPTIONAL_RULES}
        self._good: list[pd.DataFrame] = []
        self._places: list[RowPlaces] = []
        self._vectors = GrowingVectors()
        self._rejected: list[pd.DataFrame] = []
        self._whose: list[tuple[pd.DataFrame, RowPlaces]] = []
        self._encoder_digest: str | None = None
        self._parts: list[_Part] = []

    def add(self, batch: pd.DataFrame) -> CheckedBatch:
        """Checks the next batch. Raises DataError where columns are missing, or rows that are kept fill the memory."""
        checked = self._checker.check(batch)
        self._note_encoder(batch)
        self._note_file(file_of(batch), checked)
        self._rejected.append(checked.rejected)
        if self._kept and len(checked.rejected):
            self._whose.append(checked.whose)
        self._fingerprint.update(checked.good)
        if self._kept and len(checked.good):
            self._good.append(checked.good[[name for name in checked.good if name in self._columns]])
            self._places.append(checked.places)
            of_vectors = 0 if checked.vectors is None else self._vectors.add(checked.vectors)
            self._room.take(int(self._good[-1].memory_usage().sum()) + of_vectors)
        return checked

    def _note_encoder(self, batch: pd.DataFrame) -> None:
        digest = origin_of(batch)
        if self._checker.rows > len(batch) and digest != self._encoder_digest:
            raise DataError(
                "the vectors of this file were made by another encoder than those of the files before",
                where=file_of(batch) or self.source,
                fix="give files whose vectors one encoder made, or leave out their vectors",
            )
        self._encoder_digest = digest

    def _note_file(self, file: str | None, checked: CheckedBatch) -> None:
        if file is None:
            return
        if not self._parts or self._parts[-1].file != file:
            self._parts.append(_Part(file, Fingerprint(self._contract.label_column, self._contract.group_column)))
        part = self._parts[-1]
        part.fingerprint.update(checked.good)
        part.rows += len(checked.good) + len(checked.rejected)
        part.rejected += len(checked.rejected)

    @property
    def files(self) -> tuple[dict[str, Any], ...]:
        """Of several files, each one's address, rows, rejected rows, and the Fingerprint of its good rows."""
        return tuple(
            {"file": part.file, "rows": part.rows, "rejected": part.rejected, "digest": part.fingerprint.hexdigest()}
            for part in self._parts
        )

    @property
    def total_rows(self) -> int:
        """Good and rejected."""
        return self._checker.rows - self._checker.kept_out

    @property
    def kept_out(self) -> int:
        """Rows so far that the contract keeps out."""
        return self._checker.kept_out

    @property
    def notes_on_kept_out(self) -> tuple[str, ...]:
        """How many they are, as one line; none where there are none."""
        return kept_out_note(self.kept_out)

    @property
    def digest(self) -> str:
        """The Fingerprint of the rows so far."""
        return self._fingerprint.hexdigest()

    @property
    def all_rejected(self) -> pd.DataFrame:
        """The rejected rows so far, however many they are."""
        return join_rejected(self._rejected)

    def rejected(self, max_fraction: float) -> pd.DataFrame:
        """All rejected rows. Raises DataError where there are no rows, none is good, or too many are rejected."""
        if not self._rejected:
            raise DataError("the data file has no rows", where=self.source, fix="give a file with at least one row")
        rejected = self.all_rejected
        check_rejections(rejected, self.total_rows, self.source, max_fraction)
        return rejected

    def dataset(self, max_rejected_fraction: float, notes: ReadNotes) -> Dataset:
        """The whole file, its labels as they stand there. Raises DataError as `rejected` does."""
        rejected = self.rejected(max_rejected_fraction)
        vectors = self._vectors.whole()
        return Dataset(
            frame=pd.concat(self._good, ignore_index=True),
            places=RowPlaces.joined(self._places),
            vectors=vectors,
            rejected=rejected,
            digest=self.digest,
            total_rows=self.total_rows,
            contract=self._contract,
            encoder_digest=None if vectors is None else self._encoder_digest,
            notes=(*notes.lines, *self.notes_on_kept_out),
            blank_lines=notes.blank_lines,
            files=self.files,
            kept_out=self.kept_out,
            whose=self._of_rejected(),
        )

    def _of_rejected(self) -> tuple[pd.DataFrame, RowPlaces] | None:
        if not self._whose:
            return None
        frames = [frame for frame, _ in self._whose]
        return pd.concat(frames, ignore_index=True), RowPlaces.joined([places for _, places in self._whose])


def kept_out_note(rows: int) -> tuple[str, ...]:
    """That so many rows were kept out; none where none was."""
    return (f"{rows:,} row{'s'[: rows != 1]} of erased persons kept out",) if rows else ()


def load(
    batches: Iterable[pd.DataFrame],
    contract: Contract,
    source: str,
    max_rejected_fraction: float,
    *,
    notes: ReadNotes | None = None,
    known_labels: Sequence[str] = (),
) -> Dataset:
    """Checks a whole file; `source` is the file for messages.

    notes: those of the batches' reader. known_labels: see `spelled`.

    Raises DataError where columns are missing, too many rows are rejected, or no good row stays.
    """
    file = CheckedFile(contract, source)
    for batch in batches:
        file.add(batch)
    return spelled(file.dataset(max_rejected_fraction, ReadNotes() if notes is None else notes), known_labels)


def spelled(dataset: Dataset, known_labels: Sequence[str] = ()) -> Dataset:
    """The rows with near-equal labels noted, or made one where the contract says so.

    known_labels: a model's, or those of the training rows, whose spelling wins where labels are made one.
    """
    frame, contract = dataset.frame, dataset.contract
    column = contract.label_column
    if column is None:
        return dataset
    counts = {str(label): int(count) for label, count in frame[column].value_counts().items()}
    groups = near_equal(counts)
    if groups:
        known_first = [sorted(group, key=lambda label: label not in known_labels) for group in groups]
        notes = ReadNotes()
        notes.add(near_equal_line(known_first, contract.normalise_labels))
        dataset = replace(dataset, notes=(*dataset.notes, *notes.lines))
    changed = spellings(frame[column], known_labels) if contract.normalise_labels else {}
    return replace(dataset, frame=frame.assign(**{column: frame[column].replace(changed)})) if changed else dataset


def join_rejected(parts: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Joins the batches' rejected rows; with none, an empty frame of the same columns and types."""
    kinds = {"row": "int64", "case_id": "str", "column": "str", "reason": "str"}
    empty = pd.DataFrame(columns=list(REJECTED_COLUMNS)).astype(kinds)
    frames = list(parts)
    # Of several files the empty ones say, too, which file they would stand in.
    filled = [part for part in frames if len(part)] or frames[:1]
    return pd.concat(filled, ignore_index=True) if filled else empty


@dataclass(frozen=True)
class Rejection:
    """Rows that were rejected for one reason; `first` is the place of the first, as a person finds it."""

    column: str
    reason: str
    rows: int
    first: str

    @property
    def line(self) -> str:
        """Such as `2 x text: blank (first in row 7)`."""
        return f"{self.rows:,} x {self.column}: {self.reason} (first in row {self.first})"


def rejections(rejected: pd.DataFrame) -> list[Rejection]:
    """The reasons of rejected rows, the commonest first."""
    groups = sorted(rejected.groupby(["column", "reason"], sort=False), key=lambda group: -len(group[1]))
    return [Rejection(str(column), str(reason), len(rows), _place(rows)) for (column, reason), rows in groups]


def rejection_reasons(rejected: pd.DataFrame, most: int) -> list[str]:
    """The same as lines, and how many more than `most` there are."""
    counted = [one.line for one in rejections(rejected)]
    return counted[:most] + ([f"… and {len(counted) - most} more reasons"] if len(counted) > most else [])


def _place(rejected: pd.DataFrame) -> str:
    first = rejected.iloc[0]
    return f"{int(first['row']):,}" + (f" of {first['file']}" if "file" in rejected else "")


def check_rejections(rejected: pd.DataFrame, total_rows: int, source: str, max_rejected_fraction: float) -> None:
    """Raises DataError, counting each reason, where too large a fraction of rows is rejected or no good row stays."""
    n_rejected = len(rejected)
    none_left = n_rejected >= total_rows
    if not none_left and n_rejected <= max_rejected_fraction * total_rows:
        return
    shown = rejection_reasons(rejected, 12)
    limit = "no good row stays" if none_left else f"the limit is {max_rejected_fraction:.1%}"
    raise DataError(
        f"{n_rejected:,} of {total_rows:,} rows break the data contract "
        f"({n_rejected / max(total_rows, 1):.1%}); {limit}.\n    " + "\n    ".join(shown),
        where=source,
        fix="mend the rows (counted from 0, without the header), or raise data.max_rejected_fraction",
    )
