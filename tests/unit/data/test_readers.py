"""Files come back row by row as they were written, and a broken file says what is broken and how to mend it."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pcc_pipeline.data.formats import csv_rows, lines
from pcc_pipeline.data.formats.readers import read_batches
from pcc_pipeline.data.notes import ReadNotes
from pcc_pipeline.errors import DataError


def whole(path: Path, batch_rows: int = 8192) -> pd.DataFrame:
    return pd.concat(read_batches(path, batch_rows))


def written(frame: pd.DataFrame, path: Path) -> Path:
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    elif path.suffix == ".pkl":
        frame.to_pickle(path)
    else:
        frame.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "A.CSV", "a.parquet", "a.pkl"])
def test_every_kind_gives_the_same_texts_under_an_index_that_counts_on(tmp_path: Path, name: str) -> None:
    texts = [f'row {i}, "quoted"\nand é 漢 🙂' for i in range(25)]
    frame = pd.DataFrame({"text": texts, "intent": "other"}, index=range(100, 125))
    batches = list(read_batches(written(frame, tmp_path / name), batch_rows=10))
    assert [len(batch) for batch in batches] == [10, 10, 5]
    together = pd.concat(batches)
    assert together.index.tolist() == list(range(25))
    assert together["text"].tolist() == texts
    assert together.columns.tolist() == ["text", "intent"]


def test_in_a_csv_only_the_empty_field_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('text,intent\nNA,null\nnan,\n"","None"\n007, x \n')
    frame = whole(path)
    assert frame["text"].fillna("<missing>").tolist() == ["NA", "nan", "<missing>", "007"]
    assert frame["intent"].fillna("<missing>").tolist() == ["null", "<missing>", "None", " x "]


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_byte_order_mark_and_line_ending_are_no_part_of_the_data(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xef\xbb\xbf" + ending.join(["text,intent", "hello,other", "", "bye,other"]).encode())
    frame = whole(path)
    assert frame.columns.tolist() == ["text", "intent"]
    assert frame["intent"].tolist() == ["other", "other"]


@pytest.mark.parametrize("kind", ["list", "fixed_size_list"])
def test_parquet_vectors_come_back_whole(tmp_path: Path, kind: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = np.arange(12, dtype="float32").reshape(3, 4)
    column = pa.array(rows.tolist(), type=pa.list_(pa.float32(), 4 if kind == "fixed_size_list" else -1))
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["a", "b", "c"], "embeddings": column}), path)
    assert np.stack(whole(path, 2)["embeddings"].tolist()).tolist() == rows.tolist()


@pytest.mark.parametrize("name", ["a.parquet", "a.pkl"])
def test_a_named_index_is_a_column(tmp_path: Path, name: str) -> None:
    frame = pd.DataFrame({"case_id": ["x", "y"], "text": ["a", "b"]}).set_index("case_id")
    assert whole(written(frame, tmp_path / name))["case_id"].tolist() == ["x", "y"]


def test_a_large_csv_is_not_read_ahead(tmp_path: Path) -> None:
    """The first batch comes although the file's end is broken: rows stream."""
    path = tmp_path / "a.csv"
    path.write_bytes(b"text,intent\n" + b"hello,other\n" * 50_000 + b"\xff\n")
    batches = read_batches(path, batch_rows=100)
    assert len(next(batches)) == 100
    with pytest.raises(DataError, match=r"not UTF-8 at byte 600012, line 50002"):
        list(batches)


