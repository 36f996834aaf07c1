"""Local files as batches of rows, in bounded memory for CSV and parquet; nothing is checked but the file's own form."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from pcc_pipeline.data.columns import check_names
from pcc_pipeline.data.formats.bounds import Budget, parts
from pcc_pipeline.data.formats.csv_files import read_csv
from pcc_pipeline.data.formats.json_rows import read_jsonl
from pcc_pipeline.data.formats.parquet_rows import read_parquet
from pcc_pipeline.data.formats.pickles import expanded_sizes, load_frame
from pcc_pipeline.data.notes import ReadNotes
from pcc_pipeline.errors import DataError, NoRowsError

SUFFIXES = (".csv", ".csv.gz", ".parquet", ".pkl", ".tsv", ".tsv.gz", ".jsonl", ".jsonl.gz")


def suffix_of(name: str) -> str | None:
    """The one of SUFFIXES that a file's name ends in, as it is written there."""
    return next(
        (name[-len(known) :] for known in sorted(SUFFIXES, key=len, reverse=True) if name.lower().endswith(known)), None
    )


def read_batches(path: Path, batch_rows: int = 8192, notes: ReadNotes | None = None) -> Iterator[pd.DataFrame]:
    """Yields a file's rows in order, at most `batch_rows` at a time, under an index that counts on over the batches.

    CSV columns come as strings and only the empty field is missing ("NA" and "null" are texts); Parquet columns keep
    their Arrow types, those of a pickle their own. A `.pkl` is read as a whole. `notes` takes what no row shows.
    Raises DataError: at the call for the path, later for the contents. NoRowsError: there are none.
    """
    if batch_rows < 1:
        raise DataError(f"a batch of {batch_rows} rows is none", fix="use batch_rows of at least 1")
    suffix = suffix_of(path.name)
    if not path.exists():
        raise DataError(
            "the data file does not exist", where=str(path), fix="check the path; a relative one starts at the project"
        )
    if path.is_dir():
        raise DataError("the data file is a folder", where=str(path), fix="name one file in it")
    if suffix is None:
        raise DataError("the data file's kind is not known", where=str(path), fix=f"use one of {', '.join(SUFFIXES)}")
    try:
        size = path.stat().st_size
        with path.open("rb"):
            pass
    except OSError as error:
        raise DataError(
            f"the data file cannot be opened: {error.strerror}", where=str(path), fix="check its permissions"
        ) from error
    if size == 0:
        raise DataError("the data file is empty (0 bytes)", where=str(path), fix="write or download it again")
    return _numbered(_rows(path, suffix.lower().removesuffix(".gz"), batch_rows, notes or ReadNotes()), path)


def _rows(path: Path, kind: str, batch_rows: int, notes: ReadNotes) -> Iterator[pd.DataFrame]:
    match kind:
        case ".parquet":
            return read_parquet(path, batch_rows)
        case ".pkl":
            return _read_pickle(path, batch_rows)
        case ".jsonl":
            return read_jsonl(path, batch_rows, notes)
        case _:
            return read_csv(path, batch_rows, notes)


def _numbered(batches: Iterator[pd.DataFrame], path: Path) -> Iterator[pd.DataFrame]:
    start = 0
    for batch in batches:
        if not len(batch):
            continue
        yield batch.set_axis(pd.RangeIndex(start, start + len(batch)), axis=0)
        start += len(batch)
    if start == 0:
        raise NoRowsError(
            "the data file has columns and no rows", where=str(path), fix="give a file with at least one row"
        )


def _read_pickle(path: Path, batch_rows: int) -> Iterator[pd.DataFrame]:
    frame = load_frame(path)
    frame.columns = pd.Index(check_names([str(name) for name in frame.columns], path))
    budget = Budget(path)
    for start in range(0, len(frame), batch_rows):
        batch = frame.iloc[start : start + batch_rows]
        sizes = expanded_sizes(batch)
        budget.take(int(sizes.sum()))
        for rows in parts(sizes):
            yield batch.iloc[rows]
