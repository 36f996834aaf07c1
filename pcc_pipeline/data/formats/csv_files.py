"""A CSV file as batches of rows of strings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa

from pcc_pipeline.data.columns import check_names
from pcc_pipeline.data.formats.csv_rows import SEPARATORS, CsvRows
from pcc_pipeline.data.formats.lines import open_lines
from pcc_pipeline.data.notes import ReadNotes
from pcc_pipeline.errors import DataError

# A batch ends at this many bytes of strings: 8,192 rows with vectors of 584 numbers would take some 400 MB on the way.
BATCH_BYTES = 8_000_000


def read_csv(path: Path, batch_rows: int, notes: ReadNotes) -> Iterator[pd.DataFrame]:
    """Yields batches of strings; only the empty field is missing. Raises DataError at the first line that is no row."""
    usual = "\t" if ".tsv" in "".join(path.suffixes[-2:]).lower() else ","
    with open_lines(path, "TSV" if usual == "\t" else "CSV") as lines:
        rows = CsvRows(lines, path, usual)
        if rows.separator != usual:
            notes.add(f"{path}: its fields are separated by {SEPARATORS[rows.separator]}, and read so")
        header = rows.header()
        if header is None:
            held = "blank lines only" if lines.taken else "0 bytes"
            raise DataError(f"the data file is empty ({held})", where=str(path), fix="write or download it again")
        names = check_names(header, path)
        for table in _batches(rows.tables(), batch_rows):
            yield pd.DataFrame({name: column.to_pandas() for name, column in zip(names, table.columns, strict=True)})
        if rows.blank_lines:
            notes.add_blank_lines(rows.blank_lines, rows.first_blank, path)


def _batches(tables: Iterator[pa.Table], batch_rows: int) -> Iterator[pa.Table]:
    """The same rows in tables of `batch_rows`, of fewer where these take BATCH_BYTES."""
    held: list[pa.Table] = []
    n_rows = n_bytes = 0
    for table in tables:
        held.append(table)
        n_rows += len(table)
        n_bytes += table.nbytes
        if n_rows >= batch_rows or n_bytes >= BATCH_BYTES:
            whole = pa.concat_tables(held)
            stop = n_rows if n_bytes >= BATCH_BYTES else n_rows - n_rows % batch_rows
            for start in range(0, stop, batch_rows):
                yield whole.slice(start, min(batch_rows, stop - start))
            held = [whole.slice(stop)]
            n_rows, n_bytes = n_rows - stop, held[0].nbytes
    if n_rows:
        whole = pa.concat_tables(held)
        for start in range(0, n_rows, batch_rows):
            yield whole.slice(start, batch_rows)
