"""Typed payloads reach MLflow whole, whatever their number, and nothing else is taken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from pcc_pipeline.tracking.payloads import (
    Figures,
    InputFile,
    Inputs,
    Json,
    LoggedParams,
    Metrics,
    Models,
    Note,
    Table,
    Tags,
    Text,
    drawn,
    json_text,
    log,
)


@pytest.fixture
def run_id(mlflow_store: Path) -> str:
    """A run in this test's own store."""
    client = MlflowClient()
    experiment = client.create_experiment("payloads", artifact_location=str(mlflow_store / "artifacts"))
    return str(client.create_run(experiment).info.run_id)


def artifact(run_id: str, name: str) -> Path:
    return Path(MlflowClient().download_artifacts(run_id, name))


@pytest.mark.parametrize("payload", [3, {"a": 1.0}, None, np.zeros(2), pd.DataFrame()])
def test_an_unknown_payload_raises_and_names_its_type(run_id: str, payload: Any) -> None:
    with pytest.raises(TypeError, match=f"cannot log a {type(payload).__name__}"):
        log(MlflowClient(), run_id, [payload])


def test_an_unknown_payload_among_good_ones_leaves_the_run_empty(run_id: str) -> None:
    payloads: list[Any] = [Metrics({"a": 1.0}), Tags({"b": "c"}), Text("t.txt", "x"), 3]
    with pytest.raises(TypeError, match="cannot log a int"):
        log(MlflowClient(), run_id, payloads)
    run = MlflowClient().get_run(run_id)
    assert run.data.metrics == {}
    assert "b" not in run.data.tags
    assert MlflowClient().list_artifacts(run_id) == []


def test_more_than_one_call_may_hold(run_id: str) -> None:
    """MLflow takes 1000 metrics, 100 params and 100 tags in a call."""
    metrics = {f"test/class/label {number}/f1": number / 2 for number in range(2345)}
    params = {f"model.{number}": str(number) for number in range(251)}
    tags = {f"pcc.{number}": str(number) for number in range(101)}
    log(MlflowClient(), run_id, [LoggedParams(params), Metrics(metrics), Tags(tags)])
    data = MlflowClient().get_run(run_id).data
    assert data.metrics == metrics
    assert data.params == params
    assert {key: value for key, value in data.tags.items() if key.startswith("pcc.")} == tags


def test_payloads_of_one_kind_add_up(run_id: str) -> None:
    log(
        MlflowClient(),
        run_id,
        [Metrics({"a": 1.0}), LoggedParams({"p": "1"}), Metrics({"b": 2.0}), LoggedParams({"q": "2"})],
    )
    data = MlflowClient().get_run(run_id).data
    assert (data.metrics, data.params) == ({"a": 1.0, "b": 2.0}, {"p": "1", "q": "2"})


def test_steps_of_a_metric_are_kept_apart(run_id: str) -> None:
    log(MlflowClient(), run_id, [Metrics({"cv/f1": value}, step=fold) for fold, value in enumerate((0.5, 0.7, 0.6))])
    history = MlflowClient().get_metric_history(run_id, "cv/f1")
    assert [(item.step, item.value) for item in history] == [(0, 0.5), (1, 0.7), (2, 0.6)]


def test_files_come_back_as_they_were(run_id: str) -> None:
    frame = pd.DataFrame({"case_id": ["a", "b"], "confidence": [0.5, 0.25]})
    document = {"größe": [1, 2.5, None], "nested": {"a": True}}
    log(
        MlflowClient(),
        run_id,
        [Json("metrics.json", document), Text("params.yaml", "ü: 1\n"), Table("p.parquet", frame)],
    )
    assert json.loads(artifact(run_id, "metrics.json").read_text(encoding="utf-8")) == document
    assert artifact(run_id, "params.yaml").read_text(encoding="utf-8") == "ü: 1\n"
    pd.testing.assert_frame_equal(pd.read_parquet(artifact(run_id, "p.parquet")), frame)
    assert {item.path for item in MlflowClient().list_artifacts(run_id)} == {"metrics.json", "params.yaml", "p.parquet"}


