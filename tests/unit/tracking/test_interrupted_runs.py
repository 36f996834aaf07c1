"""A signal at any moment of a run's dealings with MLflow: the run is closed, the database free, no alias moved late."""

from __future__ import annotations

import contextlib
import logging
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import pytest
import sqlalchemy
from mlflow import MlflowClient
from mlflow.entities import Run

from pcc_pipeline import interruption
from pcc_pipeline.config import Params
from pcc_pipeline.errors import DataError, Interrupted
from pcc_pipeline.manage.queries import Question
from pcc_pipeline.manage.resume import resume
from pcc_pipeline.steps import promote
from pcc_pipeline.tracking import payloads
from pcc_pipeline.tracking.delivery.journal import left_behind
from pcc_pipeline.tracking.logged_models.bundle import TrainedModel
from pcc_pipeline.tracking.registry import champion, versions
from pcc_pipeline.tracking.runs import Place, StepRun, step_run

pytestmark = pytest.mark.signals
NAME = "pcc-intent-classifier"


@pytest.fixture(autouse=True)
def installed(store: Path) -> Iterator[None]:
    before = {number: signal.signal(number, signal.SIG_DFL) for number in interruption.SIGNALS}
    interruption.install()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    interruption._state = interruption._State()


@contextmanager
def amid(statement: str, *numbers: signal.Signals) -> Iterator[None]:
    """The signals come at the first SQL statement that begins so, within its transaction."""
    waiting = [*numbers]

    def look(_connection: Any, _cursor: Any, sql: str, *_: Any) -> None:
        if sql.startswith(statement):
            while waiting:
                signal.raise_signal(waiting.pop(0))

    sqlalchemy.event.listen(sqlalchemy.Engine, "after_cursor_execute", look)
    try:
        yield
    finally:
        sqlalchemy.event.remove(sqlalchemy.Engine, "after_cursor_execute", look)
    assert not waiting, f"no statement began with {statement}"


