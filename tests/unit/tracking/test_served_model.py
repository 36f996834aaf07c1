"""The served model: the downstream table for good rows, a reason for others, no text in a reply to a bad request."""

from __future__ import annotations

from datetime import UTC, datetime
from inspect import getsource
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest

from pcc_pipeline.data.case_ids import CaseIds
from pcc_pipeline.data.columns import text_rule
from pcc_pipeline.evaluation.predictions import prediction_frame
from pcc_pipeline.features import encoder as encoders
from pcc_pipeline.features.encoder import SentenceEncoder
from pcc_pipeline.model.probabilities import class_probabilities
from pcc_pipeline.tracking import served_model
from pcc_pipeline.tracking.models import TrainedModel, log_trained_model


def test_the_served_code_agrees_with_the_package(encoder: SentenceEncoder) -> None:
    assert served_model.folder_digest(encoder.folder) == encoders.folder_digest(encoder.folder)
    assert served_model.BUNDLED_PACKAGE == encoders.BUNDLED_PACKAGE
    ids = CaseIds().make(["a text", "größer"], ["", ""])
    assert [served_model.made_case_id("a text"), served_model.made_case_id("größer")] == ids
    assert getsource(served_model.class_probabilities) == getsource(class_probabilities)
    texts = [None, "", " \n", "x" * 10_000, "x" * 10_001, "\ud800", 5, ["a"], np.nan, pd.NA, "good"]
    reasons = text_rule(pd.Series(texts, dtype=object))[1]
    assert [served_model.text_fault(text) for text in texts] == list(reasons)


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
    wanted = prediction_frame(
        answer["case_id"][good], probabilities, trained.classes, "v20260101_000000", encoder.name, datetime.now(UTC)
    )
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
    for answer, status, said in ((scoring_server.invocations, 400, "not valid JSON"), (broken, 500, "ValueError")):
        monkeypatch.setattr(scoring_server, "invocations", answer)
        served_model._keep_requests_out_of_error_replies("text (string)")
        with pytest.raises(mlflow.MlflowException, match=said) as refusal:
            scoring_server.invocations(*request)
        assert refusal.value.get_http_status_code() == status
        assert mark not in refusal.value.serialize_as_json()
        assert refusal.value.__context__ is None
    printed = capsys.readouterr()
    assert "in broken" in printed.err
    assert mark not in printed.out + printed.err
