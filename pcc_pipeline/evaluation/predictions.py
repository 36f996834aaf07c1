"""The table of predictions, as the downstream system and its warehouse read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from pcc_pipeline.data.contract import RowPlaces
from pcc_pipeline.errors import DataError
from pcc_pipeline.evaluation.metric_names import metric_names
from pcc_pipeline.evaluation.metrics import check_probabilities
from pcc_pipeline.model.decision import DECIDES_ALL, DecisionRule, certainty

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS: tuple[str, ...] = (
    "case_id",
    "predicted_label",
    "subtype_label",
    "confidence",
    "model_version",
    "embedding_model",
    "inference_timestamp",
    "prediction_notes",
    "ingestion_time",
)
_NULLABLE = ("subtype_label", "prediction_notes")
_TIMES = ("inference_timestamp", "ingestion_time")


class ExtraColumns:
    """Columns behind `COLUMNS`, for who joins predictions back to their rows or decides by probabilities.

    `row`, int64: where the row stands in its file; `file`, text: of several files, which. `probability/<label>`,
    float64, for each label in the classes' order; its name is made as in the metrics `test/class/<label>/f1`.
    """

    def __init__(
        self, *, row: bool = False, file: bool = False, probabilities: bool = False, classes: Sequence[str] = ()
    ) -> None:
        names = metric_names([str(label) for label in classes])
        self._place = [name for name, there in (("row", row), ("file", row and file)) if there]
        self._probabilities = [f"probability/{names[str(label)]}" for label in classes] if probabilities else []

    @property
    def names(self) -> list[str]:
        """The columns in order."""
        return [*self._place, *self._probabilities]

    def fields(self) -> list[pa.Field[Any]]:
        """The columns as Arrow types."""
        import pyarrow as pa

        kinds = {"row": pa.int64(), "file": pa.string()}
        return [pa.field(name, kinds.get(name, pa.float64()), nullable=False) for name in self.names]

    def added_to(self, frame: pd.DataFrame, places: RowPlaces, probabilities: ArrayLike) -> pd.DataFrame:
        """A frame of `prediction_frame` with these columns, for rows at `places` with the same probabilities."""
        values: dict[str, Any] = {"row": places.rows, "file": None if places.files is None else _text(places.files)}
        columns = {name: values[name] for name in self._place}
        columns |= dict(zip(self._probabilities, np.asarray(probabilities, dtype=np.float64).T, strict=False))
        return pd.concat([frame, pd.DataFrame(columns, index=frame.index)], axis=1) if columns else frame


NO_EXTRA_COLUMNS = ExtraColumns()


def prediction_schema(extra: ExtraColumns = NO_EXTRA_COLUMNS, rule: DecisionRule = DECIDES_ALL) -> pa.Schema:
    """The columns as Arrow types, for writers that go batch by batch; times in microseconds, UTC.

    Microseconds, since BigQuery's TIMESTAMP has no finer ones. A label may be missing only where `rule` leaves rows
    without one.
    """
    import pyarrow as pa

    def kind(name: str) -> Any:
        if name in _TIMES:
            return pa.timestamp("us", tz="UTC")
        return pa.float64() if name == "confidence" else pa.string()

    nullable = {*_NULLABLE, *(["predicted_label"] if rule.abstains and rule.label is None else [])}
    return pa.schema([*(pa.field(name, kind(name), nullable=name in nullable) for name in COLUMNS), *extra.fields()])


@dataclass(frozen=True)
class ScoredBy:
    """Which model answered, and when.

    Attributes:
        classes: of the columns of its probabilities.
        time: when it ran, with its time zone; stored in UTC.
        rule: a row that it leaves to a person has its label, or none, and a note instead.
    """

    model_version: str
    embedding_model: str
    classes: Sequence[str]
    time: datetime
    rule: DecisionRule = DECIDES_ALL


def prediction_frame(case_ids: Sequence[object] | ArrayLike, probabilities: ArrayLike, by: ScoredBy) -> pd.DataFrame:
    """One row per case: the most probable label (the first on a tie) and its probability.

    Args:
        case_ids: shape (n,), n may be 0; numbers become text.
        probabilities: shape (n, K), columns in the order of `by.classes`.

    Returns:
        `COLUMNS` in that order: text as `str` (null where there is none, in a column of nulls too), `confidence` as
        float64, times as datetime64[us, UTC], both the time of the answer. `subtype_label` is null: this model has no
        subtypes. `to_parquet` keeps these types; for a writer that goes batch by batch, see `prediction_table`.

    Raises:
        DataError: a case without an id.
        ModelError: the classifier gave NaN or infinite probabilities.
        ValueError: lengths that do not fit each other, or a time without a zone.
    """
    proba, labels = check_probabilities(probabilities), np.array([str(label) for label in by.classes], dtype=object)
    cases = np.asarray(case_ids, dtype=object)
    rows = cases.size
    if proba.shape != (rows, labels.size):
        raise ValueError(f"expected probabilities of shape ({rows}, {labels.size}), got {proba.shape}")
    if missing := int(pd.isna(cases).sum()):
        raise DataError(
            f"{missing} of {rows} cases have no id.", where="case_id", fix="give every row an id, or drop the column"
        )
    times = pd.DatetimeIndex([_utc(by.time)] * rows, dtype="datetime64[us, UTC]")
    likeliest = labels[proba.argmax(axis=1)]
    predicted = likeliest.copy()
    notes: list[str | None] = [None] * rows
    undecided = np.flatnonzero(by.rule.left_to_a_person(proba))
    for place, sure in zip(undecided.tolist(), certainty(proba[undecided], by.rule.score), strict=True):
        predicted[place], notes[place] = by.rule.label, by.rule.note(sure, likeliest[place])
    columns: dict[str, Any] = {
        "case_id": _text([str(case) for case in cases]),
        "predicted_label": _text(predicted),
        "subtype_label": _text([None] * rows),
        "confidence": proba.max(axis=1).astype(np.float64) if rows else np.empty(0),
        "model_version": _text([by.model_version] * rows),
        "embedding_model": _text([by.embedding_model] * rows),
        "inference_timestamp": times,
        "prediction_notes": _text(notes),
        "ingestion_time": times,
    }
    return pd.DataFrame(columns, columns=list(COLUMNS))


def prediction_table(
    frame: pd.DataFrame, extra: ExtraColumns = NO_EXTRA_COLUMNS, rule: DecisionRule = DECIDES_ALL
) -> pa.Table:
    """A frame of `prediction_frame` as an Arrow table of `prediction_schema`, for `pyarrow.parquet.ParquetWriter`.

    Built column by column: `pyarrow.Table.from_pandas` (25.0) reads times in a way that pandas 3.1 warns of.
    """
    import pyarrow as pa

    schema = prediction_schema(extra, rule)
    columns = []
    for field in schema:
        column = frame[field.name]
        if field.name in _TIMES:
            # Without a zone the values are UTC already; the cast only writes the zone beside them.
            naive = pa.array(column.dt.tz_convert(None).to_numpy(), type=pa.timestamp("us"))
            columns.append(naive.cast(field.type))
        else:
            columns.append(pa.array(column.to_numpy(), type=field.type, from_pandas=True))
    return pa.Table.from_arrays(columns, schema=schema)


def _text(values: Any) -> pd.Series[str]:
    """A column of type string even where all of it is null: an untyped one would be written as Parquet's null type."""
    return pd.Series(values, dtype="str")


def _utc(time: datetime) -> datetime:
    if time.tzinfo is None:
        raise ValueError("expected a time with its zone, got a naive datetime")
    return time.astimezone(UTC)
