"""One table in every format is one table: the same labels, ids, numbers, times and vectors."""

from __future__ import annotations

import datetime
import gzip
import json
import uuid
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pcc_pipeline.data.contract import Contract
from pcc_pipeline.data.dataset import Dataset, load
from pcc_pipeline.data.formats.readers import read_batches
from pcc_pipeline.data.notes import ReadNotes
from pcc_pipeline.errors import DataError

SOME_ID = uuid.UUID(int=7)
BERLIN = datetime.timezone(datetime.timedelta(hours=1))


def read(path: Path, limit: float = 0.99, **contract: Any) -> Dataset:
    notes = ReadNotes()
    asked = Contract(**{"label_column": "intent", **contract})
    return load(read_batches(path, notes=notes), asked, str(path), limit, notes=notes)


def csv(folder: Path, column: str, cell: object, kind: Any) -> Path:
    path = folder / "a.csv"
    pd.DataFrame({"text": ["hello"], "intent": ["other"], column: [cell]}).to_csv(path, index=False)
    return path


def jsonl(folder: Path, column: str, cell: object, kind: Any) -> Path:
    path = folder / "a.jsonl"
    path.write_text(json.dumps({"text": "hello", "intent": "other", column: cell}) + "\n")
    return path


def parquet(folder: Path, column: str, cell: object, kind: Any) -> Path:
    path = folder / "a.parquet"
    cells = pa.array([cell], type=kind) if kind is not None else pa.array([cell])
    columns: dict[str, Any] = {"text": pa.array(["hello"]), "intent": pa.array(["other"]), column: cells}
    pq.write_table(pa.table(columns), path)
    return path


def pickled(folder: Path, column: str, cell: object, kind: Any) -> Path:
    path = folder / "a.pkl"
    cells = pd.Series([cell], dtype=kind or object)
    pd.DataFrame({"text": ["hello"], "intent": ["other"]}).assign(**{column: cells}).to_pickle(path)
    return path


