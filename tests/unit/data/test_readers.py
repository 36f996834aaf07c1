"""Files come back row by row as they were written, and a broken file says what is broken and how to mend it."""

from __future__ import annotations

import csv
import gzip
import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pcc_pipeline.data.formats.csv_rows import csv_rows, plain_fields
from pcc_pipeline.data.readers import read_batches
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
    "twice the same column": ("a.csv", b"text,text\na,b\n", r"Column names are repeated: text\."),
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


LINES = [
    'a,b,"c"\n',
    '"a",b,c\r\n',
    '"a","b","c"\n',
    '"a",,"c"\n',
    '"a",b,"c"',
    "a,b,c\n",
    ",,\n",
    '"",,""\n',
    '"a,b",c,d\n',
    'a,"b,c",d\n',
    ' "a",b,c\n',
    'a"b",c,d\n',
    '"a""b",c,d\n',
    '"a"b,c,d\n',
    '"a" ,c,d\n',
    '"a","b""c",d\n',
    '"""a""",b,c\n',
    '"",b,c\n',
    'a,b,""\n',
    '"a\r",b,c\n',
    "a\rb,c,d\n",
    '"open,b,c\n',
    'closed",x,y\n',
    "\n",
    "\r\n",
    '"a"\n',
    '""\n',
    'a,"b" "c",d\n',
    '"a",,,"b"\n',
    '"a""","b",c\n',
    ',"b",\n',
    'é,"漢🙂",ü\n',
]


def by_the_csv_module(lines: list[str]) -> list[object]:
    return told(csv.reader(iter(lines), strict=True))


def told(rows: Any) -> list[object]:
    """The rows with the count of lines after each, and at the end the error, if one came."""
    found: list[object] = []
    try:
        for row in rows:
            found.append((row, rows.line_num))
    except csv.Error as error:
        found.append((str(error), rows.line_num))
    return found


@pytest.mark.parametrize("line", LINES)
def test_a_line_taken_apart_at_its_quotes_has_the_csv_modules_fields(line: str) -> None:
    fields = plain_fields(line)
    if fields is not None:
        assert by_the_csv_module([line]) == [(fields, 1)]


def test_plain_lines_are_taken_apart() -> None:
    assert [plain_fields(line) is not None for line in LINES[:10]] == [True] * 10


def test_files_with_long_lines_give_the_csv_modules_rows_line_counts_and_errors() -> None:
    """Any lines after one another, also those that leave a quote open."""
    header = "x" * 2000 + ",b,c\n"
    drawn = random.Random(0)
    for _ in range(3000):
        lines = [header, *(drawn.choice(LINES) for _ in range(drawn.randrange(8)))]
        assert told(csv_rows(iter(lines))) == by_the_csv_module(lines), lines


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
