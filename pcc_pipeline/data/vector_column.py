"""The `embeddings` column as a float32 matrix: lists, arrays, JSON or Python literals, without evaluating code."""

from __future__ import annotations

import ast
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pcc_pipeline.data.columns import Reasons, no_faults, plain

Vectors = np.ndarray[Any, np.dtype[np.float32]]

WIDTHS = (384, 584)
_NOT_FINITE = "holds a number that is not finite"
_NOT_NUMBERS = "not a list of numbers"
_NUMBERS = (int, float, Decimal, np.integer, np.floating)
# Arrow's cast fails as a whole: a block bounds what one bad row makes slow, and stays within the processor's cache.
_BLOCK_ROWS = 128
# Arrow's offsets are of 32 bits where that does, for half the memory to go through.
_MAX_OFFSET = 2**31 - 1
# Longer than any list of 584 numbers; the literal parser needs many times a string's size.
_MAX_LITERAL_CHARACTERS = 100_000


@dataclass(frozen=True)
class ParsedVectors:
    """A parsed column.

    values: float32 (n, width), zeros in bad rows; (n, 0) where no row told the width.
    reasons: (n,) strings, '' for a good row.
    width: numbers per row, None where no good row came yet.
    """

    values: Vectors
    reasons: Reasons
    width: int | None


def parse_vectors(column: pd.Series, expected_width: int | None = None) -> ParsedVectors:
    """Parses one batch of the `embeddings` column; never raises for a row.

    expected_width: the width that earlier batches settled; without it the first good row decides between 384 and 584.
    """
    if isinstance(column.dtype, pd.ArrowDtype) and _is_list_of_numbers(column.dtype.pyarrow_dtype):
        return _from_lists(pa.array(column), expected_width)
    column = plain(column)
    width = expected_width if expected_width is not None else _first_width(column)
    reasons = no_faults(len(column))
    values: Vectors = np.zeros((len(column), width or 0), dtype=np.float32)
    if isinstance(column.dtype, pd.StringDtype):
        literal = column.notna().to_numpy(dtype=bool)
    else:
        literal = np.fromiter((isinstance(cell, str) for cell in column), dtype=bool, count=len(column))
    for position in np.flatnonzero(~literal):
        _put(values, reasons, int(position), column.iloc[position], width)
    positions = np.flatnonzero(literal)
    cells = column if literal.all() else column.iloc[positions]
    texts = _arrow_strings(cells)

    def parse(start: int) -> None:
        block = slice(start, start + _BLOCK_ROWS)
        _parse_literals(cells.iloc[block], texts[block], positions[block], values, reasons, width)

    # Arrow lets go of the interpreter lock, and each block writes to rows of its own.
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        list(pool.map(parse, range(0, len(positions), _BLOCK_ROWS)))
    broken = ~np.isfinite(values).all(axis=1) if width else np.zeros(len(column), dtype=bool)
    reasons[broken] = _NOT_FINITE
    values[broken] = 0.0
    return ParsedVectors(values, reasons, width)


def _is_list_of_numbers(kind: pa.DataType) -> bool:
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    numbers = (pa.types.is_floating, pa.types.is_integer, pa.types.is_decimal)
    return any(test(kind) for test in lists) and any(test(kind.value_type) for test in numbers)


def _from_lists(lists: pa.Array | pa.ChunkedArray, expected_width: int | None) -> ParsedVectors:
    """Arrow lists as one matrix: nothing is made a Python object."""
    if isinstance(lists, pa.ChunkedArray):
        lists = lists.combine_chunks()
    reasons = no_faults(len(lists))
    lengths = pc.list_value_length(lists).fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    parts: dict[int, tuple[np.ndarray[Any, Any], Vectors]] = {}
    for width in WIDTHS if expected_width is None else (expected_width,):
        positions = np.flatnonzero(lengths == width)
        numbers = lists.take(pa.array(positions)).flatten()
        if pa.types.is_decimal(numbers.type):
            numbers = numbers.cast(pa.float64())
        with np.errstate(over="ignore", invalid="ignore"):
            # A gap within a list becomes NaN.
            matrix = numbers.to_numpy(zero_copy_only=False).astype(np.float32).reshape(-1, width)
        parts[width] = positions, matrix
    # Without an expected width the first row that is good by either settles it.
    firsts = {
        width: positions[finite[0]]
        for width, (positions, matrix) in parts.items()
        if len(finite := np.flatnonzero(np.isfinite(matrix).all(axis=1)))
    }
    chosen = (
        expected_width if expected_width is not None else min(firsts, key=lambda width: firsts[width], default=None)
    )
    values: Vectors = np.zeros((len(lists), chosen or 0), dtype=np.float32)
    for position in np.flatnonzero(lengths != chosen):
        length = int(lengths[position])
        reasons[position] = "missing" if length < 0 else _wrong_width(length, chosen)
    if chosen is not None:
        positions, matrix = parts[chosen]
        broken = np.logical_not(np.isfinite(matrix).all(axis=1))
        matrix = np.where(broken[:, None], np.float32(0), matrix)
        values[positions] = matrix
        reasons[positions[broken]] = _NOT_FINITE
    return ParsedVectors(values, reasons, chosen)


def _wrong_width(length: int, width: int | None) -> str:
    if width is not None:
        return f"wrong width: {length} numbers instead of {width}"
    return _NOT_FINITE if length in WIDTHS else f"wrong width: {length} numbers instead of 384 or 584"


