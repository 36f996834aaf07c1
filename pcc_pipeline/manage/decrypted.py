"""`pcc decrypt`: a plain copy of an encrypted table, for what reads no encrypted one."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from pcc_pipeline.config.paths import local_output, local_path
from pcc_pipeline.errors import ConfigError, DataError, StorageError
from pcc_pipeline.files import replacing
from pcc_pipeline.manage.queries import Question
from pcc_pipeline.plurals import counted
from pcc_pipeline.sealing.parquet import is_sealed, parquet_file
from pcc_pipeline.steps.records.audit import Audit

_ROWS = 20_000


def decrypted(question: Question, file: str, *, output: str) -> str:
    """Write the copy, for its owner alone, as Parquet or, where `output` ends in .csv, as CSV.

    Raises:
        ConfigError: the copy would replace the file, its path is an address, or CSV cannot hold a column.
        DataError: there is no such file, it is not encrypted, its key is not here, or it was changed.
        StorageError: the copy cannot be written.
    """
    source, target = local_path(file), local_output(output, "--output")
    if source.resolve() == target.resolve():
        raise ConfigError("the copy would replace the file", where="--output", fix="name another file")
    try:
        sealed = is_sealed(source)
    except OSError as error:
        raise DataError(f"it cannot be read: {error.strerror}", where=file, fix="check the path") from error
    if not sealed:
        raise DataError("it is not encrypted", where=file, fix="read it as it is")
    csv = target.name.lower().endswith(".csv")
    with parquet_file(source) as table:
        if csv and (lists := [column.name for column in table.schema_arrow if pa.types.is_nested(column.type)]):
            raise ConfigError(
                f"no column of CSV can hold lists of numbers, as {', '.join(lists)} does",
                where=f"--output: {output}",
                fix="name a file that ends in .parquet",
            )
        try:
            with replacing(target) as partial:
                _write(table, partial, csv=csv)
        except OSError as error:
            raise StorageError(
                f"the copy cannot be written: {error.strerror or error}", where=output, fix="make room, or name another"
            ) from error
        rows = table.metadata.num_rows
    audit = Audit(question.params, anchored=False)  # MLflow has no part in this, and need not be there
    audit.record("decrypt", {"file": file, "rows": rows})
    said = f"decrypted  {counted(rows, 'row')} to {target}, for you alone; it needs no key any more"
    return "\n".join([said, *audit.warnings])


def _write(table: pq.ParquetFile, partial: Path, *, csv: bool) -> None:
    writer = (pa.csv.CSVWriter if csv else pq.ParquetWriter)(partial, table.schema_arrow)
    with writer:
        for batch in table.iter_batches(_ROWS):
            writer.write_batch(batch)
