"""A Parquet file as batches of rows with their Arrow types; what it expands to is bounded before it is expanded."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pcc_pipeline.data.columns import check_names
from pcc_pipeline.data.formats.bounds import BATCH_BYTES, Budget, parts
from pcc_pipeline.errors import DataError
from pcc_pipeline.sealing.parquet import parquet_file

_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 8, "FLOAT": 4, "DOUBLE": 8}


def read_parquet(path: Path, batch_rows: int) -> Iterator[pd.DataFrame]:
    """Yields batches whose columns are `pandas.ArrowDtype` of the file's own types."""
    try:
        with parquet_file(path) as file:
            names = check_names(file.schema_arrow.names, path)
            check_names([file.schema.column(number).path for number in range(file.metadata.num_columns)], path)
            budget = Budget(path)
            budget.take(_announced_bytes(file.metadata))
            batch_rows = _rows_at_a_time(file.metadata, batch_rows)
            strings = [field.name for field in file.schema_arrow if _is_binary(field.type)]
        kept = [name for name in names if not re.fullmatch(r"__index_level_\d+__", name)]
        # A value that repeats stays one value until its rows are counted. What Arrow reads ahead it keeps to the end:
        # the whole file would stand in memory.
        with parquet_file(path, read_dictionary=strings, coerce_int96_timestamp_unit="us", pre_buffer=False) as file:
            for batch in file.iter_batches(batch_size=batch_rows):
                yield from _slices(batch.select(kept), budget)
    except MemoryError as error:
        raise DataError(
            "the Parquet file needs more memory than there is",
            where=str(path),
            fix="write it with smaller row groups and pages, or give the process more memory",
        ) from error
    except (pa.ArrowException, OSError) as error:
        if "Expected all lists to be of size" in str(error):
            raise DataError(
                "a column of lists of one fixed size lacks the list of some row, which Arrow can write and not read",
                where=str(path),
                fix="write the vectors as ordinary lists, or leave out the rows that have none",
            ) from error
        raise DataError(
            "the file is not a readable parquet file", where=str(path), fix="write it again, or check that it is whole"
        ) from error


def _announced_bytes(metadata: pq.FileMetaData) -> int:
    """What numbers and nulls expand to; strings are counted when their lengths are known."""
    size = 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for leaf in range(group.num_columns):
            column = group.column(leaf)
            size += column.num_values * _WIDTHS.get(column.physical_type, 8)
    return int(size)


def _rows_at_a_time(metadata: pq.FileMetaData, batch_rows: int) -> int:
    n_rows = max(int(metadata.num_rows), 1)
    return max(1, min(batch_rows, BATCH_BYTES * n_rows // max(_announced_bytes(metadata), 1)))


def _is_binary(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return any(test(kind) for test in tests)


def _slices(batch: pa.RecordBatch, budget: Budget) -> Iterator[pd.DataFrame]:
    """The batch in parts whose strings fit into memory once each row has its own."""
    sizes = np.zeros(len(batch), dtype=np.int64)
    for column in batch.columns:
        if pa.types.is_dictionary(column.type):
            lengths = pc.fill_null(pc.cast(pc.binary_length(column.dictionary), pa.int64()), 0)
            sizes += pc.fill_null(lengths.take(column.indices), 0).to_numpy(zero_copy_only=False)
    budget.take(int(sizes.sum()))
    for rows in parts(sizes):
        part = batch.slice(rows.start, rows.stop - rows.start)
        yield pd.DataFrame(
            {
                name: pd.arrays.ArrowExtensionArray(_decoded(column))
                for name, column in zip(part.schema.names, part.columns, strict=True)
            }
        )


def _decoded(column: pa.Array) -> pa.Array:
    """Strings of their own; bytes where they are no UTF-8, whose rows the contract then rejects."""
    if not pa.types.is_dictionary(column.type):
        return column
    try:
        column.dictionary.validate(full=True)
    except pa.ArrowInvalid:
        kind = pa.large_binary() if pa.types.is_large_string(column.type.value_type) else pa.binary()
        return column.dictionary.view(kind).take(column.indices)
    return column.dictionary_decode()
