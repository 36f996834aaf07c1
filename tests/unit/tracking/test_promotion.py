"""One champion, one previous, and a count without gaps, however many promote at once and whoever dies."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from pcc_pipeline.errors import TrackingError
from pcc_pipeline.tracking import promotion, registry
from pcc_pipeline.tracking.models import TrainedModel, log_trained_model

NAME = "promoted"


@pytest.fixture
def versions(store: Path, trained: TrainedModel) -> list[str]:
    """Numbers of three registered versions."""
    numbers = []
    for place in range(3):
        with mlflow.start_run() as run:
            logged = log_trained_model(trained, None, {})
            tags = {"pcc.version": f"v20260101_00000{place}"}
            numbers.append(registry.register(logged.model_uri, NAME, run.info.run_id, tags))
    return numbers


def alias(name: str) -> str | None:
    found = registry.find_alias(NAME, name)
    return None if found is None else found.version


def locks() -> list[str]:
    return [model.name for model in MlflowClient().search_registered_models() if "promoting" in model.name]


def test_the_champion_before_becomes_previous(versions: list[str]) -> None:
    first = promotion.promote(NAME, versions[0], {"pcc.moved_by": "ada"})
    second = promotion.promote(NAME, versions[1], {"pcc.moved_by": "bob"})
    assert (first.number, first.before, first.after) == (1, None, versions[0])
    assert (second.number, second.before, second.after) == (2, versions[0], versions[1])
    assert (alias("champion"), alias("previous")) == (versions[1], versions[0])
    tags = [dict(MlflowClient().get_model_version(NAME, number).tags) for number in versions[:2]]
    assert [each["pcc.state"] for each in tags] == ["previous", "champion"]
    assert {each["pcc.moved_by"] for each in tags} == {"bob"}
    assert locks() == []


def test_promoting_the_champion_again_keeps_the_way_back(versions: list[str]) -> None:
    for number in (versions[0], versions[1], versions[1]):
        promotion.promote(NAME, number, {})
    assert (alias("champion"), alias("previous")) == (versions[1], versions[0])
    assert MlflowClient().get_model_version(NAME, versions[1]).tags["pcc.state"] == "champion"


def test_a_rollback_and_a_second_one_swap_the_two(versions: list[str]) -> None:
    for number in versions[:2]:
        promotion.promote(NAME, number, {})
    assert promotion.roll_back(NAME, {}).after == versions[0]
    assert (alias("champion"), alias("previous")) == (versions[0], versions[1])
    assert promotion.roll_back(NAME, {}).number == 4
    assert (alias("champion"), alias("previous")) == (versions[1], versions[0])


def test_with_nothing_to_go_back_to_a_rollback_says_so(versions: list[str]) -> None:
    promotion.promote(NAME, versions[0], {})
    with pytest.raises(TrackingError, match="there is no previous champion to go back to"):
        promotion.roll_back(NAME, {})
    assert alias("champion") == versions[0]
    assert locks() == []


def test_a_version_that_is_not_there_changes_nothing(versions: list[str]) -> None:
    promotion.promote(NAME, versions[0], {})
    with pytest.raises(TrackingError, match="99"):
        promotion.promote(NAME, "99", {})
    assert (alias("champion"), alias("previous")) == (versions[0], None)
    assert locks() == []


def test_the_lock_of_a_dead_process_is_taken_over(versions: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A process is killed while it holds the lock; the next promotion waits until the lock is stale, then works."""
    process = _context().Process(target=_hold_the_lock, args=(mlflow.get_tracking_uri(),))
    process.start()
    deadline = time.monotonic() + 60
    while not locks() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert locks() == [f"{NAME}.promoting"]
    monkeypatch.setattr(promotion, "STALE_SECONDS", 1.0)
    assert promotion.promote(NAME, versions[0], {}).number == 1
    assert locks() == []


def test_a_lock_that_is_held_is_waited_for_and_then_named(versions: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    MlflowClient().create_registered_model(f"{NAME}.promoting")
    monkeypatch.setattr(promotion, "_WAIT_SECONDS", 0.5)
    with pytest.raises(TrackingError, match="another promotion has held the registry"):
        promotion.promote(NAME, versions[0], {})
    assert alias("champion") is None


@pytest.mark.pipeline
def test_twenty_processes_at_once_leave_one_champion_and_no_gap(versions: list[str]) -> None:
    context = _context()
    results = context.Queue()
    address = mlflow.get_tracking_uri()
    processes = [context.Process(target=_promote, args=(address, versions[place % 3], results)) for place in range(20)]
    for process in processes:
        process.start()
    moves = sorted(results.get(timeout=240) for _ in processes)
    for process in processes:
        process.join()
    assert [number for number, _, _ in moves] == list(range(1, 21))
    # Each move starts from where the one before ended.
    assert [before for _, before, _ in moves] == [None, *(after for _, _, after in moves[:-1])]
    assert alias("champion") == moves[-1][2]
    assert alias("previous") not in (None, alias("champion"))
    assert locks() == []


def _context() -> multiprocessing.context.ForkServerContext:
    # Forked from a server that has imported MLflow and opened nothing, so that twenty do not import it twenty times.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mlflow", "pcc_pipeline.tracking.promotion"])
    return context


def _promote(address: str, version: str, results: multiprocessing.Queue[tuple[int, str | None, str]]) -> None:
    mlflow.set_tracking_uri(address)
    move = promotion.promote(NAME, version, {})
    results.put((move.number, move.before, move.after))


def _hold_the_lock(address: str) -> None:
    mlflow.set_tracking_uri(address)
    with promotion._only_promotion(NAME):
        time.sleep(600)