Write = Callable[[Path, str, object, Any], Path]
U, ARROW = datetime.UTC, pa
TIME = "2025-01-06 05:00:00+00:00"
DAY = "2025-01-06 00:00:00+00:00"
SAME: list[tuple[Write, str, object, Any, object]] = [
    *(
        (write, "confidence", cell, None, 0.5)
        for write, cell in [(csv, "0.5"), (csv, " 0.5 "), (csv, "5e-1"), (csv, "0,5"), (jsonl, 0.5), (jsonl, "0.5")]
    ),
    *(
        (parquet, "confidence", cell, kind, 0.5)
        for cell, kind in [
            (0.5, pa.float64()),
            (0.5, pa.float32()),
            (np.float16(0.5), pa.float16()),
            (Decimal("0.50"), pa.decimal128(5, 2)),
            (Decimal("0.500000000"), pa.decimal128(38, 9)),
            (Decimal("0.5"), pa.decimal256(76, 38)),
            ("0.5", pa.string()),
            ("0.5", pa.large_string()),
            ("0.5", pa.string_view()),
            (b"0.5", pa.binary()),
            ("0.5", pa.dictionary(pa.int32(), pa.string())),
        ]
    ),
    *(
        (pickled, "confidence", cell, kind, 0.5)
        for cell, kind in [
            (0.5, None),
            (np.float32(0.5), None),
            (Decimal("0.5"), None),
            ("0.5", None),
            (b"0.5", None),
            (0.5, "Float32"),
            ("0.5", "str"),
            (0.5, "category"),
        ]
    ),
    (jsonl, "word_count", 3.0, None, 3),
    (parquet, "word_count", Decimal("3.00"), pa.decimal128(5, 2), 3),
    (parquet, "word_count", 3, pa.uint8(), 3),
    (pickled, "word_count", np.int16(3), None, 3),
    *((csv, "timestamp", cell, None, TIME) for cell in ["2025-01-06 05:00:00 UTC", "2025-01-06T06:00:00+01:00"]),
    *((csv, "timestamp", cell, None, TIME) for cell in ["2025-01-06 05:00:00.000 UTC", "20250106T050000Z"]),
    (csv, "timestamp", "2025-01-06 05:00:00.000000000", None, TIME),
    (csv, "timestamp", "20250106", None, DAY),
    (jsonl, "timestamp", 20250106, None, DAY),
    (jsonl, "timestamp", "2025-01-06 05:00:00 UTC", None, TIME),
    *(
        (parquet, "timestamp", datetime.datetime(2025, 1, 6, 5), pa.timestamp(unit, zone), TIME)
        for unit in ("s", "ms", "us", "ns")
        for zone in (None, "UTC", "+05:00", "Europe/Berlin", "Mars/Phobos")
    ),
    (parquet, "timestamp", datetime.date(2025, 1, 6), pa.date32(), DAY),
    (parquet, "timestamp", datetime.date(2025, 1, 6), pa.date64(), DAY),
    (parquet, "timestamp", "2025-01-06 05:00:00 UTC", pa.large_string(), TIME),
    (pickled, "timestamp", datetime.datetime(2025, 1, 6, 6, tzinfo=BERLIN), None, TIME),
    (pickled, "timestamp", datetime.date(2025, 1, 6), None, DAY),
    (pickled, "timestamp", pd.Timestamp("2025-01-06 05:00"), None, TIME),
    (pickled, "timestamp", pd.Timestamp("2025-01-06 06:00", tz="Europe/Berlin"), "datetime64[s, Europe/Berlin]", TIME),
    (pickled, "timestamp", "2025-01-06", "datetime64[s]", DAY),
    *((csv, "has_personal_info", cell, None, True) for cell in ["true", "True", "1", "yes", "t"]),
    (jsonl, "has_personal_info", True, None, True),
    (parquet, "has_personal_info", True, pa.bool_(), True),
    (parquet, "has_personal_info", 1, pa.int8(), True),
    (parquet, "has_personal_info", Decimal("1.00"), pa.decimal128(5, 2), True),
    (pickled, "has_personal_info", np.float32(1), None, True),
    *((csv, "case_id", cell, None, "7") for cell in ["7", "7.0"]),
    *((jsonl, "case_id", cell, None, "7") for cell in [7, 7.0, "7"]),
    *(
        (parquet, "case_id", cell, kind, "7")
        for cell, kind in [
            (7, pa.int8()),
            (7, pa.uint64()),
            (7.0, pa.float32()),
            (Decimal("7.000000000"), pa.decimal128(38, 9)),
            ("7", pa.string()),
            (b"7", pa.binary()),
            (b"7", pa.large_binary()),
        ]
    ),
    *((pickled, "case_id", cell, None, "7") for cell in [7, np.int64(7), 7.0, Decimal("7.0"), "7", b"7"]),
    (pickled, "case_id", 7, "Int64", "7"),
    (csv, "case_id", "007", None, "007"),
    (csv, "case_id", "12E5", None, "12E5"),
    (pickled, "case_id", datetime.date(2025, 1, 6), None, "2025-01-06"),
    (parquet, "case_id", datetime.date(2025, 1, 6), pa.date32(), "2025-01-06"),
    (parquet, "case_id", SOME_ID.bytes, pa.uuid(), str(SOME_ID)),
]


@pytest.mark.parametrize(("write", "column", "cell", "kind", "expected"), SAME)
def test_what_a_person_would_call_a_number_an_id_or_a_time_is_one(
    tmp_path: Path, write: Write, column: str, cell: object, kind: Any, expected: object
) -> None:
    """Whatever its storage type, in every format."""
    data = read(write(tmp_path, column, cell, kind))
    assert data.rejected.empty
    value = data.frame[column].iloc[0]
    assert (str(value) if column == "timestamp" else value) == expected


