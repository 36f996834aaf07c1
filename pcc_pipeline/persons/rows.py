"""A person's rows in tables that hold case ids: predictions, embedded copies, rejected rows and the like."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from pcc_pipeline.data.columns import as_list, label_rule
from pcc_pipeline.data.contract import CASE_ID
from pcc_pipeline.errors import DataError
from pcc_pipeline.persons.keys import WIDTH, Key
from pcc_pipeline.sealing.parquet import parquet_file

_ROWS = 20_000


@dataclass(frozen=True)
class Cases:
    """Whose rows are meant; a row that any of this names is.

    Attributes:
        hashes: key -> the hashes of case ids, as manifests have them.
        case_id, subject: as they stand in tables; a subject in the column `subject_column`.
    """

    hashes: Mapping[Key, frozenset[bytes]]
    case_id: str | None = None
    subject: str | None = None
    subject_column: str | None = None

    def among(self, frame: pd.DataFrame) -> np.ndarray:
        """Which rows are meant, (n,) bool."""
        its = np.zeros(len(frame), dtype=bool)
        if CASE_ID in frame:
            values, faults = label_rule(frame[CASE_ID])
            ids = [None if fault else str(value) for value, fault in zip(as_list(values), faults, strict=True)]
            its |= np.array([name is not None and name == self.case_id for name in ids], dtype=bool)
            for key, cases in self.hashes.items():
                made = key.hashes("case", ids)
                its |= np.array([made[place : place + WIDTH] in cases for place in range(0, len(made), WIDTH)], bool)
        if self.subject is not None and self.subject_column is not None and self.subject_column in frame:
            its |= (label_rule(frame[self.subject_column])[0] == self.subject).to_numpy(dtype=bool, na_value=False)
        return its


def rows_of(path: Path, cases: Cases) -> pd.DataFrame:
    """The rows of a Parquet or CSV file that are meant, with all its columns; read in parts.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        parts = [part[cases.among(part)] for part in _parts(path)]
    except (pa.ArrowInvalid, OSError, UnicodeDecodeError, pd.errors.ParserError) as error:
        raise DataError("the table cannot be read", where=str(path), fix="find out who changed it") from error
    parts = [part for part in parts if len(part)] or parts[:1]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _parts(path: Path) -> Iterator[pd.DataFrame]:
    if path.suffix == ".csv":
        yield from pd.read_csv(path, dtype=str, keep_default_na=False, chunksize=_ROWS)
        return
    with parquet_file(path) as file:
        for batch in file.iter_batches(_ROWS):
            yield batch.to_pandas()
