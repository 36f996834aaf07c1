"""The part of a CSV that pyarrow reads sooner than the csv module, and to the same rows.

pyarrow takes "a"b, a lone carriage return and blank lines for what they are not, and its messages quote the row. So it
gets only bytes in which a scan found nothing of the kind, and where it fails all the same its message is not read.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

# A longer field is an unclosed quote that swallows the file, which the csv module says.
MAX_BYTES = 4_000_000
_QUOTE, _LINE_FEED, _RETURN = b'"\n\r'
_Bytes = np.ndarray[Any, np.dtype[np.uint8]]
_Places = np.ndarray[Any, np.dtype[np.intp]]


def plain_rows(data: bytes, separator: str) -> int | None:
    """How many of these bytes, which begin a row, are whole rows; None where the csv module must look at them.

    data: UTF-8, of whole lines. What follows the whole rows is a row that goes on in the file's next lines.
    """
    if not data:
        return 0
    if len(data) > MAX_BYTES or data.startswith(codecs.BOM_UTF8):
        return None
    signs = np.frombuffer(data, dtype=np.uint8)
    # Every other quote opens and closes: what stands after an odd number of them is quoted.
    quotes = np.flatnonzero(signs == _QUOTE) if b'"' in data else np.zeros(0, dtype=np.intp)
    if not _well_quoted(signs, quotes, ord(separator)):
        return None
    if b"\r" in data and not _returns_end_lines(signs, quotes):
        return None
    if _has_blank_line(signs, quotes, returns=b"\r" in data):
        return None
    end = len(data)
    while (before := int(np.searchsorted(quotes, end))) % 2:
        end = data.rfind(b"\n", 0, int(quotes[before - 1])) + 1
    return end


def parsed(rows: bytes, separator: str, width: int) -> pa.Table | None:
    """Plain rows as `width` columns of strings, the empty ones null; None where a row is of another width."""
    quoted = b'"' in rows
    names = [str(number) for number in range(width)]
    try:
        return pyarrow.csv.read_csv(
            pa.BufferReader(rows),
            pyarrow.csv.ReadOptions(use_threads=False, block_size=len(rows) + 1, column_names=names),
            pyarrow.csv.ParseOptions(
                delimiter=separator,
                quote_char='"' if quoted else False,
                newlines_in_values=quoted,
                ignore_empty_lines=False,
            ),
            pyarrow.csv.ConvertOptions(
                check_utf8=False,
                column_types=dict.fromkeys(names, pa.large_string()),
                null_values=[""],
                strings_can_be_null=True,
            ),
        )
    except pa.ArrowInvalid:
        return None


def table_of(rows: Sequence[Sequence[str]], width: int) -> pa.Table:
    """The same table from rows as the csv module gives them."""
    columns = list(zip(*rows, strict=True)) if rows else [()] * width
    arrays = [pa.array([cell or None for cell in cells], type=pa.large_string()) for cells in columns]
    return pa.table(arrays, names=[str(number) for number in range(width)])


def _well_quoted(signs: _Bytes, quotes: _Places, separator: int) -> bool:
    """Whether each opening quote begins a field and each closing one ends it, but for two that stand for one."""
    if not len(quotes):
        return True
    opening, closing = quotes[0::2], quotes[1::2]
    neighbours = np.zeros(256, dtype=bool)
    neighbours[[separator, _LINE_FEED, _RETURN, _QUOTE]] = True
    # Before the first sign and after the last one is the end of a field as well.
    before = signs[opening[opening > 0] - 1]
    after = signs[closing[closing < len(signs) - 1] + 1]
    return bool(neighbours[before].all() and neighbours[after].all())


def _returns_end_lines(signs: _Bytes, quotes: _Places) -> bool:
    """Whether each carriage return outside quotes stands before a line feed."""
    returns = _outside(np.flatnonzero(signs == _RETURN), quotes)
    return not len(returns) or bool(returns[-1] < len(signs) - 1 and (signs[returns + 1] == _LINE_FEED).all())


def _has_blank_line(signs: _Bytes, quotes: _Places, *, returns: bool) -> bool:
    ends = signs == _LINE_FEED
    # Whether each sign begins a line.
    begins = np.concatenate([[True], ends[:-1]])
    blank = ends & begins
    if returns:
        blank[1:] |= ends[1:] & (signs == _RETURN)[:-1] & begins[:-1]
    return bool(len(_outside(np.flatnonzero(blank), quotes)))


def _outside(places: _Places, quotes: _Places) -> _Places:
    outside: _Places = places[np.searchsorted(quotes, places) % 2 == 0]
    return outside
