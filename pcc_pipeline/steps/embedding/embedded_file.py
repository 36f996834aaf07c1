"""The file that `embed` writes: checked rows, their other columns as they came, and their vectors, batch by batch."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pcc_pipeline.config.paths import addresses_in, local_path
from pcc_pipeline.data.contract import CASE_ID, EMBEDDINGS, TEXT
from pcc_pipeline.data.formats.readers import suffix_of
from pcc_pipeline.data.vector_origin import signed
from pcc_pipeline.encoder.sentence_width import SENTENCE_WIDTH
from pcc_pipeline.errors import StorageError
from pcc_pipeline.sealing.parquet import parquet_file, parquet_writer
from pcc_pipeline.steps.inputs.addresses import SAMPLE
from pcc_pipeline.storage.objects import BUCKET_SCHEME

_TEXT = pa.large_string()
# What a file name may take is 255 bytes; the rest is the digest's and the suffix's.
_MAX_STEM_BYTES = 200


def embedded_path(address: str, folder: str) -> Path:
    """Where the embedded rows of a file or object go: under its name and a digest of its whole address.

    Two files of one name, such as jan/cases.csv and feb/cases.csv, never become one; the same file always does.
    """
    addresses = addresses_in(address)
    name = addresses[0].rstrip("/").rpartition("/")[2]
    stem = re.sub(r"[*?\[\]]", "_", name.removesuffix(suffix_of(name) or ""))
    stem = stem.encode()[:_MAX_STEM_BYTES].decode(errors="ignore")
    whole = "\0".join(
        one if one == SAMPLE or one.startswith(BUCKET_SCHEME) else str(local_path(one).resolve()) for one in addresses
    )
    return local_path(folder) / f"{stem}-{sha256(whole.encode(errors='surrogateescape')).hexdigest()[:8]}.parquet"


class EmbeddedFileWriter:
    """Writes batches as row groups of Parquet.

    A column keeps its Arrow type. Where a later batch holds more than the type of the earlier ones can, what is written
    already is written again in a type that holds both: the wider number, all fields of a struct, and at last text.

    Args:
        sealed: only who has the key reads it.
    """

    def __init__(self, path: Path, *, sealed: bool = False) -> None:
        self._path, self._sealed = path, sealed
        self._schema: pa.Schema | None = None
        self._parquet: pq.ParquetWriter | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def write(self, good: pd.DataFrame, vectors: np.ndarray, encoder_digest: str | None = None) -> None:
        """Appends rows and their vectors (n, width); none are no row group.

        encoder_digest: of the encoder that made the vectors, where that is known; the file says so.

        Raises:
            StorageError: the file cannot be written.
        """
        if not len(good):
            return
        columns = {str(name): _arrow_column(column) for name, column in good.items()}
        flat = pa.array(np.ascontiguousarray(vectors).ravel(), type=pa.float32())
        columns[EMBEDDINGS] = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
        table = pa.table(columns)
        try:
            if self._schema is None:
                self._open(signed(table.schema, encoder_digest))
            elif not table.schema.equals(self._schema):
                self._widen(table)
            assert self._parquet is not None and self._schema is not None  # noqa: PT018
            self._parquet.write_table(_cast(table, self._schema))
        except OSError as error:
            raise StorageError(
                f"the embedded rows cannot be written: {error.strerror or error}",
                where=str(self._path),
                fix="free some space, or set output.embedded_dir to another folder",
            ) from error

    def close(self, about: Mapping[str, str] | None = None) -> None:
        """Writes the end of the file, and in its metadata what is to stand there; called again it does nothing.

        Where something is to stand there, a file without rows is a file, too, with the columns that every one has.
        """
        if self._schema is None and about is not None:
            vectors = pa.list_(pa.float32(), SENTENCE_WIDTH)
            self._open(pa.schema({CASE_ID: _TEXT, TEXT: _TEXT, EMBEDDINGS: vectors}))
        if self._parquet is not None and about is not None:
            self._parquet.add_key_value_metadata(about)
        if self._parquet is not None:
            self._parquet.close()
            self._parquet = None

    def _open(self, schema: pa.Schema) -> None:
        # Vectors neither repeat nor shrink: a dictionary and compression would cost time for nothing.
        columns = [name for name in schema.names if name != EMBEDDINGS]
        self._schema = schema
        self._parquet = parquet_writer(
            self._path,
            schema,
            sealed=self._sealed,
            use_dictionary=columns,
            compression=dict.fromkeys(columns, "snappy"),
        )

    def _widen(self, table: pa.Table) -> None:
        """Makes the schema hold the columns of `table`, too, and writes the rows so far again if need be."""
        assert self._schema is not None
        schema = _common(self._schema, table)
        while not schema.equals(self._schema):
            self.close()
            earlier = self._path.with_name(f"{self._path.name}.earlier")
            self._path.replace(earlier)
            try:
                with parquet_file(earlier) as file:
                    unfit = _unfit(file, schema)
                    if not unfit:
                        self._open(schema)
                        assert self._parquet is not None
                        for batch in file.iter_batches():
                            self._parquet.write_table(_cast(pa.Table.from_batches([batch]), schema))
                        return
                schema = _as_text(schema, unfit)
                earlier.replace(self._path)
            finally:
                earlier.unlink(missing_ok=True)


def _unfit(file: pq.ParquetFile, schema: pa.Schema) -> set[str]:
    """Columns of a written file that do not fit a schema without loss."""
    unfit = set()
    for batch in file.iter_batches():
        for field in schema:
            if (
                field.name in batch.schema.names
                and field.name not in unfit
                and not _fits(batch.column(field.name), field.type)
            ):
                unfit.add(field.name)
    return unfit


def _common(schema: pa.Schema, table: pa.Table) -> pa.Schema:
    fields = []
    for field in schema:
        if field.name not in table.column_names:
            fields.append(field)
            continue
        column = table.column(field.name)
        kind = field.type
        if not column.type.equals(kind):
            kind = _wider(kind, column.type)
            kind = kind if all(_fits(chunk, kind) for chunk in column.chunks) else _TEXT
        fields.append(pa.field(field.name, kind))
    fields += [field for field in table.schema if field.name not in schema.names]
    return pa.schema(fields, metadata=schema.metadata)


def _wider(first: pa.DataType, second: pa.DataType) -> pa.DataType:
    """A type that holds both; text where there is no other."""
    one, other = (pa.schema([("column", kind)]) for kind in (first, second))
    try:
        kind = pa.unify_schemas([one, other], promote_options="permissive").field(0).type
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        return _TEXT
    return kind if _writable(kind) else _TEXT


def _as_text(schema: pa.Schema, names: set[str]) -> pa.Schema:
    fields = [pa.field(field.name, _TEXT if field.name in names else field.type) for field in schema]
    return pa.schema(fields, metadata=schema.metadata)


def _fits(column: pa.Array, kind: pa.DataType) -> bool:
    if column.type.equals(kind) or kind.equals(_TEXT) or pa.types.is_null(column.type):
        return True
    try:
        back = column.cast(kind).cast(column.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
        # There is no way back from a struct with more fields; the way there is what counts.
        return pa.types.is_nested(kind) and _casts(column, kind)
    return bool(back.equals(column))


def _casts(column: pa.Array, kind: pa.DataType) -> bool:
    try:
        column.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
        return False
    return True


def _cast(table: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = []
    for field in schema:
        if field.name not in table.column_names:
            columns.append(pa.nulls(len(table), field.type))
            continue
        column = table.column(field.name)
        if not column.type.equals(field.type):
            column = _texts(column) if field.type.equals(_TEXT) else column.cast(field.type)
        columns.append(column)
    return pa.Table.from_arrays(columns, schema=schema)


def _arrow_column(column: pd.Series) -> pa.Array | pa.ChunkedArray:
    """A column with the Arrow type that it has or shows; as text where it has none that Parquet can hold."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.cat.categories.dtype) if not column.hasnans else column.astype(object)
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        # pyarrow (25.0) reads times with a zone in a way that pandas 3.1 warns of.
        times = pa.array(column.dt.tz_convert(None), from_pandas=True)
        return times.cast(pa.timestamp(times.type.unit, tz=str(column.dt.tz)))
    if column.dtype == object and not _one_kind(column):
        return _texts(column)
    try:
        values = pa.array(column, from_pandas=True)
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        return _texts(column)
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    return values if _writable(values.type) else _texts(values)


