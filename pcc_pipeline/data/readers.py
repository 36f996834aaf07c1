"""Local files as batches of rows, in bounded memory for CSV and parquet; nothing is checked but the file's own form."""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pcc_pipeline.data.columns import shown_columns
from pcc_pipeline.data.csv_rows import MAX_FIELD_CHARACTERS, CsvRows, csv_rows
from pcc_pipeline.data.pickles import load_frame
from pcc_pipeline.errors import DataError

SUFFIXES = (".csv", ".csv.gz", ".parquet", ".pkl")
# A batch of CSV ends at this many characters: 8,192 rows with vectors of 584 numbers would take some 400 MB on the way.
_BATCH_CHARACTERS = 8_000_000
# Python's own 8 KiB hold one line with 584 numbers.
_BUFFER_BYTES = 2**18


def read_batches(path: Path, batch_rows: int = 8192) -> Iterator[pd.DataFrame]:
    """Yields a file's rows in order, at most `batch_rows` at a time, under an index that counts on over the batches.

    CSV columns come as strings and only the empty field is missing ("NA" and "null" are texts); parquet and pickle keep
    their types. A `.pkl` is read as a whole. Raises DataError: at the call for the path, later for the contents.
    """
    if batch_rows < 1:
        raise DataError(f"A batch of {batch_rows} rows is none.", fix="use batch_rows of at least 1")
    suffix = next(
        (known for known in sorted(SUFFIXES, key=len, reverse=True) if path.name.lower().endswith(known)), None
    )
    if not path.exists():
        raise DataError(
            "The data file does not exist.", where=str(path), fix="check the path; a relative one starts at the project"
        )
    if path.is_dir():
        raise DataError("The data file is a folder.", where=str(path), fix="name one file in it")
    if suffix is None:
        raise DataError("The data file's kind is not known.", where=str(path), fix=f"use one of {', '.join(SUFFIXES)}")
    try:
        size = path.stat().st_size
        with path.open("rb"):
            pass
    except OSError as error:
        raise DataError(
            f"The data file cannot be opened: {error.strerror}.", where=str(path), fix="check its permissions"
        ) from error
    if size == 0:
        raise _empty(path)
    read = {".csv": _read_csv, ".csv.gz": _read_csv, ".parquet": _read_parquet, ".pkl": _read_pickle}[suffix]
    return _numbered(read(path, batch_rows), path)


def _numbered(batches: Iterator[pd.DataFrame], path: Path) -> Iterator[pd.DataFrame]:
    start = 0
    for batch in batches:
        if not len(batch):
            continue
        yield batch.set_axis(pd.RangeIndex(start, start + len(batch)), axis=0)
        start += len(batch)
    if start == 0:
        raise DataError(
            "The data file has columns and no rows.", where=str(path), fix="give a file with at least one row"
        )


def _empty(path: Path) -> DataError:
    return DataError("The data file is empty (0 bytes).", where=str(path), fix="write or download it again")


def _check_names(names: list[str], path: Path) -> list[str]:
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise DataError(
            f"Column names are repeated: {shown_columns(repeated)}.",
            where=str(path),
            fix="give each column a name of its own",
        )
    return names


def _read_csv(path: Path, batch_rows: int) -> Iterator[pd.DataFrame]:
    # The csv module and not pandas: pandas fills short lines up in silence, and its messages may quote a line.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_FIELD_CHARACTERS))
    zipped = path.name.lower().endswith(".gz")
    with cast(BinaryIO, gzip.open(path, "rb")) if zipped else path.open("rb", _BUFFER_BYTES) as file:
        rows = _checked_rows(csv_rows(_decoded(file, path)), path)
        header = next(rows, None)
        if header is None:
            raise _empty(path)
        names = _check_names(header, path)
        for block in _blocks(rows, batch_rows):
            columns = zip(*block, strict=True)
            yield pd.DataFrame(
                {
                    name: pa.array([cell or None for cell in cells], type=pa.large_string()).to_pandas()
                    for name, cells in zip(names, columns, strict=True)
                }
            )


