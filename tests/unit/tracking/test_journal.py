"""What is kept for MLflow comes out of the disk as it went in, in its order, and is logged once."""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import pytest
import requests
import sqlalchemy
from mlflow import MlflowClient
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException, RestException

from pcc_pipeline.errors import DataError, TrackingError
from pcc_pipeline.sealing import keys as seal_keys
from pcc_pipeline.sealing import streams
from pcc_pipeline.sealing.keys import SealKey
from pcc_pipeline.tracking.delivery.catching_up import catch_up
from pcc_pipeline.tracking.delivery.journal import Journal, adopt, folders, left_behind
from pcc_pipeline.tracking.delivery.operations import (
    BUNDLE,
    DOCUMENTS,
    FILES,
    NUMBER,
    Describe,
    End,
    Log,
    Model,
    Nested,
    Operation,
    carry_out,
    run_of_key,
)
from pcc_pipeline.tracking.delivery.outages import is_account, is_outage, reason_of, status_of, within
from pcc_pipeline.tracking.delivery.preflight import demand_artifacts
from pcc_pipeline.tracking.logged_models.bundle import TrainedModel
from pcc_pipeline.tracking.logged_models.log_and_load import load_trained_model, write_model
from pcc_pipeline.tracking.payloads import OF_THE_MODEL, Batch, Number

NAME = "pcc-intent-classifier"


def entry(text: str, run_id: str = "r") -> Log:
    return Log(run_id=run_id, batch=Batch(params={"text": text}))


def texts(journal: Journal) -> list[str]:
    found = [DOCUMENTS.validate_json((path / "operation.json").read_bytes()) for path in journal.entries]
    return [each.batch.params["text"] for each in found if isinstance(each, Log)]


def test_operations_come_back_as_they_were(tmp_path: Path) -> None:
    numbers = (Number("a", math.inf, 1), Number("b", 0.1 + 0.2, 2, 3, OF_THE_MODEL), Number("c", math.nan, 1))
    journal = Journal.new(tmp_path)
    given: list[Operation] = [
        Log(run_id="r", batch=Batch(numbers[:2], {"ä": "ö"}, {"t": "1\n2"})),
        Nested(experiment_id="1", key="k", name="n", tags={}, start=1, end=2, status="FAILED", batch=Batch()),
        End(run_id="r", status="KILLED", error="x"),
    ]
    for each in given:
        journal.keep(each, None)
    journal.keep(Log(run_id="r", batch=Batch(numbers[2:])), None)
    found = [DOCUMENTS.validate_json((path / "operation.json").read_bytes()) for path in journal.entries]
    assert found[:3] == given
    assert isinstance(found[3], Log)
    assert math.isnan(found[3].batch.metrics[0].value)
    journal.close()


def test_they_keep_their_order_and_files(tmp_path: Path) -> None:
    journal = Journal.new(tmp_path / "kept")
    for number in range(12):
        files = tmp_path / "operation"
        (files / FILES).mkdir(parents=True)
        (files / FILES / "a.txt").write_text(str(number))
        journal.keep(entry(str(number)), files)
        assert not files.exists()
    assert texts(journal) == [str(number) for number in range(12)]
    assert [(path / FILES / "a.txt").read_text() for path in journal.entries] == texts(journal)
    journal.close()


def test_a_journal_belongs_to_one_living_process(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom pcc_pipeline.tracking.delivery.journal import Journal\n"
        "from pcc_pipeline.tracking.delivery.operations import End\n"
        "journal = Journal.new(Path(sys.argv[1]))\njournal.keep(End(run_id='r', status='FINISHED'), None)\n"
        "print('kept', flush=True)\nsys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "kept\n"
        (folder,) = folders(tmp_path)
        assert left_behind(tmp_path) == []
        assert adopt(folder) is None
        owner.kill()
        owner.wait(timeout=60)
    assert left_behind(tmp_path) == [folder]
    journal = adopt(folder)
    assert journal is not None
    assert len(journal.entries) == 1
    assert adopt(folder) is None
    journal.close()


def test_an_empty_journal_leaves_nothing(tmp_path: Path, mlflow_store: Path) -> None:
    run_id = MlflowClient().create_run("0").info.run_id
    journal = Journal.new(tmp_path / "outputs" / "unlogged")
    assert not journal.folder.exists()
    journal.keep(entry("x", run_id), None)
    journal.carry_out(journal.entries[0])
    journal.close()
    assert not (tmp_path / "outputs" / "unlogged").exists()


def test_where_nothing_can_be_kept_the_error_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrackingError, match=r"(?s)cannot be kept on disk.*output\.unlogged_dir"):
        Journal.new(tmp_path / "file").keep(entry("x"), None)


