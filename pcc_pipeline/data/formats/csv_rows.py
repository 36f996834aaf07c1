"""The rows of a CSV: by pyarrow where that is sure to read what the csv module reads, else by the csv module."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pyarrow as pa

from pcc_pipeline.data.formats.lines import Block, Lines, count_ends
from pcc_pipeline.data.formats.plain_csv import MAX_BYTES, parsed, plain_rows, table_of
from pcc_pipeline.errors import DataError

# A field this long is an unclosed quote that swallows the file; the longest good field is a 584-vector of about 13,000.
MAX_FIELD_CHARACTERS = MAX_BYTES
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
_ROWS_AT_A_TIME = 1_000
# The one column that every file has, whatever its job.
_SURE_COLUMN = "text"


class CsvRows:
    """The header and then the rows of a file, each of them as wide as the header.

    A blank line is the empty field of a file with one column; in a wider file it is no row, and is counted.

    separator: between the fields, `usual` but where that cannot be meant.
    blank_lines, first_blank: those so far that are no rows, and the first one's number in the file.

    Every method raises DataError at a line that is no row.
    """

    def __init__(self, lines: Lines, path: Path, usual: str) -> None:
        # The csv module's own messages hold no text of the file; pandas' and pyarrow's may.
        csv.field_size_limit(max(csv.field_size_limit(), MAX_FIELD_CHARACTERS))
        self._source = lines
        self._path = path
        # Lines that the csv module is to read: how many they are, and the one that it read last.
        self._lines: Iterator[str] = iter(())
        self._left = 0
        self._line = 0
        self._block: Block | None = None
        self.blank_lines = 0
        self.first_blank = 0
        self.separator = self._find_separator(usual)
        self._reader = csv.reader(self._feed(), delimiter=self.separator, strict=True)
        self._width: int | None = None

    def header(self) -> list[str] | None:
        """The first row; None where the file has none."""
        row: list[str] | None = []
        while row == []:
            row = self._row()
        self._width = None if row is None else len(row)
        return row

    def tables(self) -> Iterator[pa.Table]:
        """The rows after the header, in tables of strings; only the empty field is null."""
        assert self._width is not None, "the header was read"
        data = self._rest_of_block()
        yield from self._by_csv_module()
        while True:
            end = plain_rows(data, self.separator)
            table = parsed(data[:end], self.separator, self._width) if end else None
            if table is not None:
                self._line += count_ends(data[:end])
                self._source.row_begins()
                yield table
                data = data[end:]
            elif end != 0:
                yield from self._by_csv_module(self._text(data))
                data = b""
            block = next(self._source.blocks, None)
            if block is None:
                break
            if block.is_text:
                data += block.data
            else:
                yield from self._by_csv_module(self._text(data), block)
                data = b""
        yield from self._by_csv_module(self._text(data))

    def _by_csv_module(self, *blocks: Block) -> Iterator[pa.Table]:
        """The rows of these blocks, or of the lines in hand; the last may take more of the file."""
        assert self._width is not None, "the header was read"
        if blocks:
            self._give(*blocks)
        while self._left:
            rows: list[list[str]] = []
            while self._left and len(rows) < _ROWS_AT_A_TIME:
                if row := self._row():
                    rows.append(row)
            yield table_of(rows, self._width)

    def _row(self) -> list[str] | None:
        """The next row by the csv module, [] for a blank line that is none; None at the file's end."""
        last_line = self._line  # of the row before
        try:
            row = next(self._reader, None)
        except csv.Error as error:
            raise DataError(
                f"the CSV cannot be read in the row that starts at line {last_line + 1}: {error}",
                where=str(self._path),
                fix='close every quoted field, double the quotes within it (""), and end lines with \\n or \\r\\n',
            ) from None
        self._source.row_begins()
        if row == []:
            if self._width == 1:
                return [""]
            self.blank_lines += 1
            self.first_blank = self.first_blank or last_line + 1
        elif row is not None and self._width not in (None, len(row)):
            raise DataError(
                f"the CSV's line {last_line + 1} has {len(row)} fields and its header {self._width}",
                where=str(self._path),
                fix="quote fields that hold a separator or a line break, and separate fields by "
                f"{SEPARATORS[self.separator]}",
            )
        return row

    def _feed(self) -> Iterator[str]:
        """For the csv module: the lines in hand and, while a row goes on, those of the next blocks."""
        while True:
            if not self._left:
                block = next(self._source.blocks, None)
                if block is None:
                    return
                self._give(block)
            else:
                self._left -= 1
                self._line += 1
                yield next(self._lines)

    def _give(self, *blocks: Block) -> None:
        """Hands the lines of these blocks to the csv module."""
        self._lines = chain.from_iterable(block.lines() for block in blocks)
        self._left = sum(block.n_lines for block in blocks)
        self._block = blocks[-1]

    def _text(self, data: bytes) -> Block:
        return Block(data, self._path, "CSV", self._line, 0)

    def _rest_of_block(self) -> bytes:
        """What the header has left of its block; nothing of a block with a fault, which the csv module must come to."""
        block = self._block
        if block is None or not block.is_text:
            return b""
        start = 0
        for _ in range(block.n_lines - self._left):
            start = block.data.find(b"\n", start) + 1
        rest = block.data[start:] if self._left else b""
        self._left = 0
        return rest

    def _find_separator(self, usual: str) -> str:
        """Another separator than the usual one only where the usual one cannot be meant.

        The lines up to the header are looked at, but for one such as Excel's `sep=;`, which is taken away.
        """
        looked_at: list[str] = []
        separator = usual
        for line in self._feed():
            if not looked_at and line[:4].lower() == "sep=" and line[4:].rstrip("\r\n") in SEPARATORS:
                return line[4]
            looked_at.append(line)
            if line.strip("\r\n"):
                separator = _separator(line, usual)
                break
        self._lines = chain(looked_at, self._lines)
        self._left += len(looked_at)
        self._line = 0
        return separator


def _separator(header: str, usual: str) -> str:
    """A header that has the column `text` by the usual separator is never read by another one."""
    others = [mark for mark in SEPARATORS if mark != usual and mark in header]
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