def _blocks(rows: Iterator[list[str]], batch_rows: int) -> Iterator[list[list[str]]]:
    block: list[list[str]] = []
    characters = 0
    for row in rows:
        block.append(row)
        characters += sum(map(len, row))
        if len(block) == batch_rows or characters >= _BATCH_CHARACTERS:
            yield block
            block, characters = [], 0
    if block:
        yield block


def _decoded(file: BinaryIO, path: Path) -> Iterator[str]:
    """Yields the file's lines as text, and tells where its bytes are no UTF-8 or hold NUL."""
    offset = 0
    number = 0
    try:
        for number, line in enumerate(file, start=1):
            if number == 1 and line.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise DataError("The CSV is in UTF-16.", where=str(path), fix="save it as UTF-8")
            if b"\0" in line:
                raise DataError(
                    f"The CSV holds a NUL byte at byte {offset + line.index(0)}, line {number}.",
                    where=str(path),
                    fix="save it again as UTF-8 text; a binary file may have been renamed to .csv",
                )
            text = line.decode("utf-8")
            yield text.removeprefix("\ufeff") if number == 1 else text
            offset += len(line)
    except UnicodeDecodeError as error:
        raise DataError(
            f"The CSV is not UTF-8 at byte {offset + error.start}, line {number}.",
            where=str(path),
            fix="save it as UTF-8; for a Windows file: iconv -f cp1252 -t utf-8 old.csv > new.csv",
        ) from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        kind = "cut short" if isinstance(error, EOFError) else "no gzip file or damaged"
        raise DataError(
            f"The .gz file is {kind} (after {number} lines).", where=str(path), fix="download or compress it again"
        ) from None


def _checked_rows(rows: CsvRows, path: Path) -> Iterator[list[str]]:
    """Yields header and rows, and raises at the first line that has not as many fields as the header."""
    width = None
    while True:
        start = rows.line_num + 1
        try:
            row = next(rows, None)
        except csv.Error as error:
            # The csv module's own messages hold no text of the file.
            raise DataError(
                f"The CSV cannot be read in the row that starts at line {start}: {error}.",
                where=str(path),
                fix='close every quoted field, double the quotes within it (""), and end lines with \\n or \\r\\n',
            ) from None
        if row is None:
            return
        if not row:
            continue
        width = len(row) if width is None else width
        if len(row) != width:
            raise DataError(
                f"The CSV's line {start} has {len(row)} fields and its header {width}.",
                where=str(path),
                fix="quote fields that hold a comma or a line break, and separate fields by commas",
            )
        yield row


def _read_parquet(path: Path, batch_rows: int) -> Iterator[pd.DataFrame]:
    broken = DataError(
        "The file is not a readable parquet file.", where=str(path), fix="write it again, or check that it is whole"
    )
    try:
        with pq.ParquetFile(path) as file:
            _check_names(file.schema_arrow.names, path)
            for batch in file.iter_batches(batch_size=batch_rows):
                # Without the pandas metadata an index that has a name comes back as the column it was.
                frame = pa.Table.from_batches([batch]).to_pandas(ignore_metadata=True, integer_object_nulls=True)
                unnamed = [name for name in frame.columns if re.fullmatch(r"__index_level_\d+__", name)]
                yield frame.drop(columns=unnamed)
    except (pa.ArrowException, OSError) as error:
        raise broken from error


def _read_pickle(path: Path, batch_rows: int) -> Iterator[pd.DataFrame]:
    frame = load_frame(path)
    if any(name is not None for name in frame.index.names):
        frame = frame.reset_index()
    frame.columns = pd.Index(_check_names([str(name) for name in frame.columns], path))
    for start in range(0, len(frame), batch_rows):
        yield frame.iloc[start : start + batch_rows]
