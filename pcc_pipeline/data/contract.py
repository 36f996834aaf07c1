"""The column contract: good rows with their types settled, quarantined rows with a reason that quotes no text."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from pcc_pipeline.data.case_ids import CaseIds
from pcc_pipeline.data.columns import (
    OPTIONAL_RULES,
    Reasons,
    as_list,
    label_rule,
    mark,
    no_faults,
    plain,
    shown_columns,
    text_rule,
)
from pcc_pipeline.data.vector_column import Vectors, parse_vectors
from pcc_pipeline.data.vector_origin import file_of
from pcc_pipeline.errors import DataError

TEXT, CASE_ID, EMBEDDINGS, TIMESTAMP, SOURCE = "text", "case_id", "embeddings", "timestamp", "source"
REJECTED_COLUMNS = ("row", "case_id", "column", "reason")
# Optional columns that are made where they are absent.
COMPUTED = ("text_length", "word_count")


@dataclass(frozen=True)
class Contract:
    """What a file must hold.

    label_column: the labels' column; None where labels are not needed (scoring).
    required: optional columns that must be there and filled in every row.
    group_column: rows that share its value never stand on two sides of a split.
    normalise_labels: labels that differ only by blanks, case or Unicode form are one.
    slices: other columns that must be there, by whose values scores are told apart.
    subject_column: whose message a row is; see `persons.manifest`.
    named_by: the same where the file need not have it.
    keeps_out: which rows of a raw batch are kept out of all that follows, as if the file did not hold them, by the
    batch and its case ids (None where it has none); see `persons.suppression`.
    """

    label_column: str | None
    required: tuple[str, ...] = ()
    group_column: str | None = None
    normalise_labels: bool = False
    slices: tuple[str, ...] = ()
    subject_column: str | None = None
    named_by: str | None = None
    keeps_out: Callable[[pd.DataFrame, list[str | None]], np.ndarray] | None = field(
        default=None, compare=False, repr=False
    )

    def __post_init__(self) -> None:
        reserved = (TEXT, CASE_ID, EMBEDDINGS, *OPTIONAL_RULES)
        if self.label_column in reserved:
            raise DataError(
                f"the column {self.label_column} cannot hold the labels",
                where="label column",
                fix="name another column",
            )
        for name, what in ((self.group_column, "group"), (self.subject_column, "subject")):
            if name in (TEXT, EMBEDDINGS, *OPTIONAL_RULES):
                raise DataError(
                    f"the column {name} cannot hold the {what}s", where=f"{what} column", fix="name another column"
                )

    @property
    def demanded(self) -> tuple[str, ...]:
        """The columns that a file must have, each once, in the contract's order."""
        names = (TEXT, self.label_column, *self.required, self.group_column, *self.slices, self.subject_column)
        return tuple(dict.fromkeys(name for name in names if name is not None))


@dataclass(frozen=True)
class RowPlaces:
    """Where rows stand in their file, as it was read.

    rows: int64 (n,), counted from 0, the header and left-out blank lines not counted. files: (n,) addresses as str
    objects, where several are read as one data set; else None.
    """

    rows: np.ndarray[Any, np.dtype[np.int64]]
    files: np.ndarray[Any, np.dtype[np.object_]] | None = None

    def take(self, some: np.ndarray[Any, Any]) -> RowPlaces:
        """Those of some rows, by positions or a mask."""
        return RowPlaces(self.rows[some], None if self.files is None else self.files[some])

    @staticmethod
    def joined(parts: Sequence[RowPlaces]) -> RowPlaces:
        """Those of several batches of one data set, in order."""
        files = [part.files for part in parts if part.files is not None]
        return RowPlaces(np.concatenate([part.rows for part in parts]), np.concatenate(files) if files else None)


@dataclass(frozen=True)
class CheckedBatch:
    """One batch after the check.

    good: the rows that keep the contract, with all columns but `embeddings`; the index is the position in the file.
    vectors: float32 (len(good), 384 or 584), None where the file has no `embeddings`.
    rejected: columns row (position in the file from 0), case_id (null unless the file gives one), column, reason; and
    file, where several are read as one data set.
    places: of the good rows.
    whose: of the rejected rows, with their places: case ids and subjects, as far as the file has them.
    """

    good: pd.DataFrame
    vectors: Vectors | None
    rejected: pd.DataFrame
    places: RowPlaces
    whose: tuple[pd.DataFrame, RowPlaces]


