"""The served model: the downstream table for good rows, a reason for others, no text in a reply to a bad request."""

from __future__ import annotations

import io
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from inspect import getsource
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mlflow.types.schema import AnyType, ColSpec, DataType, Schema

from pcc_pipeline.data import columns
from pcc_pipeline.data.case_ids import CaseIds
from pcc_pipeline.data.columns import text_rule
from pcc_pipeline.encoder import sentence_encoder
from pcc_pipeline.encoder.sentence_encoder import SentenceEncoder
from pcc_pipeline.evaluation.predictions import ScoredBy, prediction_frame
from pcc_pipeline.model.probabilities import class_probabilities
from pcc_pipeline.tracking.logged_models import served_model
from pcc_pipeline.tracking.logged_models.log_and_load import TrainedModel, log_trained_model


def test_the_served_code_agrees_with_the_package(encoder: SentenceEncoder) -> None:
    assert served_model.folder_digest(encoder.folder) == sentence_encoder.folder_digest(encoder.folder)
    assert served_model.BUNDLED_PACKAGE == sentence_encoder.BUNDLED_PACKAGE
    ids = CaseIds().make(["a text", "größer"], ["", ""])
    assert [served_model.made_case_id("a text"), served_model.made_case_id("größer")] == ids
    assert getsource(served_model.class_probabilities) == getsource(class_probabilities)
    assert getsource(served_model._is_missing) == getsource(columns._is_missing)
    texts = [None, "", " \n", "x" * 10_000, "x" * 10_001, "\ud800", 5, ["a"], np.nan, pd.NA, "good"]
    texts += ["\u200b", "\u3164\xad", "\u2800\u2800", "\ufe0f", "\u200ba", np.float32("nan"), Decimal("nan")]
    reasons = text_rule(pd.Series(texts, dtype=object))[1]
    assert [served_model.text_fault(text) for text in texts] == list(reasons)
    invisible = {chr(code) for code in range(sys.maxunicode + 1) if served_model._INVISIBLE.fullmatch(chr(code))}
    assert invisible == set(columns._INVISIBLE)


@pytest.mark.parametrize(
    "case",
    [
        *(True, False, "True", "false", "TRUE", np.True_),
        *(7, 7.0, "7.0", "7.00", "07.0", "-0.0", 0.5, "0.50", np.float32(2), np.int8(3), 2**60, "1e5"),
        *(Decimal("7.0"), Decimal("7.5"), Decimal("1e999999999"), 10**500, float("inf"), b"abc", b"\xff"),
        *(date(2026, 1, 2), datetime(2026, 1, 2, 3), UUID(int=7), " a ", "\ud800", ["a"], {"a": 1}),
        *(None, pd.NA, pd.NaT, float("nan"), "", " ", "\u200b"),
    ],
    ids=repr,
)
def test_a_server_names_a_case_as_a_file_does(case: Any) -> None:
    names, faults = columns.label_rule(pd.Series([case], dtype=object))
    if faults[0] in ("missing", "blank"):
        assert served_model.id_text(case) == ""
    elif faults[0]:
        assert served_model.id_text(case) is None
    else:
        assert served_model.id_text(case) == names.iloc[0]


@pytest.mark.usefixtures("store")
def test_a_served_model_answers_with_the_downstream_table(
    trained: TrainedModel, encoder: SentenceEncoder, texts: list[str]
) -> None:
    with mlflow.start_run():
        logged = log_trained_model(trained, None, {})
    rows = [*texts, "", None, "x" * 10_001, texts[0]]
    given = pd.DataFrame({"text": rows, "case_id": ["one", None, *["c"] * (len(rows) - 2)]})
    served = mlflow.pyfunc.load_model(logged.model_uri)
    answer = served.predict(given)
    good = np.array([served_model.text_fault(text) == "" for text in rows])
    probabilities = trained.probabilities(encoder.encode([*texts, texts[0]]), [*texts, texts[0]])
    by = ScoredBy("v20260101_000000", encoder.name, trained.classes, datetime.now(UTC))
    wanted = prediction_frame(answer["case_id"][good], probabilities, by)
    assert list(answer.columns) == list(wanted.columns)
    assert list(answer.dtypes) == list(wanted.dtypes)
    np.testing.assert_array_equal(answer["predicted_label"][good], wanted["predicted_label"])
    np.testing.assert_allclose(answer["confidence"][good], wanted["confidence"], atol=1e-5)
    assert answer["predicted_label"][~good].isna().all()
    assert answer["confidence"][~good].isna().all()
    assert answer["prediction_notes"].dropna().tolist() == [
        "not predicted: text blank",
        "not predicted: text missing",
        "not predicted: text longer than 10,000 characters",
    ]
    assert answer["case_id"].tolist()[:2] == ["one", served_model.made_case_id(texts[1])]
    assert served.predict(given.iloc[:0]).empty
    assert list(served.predict(given.iloc[:0]).dtypes) == list(wanted.dtypes)