SECRET = "my secret is 4711"
GOOD = f"text,intent\n{SECRET},other\n".encode()
BAD_FILES: dict[str, tuple[str, bytes, str]] = {
    "no bytes": ("a.csv", b"", r"empty \(0 bytes\)"),
    "no bytes, gz": ("a.csv.gz", b"", r"empty \(0 bytes\)"),
    "no bytes, parquet": ("a.parquet", b"", r"empty \(0 bytes\)"),
    "no bytes, pickle": ("a.pkl", b"", r"empty \(0 bytes\)"),
    "gz of nothing": ("a.csv.gz", gzip.compress(b""), r"empty \(0 bytes\)"),
    "blank lines only": ("a.csv", b"\n\n\n", "empty"),
    "header only": ("a.csv", b"text,intent\n", "columns and no rows"),
    "header without line end": ("a.csv", b"text,intent", "columns and no rows"),
    "unknown kind": ("a.xlsx", GOOD, r"use one of \.csv, \.csv\.gz, \.parquet, \.pkl"),
    "no kind": ("a", GOOD, "kind is not known"),
    "gz of another kind": ("a.gz", GOOD, "kind is not known"),
    "latin-1": ("a.csv", GOOD + "caf\xe9,other\n".encode("latin-1"), r"not UTF-8 at byte 39, line 3"),
    "utf-16": ("a.csv", GOOD.decode().encode("utf-16"), "UTF-16"),
    "NUL byte": ("a.csv", GOOD + b"a\0b,other\n", r"NUL byte at byte 37, line 3"),
    "line too long": ("a.csv", GOOD + b"a,b,c\n", "line 3 has 3 fields and its header 2"),
    "line too short": ("a.csv", GOOD + b"a\n", "line 3 has 1 fields and its header 2"),
    "semicolons, line too long": ("a.csv", b"text;intent\na;b;other\n", "line 2 has 3 fields and its header 2"),
    "open quote": ("a.csv", GOOD + b'"never closed,other\n', "row that starts at line 3: unexpected end of data"),
    "text after a quote": ("a.csv", GOOD + b'"a"b,other\n', "row that starts at line 3: ',' expected"),
    "twice the same column": ("a.csv", b"text,text\na,b\n", r"column names are repeated: text"),
    "data for a header": ("a.csv", b"I want my file,I want my file\na,b\n", "not shown, reads like data"),
    "no gzip": ("a.csv.gz", GOOD, "no gzip file or damaged"),
    "gz cut short": ("a.csv.gz", gzip.compress(GOOD * 999)[:-20], "cut short"),
    "gz damaged": ("a.csv.gz", gzip.compress(GOOD)[:12] + b"\xff\xff\xff" + gzip.compress(GOOD)[15:], "damaged"),
    "no parquet": ("a.parquet", GOOD, "not a readable parquet"),
    "parquet cut short": ("a.parquet", b"PAR1" + GOOD, "not a readable parquet"),
    "no pickle": ("a.pkl", GOOD, "pickle cannot be read"),
    "pickle cut short": ("a.pkl", b"\x80\x04\x95", "pickle cannot be read"),
}


