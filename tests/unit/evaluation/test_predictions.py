"""The prediction table keeps the downstream system's columns and types through Parquet."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pcc_pipeline.data.contract import RowPlaces
from pcc_pipeline.errors import DataError
from pcc_pipeline.evaluation.predictions import (
    ExtraColumns,
    ScoredBy,
    prediction_frame,
    prediction_schema,
    prediction_table,
)

COLUMNS = [
    "case_id",
    "predicted_label",
    "subtype_label",
    "confidence",
    "model_version",
    "embedding_model",
    "inference_timestamp",
    "prediction_notes",
    "ingestion_time",
]
NOW = datetime(2026, 3, 4, 5, 6, 7, 891011, tzinfo=UTC)


def made(case_ids, probabilities, at=NOW) -> pd.DataFrame:
    return prediction_frame(case_ids, probabilities, ScoredBy("v20260304_050607", "MiniLM", ["opt_out", "other"], at))


def test_rows_hold_the_most_probable_label_and_its_probability():
    found = made(["a", 7, "c"], np.array([[0.25, 0.75], [0.5, 0.5], [1.0, 0.0]]))
    assert list(found.columns) == COLUMNS
    assert found["case_id"].tolist() == ["a", "7", "c"]
    assert found["predicted_label"].tolist() == ["other", "opt_out", "opt_out"]
    assert found["confidence"].tolist() == [0.75, 0.5, 1.0]
    assert found["prediction_notes"].isna().all()
    assert set(found["model_version"]) == {"v20260304_050607"}
    assert set(found["embedding_model"]) == {"MiniLM"}


@pytest.mark.parametrize("rows", [0, 3])
@pytest.mark.parametrize("with_schema", [False, True])
def test_parquet_keeps_types_also_of_columns_of_nulls_and_of_no_rows(tmp_path, rows, with_schema):
    found = made([f"case-{row}" for row in range(rows)], np.full((rows, 2), 0.5, dtype=np.float32))
    path = tmp_path / "predictions.parquet"
    found.to_parquet(path, index=False, **({"schema": prediction_schema()} if with_schema else {}))
    written = pq.read_schema(path)
    assert written.names == COLUMNS
    for field in written:
        if field.name in ("inference_timestamp", "ingestion_time"):
            assert field.type == pa.timestamp("us", tz="UTC")
        elif field.name == "confidence":
            assert field.type == pa.float64()
        else:
            assert pa.types.is_string(field.type) or pa.types.is_large_string(field.type)
    pd.testing.assert_frame_equal(pd.read_parquet(path), found)


def test_streamed_batches_fit_the_schema(tmp_path):
    path = tmp_path / "streamed.parquet"
    with pq.ParquetWriter(path, prediction_schema()) as writer:
        for batch in (["a", "b"], ["c"]):
            writer.write_table(prediction_table(made(batch, np.full((len(batch), 2), 0.5))))
    expected = made(["a", "b", "c"], np.full((3, 2), 0.5))
    pd.testing.assert_frame_equal(pd.read_parquet(path), expected)
    assert pq.read_table(path)["case_id"].to_pylist() == ["a", "b", "c"]
    assert prediction_schema().names == COLUMNS
    nullable = [field.name for field in prediction_schema() if field.nullable]
    assert nullable == ["subtype_label", "prediction_notes"]


def test_columns_of_probabilities_have_names_of_their_own_for_any_label():
    labels = ["a/b", "a_b", "A_b", "", "..", "=1+1", "x" * 300, "löschen"]
    extra = ExtraColumns(probabilities=True, classes=labels)
    assert len({name.casefold() for name in extra.names}) == len(labels)
    assert all(re.fullmatch(r"probability/[\w.\- ]+", name) for name in extra.names)
    probabilities = np.full((2, len(labels)), 1 / len(labels))
    frame = prediction_frame(["a", "b"], probabilities, ScoredBy("v1", "MiniLM", labels, NOW))
    table = prediction_table(extra.added_to(frame, RowPlaces(np.arange(2)), probabilities), extra)
    assert table.schema.equals(prediction_schema(extra))
    assert table.column_names == [*COLUMNS, *extra.names]


def test_times_are_stored_in_utc():
    there = NOW.astimezone(timezone(timedelta(hours=9)))
    found = made(["a"], np.eye(2)[:1], at=there)
    assert str(found["inference_timestamp"].dtype) == "datetime64[us, UTC]"
    assert found["inference_timestamp"][0] == pd.Timestamp(NOW)
    assert found["ingestion_time"][0] == pd.Timestamp(NOW)


def test_a_case_without_an_id_is_refused():
    with pytest.raises(DataError, match=r"1 of 2 cases have no id"):
        made(["a", None], np.eye(2))


def test_a_naive_time_and_lengths_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"with its zone"):
        made(["a", "b"], np.eye(2), at=NOW.replace(tzinfo=None))
    with pytest.raises(ValueError, match=r"shape \(3, 2\), got \(2, 2\)"):
        made(["a", "b", "c"], np.eye(2))