def test_what_is_no_operation_is_named(tmp_path: Path) -> None:
    (tmp_path / "j" / "000001").mkdir(parents=True)
    (tmp_path / "j" / "000001" / "operation.json").write_text('{"kind": "spell"}')
    with pytest.raises(TrackingError, match=r"(?s)no operation.*000001"):
        Journal(tmp_path / "j").carry_out(tmp_path / "j" / "000001")


def test_a_whole_training_logged_twice_stands_there_once(
    tmp_path: Path, store: Path, trained: TrainedModel, texts: list[str]
) -> None:
    """As after a crash between the last answer of MLflow and the removal of the entry, at every entry."""
    client = MlflowClient()
    experiment = client.get_experiment_by_name("test").experiment_id
    run_id = client.create_run(experiment).info.run_id
    journal = Journal.new(tmp_path / "kept")
    files = tmp_path / "operation"
    (files / FILES / "figures").mkdir(parents=True)
    (files / FILES / "figures" / "a.txt").write_text("a")
    facts = write_model(trained, None, {"note": [1, None]}, files / BUNDLE)
    journal.keep(Log(run_id=run_id, batch=Batch((Number("m", 1.5, 1000, 2),), {"p": "1"}, {"t": "1"})), None)
    for key in ("one", "two"):
        batch = Batch((Number("cv/f1", 0.5, 1000, 0), Number("cv/f1", 0.5, 1000, 1)), {"C": key})
        tags = {"mlflow.parentRunId": run_id}
        trial = Nested(
            experiment_id=experiment, key=key, name=key, tags=tags, start=1, end=2, status="FINISHED", batch=batch
        )
        journal.keep(trial, None)
    version = {"pcc.version": trained.model_version}
    batch = Batch((Number("val/f1", 0.5, 1000, 0, OF_THE_MODEL),))
    model = Model(
        run_id=run_id,
        experiment_id=experiment,
        facts=facts,
        batch=batch,
        name=NAME,
        alias="challenger",
        tags=version,
        description=f"**Model v1**: load models:/{NAME}/{NUMBER}",
        model_description="What it is.",
    )
    journal.keep(model, files)
    journal.keep(Describe(name=NAME, version="1", description="**Model v1**: good", tags={"score": "1"}), None)
    journal.keep(Describe(name=NAME, version="99", description="**Model v1**: gone meanwhile"), None)
    journal.keep(End(run_id=run_id, status="FINISHED"), None)
    for path in journal.entries:
        spare = shutil.copytree(path, tmp_path / "spare" / path.name)
        first = journal.carry_out(path)
        again = shutil.copytree(spare, path)
        assert journal.carry_out(again) == first
    assert journal.entries == []
    assert client.get_metric_history(run_id, "m")[0].value == 1.5
    assert len(client.get_metric_history(run_id, "m")) == 1
    trials = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{run_id}'", ViewType.ALL)
    assert sorted(run.info.run_name or "" for run in trials) == ["one", "two"]
    assert {run.info.status for run in trials} == {"FINISHED"}
    assert len(client.get_metric_history(trials[0].info.run_id, "cv/f1")) == 2
    (logged,) = client.search_logged_models([experiment])
    assert {metric.key: metric.value for metric in logged.metrics or []} == {"val/f1": 0.5}
    (version_found,) = client.search_model_versions(f"name='{NAME}'")
    assert client.get_model_version_by_alias(NAME, "challenger").version == version_found.version
    assert (version_found.description, version_found.tags["score"]) == ("**Model v1**: good", "1")
    assert client.get_registered_model(NAME).description == "What it is."
    assert client.get_run(run_id).info.status == "FINISHED"
    assert [file.path for file in client.list_artifacts(run_id, "figures")] == ["figures/a.txt"]
    loaded = load_trained_model(f"models:/{NAME}@challenger")
    assert loaded.model.model_version == trained.model_version
    assert loaded.run_id == run_id
    journal.close()