@pytest.mark.usefixtures("store")
def test_a_served_model_of_whole_vectors_takes_vectors(whole: TrainedModel) -> None:
    with mlflow.start_run():
        logged = log_trained_model(whole, None, {})
    vectors = np.eye(3, 584).tolist()
    answer = mlflow.pyfunc.load_model(logged.model_uri).predict(
        pd.DataFrame({"embeddings": [*vectors, vectors[0][:-1], [float("nan")] * 584]})
    )
    expected = whole.probabilities(np.eye(3, 584), []).max(axis=1)
    np.testing.assert_allclose(answer["confidence"][:3], expected)
    assert answer["prediction_notes"].dropna().tolist() == [
        "not predicted: embeddings not 584 numbers",
        "not predicted: embeddings not finite",
    ]


@pytest.mark.usefixtures("store")
def test_an_encoder_that_differs_stops_a_served_model(trained: TrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    with mlflow.start_run():
        logged = log_trained_model(trained, None, {})
    found = mlflow.artifacts.download_artifacts(logged.model_uri)
    monkeypatch.setattr(served_model, "folder_digest", lambda folder: "0" * 64)
    with pytest.raises(served_model.BundleError, match="not the one of the training"):
        served_model._load_encoder(served_model.read_bundle(Path(found) / "artifacts" / "bundle"))


def test_error_replies_repeat_nothing_of_the_request(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], mark: str
) -> None:
    """MLflow's own function quotes the request; once it no longer does, the wrapper can go."""
    from mlflow.pyfunc import scoring_server

    def broken(data: bytes, *rest: Any) -> None:  # MLflow's signature
        try:
            raise ValueError(data.decode())
        except ValueError as error:
            raise mlflow.MlflowException("Encountered an unexpected error while evaluating the model") from error

    request = (f"not JSON: {mark}".encode(), "application/json", SimpleNamespace(metadata=None), None)
    with pytest.raises(mlflow.MlflowException, match=mark):
        scoring_server.invocations(*request)
    monkeypatch.setenv("__pyfunc_model_path__", "anything")
    for reader in ("infer_and_parse_data", "parse_csv_input", "parse_parquet_input"):
        monkeypatch.setattr(scoring_server, reader, getattr(scoring_server, reader))
    for answer, status, said in ((scoring_server.invocations, 400, "not valid JSON"), (broken, 500, "ValueError")):
        monkeypatch.setattr(scoring_server, "invocations", answer)
        served_model._serve_requests_as_sent("text", "text (string)")
        with pytest.raises(mlflow.MlflowException, match=said) as refusal:
            scoring_server.invocations(*request)
        assert refusal.value.get_http_status_code() == status
        assert mark not in refusal.value.serialize_as_json()
        assert refusal.value.__context__ is None
    printed = capsys.readouterr()
    assert "in broken" in printed.err
    assert mark not in printed.out + printed.err


def test_mlflows_own_readers_still_change_cells() -> None:
    """Once they no longer do, `table_of_json`, `table_of_csv` and `table_of_parquet` can go."""
    from mlflow.pyfunc import scoring_server

    typed = Schema([ColSpec(DataType.string, "text")])
    assert str(scoring_server.infer_and_parse_data({"inputs": [{"text": None}]}, typed)[0]["text"]) == "None"
    untyped = Schema([ColSpec(AnyType(), "text"), ColSpec(AnyType(), "case_id", required=False)])
    rows = [{"text": "a", "case_id": 1}, {"text": 5}]
    table = scoring_server.infer_and_parse_data({"instances": rows}, untyped)
    assert (table["text"].tolist(), len(table["case_id"])) == (["a", "5"], 1)
    assert scoring_server.parse_csv_input(io.StringIO("text\nNone\n"), typed)["text"].isna().all()
    sink = io.BytesIO()
    pq.write_table(pa.table({"case_id": pa.array([9007199254740993, None], pa.int64())}), sink)
    assert int(scoring_server.parse_parquet_input(sink)["case_id"][0]) == 9007199254740992


