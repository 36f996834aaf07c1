"""Tables of MLflow's protocol: small bodies that are large inside, damaged ones, and cells that stay as they were."""

from __future__ import annotations

import io
import json
import random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pcc_pipeline.tracking.logged_models.scoring_protocol import (
    CSV,
    JSON,
    PARQUET,
    ProtocolError,
    TooManyRowsError,
    request_table,
)


def parquet(columns: dict[str, Any], metadata: dict[str, str] | None = None, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), sink, **options)
    return sink.getvalue()


def test_ids_of_a_parquet_file_stay_what_they_are_beside_a_null() -> None:
    body = parquet({"text": ["a", None], "case_id": pa.array([9007199254740993, None], pa.int64())})
    table = request_table(body, PARQUET, "text", 10)
    assert table.to_dict("list") == {"text": ["a", None], "case_id": [9007199254740993, None]}


def test_a_column_that_nobody_needs_is_not_read() -> None:
    table = request_table(parquet({"text": ["a"], "more": ["x"]}), PARQUET, "text", 10)
    assert list(table) == ["text"]
    with pytest.raises(ProtocolError):
        request_table(parquet({"more": ["x"]}), PARQUET, "text", 10)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (parquet({"text": ["x" * 2000] * 200_000}, compression="zstd"), PARQUET),
        (parquet({"text": ["x" * 50_000_000]}, compression="zstd"), PARQUET),
        (b"text\n" + b"\n" * 5_000_000, CSV),
        (json.dumps({"inputs": {"text": ["a"] * 11}}).encode(), JSON),
    ],
    ids=["many rows", "one large cell", "empty lines", "JSON"],
)
def test_a_body_that_is_large_inside_is_refused_and_not_held(body: bytes, kind: str) -> None:
    with pytest.raises(TooManyRowsError):
        request_table(body, kind, "text", 10)
    import tracemalloc

    tracemalloc.start()
    try:
        with pytest.raises(TooManyRowsError):
            request_table(body, kind, "text", 10)
        assert tracemalloc.get_traced_memory()[1] < 5 * len(body) + 5_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("pandas", ["{}", "[]", '{"index_columns": ["gone"], "columns": []}', "no JSON"])
def test_what_a_file_says_to_pandas_matters_to_nobody(pandas: str) -> None:
    table = request_table(parquet({"text": ["a"]}, {"pandas": pandas}), PARQUET, "text", 10)
    assert list(table["text"]) == ["a"]


def test_a_damaged_file_is_no_table_whatever_is_wrong_with_it() -> None:
    chance, whole = random.Random(0), parquet({"text": [f"text {n}" for n in range(9)], "case_id": [*range(9)]})
    for _ in range(300):
        body = bytearray(whole)
        for _ in range(chance.randint(1, 8)):
            body[chance.randrange(len(body))] = chance.randrange(256)
        try:
            request_table(bytes(body), PARQUET, "text", 10)
        except (ProtocolError, TooManyRowsError):
            continue