def test_figures_land_in_their_folder_as_png(run_id: str) -> None:
    from matplotlib.figure import Figure

    drawings = {name: Figure(figsize=(2, 1)) for name in ("confusion_matrix", "roc_curve")}
    for drawing in drawings.values():
        drawing.subplots().plot([0, 1], [0, 1])
    log(MlflowClient(), run_id, [Figures({**drawings, "roc_curve": drawn(drawings)["roc_curve"]})])
    found = [item.path for item in MlflowClient().list_artifacts(run_id, "figures")]
    assert found == ["figures/confusion_matrix.png", "figures/roc_curve.png"]
    content = artifact(run_id, "figures/roc_curve.png").read_bytes()
    assert content.startswith(b"\x89PNG\r\n")
    assert int.from_bytes(content[16:20], "big") == 400  # 2 inches at 200 dots


def test_models_are_named_on_a_run_that_made_or_used_them_however_often_they_are_logged(run_id: str) -> None:
    client = MlflowClient()
    made, used = (
        client.create_logged_model(client.get_run(run_id).info.experiment_id, name).model_id for name in ("a", "b")
    )
    for _ in range(2):
        log(client, run_id, [Models(made=[made], used=[used])])
    run = client.get_run(run_id)
    assert [each.model_id for each in run.outputs.model_outputs] == [made]
    assert [each.model_id for each in run.inputs.model_inputs] == [used]


def test_files_are_listed_as_data_sets_with_digest_and_source_however_often_they_are_logged(run_id: str) -> None:
    files = [
        InputFile("gs://pcc-datasets/balanced_dataset_20251120.csv", "training", "ab" * 32, 1200),
        InputFile("cases.csv", "testing", "cd" * 32, 30),
    ]
    log(MlflowClient(), run_id, [Inputs(files), Note("**good**")])
    log(MlflowClient(), run_id, [Inputs(files)])
    run = MlflowClient().get_run(run_id)
    assert run.data.tags["mlflow.note.content"] == "**good**"
    found = {each.dataset.name: each for each in run.inputs.dataset_inputs}
    assert set(found) == {"balanced_dataset_20251120.csv", "cases.csv"}
    first = found["balanced_dataset_20251120.csv"]
    assert (first.dataset.source_type, json.loads(first.dataset.source)) == ("gs", {"uri": files[0].source})
    assert first.dataset.digest == "abababababab"
    assert json.loads(first.dataset.profile) == {"rows": 1200, "sha256": "ab" * 32}
    assert [(tag.key, tag.value) for tag in first.tags] == [("mlflow.data.context", "training")]
    assert found["cases.csv"].dataset.source_type == "local"


@pytest.mark.parametrize(
    "text",
    [
        '(psycopg.errors.UniqueViolation) duplicate key value violates unique constraint "dataset_pk"',
        "(sqlite3.IntegrityError) UNIQUE constraint failed: datasets.experiment_id, datasets.name, datasets.digest",
    ],
)
def test_a_file_that_another_run_names_at_the_same_moment_is_logged(
    run_id: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loser of that race in MLflow's store finds the data set there the next time."""
    store, refused = MlflowClient.log_inputs, []

    def lose(client: MlflowClient, *arguments: Any, **others: Any) -> None:
        if not refused:
            refused.append(text)
            raise MlflowException(text)
        store(client, *arguments, **others)

    monkeypatch.setattr(MlflowClient, "log_inputs", lose)
    log(MlflowClient(), run_id, [Inputs([InputFile("cases.csv", "training", "cd" * 32, 30)])])
    assert len(refused) == 1
    assert len(MlflowClient().get_run(run_id).inputs.dataset_inputs) == 1


def test_nothing_to_log_is_no_call_and_no_file(run_id: str) -> None:
    log(MlflowClient(), run_id, [])
    log(MlflowClient(), run_id, [LoggedParams({}), Metrics({}), Tags({})])
    data = MlflowClient().get_run(run_id).data
    assert (data.metrics, data.params) == ({}, {})
    assert MlflowClient().list_artifacts(run_id) == []


def test_json_without_a_number_is_refused() -> None:
    """NaN is no JSON: a reader in another language would fail on it."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_text({"a": float("nan")})
    assert json_text({"ä": 1}) == '{\n  "ä": 1\n}\n'


def test_logging_needs_no_active_run(run_id: str) -> None:
    """So that a search's trials and a nested step cannot be mixed up."""
    assert mlflow.active_run() is None
    log(MlflowClient(), run_id, [Metrics({"a": 1.0})])
    assert mlflow.active_run() is None