WRONG = {
    "year 0": ("timestamp", "0000-01-01"),
    "year 0 with time": ("timestamp", "0000-12-31T23:59:59Z"),
    "a year before": ("timestamp", "-0001-01-01"),
    "now": ("timestamp", "now"),
    "seconds": ("timestamp", "1736150400"),
    "two commas": ("confidence", "0,5,5"),
    "thousands": ("word_count", "1,234"),
}


@pytest.mark.parametrize(("column", "cell"), WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("write", [csv, jsonl, parquet, pickled])
def test_what_is_no_time_or_number_is_rejected_in_every_format(
    tmp_path: Path, write: Write, column: str, cell: str
) -> None:
    with pytest.raises(DataError, match=f"1 x {column}: not"):
        read(write(tmp_path, column, cell, None))


@pytest.mark.parametrize("unit", ["s", "ms", "us"])
@pytest.mark.parametrize("count", [-62_135_596_801, 253_402_300_800], ids=["year 0", "year 10000"])
def test_a_stored_time_outside_pythons_years_is_rejected(tmp_path: Path, unit: str, count: int) -> None:
    """Python's datetime, which reads the newest time of a training run, knows the years 1 to 9999."""
    per = {"s": 1, "ms": 10**3, "us": 10**6}[unit]
    times = pa.array([count * per, 0], type=pa.int64()).cast(pa.timestamp(unit))
    pq.write_table(pa.table({"text": ["a", "b"], "intent": ["x", "y"], "timestamp": times}), tmp_path / "a.parquet")
    data = read(tmp_path / "a.parquet")
    assert data.rejected["reason"].tolist() == ["not an ISO 8601 time"]
    newest = data.frame["timestamp"].max().isoformat()
    assert datetime.datetime.fromisoformat(newest).year == 1970


LABELS: dict[str, list[Any]] = {
    "whole numbers": [1, 0],
    "real numbers": [1.0, 0.0],
    "booleans": [True, False],
    "texts": ["1", "0"],
    "texts with a point": ["1.0", "0.0"],
    "booleans as pandas writes them": ["True", "False"],
    "booleans as databases write them": ["true", "FALSE"],
    "decimals": [Decimal("1.00"), Decimal("0.00")],
}


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet", "pkl", "object.pkl", "category.pkl"])
def test_one_label_is_one_label_in_every_format(tmp_path: Path, labels: list[Any], suffix: str) -> None:
    """1, 1.0 and True are "1", and the data's fingerprint is the same."""
    path = tmp_path / f"a.{suffix}"
    frame = pd.DataFrame({"text": ["hello", "bye"], "intent": labels})
    if suffix == "csv":
        frame.to_csv(path, index=False)
    elif suffix == "jsonl":
        cells = [float(label) if isinstance(label, Decimal) else label for label in labels]
        lines = [json.dumps({"text": t, "intent": y}) for t, y in zip(frame["text"], cells, strict=True)]
        path.write_text("\n".join(lines))
    elif suffix == "parquet":
        frame.to_parquet(path)
    elif suffix == "object.pkl":
        frame.astype(object).to_pickle(path)
    elif suffix == "category.pkl":
        frame.astype({"intent": "category"}).to_pickle(path)
    else:
        frame.to_pickle(path)
    data = read(path)
    assert data.labels.tolist() == ["1", "0"]
    expected = tmp_path / "expected.csv"
    expected.write_text("text,intent\nhello,1\nbye,0\n")
    assert data.digest == read(expected).digest


WORDS = ["NA", "null", "None", "nan", "NaN", "NULL", "n/a", "<NA>", "NaT"]


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "tsv", "jsonl", "parquet", "pkl", "object.pkl", "category.pkl"])
def test_no_label_is_taken_for_a_missing_value_and_a_null_is_one(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    frame = pd.DataFrame({"text": [f"text {n}" for n in range(len(WORDS) + 1)], "intent": [*WORDS, None]})
    if suffix in ("csv", "csv.gz", "tsv"):
        frame.to_csv(path, index=False, sep="\t" if suffix == "tsv" else ",")
    elif suffix == "jsonl":
        frame.to_json(path, orient="records", lines=True)
    elif suffix == "parquet":
        frame.to_parquet(path)
    else:
        kind: Any = {"object.pkl": object, "category.pkl": "category"}.get(suffix, "str")
        frame.astype({"intent": kind}).to_pickle(path)
    data = read(path)
    assert data.labels.tolist() == WORDS
    assert data.rejected[["row", "reason"]].values.tolist() == [[len(WORDS), "missing"]]


NEAR = ["opt_out"] * 3 + ["Opt_Out", " opt_out", "opt_out\u200b", "caf\u00e9", "cafe\u0301", "café", "other"]


def near(folder: Path) -> Path:
    path = folder / "a.csv"
    pd.DataFrame({"text": [f"text {n}" for n in range(len(NEAR))], "intent": NEAR}).to_csv(path, index=False)
    return path


def test_labels_that_differ_by_blank_case_or_unicode_form_are_told(tmp_path: Path) -> None:
    data = read(near(tmp_path))
    assert data.labels.tolist() == NEAR
    (line,) = data.notes
    assert "each is a class of its own" in line
    assert "data.normalise_labels" in line
    for part in ("'opt_out'", "'Opt_Out'", "' opt_out'", "'opt_out\\u200b'", "'cafe\\u0301'"):
        assert part in line
    assert "'other'" not in line


def test_near_equal_labels_become_one_where_it_is_asked_and_the_most_frequent_spelling_wins(tmp_path: Path) -> None:
    path = near(tmp_path)
    data = read(path, normalise_labels=True)
    assert data.labels.tolist() == ["opt_out"] * 6 + ["café"] * 3 + ["other"]
    (line,) = data.notes
    assert "are one, under the first: 'opt_out' = " in line
    assert data.digest == read(path).digest, "the fingerprint is that of the file"


def test_a_models_spelling_wins_over_the_files(tmp_path: Path) -> None:
    contract = Contract("intent", normalise_labels=True)
    data = load(read_batches(near(tmp_path)), contract, "a", 0.1, known_labels=["Opt_Out", "Other"])
    assert data.labels.tolist() == ["Opt_Out"] * 6 + ["café"] * 3 + ["Other"]


def test_an_empty_message_in_a_file_of_one_column_is_a_rejected_row(tmp_path: Path) -> None:
    """Three of six vanished, uncounted."""
    path = tmp_path / "a.csv"
    path.write_text("text\nhello\n\nbye\n\n\nthanks\n")
    data = read(path, label_column=None)
    assert data.total_rows == 6
    assert data.texts == ["hello", "bye", "thanks"]
    assert data.rejected[["row", "reason"]].values.tolist() == [[1, "missing"], [3, "missing"], [4, "missing"]]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "\ntext,intent\nhello,a\n\n\nbye,b\n"),
        ("a.csv.gz", "\ntext,intent\nhello,a\n\n\nbye,b\n"),
        ("a.jsonl", '\n{"text": "hello", "intent": "a"}\n\n \n{"text": "bye", "intent": "b"}\n'),
    ],
)
def test_every_line_is_a_row_is_rejected_or_is_named(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(content.encode()) if name.endswith("gz") else content.encode())
    data = read(path)
    assert data.total_rows == 2
    assert data.notes == (f"{path}: 3 blank lines are no row and left out (first at line 1)",)
    assert data.blank_lines == 3


