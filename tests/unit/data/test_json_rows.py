"""JSONL: what was written is read, whatever it holds and however it is cut; what is none is named and not quoted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pcc_pipeline.data.formats.json_rows import read_jsonl
from pcc_pipeline.data.notes import ReadNotes
from pcc_pipeline.errors import DataError

QUICK = settings(max_examples=50, deadline=None, derandomize=True)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=10)
KEYS = st.sampled_from(["text", "intent", "case_id", "embeddings", "é", " a", ""])
CELLS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    TEXTS,
    st.sampled_from(["nan", "null", "None", "", "a\u2028b", "a\r\nb", "\x85", '"', "\\"]),
    st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=3),
)
ROWS = st.lists(st.dictionaries(KEYS, CELLS, max_size=4), min_size=1, max_size=8).filter(any)


def read(path: Path, batch_rows: int = 8192) -> tuple[list[dict[str, Any]], ReadNotes]:
    """The rows without their missing cells."""
    notes = ReadNotes()
    rows = [row for frame in read_jsonl(path, batch_rows, notes) for row in frame.to_dict("records")]
    return [{name: cell for name, cell in row.items() if not is_missing(cell)} for row in rows], notes


def is_missing(cell: Any) -> bool:
    return cell is None or (isinstance(cell, float) and cell != cell)


@QUICK
@given(ROWS, st.integers(1, 4), st.booleans(), st.sampled_from(["\n", "\r\n", "\n\n", "\n \t\n"]))
@example([{"text": "a"}, {"intent": "b"}], 1, True, "\n")
def test_what_was_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], batch_rows: int, ascii_only: bool, end: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "made.jsonl"
    path.write_bytes("".join(json.dumps(row, ensure_ascii=ascii_only) + end for row in rows).encode())
    got, notes = read(path, batch_rows)
    assert got == [{name: cell for name, cell in row.items() if cell is not None} for row in rows]
    assert notes.blank_lines == len(rows) * (end.count("\n") - 1)
    # Every batch has the columns of the whole file.
    columns = {tuple(frame.columns) for frame in read_jsonl(path, batch_rows, ReadNotes())}
    assert columns == {tuple(dict.fromkeys(name for row in rows for name in row))}


SECRET = "jane.doe@example.org"
PIECES = st.one_of(
    st.sampled_from(
        ["{", "}", "[", "]", '"', ":", ",", "\n", "\\", "\\ud800", "NaN", "1e999", "null", "\ufeff", "0" * 40]
    ),
    st.just(SECRET),
    st.just(f'{{"text": "{SECRET}"}}\n'),
    st.just(f'{{"text": "{SECRET}", "text": "{SECRET}"}}\n'),
    st.just("[" * 2_000),
)


@QUICK
@given(st.lists(st.one_of(PIECES.map(str.encode), st.binary(max_size=4)), max_size=8).map(b"".join))
@example(b'{"text": "' + SECRET.encode() + b'"}\n{"text": "' + SECRET.encode())
@example(b"\xff\xfe" + SECRET.encode())
@example(b'{"' + SECRET.encode() + b'": 1, "' + SECRET.encode() + b'": 2}')
def test_any_bytes_are_rows_or_an_error_that_quotes_none_of_them(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "made.jsonl"
    path.write_bytes(content)
    told = ""
    try:
        # The rows themselves may be shown to nobody, but are there.
        assert all(isinstance(frame, pd.DataFrame) for frame in read_jsonl(path, 2, ReadNotes()))
    except DataError as error:
        told = str(error)
    assert SECRET not in told