def _one_kind(column: pd.Series) -> bool:
    """False where Arrow would take values of different kinds for one, and lose what they differ in."""
    kinds = {_kind(cell) for cell in column} - {None}
    return len(kinds) <= 1 or (kinds == {"whole", "real"} and bool(column.dropna().map(lambda x: x == float(x)).all()))


def _kind(cell: object) -> str | None:
    if cell is None or cell is pd.NA or cell is pd.NaT or (isinstance(cell, (float, np.floating)) and cell != cell):
        return None
    for name, kinds in _KINDS.items():
        if isinstance(cell, kinds):
            return name
    return type(cell).__name__


# A datetime is a date as well, and a bool an int: the order counts.
_KINDS: dict[str, tuple[type, ...]] = {
    "truth": (bool, np.bool_),
    "whole": (int, np.integer),
    "real": (float, np.floating),
    "decimal": (Decimal,),
    "time": (datetime, np.datetime64),
    "date": (date,),
    "list": (list, tuple, np.ndarray),
}


def _writable(kind: pa.DataType) -> bool:
    """False for what Parquet cannot hold: a struct without fields, intervals, unions."""
    if pa.types.is_struct(kind) and kind.num_fields == 0:
        return False
    if pa.types.is_union(kind) or pa.types.is_interval(kind) or pa.types.is_run_end_encoded(kind):
        return False
    if isinstance(kind, pa.BaseExtensionType):
        return _writable(kind.storage_type)
    return all(_writable(kind.field(number).type) for number in range(kind.num_fields)) if kind.num_fields else True


def _texts(column: pd.Series | pa.Array | pa.ChunkedArray) -> pa.Array:
    cells = list(column) if isinstance(column, pd.Series) else column.to_pylist()
    return pa.array([None if _kind(cell) is None else _text(cell) for cell in cells], type=_TEXT)


def _text(cell: object) -> str:
    if isinstance(cell, bytes):
        text = cell.decode(errors="replace")
    elif isinstance(cell, (list, tuple, dict, np.ndarray)):
        text = json.dumps(cell, ensure_ascii=False, default=_plain)
    elif isinstance(cell, int):
        text = str(cell) if abs(cell) < 10**400 else hex(cell)  # Python writes no more than 4,300 digits
    else:
        text = str(cell)
    return text.encode(errors="replace").decode()


def _plain(value: object) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    return sorted(map(str, value)) if isinstance(value, (set, frozenset)) else str(value)