@pytest.mark.parametrize("text", ["\u200b", " \u200d\ufeff\u2060 ", "\u3164\u00ad", "\u2800", "\ufe0f"])
@pytest.mark.parametrize("write", [jsonl, parquet, pickled])
def test_a_text_that_shows_nothing_is_blank(tmp_path: Path, write: Write, text: str) -> None:
    with pytest.raises(DataError, match="1 x text: blank"):
        read(write(tmp_path, "text", text, None))


SEPARATED = {
    "commas": ("a.csv", "text,intent\nhello; you,a\n", "hello; you", False),
    "commas, a semicolon in the header": ("a.csv", "text,intent,a;b\nhello,a,1\n", "hello", False),
    "commas, text last": ("a.csv", "a;b,text,intent\n1;2,hello,a\n", "hello", False),
    "semicolons": ("a.csv", "text;intent\nhello, you;a\n", "hello, you", True),
    "semicolons, quoted": ("a.csv", '"text";"intent"\n"hello; you";"a"\n', "hello; you", True),
    "semicolons, mark": ("a.csv", "\ufefftext;intent\nhello;a\n", "hello", True),
    "semicolons, zipped": ("a.csv.gz", "text;intent\nhello;a\n", "hello", True),
    "Excel's first line": ("a.csv", "sep=;\r\ntext;intent\r\nhello, you;a\r\n", "hello, you", True),
    "tabs in a CSV": ("a.csv", "intent\ttext\na\thello, you\n", "hello, you", True),
    "TSV": ("a.tsv", "text\tintent\nhello, you\ta\n", "hello, you", False),
    "TSV, zipped": ("a.tsv.gz", "text\tintent\nhello, you\ta\n", "hello, you", False),
    "TSV with commas": ("A.TSV", "text,intent\nhello,a\n", "hello", True),
    "JSONL": ("a.jsonl", '{"text": "hello", "intent": "a"}', "hello", False),
    "JSONL, zipped": ("a.jsonl.gz", '{"text": "hello", "intent": "a"}\n', "hello", False),
}


