"""A file of predictions, written batch by batch as Parquet or CSV: the downstream columns, then those asked for.

The predictions of `evaluate` and of `score` are such files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.csv

from pcc_pipeline.config import Params
from pcc_pipeline.errors import StorageError
from pcc_pipeline.evaluation.predictions import ExtraColumns, prediction_schema, prediction_table
from pcc_pipeline.model.decision import DecisionRule
from pcc_pipeline.sealing.parquet import parquet_writer
from pcc_pipeline.steps.answering.challenge import SHADOW_COLUMNS
from pcc_pipeline.storage.objects import writing as storage_writing

SUFFIXES = (".parquet", ".csv")


def extra_columns(params: Params, classes: Sequence[str], *, several_files: bool) -> ExtraColumns:
    """The columns that `output.extra_columns` asks for, of a model with these labels."""
    names = params.output.extra_columns
    return ExtraColumns(row="row" in names, file=several_files, probabilities="probabilities" in names, classes=classes)


@contextmanager
def writing(
    partial: Path,
    target: str,
    extra: ExtraColumns,
    rule: DecisionRule,
    *,
    sealed: bool = False,
    about: Callable[[], Mapping[str, str]] | None = None,
) -> Iterator[Callable[[pd.DataFrame], None]]:
    """A function that appends a frame of predictions; each becomes a row group of Parquet.

    Args:
        partial: where to write for now.
        target: the final name, which errors name: CSV where it ends in .csv, else Parquet.
        extra: the columns of the frames behind the downstream system's.
        rule: the model's.
        sealed: only who has the key reads it; of Parquet alone.
        about: asked at the end for what the file's metadata is to say; of Parquet alone.

    Raises:
        StorageError: the file cannot be written.
    """
    csv = target.lower().endswith(".csv")
    with _disk_errors(target):
        schema = prediction_schema(extra, rule)
        writer = pa.csv.CSVWriter(partial, schema) if csv else parquet_writer(partial, schema, sealed=sealed)

    def write(frame: pd.DataFrame) -> None:
        with _disk_errors(target):
            writer.write_table(prediction_table(frame, extra, rule))

    try:
        yield write
        if about is not None:
            writer.add_key_value_metadata(about())
    finally:
        with _disk_errors(target):
            writer.close()


@contextmanager
def writing_shadow(target: str, *, sealed: bool = False) -> Iterator[Callable[[pd.DataFrame], None]]:
    """The same for both versions' answers to the same cases, as Parquet; see `challenge.shadow_frame`.

    Raises:
        StorageError: the file cannot be written. Nothing half-written stays under its name.
    """
    numbers = ("champion_confidence", "challenger_confidence")
    schema = pa.schema([(name, pa.float64() if name in numbers else pa.string()) for name in SHADOW_COLUMNS])
    with storage_writing(target, shared=True) as partial, parquet_writer(partial, schema, sealed=sealed) as writer:

        def write(frame: pd.DataFrame) -> None:
            with _disk_errors(target):
                columns = [pa.array(frame[each.name].to_numpy(), each.type, from_pandas=True) for each in schema]
                writer.write_table(pa.Table.from_arrays(columns, schema=schema))

        yield write


@contextmanager
def _disk_errors(target: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"the predictions cannot be written: {error.strerror or error}",
            where=target,
            fix="free some space, mend the folder's permissions, or name another file",
        ) from error
