"""A file of predictions, written batch by batch as Parquet or CSV in the downstream system's columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from pcc_pipeline.errors import StorageError
from pcc_pipeline.evaluation.predictions import prediction_schema, prediction_table

SUFFIXES = (".parquet", ".csv")


@contextmanager
def writing(partial: Path, target: Path) -> Iterator[Callable[[pd.DataFrame], None]]:
    """A function that appends a frame of predictions; each becomes a row group of Parquet.

    Args:
        partial: where to write for now.
        target: the final name; its suffix says which format, and errors name it.

    Raises:
        StorageError: the file cannot be written.
    """
    parquet = target.name.lower().endswith(".parquet")
    with _disk_errors(target):
        writer = (pq.ParquetWriter if parquet else pa.csv.CSVWriter)(partial, prediction_schema())

    def write(frame: pd.DataFrame) -> None:
        with _disk_errors(target):
            writer.write_table(prediction_table(frame))

    try:
        yield write
    finally:
        with _disk_errors(target):
            writer.close()


@contextmanager
def _disk_errors(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"the predictions cannot be written: {error.strerror or error}",
            where=str(target),
            fix="free some space, mend the folder's permissions, or name another file",
        ) from error