def check(batch: pd.DataFrame, contract: Contract, expected_width: int | None = None) -> CheckedBatch:
    """Checks a file that is one batch; a file in several batches needs one ContractChecker for all of them."""
    return ContractChecker(contract, expected_width=expected_width).check(batch)


class ContractChecker:
    """Checks a file's batches in order and remembers what whole-file rules need: ids, copies, the vectors' width."""

    def __init__(self, contract: Contract, *, source: str = "", expected_width: int | None = None) -> None:
        self.contract = contract
        self.width = expected_width
        self.rows = 0
        self.kept_out = 0
        self._source = source
        self._file: str | None = None
        self._file_start = 0
        self._brings_vectors: bool | None = None
        self._seen_ids: set[str] = set()
        self._made_ids = CaseIds()

    def check(self, batch: pd.DataFrame) -> CheckedBatch:
        """Returns the batch's good and quarantined rows; the batch itself is not changed.

        A row with several faults is reported with the first in the contract's order, a repeated case id last.
        Raises DataError where columns are missing from the file.
        """
        if (file := file_of(batch)) != self._file:
            self._file, self._file_start = file, self.rows
        self._demand_columns([str(name) for name in batch.columns])
        self._demand_vectors_of_all(EMBEDDINGS in batch)
        frame = batch.set_axis(pd.RangeIndex(self.rows, self.rows + len(batch)), axis=0)
        self.rows += len(batch)
        faults = _Faults(len(frame))
        typed = self._typed(frame, faults)
        vectors = self._vectors(frame, faults)
        ids = typed.get(CASE_ID)
        out = self._out(frame, ids)
        if ids is not None:
            faults.add(CASE_ID, self._repeated(ids, (faults.column == "") & ~out))
        accepted = (faults.column == "") & ~out
        good = frame.drop(columns=EMBEDDINGS, errors="ignore").assign(**typed)[accepted]
        if ids is None:
            good.insert(0, CASE_ID, self._make_ids(good))
            if self.contract.keeps_out is not None:
                # An id that is made of the row's content is known by now.
                made_out = self.contract.keeps_out(good, as_list(good[CASE_ID]))
                out[np.flatnonzero(accepted)[made_out]] = True
                good, accepted = good[~made_out], accepted & ~out
        self.kept_out += int(out.sum())
        bad = ~accepted & ~out
        rejected = _rejected(frame.index[bad] - self._file_start, ids, faults, bad)
        if self._file is not None:
            rejected["file"] = pd.array([self._file] * len(rejected), dtype="str")
        whose = pd.DataFrame(index=frame.index[bad])
        if ids is not None:
            whose[CASE_ID] = ids[bad]
        if (column := self.contract.subject_column or self.contract.named_by) in frame:
            whose[column] = plain(frame[column])[bad]
        kept = None if vectors is None else vectors[accepted]
        return CheckedBatch(good, kept, rejected, self._places(good), (whose, self._places(whose)))

    def _places(self, good: pd.DataFrame) -> RowPlaces:
        files = None if self._file is None else np.full(len(good), self._file, dtype=object)
        return RowPlaces(good.index.to_numpy(dtype=np.int64) - self._file_start, files)

    def _demand_columns(self, columns: list[str]) -> None:
        missing = [name for name in self.contract.demanded if name not in columns]
        if not missing:
            return
        closest = {
            name: difflib.get_close_matches(name.casefold(), [column.casefold() for column in columns], n=1)
            for name in missing
        }
        originals = {column.casefold(): column for column in columns}
        guesses = [f"{shown_columns([originals[near[0]]])} may be {name}" for name, near in closest.items() if near]
        fixes = ["rename or add the columns"]
        if guesses:
            fixes.append("; ".join(guesses))
        if self.contract.label_column in missing:
            fixes.append("use --label … if labels stand in another column")
        if any(name in missing for name in self.contract.slices):
            fixes.append("evaluation.slices may name columns of the file with the test rows only")
        raise DataError(
            f"the data file lacks required columns: {', '.join(missing)}. Columns found: {shown_columns(columns)}",
            where=self._file or self._source,
            fix="; ".join(fixes),
        )

    def _demand_vectors_of_all(self, brings_vectors: bool) -> None:
        if self._brings_vectors not in (None, brings_vectors):
            raise DataError(
                f"of several files, some have a column {EMBEDDINGS} and others none",
                where=self._file or self._source,
                fix="give files that all bring vectors, or none that does",
            )
        self._brings_vectors = brings_vectors

    def _typed(self, frame: pd.DataFrame, faults: _Faults) -> dict[str, pd.Series]:
        """The contract's columns with their types, in the contract's order; faults are noted on the way."""
        contract = self.contract
        texts, reasons = text_rule(frame[TEXT])
        faults.add(TEXT, reasons)
        typed = {TEXT: texts}
        if contract.label_column is not None:
            typed[contract.label_column] = _noted(
                contract.label_column, label_rule(frame[contract.label_column]), faults
            )
        if CASE_ID in frame:
            typed[CASE_ID] = _noted(CASE_ID, label_rule(frame[CASE_ID]), faults)
        for name, rule in OPTIONAL_RULES.items():
            if name not in frame and name not in COMPUTED:
                continue
            raw = frame[name] if name in frame else pd.Series(pd.NA, index=frame.index, dtype="Int64")
            typed[name] = _noted(name, rule(raw, texts), faults)
            if name in contract.required:
                faults.add(name, _missing(raw))
        group = contract.group_column
        if group is not None and group not in typed:
            typed[group] = _noted(group, label_rule(frame[group]), faults)
        for name in contract.required:
            if name not in typed and name != EMBEDDINGS:
                faults.add(name, _missing(frame[name]))
        return typed

    def _vectors(self, frame: pd.DataFrame, faults: _Faults) -> Vectors | None:
        if EMBEDDINGS not in frame:
            return None
        parsed = parse_vectors(frame[EMBEDDINGS], self.width)
        self.width = parsed.width
        faults.add(EMBEDDINGS, parsed.reasons)
        return parsed.values

    def _repeated(self, ids: pd.Series, accepted: np.ndarray[Any, Any]) -> Reasons:
        """Marks ids that an accepted row before had; a row rejected for another reason leaves its id free."""
        reasons = no_faults(len(ids))
        candidates = as_list(ids[accepted])
        later = ids[accepted].duplicated().to_numpy()
        if not self._seen_ids.isdisjoint(candidates):
            later = later | np.fromiter(map(self._seen_ids.__contains__, candidates), dtype=bool, count=len(candidates))
        marked = np.zeros(len(ids), dtype=bool)
        marked[np.flatnonzero(accepted)[later]] = True
        mark(reasons, marked, "repeated")
        self._seen_ids.update(candidates)
        return reasons

    def _out(self, frame: pd.DataFrame, ids: pd.Series | None) -> np.ndarray[Any, Any]:
        if self.contract.keeps_out is None:
            return np.zeros(len(frame), dtype=bool)
        names: list[str | None] = [None] * len(frame)
        if ids is not None:
            names = [None if pd.isna(one) else str(one) for one in as_list(ids)]
        return self.contract.keeps_out(frame, names)

    def _make_ids(self, good: pd.DataFrame) -> list[str]:
        label = self.contract.label_column
        return self._made_ids.make(as_list(good[TEXT]), [""] * len(good) if label is None else as_list(good[label]))


class _Faults:
    """The first fault of each row."""

    def __init__(self, n_rows: int) -> None:
        self.column = no_faults(n_rows)
        self.reason = no_faults(n_rows)

    def add(self, column: str, reasons: Reasons) -> None:
        new = (reasons != "") & (self.column == "")
        self.column[new] = column
        self.reason[new] = reasons[new]


def _noted(name: str, ruled: tuple[pd.Series, Reasons], faults: _Faults) -> pd.Series:
    faults.add(name, ruled[1])
    return ruled[0]


def _missing(raw: pd.Series) -> Reasons:
    reasons = no_faults(len(raw))
    mark(reasons, plain(raw).isna(), "missing")
    return reasons


def _rejected(rows: pd.Index, ids: pd.Series | None, faults: _Faults, bad: np.ndarray[Any, Any]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "row": np.asarray(rows, dtype=np.int64),
            "case_id": pd.array([None] * int(bad.sum()) if ids is None else ids[bad].tolist(), dtype="str"),
            "column": pd.array(faults.column[bad], dtype="str"),
            "reason": pd.array(faults.reason[bad], dtype="str"),
        }
    )
