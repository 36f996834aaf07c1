"""Rows of those who are sought, in files of any kind that hold case ids or subjects: to be read, or to be taken out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa

from pcc_pipeline.data.contract import CASE_ID
from pcc_pipeline.errors import DataError
from pcc_pipeline.files import replacing
from pcc_pipeline.persons.sought import Sought
from pcc_pipeline.sealing.parquet import parquet_file, rewriter, said_at_end

SUFFIXES = (".parquet", ".csv")
_ROWS = 20_000


def rows_of(path: Path, persons: Sought, subject_column: str | None) -> pd.DataFrame:
    """Their rows in a Parquet or CSV file, with all its columns; read in parts.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        parts = [part[persons.in_table(part, subject_column)] for part in _parts(path)]
    except pd.errors.EmptyDataError:
        return pd.DataFrame()
    except (pa.ArrowInvalid, OSError, UnicodeDecodeError, pd.errors.ParserError) as error:
        raise _unreadable(path) from error
    parts = [part for part in parts if len(part)] or parts[:1]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def count_in(path: Path, persons: Sought, subject_column: str | None) -> int:
    """How many rows of a file are theirs.

    Raises:
        DataError: the file cannot be read.
    """
    return len(rows_of(path, persons, subject_column))


def take_out(path: Path, persons: Sought, subject_column: str | None) -> int:
    """Write the file anew without their rows; how many these were. A file without any stays as it is.

    It keeps the time of its last change, by which retention knows whose it is and how old.

    Raises:
        DataError: the file cannot be read.
        OSError: it cannot be written; it is as it was.
    """
    if not count_in(path, persons, subject_column):
        return 0
    status = path.stat()
    with replacing(path, shared=True) as partial:
        write = _csv_without if path.suffix.lower() == ".csv" else _parquet_without
        removed = write(path, partial, persons, subject_column)
        os.utime(partial, ns=(status.st_atime_ns, status.st_mtime_ns))
    return removed


def _csv_without(path: Path, partial: Path, persons: Sought, subject_column: str | None) -> int:
    removed = 0
    for number, part in enumerate(_parts(path)):
        hit = persons.in_table(part, subject_column)
        removed += int(hit.sum())
        part[~hit].to_csv(partial, mode="a", index=False, header=number == 0)
    return removed


def _parquet_without(path: Path, partial: Path, persons: Sought, subject_column: str | None) -> int:
    removed = 0
    with parquet_file(path) as file:
        names = [name for name in (CASE_ID, subject_column) if name in file.schema_arrow.names]
        with rewriter(path, file, partial) as writer:
            for batch in file.iter_batches(_ROWS):
                hit = persons.in_table(batch.select(names).to_pandas(), subject_column)
                removed += int(hit.sum())
                writer.write_batch(batch.filter(pa.array(~hit)))
            writer.add_key_value_metadata(said_at_end(file))
    return removed


def _parts(path: Path) -> Iterator[pd.DataFrame]:
    if path.suffix.lower() == ".csv":
        yield from pd.read_csv(path, dtype=str, keep_default_na=False, chunksize=_ROWS)
        return
    with parquet_file(path) as file:
        for batch in file.iter_batches(_ROWS):
            yield batch.to_pandas()


def _unreadable(path: Path) -> DataError:
    return DataError("the table cannot be read", where=str(path), fix="find out who changed it")