def test_a_model_whose_upload_broke_off_is_completed_and_not_logged_anew(
    tmp_path: Path, store: Path, trained: TrainedModel
) -> None:
    client = MlflowClient()
    experiment = client.get_experiment_by_name("test").experiment_id
    run_id = client.create_run(experiment).info.run_id
    files = tmp_path / "operation"
    files.mkdir()
    facts = write_model(trained, None, {}, files / BUNDLE)
    begun = mlflow.initialize_logged_model(
        name="model", source_run_id=run_id, tags={"pcc.bundle_digest": facts.digest}, experiment_id=experiment
    )
    journal = Journal.new(tmp_path / "kept")
    tags = {"pcc.version": trained.model_version}
    batch = Batch()
    model = Model(
        run_id=run_id, experiment_id=experiment, facts=facts, batch=batch, name=NAME, alias="challenger", tags=tags
    )
    journal.keep(model, files)
    _, registered = journal.carry_out(journal.entries[0])
    journal.close()
    assert registered is not None
    assert registered.model_uri == f"models:/{begun.model_id}"
    assert [logged.model_id for logged in client.search_logged_models([experiment])] == [begun.model_id]
    assert load_trained_model(registered.model_uri).run_id == run_id
    assert client.get_run(run_id).info.status == "RUNNING", "its end is an operation of its own"


def answered(status: int) -> requests.HTTPError:
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError("x", response=response)


class BadGatewayError(Exception):
    code = 502


BadGatewayError.__module__ = "google.api_core.exceptions"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (MlflowException("API request to http://x failed with exception Connection refused"), 503),
        (MlflowException("API request to http://x failed with timeout exception 120"), 503),
        (MlflowException("API request to endpoint /a failed with error code 401 != 200. Response body: ''"), 401),
        (MlflowException("… failed with exception Max retries exceeded (too many 503 error responses)"), 503),
        (RestException({"error_code": "INVALID_PARAMETER_VALUE", "message": "m"}), 400),
        (RestException({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "m"}), 404),
        (RestException({"error_code": "TEMPORARILY_UNAVAILABLE", "message": "m"}), 503),
        (RestException({"error_code": "PERMISSION_DENIED", "message": "m"}), 403),
        (answered(500), 500),
        (answered(429), 429),
        (answered(404), 404),
        (ConnectionRefusedError(), 503),
        (BadGatewayError(), 502),
        (ValueError("m"), None),
        (DataError("m"), None),
    ],
)
def test_outages_are_told_from_refusals(error: Exception, status: int | None) -> None:
    assert status_of(error) == status
    assert is_outage(error) is (status in (401, 403, 429) or (status or 0) >= 500)
    assert is_account(error) is (status in (401, 403))


def test_our_own_error_is_what_it_came_from() -> None:
    def fail(cause: Exception) -> None:
        raise TrackingError("m") from cause

    for cause, outage in ((answered(503), True), (answered(404), False)):
        with pytest.raises(TrackingError) as caught:
            fail(cause)
        assert is_outage(caught.value) is outage


def test_a_call_has_a_deadline_and_hands_on_what_it_gives_and_raises() -> None:
    import threading

    never = threading.Event()
    with pytest.raises(TimeoutError, match=r"0\.1 s"):
        within(0.1, never.wait)
    never.set()
    assert within(60, lambda: 3) == 3

    def fail() -> Any:
        raise DataError("mine")

    with pytest.raises(DataError, match="mine"):
        within(60, fail)


def test_a_run_that_was_swept_and_is_resumed_is_finished_after_all(mlflow_store: Path) -> None:
    client = MlflowClient()
    swept = client.create_run("0", tags={"pcc.error": "its process ended without closing it"}).info.run_id
    failed = client.create_run("0", tags={"pcc.error": "DataError: no"}).info.run_id
    for run_id in (swept, failed):
        client.set_terminated(run_id, "KILLED")
        for again in (False, True):
            carry_out(End(run_id=run_id, status="FINISHED"), Path("none"), again=again)
        assert client.get_run(run_id).info.status == "FINISHED"
    assert "pcc.error" not in client.get_run(swept).data.tags
    assert client.get_run(failed).data.tags["pcc.error"] == "DataError: no"


def test_of_two_runs_made_by_one_request_one_stays(mlflow_store: Path) -> None:
    """As when a server answers too late, and the request was sent again."""
    client = MlflowClient()
    first, second = (client.create_run("0", start, {"pcc.key": "k"}).info.run_id for start in (1000, 2000))
    assert run_of_key(client, "0", "k").info.run_id == first
    assert run_of_key(client, "0", "other") is None
    assert [run.info.run_id for run in client.search_runs(["0"])] == [first]
    assert client.get_run(second).info.status == "KILLED"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MlflowException("API request to http://user:secret@host/a failed: b\nSQL: INSERT …"), "http://host/a failed"),
        (MlflowException("no host cret at postgresql://me:se/secret@h"), "no host cret at postgresql://me:***@h"),
        (ConnectionRefusedError(111, "Connection refused"), "Connection refused"),
        (KeyError(), "KeyError"),
    ],
)
def test_a_reason_is_one_line_without_an_account(error: Exception, said: str) -> None:
    assert said in reason_of(error)
    assert "secret" not in reason_of(error)
    assert "\n" not in reason_of(error)


