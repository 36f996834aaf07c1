"""The protocol of `mlflow models serve` (MLflow 3.17) for a server of our own: its tables, its replies, its errors."""

from __future__ import annotations

import io
import json
from typing import Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.scoring_server import predictions_to_json

from pcc_pipeline.tracking.logged_models.served_model import (
    RequestError,
    TooManyRowsError,
    needed_columns,
    refusal,
    table_of_csv,
    table_of_json,
    table_of_parquet,
)

JSON, CSV, PARQUET = "application/json", "text/csv", "application/vnd.apache.parquet"
_FORMS = ("dataframe_split", "dataframe_records", "inputs", "instances")
VERSION: str = mlflow.version.VERSION


class ProtocolError(Exception):
    """A request that MLflow's server would refuse; `reply` is what it would answer, with `status`."""

    def __init__(self, status: int, reply: str, kind: str = JSON) -> None:
        self.status, self.reply, self.kind = status, reply, kind
        super().__init__(f"refused with {status}")


def request_table(body: bytes, content_type: str, column: str, most: int) -> pd.DataFrame:
    """The table of a request: `column`, and `case_id` where it has one; its cells as they were sent.

    Args:
        most: rows of a request; of CSV and Parquet no more are held, which a small body may have millions of.

    Raises:
        ProtocolError: it is no table in one of MLflow's forms.
        TooManyRowsError: it has more rows.
    """
    kind, *parameters = [part.strip() for part in content_type.split(";")]
    settings = dict(part.partition("=")[::2] for part in parameters)
    if settings.pop("charset", "utf-8").lower() != "utf-8":
        raise ProtocolError(415, "The scoring server only supports UTF-8", "text/plain")
    if settings or kind.lower() not in (JSON, CSV, PARQUET):
        kinds = f"{JSON}, {CSV} and {PARQUET}"
        raise ProtocolError(415, f"This predictor only supports the content types {kinds}.", "text/plain")
    try:
        table = _TABLES[kind.lower()](body, column, most)
        if len(table) > most:
            raise TooManyRowsError
        return table
    except (MlflowException, ValueError, RecursionError) as error:
        refused = refusal(error, needed_columns(column))
    # Outside the handler, so that the first error, which quotes the request, is not chained to this one.
    raise ProtocolError(refused.get_http_status_code(), refused.serialize_as_json())


def _of_json(body: bytes, column: str, most: int) -> pd.DataFrame:
    request = json.loads(body.decode())
    # As MLflow does, which has other fields, such as params.
    if not isinstance(request, dict) or not (forms := {name: request[name] for name in _FORMS if name in request}):
        raise RequestError("The body is not a table that this model can read.")
    return table_of_json(forms, column)


def _of_csv(body: bytes, column: str, most: int) -> pd.DataFrame:
    return table_of_csv(body.decode(), column, most + 1)


_TABLES = {JSON: _of_json, CSV: _of_csv, PARQUET: table_of_parquet}


def reply(frame: pd.DataFrame) -> str:
    """A table of answers as MLflow's server writes it; what is missing is null."""
    written = io.StringIO()
    # A missing value would be written as NaN, which is not JSON.
    predictions_to_json(frame.astype(object).where(frame.notna(), None), written)
    return written.getvalue()


def refused(message: str) -> str:
    """An error as MLflow's server writes one."""
    answer: Any = MlflowException(message)
    return str(answer.serialize_as_json())