def _first_width(column: pd.Series) -> int | None:
    for cell in column:
        row = _row(cell)
        if not isinstance(row, str) and len(row) in WIDTHS and np.isfinite(row).all():
            return len(row)
    return None


def _parse_literals(
    cells: pd.Series,
    texts: pa.LargeStringArray,
    positions: np.ndarray[Any, Any],
    values: Vectors,
    reasons: Reasons,
    width: int | None,
) -> None:
    """Fills `values` and `reasons` at `positions`; one Arrow pass for well-formed rows, one by one for the rest."""
    slow = np.ones(len(positions), dtype=bool)
    if width is not None:
        chosen, numbers = _cast(texts, width)
        values[positions[chosen]] = numbers
        slow[chosen] = False
    for offset in np.flatnonzero(slow):
        _put(values, reasons, int(positions[offset]), cells.iloc[offset], width)


def _cast(texts: pa.LargeStringArray, width: int) -> tuple[np.ndarray[Any, Any], Vectors]:
    """Positions of the rows that are `[a, b, …]` with `width` numbers, and these numbers; none where any is no number.

    Nothing is split: Arrow casts views of the texts, in which what stands between two numbers counts as null.
    """
    none = np.zeros(0, dtype=np.intp), np.zeros((0, width), dtype=np.float32)
    ends = np.frombuffer(texts.buffers()[1], dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1]
    signs = np.frombuffer(texts.buffers()[2] or b"", dtype=np.uint8)[ends[0] : ends[-1]]
    ends = ends - ends[0]
    commas = np.flatnonzero(signs == ord(","))
    fit = np.diff(np.searchsorted(commas, ends)) == width - 1
    if not fit.all():
        chosen = np.flatnonzero(fit)
        if not len(chosen):
            return none
        among, numbers = _cast(texts.take(chosen), width)
        return chosen[among], numbers
    if not ((signs[ends[:-1]] == ord("[")) & (signs[ends[1:] - 1] == ord("]"))).all() or signs.size > _MAX_OFFSET:
        return none
    # Start and end of each number: to Arrow, a number and what follows it, turn by turn.
    views = np.empty(2 * width * len(texts) + 1, dtype=np.int32)
    bounds = views[:-1].reshape(-1, width, 2)
    inner = commas.reshape(-1, width - 1)
    bounds[:, 0, 0], bounds[:, -1, 1] = ends[:-1] + 1, ends[1:] - 1
    bounds[:, :-1, 1] = inner
    # The blank after the comma, as json.dumps and str write it; other blanks make the cast fail.
    inner += 1
    np.add(inner, signs[inner] == ord(" "), out=bounds[:, 1:, 0])
    views[-1] = bounds[-1, -1, 1]
    valid = np.full(-(-bounds.size // 8), 0b01010101, dtype=np.uint8)
    array = pa.StringArray.from_buffers(bounds.size, *map(pa.py_buffer, (views, signs, valid)))
    try:
        parsed = pc.cast(array, pa.float32())
    except pa.ArrowInvalid:
        return none
    values = np.frombuffer(parsed.buffers()[1], dtype=np.float32)[: bounds.size : 2].reshape(-1, width)
    return np.arange(len(texts)), values


def _arrow_strings(cells: pd.Series) -> pa.LargeStringArray:
    try:
        array = pa.array(cells, type=pa.large_string())
    except UnicodeEncodeError:
        # A lone surrogate is never part of a number; "?" makes its row fail alone.
        array = pa.array([cell.encode(errors="replace").decode() for cell in cells], type=pa.large_string())
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _put(values: Vectors, reasons: Reasons, position: int, cell: object, width: int | None) -> None:
    row = _row(cell)
    if isinstance(row, str):
        reasons[position] = row
    elif len(row) != width:
        reasons[position] = _wrong_width(len(row), width)
    else:
        values[position] = row


def _row(cell: object) -> Vectors | str:
    """One cell as a float32 row, or the reason why it is none."""
    if isinstance(cell, str):
        cell = _literal(cell)
    if isinstance(cell, np.ndarray) and cell.ndim == 1 and cell.dtype == object:
        cell = cell.tolist()
    if isinstance(cell, np.ndarray):
        if cell.ndim != 1:
            return "nested lists"
        if len(cell) > _MAX_LITERAL_CHARACTERS:
            return f"wrong width: more than {_MAX_LITERAL_CHARACTERS:,} numbers"
        return _narrow(cell) if cell.dtype.kind in "fiu" else _NOT_NUMBERS
    if not isinstance(cell, (list, tuple)):
        missing = cell is None or cell is pd.NA or (isinstance(cell, (float, np.floating)) and cell != cell)
        return "missing" if missing else _NOT_NUMBERS
    if len(cell) > _MAX_LITERAL_CHARACTERS:
        return f"wrong width: more than {_MAX_LITERAL_CHARACTERS:,} numbers"
    kinds = set(map(type, cell))
    if kinds & {list, tuple, np.ndarray}:
        return "nested lists"
    if not all(issubclass(kind, _NUMBERS) and kind is not bool for kind in kinds):
        return _NOT_NUMBERS
    return _narrow(cell)


def _narrow(cell: object) -> Vectors | str:
    # A float64 beyond float32's range becomes infinite, which the caller reports as such.
    with np.errstate(over="ignore"):
        try:
            return np.asarray(cell, dtype=np.float64).astype(np.float32)
        except OverflowError:
            return _NOT_FINITE


def _literal(text: str) -> object:
    """A JSON or Python literal as an object; other strings come back as an object that is no list."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    if len(text) > _MAX_LITERAL_CHARACTERS:
        return object()
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return object()