CELLS = {
    "text": ["a", None, 7, True, ["b"], {"c": 1}, ""],
    "case_id": [12345678901234567, None, "x", 2.0, None, "y", ""],
}
RECORDS = [{"text": text, "case_id": case} for text, case in zip(CELLS["text"], CELLS["case_id"], strict=True)]
REQUESTS: dict[str, dict[str, Any]] = {
    "split": {"dataframe_split": {"columns": ["text", "case_id"], "data": [list(row.values()) for row in RECORDS]}},
    "records": {"dataframe_records": RECORDS},
    "inputs, rows": {"inputs": RECORDS},
    "inputs, columns": {"inputs": CELLS},
    "instances, rows": {"instances": RECORDS},
    "instances, columns": {"instances": CELLS},
    "rows that leave cells out": {"inputs": [{k: v for k, v in row.items() if v is not None} for row in RECORDS]},
}


@pytest.mark.parametrize("form", REQUESTS)
def test_every_form_of_a_request_keeps_every_cell(form: str) -> None:
    table = served_model.table_of_json(REQUESTS[form], "text")
    assert {name: list(table[name]) for name in table} == CELLS
    assert [type(cell) for cell in table["case_id"]] == [type(cell) for cell in CELLS["case_id"]]


def test_a_csv_request_keeps_every_cell() -> None:
    table = served_model.table_of_csv('\ufefftext,case_id\nNone,007\n"a, b",1e5\n"",NA\n', "text")
    assert list(table["text"]) == ["None", "a, b", ""]
    assert list(table["case_id"]) == ["007", "1e5", "NA"]
    assert list(served_model.table_of_csv("text\na\n\nb\n", "text")["text"]) == ["a", "", "b"]
    assert list(served_model.table_of_csv('embeddings\n"[1, 2.5]"\nx\n', "embeddings")["embeddings"]) == [[1, 2.5], "x"]
    assert served_model.table_of_csv("text\n", "text").empty


@pytest.mark.parametrize(
    "text", ["", "text\nPlease delete, now\n", "text,text\na,b\n", "text,case_id\na\n", 'text\n"a\n', "message\na\n"]
)
def test_a_csv_that_is_no_table_is_refused_whole(text: str) -> None:
    with pytest.raises(served_model.RequestError):
        served_model.table_of_csv(text, "text")


@pytest.mark.usefixtures("store")
def test_ids_that_are_numbers_are_texts_and_a_row_with_an_odd_id_is_refused_alone(
    trained: TrainedModel, monkeypatch: pytest.MonkeyPatch, mark: str
) -> None:
    monkeypatch.delenv("MLFLOW_DISABLE_SCHEMA_DETAILS", raising=False)
    with mlflow.start_run():
        logged = log_trained_model(trained, None, {})
    served = mlflow.pyfunc.load_model(logged.model_uri)
    answer = served.predict(pd.DataFrame({"text": ["delete my data"] * 3, "case_id": [1, 2, 2**60]}))
    assert answer["case_id"].tolist() == ["1", "2", str(2**60)]
    odd = pd.Series([1.0, None, ["a"], "x"], dtype=object)
    answer = served.predict(pd.DataFrame({"text": ["delete my data"] * 4, "case_id": odd}))
    made = served_model.made_case_id("delete my data")
    assert answer["case_id"].tolist() == ["1", made, made, "x"]
    assert answer["predicted_label"].isna().tolist() == [False, False, True, False]
    assert answer["prediction_notes"][2] == "not predicted: case_id neither text nor a number"
    numbers = served.predict(pd.DataFrame({"text": [1, 2]}))
    assert numbers["prediction_notes"].tolist() == ["not predicted: text not a string"] * 2
    with pytest.raises(mlflow.MlflowException) as refusal:
        served.predict(pd.DataFrame({mark: [mark]}))
    assert mark not in str(refusal.value)
