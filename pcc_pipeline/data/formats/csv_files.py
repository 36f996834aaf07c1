"""A CSV file as batches of rows of strings: which character separates its fields, and what each of its lines is."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import pandas as pd
import pyarrow as pa

from pcc_pipeline.data.columns import check_names
from pcc_pipeline.data.formats.csv_rows import MAX_FIELD_CHARACTERS, CsvRows, csv_rows
from pcc_pipeline.data.formats.lines import Lines, open_lines
from pcc_pipeline.data.notes import ReadNotes
from pcc_pipeline.errors import DataError

# A batch ends at this many bytes of the file: 8,192 rows with vectors of 584 numbers would take some 400 MB on the way.
BATCH_BYTES = 8_000_000
# The one column that every file has, whatever its job.
_SURE_COLUMN = "text"
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}


def read_csv(path: Path, batch_rows: int, notes: ReadNotes) -> Iterator[pd.DataFrame]:
    """Yields batches of strings; only the empty field is missing. Raises DataError at the first line that is no row."""
    # The csv module and not pandas: pandas fills short lines up in silence, and its messages may quote a line.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_FIELD_CHARACTERS))
    usual = "\t" if ".tsv" in "".join(path.suffixes[-2:]).lower() else ","
    with open_lines(path, "TSV" if usual == "\t" else "CSV") as lines:
        start = _start(lines, usual)
        if start.separator != usual:
            notes.add(f"{path}: its fields are separated by {_SEPARATORS[start.separator]}, and read so")
        rows = _checked_rows(csv_rows(chain(start.lines, lines), start.separator), lines, path, start, notes)
        header = next(rows, None)
        if header is None:
            held = "blank lines only" if lines.taken else "0 bytes"
            raise DataError(f"The data file is empty ({held}).", where=str(path), fix="write or download it again")
        names = check_names(header, path)
        for block in _blocks(rows, lines, batch_rows):
            columns = zip(*block, strict=True)
            yield pd.DataFrame({name: _column(cells) for name, cells in zip(names, columns, strict=True)})


@dataclass(frozen=True)
class _Start:
    """The lines up to the header, as far as they were read to learn the separator.

    skipped: lines before `lines` that hold no data, such as Excel's `sep=;`.
    """

    lines: list[str]
    separator: str
    skipped: int = 0


def _start(lines: Lines, usual: str) -> _Start:
    taken: list[str] = []
    for line in lines:
        if not taken and line[:4].lower() == "sep=" and line[4:].rstrip("\r\n") in _SEPARATORS:
            return _Start([], line[4], skipped=1)
        taken.append(line)
        if line.strip("\r\n"):
            return _Start(taken, _separator(line, usual))
    return _Start(taken, usual)


def _separator(header: str, usual: str) -> str:
    """Another separator than the usual one only where the usual one cannot be meant.

    A header that has the column `text` by the usual separator is never read by another one.
    """
    others = [mark for mark in _SEPARATORS if mark != usual and mark in header]
    if _SURE_COLUMN in _names(header, usual):
        return usual
    for mark in others:
        if _SURE_COLUMN in _names(header, mark):
            return mark
    # Neither has it: then the message about the columns should see them apart.
    return others[0] if len(others) == 1 and usual not in header else usual


def _names(header: str, separator: str) -> list[str]:
    try:
        return next(csv.reader([header], delimiter=separator, strict=True), [])
    except csv.Error:
        return []


def _blocks(rows: Iterator[list[str]], lines: Lines, batch_rows: int) -> Iterator[list[list[str]]]:
    block: list[list[str]] = []
    start = lines.taken
    for row in rows:
        block.append(row)
        if len(block) == batch_rows or lines.taken - start >= BATCH_BYTES:
            yield block
            block, start = [], lines.taken
    if block:
        yield block


def _column(cells: Sequence[str]) -> pd.Series:
    strings: pd.Series = pa.array(
        [cell or None for cell in cells] if "" in cells else cells, type=pa.large_string()
    ).to_pandas()
    return strings


def _checked_rows(rows: CsvRows, lines: Lines, path: Path, start: _Start, notes: ReadNotes) -> Iterator[list[str]]:
    """Yields header and rows, and raises at the first line that has not as many fields as the header.

    A blank line is the empty field of a file with one column; in a wider file it is no row, and is counted.
    """
    width = None
    blank, first_blank = 0, 0
    last_line = start.skipped  # of the row before
    try:
        for row in rows:
            lines.row_begins()
            if not row and width == 1:
                row = [""]
            elif not row:
                blank, first_blank = blank + 1, first_blank or last_line + 1
                last_line = rows.line_num + start.skipped
                continue
            width = len(row) if width is None else width
            if len(row) != width:
                mark = _SEPARATORS[start.separator]
                raise DataError(
                    f"The CSV's line {last_line + 1} has {len(row)} fields and its header {width}.",
                    where=str(path),
                    fix=f"quote fields that hold a separator or a line break, and separate fields by {mark}",
                )
            yield row
            last_line = rows.line_num + start.skipped
    except csv.Error as error:
        # The csv module's own messages hold no text of the file.
        raise DataError(
            f"The CSV cannot be read in the row that starts at line {last_line + 1}: {error}.",
            where=str(path),
            fix='close every quoted field, double the quotes within it (""), and end lines with \\n or \\r\\n',
        ) from None
    if blank:
        notes.add_blank_lines(blank, first_blank, path)