@pytest.mark.parametrize(("name", "content", "text", "said"), SEPARATED.values(), ids=SEPARATED)
def test_files_of_other_separators_are_read_and_that_is_said(
    tmp_path: Path, name: str, content: str, text: str, said: bool
) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(content.encode()) if name.endswith("gz") else content.encode())
    data = read(path)
    assert (data.texts, data.labels.tolist()) == ([text], ["a"])
    assert [note.partition("separated by ")[2] != "" for note in data.notes] == [True] * said


def test_a_vector_in_a_file_of_semicolons_is_read(tmp_path: Path) -> None:
    """Long lines take another way, and vectors hold commas."""
    rows = np.random.default_rng(0).normal(size=(3, 384)).astype(np.float32)
    path = tmp_path / "a.csv"
    frame = pd.DataFrame({"text": ["a", "b", "c"], "intent": "x", "embeddings": [str(row.tolist()) for row in rows]})
    frame.to_csv(path, index=False, sep=";")
    data = read(path)
    assert data.vectors is not None
    np.testing.assert_array_equal(data.vectors, rows)


def test_a_key_that_comes_late_is_a_column_of_all_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    lines = ['{"text": "hello", "intent": "a"}'] * 30 + ['{"text": "bye", "confidence": 0.5, "intent": "b"}']
    path.write_text("\n".join(lines))
    batches = list(read_batches(path, batch_rows=10))
    assert {tuple(batch.columns) for batch in batches} == {("text", "intent", "confidence")}
    assert [len(batch) for batch in batches] == [10, 10, 10, 1]


BAD_JSON = {
    "no JSON": ("{text: 1}", "line 2 is no JSON object"),
    "a list": ('["my secret"]', "line 2 is no JSON object"),
    "a number of too many digits": (f'{{"text": {"9" * 5000}}}', "line 2 is no JSON object"),
    "too deep": ('{"text": ' + "[" * 100_000 + "]" * 100_000 + "}", "line 2 is no JSON object"),
    "a key twice": ('{"text": "my secret", "text": "b"}', "line 2 has a key twice"),
    "a key that is no text": ('{"\\ud800": 1}', "name is not valid Unicode"),
}


@pytest.mark.parametrize(("line", "message"), BAD_JSON.values(), ids=BAD_JSON)
def test_a_line_that_is_no_row_is_named_and_not_quoted(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "hello", "intent": "a"}\n' + line + "\n")
    with pytest.raises(DataError, match=message) as caught:
        read(path)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("kind", ["list", "fixed", "large", "double", "decimal", "whole"])
