"""Rows of a CSV by the csv module, and the same rows sooner where lines are long, as those with vectors are."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import chain, islice
from typing import Protocol, Self

# A field this long is an unclosed quote that swallows the file; the longest good field is a 584-vector of about 13,000.
MAX_FIELD_CHARACTERS = 4_000_000
# From here on, taking a line apart at its quotes beats the csv module, which looks at each character.
_LONG_LINE = 1_000


class CsvRows(Protocol):
    """What csv.reader is: rows as lists of fields, [] for a blank line, and the count of lines read so far."""

    @property
    def line_num(self) -> int: ...

    def __next__(self) -> list[str]: ...

    def __iter__(self) -> Self: ...


def csv_rows(lines: Iterator[str], separator: str = ",") -> CsvRows:
    """The rows of `lines`, which keep their line ends. Raises csv.Error as the csv module does."""
    # The header and the first row, where both are one line each.
    start = list(islice(lines, 2))
    wide = any(len(line) >= _LONG_LINE for line in start)
    lines = chain(start, lines)
    return _WideRows(lines, separator) if wide else csv.reader(lines, delimiter=separator, strict=True)


class _WideRows:
    """Each line apart by itself where that is plain, by the csv module where it is not."""

    def __init__(self, lines: Iterator[str], separator: str) -> None:
        self.line_num = 0
        self._lines = lines
        self._separator = separator
        self._held: str | None = None
        self._reader = csv.reader(self._rest(), delimiter=separator, strict=True)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> list[str]:
        line = next(self._lines)
        self.line_num += 1
        row = plain_fields(line, self._separator)
        if row is None:
            self._held = line
            row = next(self._reader)
        return row

    def _rest(self) -> Iterator[str]:
        """For the csv module: the line in hand and, while its row goes on, the next ones."""
        while True:
            if self._held is not None:
                line, self._held = self._held, None
                yield line
            elif (following := next(self._lines, None)) is not None:
                self.line_num += 1
                yield following
            else:
                return


def plain_fields(line: str, separator: str = ",") -> list[str] | None:
    """The fields of a row that is one line without doubled quotes; None where the csv module must look at it.

    Split at its quotes, such a line is outside, inside, outside, …; those outside hold whole fields and separators.
    """
    body = line.removesuffix("\n").removesuffix("\r")
    if not body or len(body) > MAX_FIELD_CHARACTERS or "\r" in body:
        return None
    pieces = body.split('"')
    last = len(pieces) - 1
    if last % 2:
        return None
    fields: list[str] = []
    for place, piece in enumerate(pieces):
        if place % 2:
            fields.append(piece)
            continue
        start, stop = 0, len(piece)
        if place > 0 and (piece or place < last):
            if not piece.startswith(separator):
                return None
            start = 1
        if place < last and (piece or place > 0):
            if not piece.endswith(separator):
                return None
            stop -= 1
        # A lone separator between two quoted fields holds no field; neither does nothing before or after them.
        if start <= stop and (piece or last == 0) and not (piece == separator and 0 < place < last):
            fields.extend(piece[start:stop].split(separator))
    return fields
