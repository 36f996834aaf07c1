"""Parquet files, sealed or not, by one call: Parquet's own modular encryption, AES-GCM of 256 bits for every part.

Each file has a key of its own, which stands in it wrapped by one that follows from the key of `keys`. Names of columns,
numbers of rows and statistics are sealed, too. An unsealed file is read and written as ever.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pcc_pipeline.errors import DataError
from pcc_pipeline.sealing.keys import SealedError, SealKey, altered, key_of, writing_key

# How a Parquet file begins whose footer is sealed; every other one begins with PAR1.
_MAGIC = b"PARE"
_USE, _NONCE = "parquet 1", 12


def is_sealed(path: Path) -> bool:
    """Whether a Parquet file is sealed, by its first bytes."""
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def parquet_file(path: Path, **options: Any) -> pq.ParquetFile:
    """An open Parquet file, as `pq.ParquetFile` takes these options.

    Raises:
        SealedError: its key is not here, or it was changed; the rows themselves raise it, too.
        DataError: its name is no text, which Arrow opens no file by.
    """
    try:
        return _Sealed(path, **options) if is_sealed(path) else pq.ParquetFile(path, **options)
    except UnicodeEncodeError as error:
        raise DataError(
            "the path of this Parquet file is no UTF-8, and Arrow cannot open it by that",
            where=str(path),
            fix="give the file, or its folder, another name",
        ) from error


def parquet_schema(path: Path) -> pa.Schema:
    """The schema of a Parquet file. Raises as `parquet_file`."""
    with parquet_file(path) as file:
        return file.schema_arrow


def parquet_writer(path: Path, schema: pa.Schema, *, sealed: bool, **options: Any) -> pq.ParquetWriter:
    """A writer, as `pq.ParquetWriter` takes these options.

    Raises:
        ConfigError: there is no key to seal with.
    """
    if not sealed:
        return pq.ParquetWriter(path, schema, **options)
    return pq.ParquetWriter(path, schema, encryption_properties=_sealing(writing_key()), **options)


def rewriter(path: Path, file: pq.ParquetFile, partial: Path) -> pq.ParquetWriter:
    """A writer of the rows of an open file, as it is: of its columns, packed and sealed as they are there.

    Raises:
        ConfigError: there is no key to seal with.
    """
    options: dict[str, Any] = {}
    if file.metadata.num_row_groups:
        group = file.metadata.row_group(0)
        columns = [group.column(place) for place in range(group.num_columns)]
        codecs = {column.path_in_schema.partition(".")[0]: column.compression.lower() for column in columns}
        options["compression"] = {name: "none" if codec == "uncompressed" else codec for name, codec in codecs.items()}
    return parquet_writer(partial, file.schema_arrow, sealed=is_sealed(path), **options)


def said_at_end(file: pq.ParquetFile) -> dict[bytes, bytes]:
    """What a file says of itself at its end, as a part of a data set does: Arrow's schema does not always tell it."""
    in_schema = {b"ARROW:schema", *(file.schema_arrow.metadata or {})}
    return {name: value for name, value in (file.metadata.metadata or {}).items() if name not in in_schema}


def write_frame(frame: pd.DataFrame, path: Path, *, sealed: bool) -> None:
    """Write a table whole, without its index.

    Raises:
        ConfigError: there is no key to seal with.
    """
    table = pa.Table.from_pandas(frame, preserve_index=False)
    with parquet_writer(path, table.schema, sealed=sealed) as writer:
        writer.write_table(table)


class _Sealed(pq.ParquetFile):  # type: ignore[misc] # pyarrow has no types
    """A sealed file whose every way of reading says what is wrong with it."""

    def __init__(self, path: Path, **options: Any) -> None:
        self._path = path
        with _faults(path):
            super().__init__(path, decryption_properties=_opening(path), **options)

    def iter_batches(self, *about: Any, **options: Any) -> Iterator[pa.RecordBatch]:
        with _faults(self._path):
            yield from super().iter_batches(*about, **options)

    def read(self, *about: Any, **options: Any) -> pa.Table:
        with _faults(self._path):
            return super().read(*about, **options)

    def read_row_group(self, *about: Any, **options: Any) -> pa.Table:
        with _faults(self._path):
            return super().read_row_group(*about, **options)


@contextmanager
def _faults(path: Path) -> Iterator[None]:
    """Whatever Arrow cannot read of a sealed file is not what was sealed."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno:  # of the disk
            raise
        raise altered(str(path)) from error


def _sealing(key: SealKey) -> Any:
    from pyarrow.parquet import encryption

    # The key of each file is wrapped at once, without a third one between.
    how = encryption.EncryptionConfiguration(
        footer_key=key.id, uniform_encryption=True, double_wrapping=False, data_key_length_bits=256
    )
    return encryption.CryptoFactory(_wrapping()).file_encryption_properties(encryption.KmsConnectionConfig(), how)


def _opening(path: Path) -> Any:
    from pyarrow.parquet import encryption

    # Arrow gives this back to the one that unwraps, which names the file where it cannot. A factory hands its first
    # one on to all files, so each has its own.
    connection = encryption.KmsConnectionConfig(custom_kms_conf={"path": str(path)})
    return encryption.CryptoFactory(_wrapping()).file_decryption_properties(connection)


@cache
def _wrapping() -> Any:
    """What Arrow calls a key management system: our keys wrap and unwrap those of files."""
    from pyarrow.parquet import encryption

    class Wrapping(encryption.KmsClient):  # type: ignore[misc] # pyarrow has no types
        def __init__(self, connection: Any) -> None:
            super().__init__()
            self._where = str(connection.custom_kms_conf.get("path", ""))

        def wrap_key(self, key: bytes, master_key_identifier: str) -> str:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM

            nonce, ident = os.urandom(_NONCE), master_key_identifier
            wrapping = AESGCM(key_of(ident, self._where).derived(_USE))
            return base64.b64encode(nonce + wrapping.encrypt(nonce, key, ident.encode())).decode()

        def unwrap_key(self, wrapped_key: str, master_key_identifier: str) -> bytes:
            from cryptography.exceptions import InvalidTag
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM

            ident = master_key_identifier
            wrapping = AESGCM(key_of(ident, self._where).derived(_USE))
            try:
                content = base64.b64decode(wrapped_key, validate=True)
                return wrapping.decrypt(content[:_NONCE], content[_NONCE:], ident.encode())
            except (InvalidTag, ValueError) as error:
                raise altered(self._where) from error

    return Wrapping


__all__ = ["SealedError", "is_sealed", "parquet_file", "parquet_schema", "parquet_writer", "write_frame"]