def test_vectors_of_every_list_type_are_read_and_a_bad_row_costs_itself(tmp_path: Path, kind: str) -> None:
    rows: list[Any] = np.random.default_rng(0).integers(-9, 9, size=(4, 384)).tolist()
    types = {
        "list": pa.list_(pa.float32()),
        "fixed": pa.list_(pa.float32(), 384),
        "large": pa.large_list(pa.float16()),
        "double": pa.list_(pa.float64()),
        "decimal": pa.list_(pa.decimal128(5, 2)),
        "whole": pa.list_(pa.int8()),
    }
    cells = [*rows, [None, *rows[0][1:]]]
    if kind != "fixed":
        cells += [rows[0][1:], None]
    if kind == "decimal":
        cells = [None if row is None else [None if x is None else Decimal(x) for x in row] for row in cells]
    if kind == "large":
        cells = [None if row is None else [None if x is None else np.float16(x) for x in row] for row in cells]
    table = pa.table(
        {
            "text": [f"text {n}" for n in range(len(cells))],
            "intent": ["a"] * len(cells),
            "embeddings": pa.array(cells, type=types[kind]),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    data = read(tmp_path / "a.parquet")
    assert data.vectors is not None
    np.testing.assert_array_equal(data.vectors, np.array(rows, dtype=np.float32))
    reasons = ["holds a number that is not finite", "wrong width: 383 numbers instead of 384", "missing"]
    assert data.rejected["reason"].tolist() == reasons[: len(cells) - 4]


def test_a_gap_among_lists_of_fixed_size_is_named(tmp_path: Path) -> None:
    """Arrow writes such a file and cannot read it; once it can, the row is rejected alone, and this test fails."""
    cells = pa.array([[0.5] * 384, None], type=pa.list_(pa.float32(), 384))
    pq.write_table(pa.table({"text": ["a", "b"], "intent": ["x", "y"], "embeddings": cells}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="lacks the list of some row"):
        read(tmp_path / "a.parquet")


def test_lists_of_decimals_are_vectors(tmp_path: Path) -> None:
    cells = [[Decimal("0.5")] * 384]
    pd.DataFrame({"text": ["a"], "intent": ["x"], "embeddings": cells}).to_pickle(tmp_path / "a.pkl")
    data = read(tmp_path / "a.pkl")
    assert data.vectors is not None
    assert (data.vectors == 0.5).all()


@pytest.mark.parametrize("lone", ["text", "intent", "extra"])
@pytest.mark.parametrize("kind", ["object", "string"])
def test_a_lone_surrogate_costs_its_row_alone(tmp_path: Path, lone: str, kind: str) -> None:
    """A pickle of pandas' own strings can hold one, which Arrow's cannot."""
    cells = pd.array(["half \ud800 a character", "b"], dtype=object if kind == "object" else pd.StringDtype("python"))
    columns = {"text": ["a", "b"], "intent": ["x", "y"], lone: pd.Series(cells, dtype=cells.dtype)}
    frame = pd.DataFrame(columns)
    frame.to_pickle(tmp_path / "a.pkl")
    data = read(tmp_path / "a.pkl")
    expected = [] if lone == "extra" else ["not valid Unicode (a lone surrogate)"]
    assert data.rejected["reason"].tolist() == expected


def test_bytes_that_are_no_utf8_cost_their_row_alone(tmp_path: Path) -> None:
    """Parquet's strings are not checked by those who write them, nor by those who read them."""
    wrong = pa.array([b"caf\xe9", b"good"], type=pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": wrong, "intent": ["x", "y"]}), tmp_path / "a.parquet")
    data = read(tmp_path / "a.parquet")
    assert data.texts == ["good"]
    assert data.rejected["reason"].tolist() == ["not valid UTF-8"]