def test_a_databases_own_words_are_the_reason(tmp_path: Path) -> None:
    def ask() -> None:
        with sqlalchemy.create_engine(f"sqlite:///{tmp_path}/a.db").connect() as connection:
            connection.execute(sqlalchemy.text("SELECT * FROM absent WHERE word = :word"), {"word": "Tutanchamun"})

    def wrapped() -> None:
        try:
            ask()
        except sqlalchemy.exc.SQLAlchemyError as error:
            raise MlflowException(f"(raised as a result of autoflush)\n{error}") from error

    with pytest.raises(MlflowException) as caught:
        wrapped()
    assert reason_of(caught.value) == "no such table: absent"


def test_an_artifact_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrackingError, match=r"(?s)takes no file.*file/artifacts.*may be written"):
        demand_artifacts(str(tmp_path / "file" / "artifacts"))
    demand_artifacts(str(tmp_path / "artifacts"))
    assert list((tmp_path / "artifacts").iterdir()) == []


@pytest.fixture
def sealing(monkeypatch: pytest.MonkeyPatch) -> SealKey:
    key = SealKey("0e0e0e0e", b"1" * 32)
    monkeypatch.setattr(seal_keys, "_keys", lambda: [key])
    return key


def test_a_sealed_journal_shows_nothing_and_is_logged_as_another(
    tmp_path: Path, mlflow_store: Path, sealing: SealKey, mark: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = MlflowClient().create_run("0").info.run_id
    files = tmp_path / "operation"
    (files / FILES / "deep").mkdir(parents=True)
    (files / FILES / "deep" / "a.txt").write_text(mark)
    journal = Journal.new(tmp_path / "kept", sealed=True)
    journal.keep(entry(mark, run_id), files)
    journal.keep(End(run_id=run_id, status="FINISHED"), None)
    journal.close()
    assert not files.exists()
    assert not any(mark.encode() in path.read_bytes() for path in (tmp_path / "kept").rglob("*") if path.is_file())
    (folder,) = left_behind(tmp_path / "kept")
    monkeypatch.setattr(seal_keys, "_keys", tuple)
    stays = catch_up(tmp_path / "kept")
    assert "encrypted by the key 0e0e0e0e, which is not here" in stays.faults[0]
    monkeypatch.setattr(seal_keys, "_keys", lambda: [sealing])
    document = folder / "000001" / "operation.json"
    content = document.read_bytes()
    document.write_bytes(content[:-1])
    assert "changed or cut off" in catch_up(tmp_path / "kept").faults[0]
    document.write_bytes(content)
    assert catch_up(tmp_path / "kept").counts == {"log": 1, "end": 1}
    run = MlflowClient().get_run(run_id)
    assert (run.data.params, run.info.status) == ({"text": mark}, "FINISHED")
    assert Path(MlflowClient().download_artifacts(run_id, "deep/a.txt", str(tmp_path))).read_text() == mark
    assert not (tmp_path / "kept").exists()


def test_a_sealed_journal_whose_process_is_killed_shows_nothing_either(
    tmp_path: Path, sealing: SealKey, mark: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = tmp_path / "operation"
    (files / FILES).mkdir(parents=True)
    for name in ("a", "b"):
        (files / FILES / name).write_text(mark)
    child = os.fork()
    if not child:
        seal = streams.seal

        def killed(source: Path, target: Path) -> None:
            if source.name == "b":
                os.kill(os.getpid(), signal.SIGKILL)
            seal(source, target)

        monkeypatch.setattr(streams, "seal", killed)
        journal = Journal.new(tmp_path / "kept", sealed=True)
        journal.keep(entry(mark), None)
        journal.keep(entry(mark), files)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    kept = [path for path in (tmp_path / "kept").rglob("*") if path.is_file()]
    assert any(path.name == "a" for path in kept)
    assert not any(mark.encode() in path.read_bytes() for path in kept)
    (folder,) = left_behind(tmp_path / "kept")
    journal = adopt(folder)
    assert journal is not None
    assert [path.name for path in journal.entries] == ["000001"]
    journal.close()