@pytest.mark.parametrize(("name", "content", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_file_says_what_is_wrong_and_where_and_quotes_no_text(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        list(read_batches(path))
    shown = str(caught.value)
    assert str(path) in shown
    assert "do:" in shown
    assert SECRET not in shown
    assert "I want my file" not in shown


def test_a_name_in_bytes_that_are_no_utf_8_is_read_but_of_parquet_which_arrow_cannot_open_so(tmp_path: Path) -> None:
    frame = pd.DataFrame({"text": ["I want my file"]})
    for suffix in (".csv", ".pkl"):
        odd = tmp_path / os.fsdecode(b"caf\xe9" + suffix.encode())
        written(frame, tmp_path / f"plain{suffix}").rename(odd)
        assert list(whole(odd)["text"]) == ["I want my file"]
    odd = tmp_path / os.fsdecode(b"caf\xe9.parquet")
    written(frame, tmp_path / "plain.parquet").rename(odd)
    with pytest.raises(DataError, match=r"no UTF-8, and Arrow cannot open it(?s:.*)caf\\udce9\.parquet"):
        whole(odd)


def test_a_path_that_is_no_file_is_refused_before_iteration(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_batches(tmp_path / "none.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataError, match="is a folder"):
        read_batches(tmp_path / "folder.csv")


@pytest.mark.parametrize("name", ["a.parquet", "a.pkl"])
def test_a_frame_without_rows_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="columns and no rows"):
        whole(written(pd.DataFrame({"text": pd.array([], dtype="str")}), tmp_path / name))


def test_a_field_of_a_million_characters_is_the_contracts_affair(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"text,intent\n{'a' * 1_000_000},other\n")
    assert len(whole(path)["text"].iloc[0]) == 1_000_000


# What CSVs are made of: good rows of two fields, pieces of rows, and what is no text.
GOOD_ROWS = ["x,y\n", '"q","r"\r\n', '"q\n\nq",""\n', '"a""b",c\n', ',"\r"\n', '"""",é漢\n', " , \n"]
PIECES = [*'aé ,;\t"\n\r\ufeff', '""', '","', "\n\n", "\r\n", b"\0", b"\xff", b"\xc3"]
HEADERS = [
    "text,intent\n",
    '"text","in\ntent"\r\n',
    "\n\ntext;intent\n",
    "text\n",
    "text\tintent\r\n",
    "\ufefftext,b\n",
]
ROWS = st.one_of(st.lists(st.sampled_from(GOOD_ROWS)), st.lists(st.sampled_from([*GOOD_ROWS, *PIECES])))


def rows_or_error(path: Path) -> object:
    try:
        notes = ReadNotes()
        frame = pd.concat(read_batches(path, 3, notes))
        return list(frame), frame.fillna("<missing>").values.tolist(), notes.lines
    except DataError as error:
        return str(error)


@settings(max_examples=100, deadline=None)
@given(header=st.sampled_from(HEADERS), rows=ROWS, block_bytes=st.sampled_from([7, 40, 2**18]))
@example(header="text\n", rows=["a\n", "\n", "b\n"], block_bytes=7)
@example(header="text,intent\n", rows=["x,y\n"] * 9 + ['"open,x\n', "x,y\n"], block_bytes=40)
def test_pyarrow_is_given_only_what_it_reads_as_the_csv_module_does(
    tmp_path_factory: pytest.TempPathFactory, header: str, rows: list[str | bytes], block_bytes: int
) -> None:
    """Any bytes give the same rows, the same blank lines or the same error, wherever the blocks of the file end."""
    path = tmp_path_factory.getbasetemp() / "made.csv"
    path.write_bytes(b"".join(piece if isinstance(piece, bytes) else piece.encode() for piece in [header, *rows]))
    with patch.object(csv_rows, "plain_rows", lambda data, separator: None):
        by_the_csv_module = rows_or_error(path)
    with patch.object(lines, "_BLOCK_BYTES", block_bytes):
        assert rows_or_error(path) == by_the_csv_module


def test_rows_of_the_usual_forms_go_through_pyarrow(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("".join(["text,intent\n", *GOOD_ROWS]), newline="")
    with patch.object(csv_rows.CsvRows, "_row", autospec=True, side_effect=csv_rows.CsvRows._row) as row:
        assert len(whole(path)) == len(GOOD_ROWS)
    assert row.call_count == 1, "the header alone is the csv module's"


def test_an_odd_row_leaves_the_rows_after_its_block_to_pyarrow(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,intent\n" + 'a 5" pipe,x\n' + "a,b\n" * 10_000)
    with (
        patch.object(lines, "_BLOCK_BYTES", 1000),
        patch.object(csv_rows.CsvRows, "_row", autospec=True, side_effect=csv_rows.CsvRows._row) as row,
    ):
        frame = whole(path)
    assert frame["text"].tolist() == ['a 5" pipe', *["a"] * 10_000]
    assert row.call_count < 300


def test_batches_of_wide_rows_are_smaller(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with path.open("w") as file:
        file.write("text,embeddings\n")
        for number in range(3000):
            file.write(f'{number},"[{"1, " * 2000}]"\n')
    batches = list(read_batches(path))
    assert sum(map(len, batches)) == 3000
    assert max(batch["embeddings"].str.len().sum() for batch in batches) < 9_000_000
    assert whole(path)["text"].tolist() == [str(number) for number in range(3000)]


def test_reading_parquet_keeps_no_row_group_that_was_read(tmp_path: Path) -> None:
    """So that memory does not grow with the file: a group of these has 2 MB."""
    path = tmp_path / "groups.parquet"
    vectors = np.arange(1000 * 512, dtype=np.float32)
    column = pa.ListArray.from_arrays(pa.array(np.arange(0, vectors.size + 1, 512, dtype=np.int32)), pa.array(vectors))
    with pq.ParquetWriter(path, pa.schema({"embeddings": column.type}), use_dictionary=False) as file:
        for _ in range(12):
            file.write_table(pa.table({"embeddings": column}))
    before, held = pa.total_allocated_bytes(), []
    for batch in read_batches(path, 500):
        del batch
        held.append(pa.total_allocated_bytes() - before)
    assert max(held) < 8_000_000