def runs() -> dict[str, Run]:
    """Step -> its run, once the database is seen to be free for others."""
    with contextlib.closing(sqlite3.connect("mlflow.db", timeout=0.2, isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        database.execute("ROLLBACK")
    client = MlflowClient()
    found = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    assert mlflow.active_run() is None, "MLflow would end it as FINISHED when the process exits"
    return {run.data.tags["pcc.step"]: run for run in found}


def register(run: StepRun, model: TrainedModel) -> Any:
    return run.log_model(model, None, {}, [], Place(NAME, "challenger", {"pcc.version": model.model_version}))


def challenger() -> str | None:
    with contextlib.suppress(mlflow.MlflowException):
        return MlflowClient().get_model_version_by_alias(NAME, "challenger").run_id
    return None


def train(model: TrainedModel) -> str:
    with step_run("train") as run:
        return str(register(run, model).version)


@pytest.mark.parametrize("again", [(), (signal.SIGINT,), (signal.SIGTERM, signal.SIGHUP)])
@pytest.mark.parametrize("statement", ["INSERT INTO params", "INSERT INTO tags", "UPDATE runs"])
def test_ctrl_c_amid_a_transaction_closes_the_run_and_leaves_the_database_free(
    statement: str, again: tuple[signal.Signals, ...]
) -> None:
    def work() -> None:
        with step_run("pipeline"), step_run("train") as run:
            run.log(payloads.LoggedParams({"a": "1"}), payloads.Tags({"b": "2"}))

    with pytest.raises(Interrupted) as caught, amid(statement, signal.SIGINT, *again):
        work()
    found = runs()
    for step, run in found.items():
        ended = (run.info.status, run.data.tags.get("pcc.error"))
        assert ended in (("KILLED", "ended from outside (SIGINT)"), ("FINISHED", None)), step
        said = "is closed as KILLED" if ended[0] == "KILLED" else "had done its work and is FINISHED"
        assert f"the run {run.info.run_id} ({step}) {said}" in caught.value.__notes__
    assert found["pipeline"].info.status == "KILLED"


def test_a_signal_while_a_run_is_made_leaves_no_open_run() -> None:
    with pytest.raises(Interrupted), amid("INSERT INTO runs", signal.SIGTERM), step_run("train"):
        pytest.fail("no work begins")
    assert runs()["train"].info.status == "KILLED"


def test_a_second_signal_while_the_run_is_closed_leaves_it_killed() -> None:
    with pytest.raises(Interrupted), amid("UPDATE runs", signal.SIGINT, signal.SIGTERM), step_run("train"):
        signal.raise_signal(signal.SIGINT)
    run = runs()["train"]
    assert (run.info.status, run.data.tags["pcc.error"]) == ("KILLED", "ended from outside (SIGINT)")


def test_a_signal_while_a_failed_run_is_closed_leaves_it_failed_with_its_error() -> None:
    with pytest.raises(DataError), amid("UPDATE runs", signal.SIGTERM), step_run("train"):
        raise DataError("no rows")
    run = runs()["train"]
    assert (run.info.status, run.data.tags["pcc.error"]) == ("FAILED", "DataError: no rows")


@pytest.mark.parametrize("again", [(), (signal.SIGINT,)])
@pytest.mark.parametrize(
    ("statement", "registered"),
    [
        ("INSERT INTO logged_models", False),
        ("INSERT INTO registered_models", False),
        ("INSERT INTO model_versions", False),
        ("INSERT INTO registered_model_aliases", True),
    ],
)
def test_a_run_that_is_ended_while_its_model_is_registered_moves_nothing_or_is_done(
    whole: TrainedModel, statement: str, registered: bool, again: tuple[signal.Signals, ...]
) -> None:
    with pytest.raises(Interrupted), amid(statement, signal.SIGINT, *again):
        train(whole)
    run = runs()["train"]
    assert run.info.status == ("FINISHED" if registered else "KILLED")
    assert challenger() == (run.info.run_id if registered else None)
    assert ("pcc.error" in run.data.tags) is not registered


def test_a_run_that_is_ended_while_its_alias_moves_over_a_network_is_done(
    whole: TrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests to a server may be cut off, so that the section around the alias is the outermost one."""
    monkeypatch.setattr(versions, "is_server", lambda _uri: True)
    with pytest.raises(Interrupted), amid("INSERT INTO registered_model_aliases", signal.SIGTERM):
        train(whole)
    run = runs()["train"]
    assert (run.info.status, challenger()) == ("FINISHED", run.info.run_id)
    assert "pcc.error" not in run.data.tags


def test_after_an_interrupted_registration_the_next_training_registers_and_promotes_at_once(
    whole: TrainedModel,
) -> None:
    with pytest.raises(Interrupted), amid("INSERT INTO model_versions", signal.SIGTERM):
        train(whole)
    interruption.install()  # as in the next process
    version = train(TrainedModel(**{**whole.__dict__, "model_version": "v20260101_000002"}))
    assert champion.promote(NAME, version, {}).after == version


def test_a_promotion_is_whole_or_not_begun(whole: TrainedModel, tmp_path: Path) -> None:
    """Both aliases, the count and the lock, at whatever statement the signal comes."""
    first = train(whole)
    second = train(TrainedModel(**{**whole.__dict__, "model_version": "v20260101_000002"}))
    champion.promote(NAME, first, {})
    client = MlflowClient()
    with pytest.raises(Interrupted), amid("INSERT INTO registered_model_tags", signal.SIGINT):
        champion.promote(NAME, second, {})
    aliases = {name: str(number) for name, number in client.get_registered_model(NAME).aliases.items()}
    assert aliases == {"champion": first, "challenger": second}
    interruption.install()
    with pytest.raises(Interrupted), amid("INSERT INTO registered_model_aliases", signal.SIGINT, signal.SIGTERM):
        champion.promote(NAME, second, {})
    model = client.get_registered_model(NAME)
    aliases = {name: str(number) for name, number in model.aliases.items()}
    assert aliases == {"champion": second, "challenger": second, "previous": first}
    assert model.tags["pcc.promotions"] == "2"
    assert not [tag for tag in model.tags if tag.startswith("pcc.turn")]
    assert [one.name for one in client.search_registered_models()] == [NAME]


def test_an_ended_run_publishes_nothing_more_and_says_what_is_left_to_do(
    whole: TrainedModel,
) -> None:
    version = train(whole)
    params = Params.model_validate({"registry": {"publish": {"target": "published"}}})

    def work() -> None:
        with step_run("promote", params), interruption.protected():
            move = champion.promote(NAME, version, {})
            signal.raise_signal(signal.SIGTERM)
            with promote._moved(params, move):
                pytest.fail("published after its end")

    with pytest.raises(Interrupted) as caught:
        work()
    assert runs()["promote"].info.status == "KILLED"
    assert any("pcc models publish" in note for note in caught.value.__notes__)


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch, mlflow_store: Path) -> Iterator[Callable[[], None]]:
    """Call it, and no MLflow answers until the test ends."""
    there = mlflow.get_tracking_uri()

    def leave() -> None:
        mlflow.set_tracking_uri("http://127.0.0.1:9")

    yield leave
    mlflow.set_tracking_uri(there)


def test_what_a_killed_run_kept_is_logged_by_resume_and_moves_nothing(
    whole: TrainedModel, away: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    there = mlflow.get_tracking_uri()
    params = Params()

    def work() -> None:
        with step_run("train", params) as run:
            away()
            register(run, whole)

    class Watching(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "waiting up to" in record.msg % record.args:
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(logging.getLogger("pcc_pipeline.tracking.delivery.writer"), "handlers", [Watching()])

    with pytest.raises(Interrupted) as caught:
        work()
    assert "resume" in "".join(caught.value.__notes__)
    mlflow.set_tracking_uri(there)
    interruption.install()  # as in the next process
    assert len(left_behind(Path(params.output.unlogged_dir))) == 1
    said = resume(Question(params, None, False))
    assert "not registered" in said
    client = MlflowClient()
    run = runs()["train"]
    assert (run.info.status, run.data.tags["pcc.error"]) == ("KILLED", "ended from outside (SIGINT)")
    assert [model.source_run_id for model in client.search_logged_models([run.info.experiment_id])] == [run.info.run_id]
    assert not client.search_registered_models()
