"""Where rows come from: which encoder made their vectors, by its digest in the file's own metadata, and which file."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa

from pcc_pipeline.sealing.parquet import parquet_schema

# The key in a Parquet file's metadata, and in the `attrs` of the batches that are read from it.
ENCODER_DIGEST = "pcc.encoder_digest"
# The key of the file, in the `attrs` of batches that come from several.
FILE = "pcc.file"


def signed(schema: pa.Schema, encoder_digest: str | None) -> pa.Schema:
    """The schema of a file whose vectors this encoder made; unchanged where nobody knows."""
    if encoder_digest is None:
        return schema
    return schema.with_metadata({**(schema.metadata or {}), ENCODER_DIGEST: encoder_digest})


def origin(path: Path) -> str | None:
    """The digest in a file's metadata; None where there is none, as in every file that is not Parquet."""
    if not path.name.lower().endswith(".parquet"):
        return None
    try:
        digest = (parquet_schema(path).metadata or {}).get(ENCODER_DIGEST.encode())
    except (pa.ArrowException, OSError):
        return None  # whoever reads its rows says what is wrong with it
    return None if digest is None else digest.decode(errors="replace")


def origin_of(batch: pd.DataFrame) -> str | None:
    """The digest that a batch was read with."""
    digest: str | None = batch.attrs.get(ENCODER_DIGEST)
    return digest


def file_of(batch: pd.DataFrame) -> str | None:
    """The file that a batch comes from, where several are read as one data set."""
    file: str | None = batch.attrs.get(FILE)
    return file
