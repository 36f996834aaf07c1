"""A JSONL file as batches of rows: one JSON object a line, its keys the columns."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from pcc_pipeline.data.columns import MAX_COLUMNS, check_names
from pcc_pipeline.data.formats.csv_files import BATCH_BYTES
from pcc_pipeline.data.formats.lines import open_lines
from pcc_pipeline.data.notes import ReadNotes
from pcc_pipeline.errors import DataError


def read_jsonl(path: Path, batch_rows: int, notes: ReadNotes) -> Iterator[pd.DataFrame]:
    """Yields batches with the columns of the whole file; a key that a line lacks is missing there, as null is.

    The file is read twice: a column that first comes in the last line is a column of the first batch, too.
    """
    names: dict[str, None] = {}
    for row, _ in _rows(path):
        names.update(dict.fromkeys(row))
        if len(names) > MAX_COLUMNS:
            break
    check_names(list(names), path)
    block: list[dict[str, Any]] = []
    characters = 0
    for row, size in _rows(path, notes):
        block.append(row)
        characters += size
        if len(block) == batch_rows or characters >= BATCH_BYTES:
            yield _frame(block, names)
            block, characters = [], 0
    if block:
        yield _frame(block, names)


def _rows(path: Path, notes: ReadNotes | None = None) -> Iterator[tuple[dict[str, Any], int]]:
    """Each line's object and the line's length."""
    blank, first_blank = 0, 0
    with open_lines(path, "JSONL") as lines:
        for number, line in enumerate(lines, start=1):
            lines.row_begins()
            if not line.strip():
                blank, first_blank = blank + 1, first_blank or number
                continue
            yield _object(line, number, path), len(line)
    if blank and notes is not None:
        notes.add_blank_lines(blank, first_blank, path)


def _object(line: str, number: int, path: Path) -> dict[str, Any]:
    try:
        row = json.loads(line, object_pairs_hook=_unrepeated)
    except _RepeatedKeyError:
        raise DataError(
            f"the JSONL's line {number} has a key twice", where=str(path), fix="give each key of an object once"
        ) from None
    except (ValueError, RecursionError):  # its messages may quote the line
        row = None
    if not isinstance(row, dict):
        raise DataError(
            f"the JSONL's line {number} is no JSON object",
            where=str(path),
            fix='write one object a line, such as {"text": "…", "intent": "…"}',
        )
    return row


class _RepeatedKeyError(Exception):
    """An object has one key twice, so one of its values would be lost."""


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) != len(pairs):
        raise _RepeatedKeyError
    return row


def _frame(block: list[dict[str, Any]], names: dict[str, None]) -> pd.DataFrame:
    return pd.DataFrame({name: _column([row.get(name) for row in block]) for name in names})


def _column(cells: list[Any]) -> pd.Series:
    if all(cell is None or isinstance(cell, str) for cell in cells):
        try:
            strings: pd.Series = pa.array(cells, type=pa.large_string()).to_pandas()
            return strings
        except UnicodeEncodeError:  # a lone surrogate; the contract rejects its row alone
            pass
    return pd.Series(cells, dtype=object)
