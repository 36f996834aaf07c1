"""Which open runs belong to the dead: known by process on this machine, by heartbeat elsewhere; never the living."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from pcc_pipeline.processes import process_lives, process_mark
from pcc_pipeline.tracking.delivery.heartbeat import (
    BEAT_TAG,
    ERROR_TAG,
    PROCESS_TAG,
    STALE_SECONDS,
    SWEPT,
    Heartbeat,
    may_live,
    revive,
    sweep,
)
from pcc_pipeline.tracking.runs import step_run

ELSEWHERE = "0f0f0f0f-0000-0000-0000-000000000000/4026531836/17/4711"


@pytest.fixture
def experiment(mlflow_store: Path) -> str:
    return MlflowClient().create_experiment("e")


def opened(experiment: str, **tags: str) -> str:
    named = {name.replace("_", ".", 1): value for name, value in tags.items()}
    return MlflowClient().create_run(experiment, tags=named).info.run_id


def status(run_id: str) -> str:
    return str(MlflowClient().get_run(run_id).info.status)


def test_a_process_knows_itself_and_one_that_ended() -> None:
    assert process_lives(process_mark()) is True
    command = [sys.executable, "-c", "from pcc_pipeline.processes import process_mark; print(process_mark())"]
    mark = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout.strip()
    assert mark.count("/") == 3
    assert process_lives(mark) is False


def test_a_number_used_again_is_another_process() -> None:
    boot, space, number, started = process_mark().split("/")
    assert process_lives(f"{boot}/{space}/{number}/{int(started) - 1}") is False


@pytest.mark.parametrize("mark", [ELSEWHERE, ""])
def test_nothing_is_known_of_other_machines_processes(mark: str) -> None:
    assert process_lives(mark) is None


def test_stale_runs_of_others_are_closed_and_living_ones_are_not(experiment: str) -> None:
    now = time.time()
    stale = opened(experiment, pcc_heartbeat=f"{now - STALE_SECONDS - 1:.0f}", pcc_process=ELSEWHERE)
    fresh = opened(experiment, pcc_heartbeat=f"{now - STALE_SECONDS + 30:.0f}", pcc_process=ELSEWHERE)
    slow = opened(experiment, pcc_heartbeat=f"{now - 9999:.0f}", pcc_process=process_mark())
    strange = opened(experiment, pcc_step="train")
    spoiled = opened(experiment, pcc_heartbeat="yesterday")
    assert sweep(experiment, now) == [stale]
    assert status(stale) == "KILLED"
    assert MlflowClient().get_run(stale).data.tags[ERROR_TAG] == SWEPT
    assert {status(run) for run in (fresh, slow, strange, spoiled)} == {"RUNNING"}


def test_runs_within_a_dead_one_are_closed_with_it(experiment: str) -> None:
    client = MlflowClient()
    root = opened(experiment, pcc_heartbeat="1000", pcc_process=ELSEWHERE)
    inner = client.create_run(experiment, tags={"mlflow.parentRunId": root}).info.run_id
    trial = client.create_run(experiment, tags={"mlflow.parentRunId": inner}).info.run_id
    done = client.create_run(experiment, tags={"mlflow.parentRunId": inner}).info.run_id
    client.set_terminated(done)
    assert set(sweep(experiment, time.time())) == {root, inner, trial}
    assert [status(run) for run in (root, inner, trial, done)] == ["KILLED", "KILLED", "KILLED", "FINISHED"]


def test_whether_a_run_may_be_at_work_says_the_outermost_one_around_it(experiment: str) -> None:
    now = str(round(time.time()))
    beating = opened(experiment, pcc_heartbeat=now, pcc_process=ELSEWHERE)
    stale = opened(experiment, pcc_heartbeat=str(round(time.time() - STALE_SECONDS - 60)), pcc_process=ELSEWHERE)
    boot, space, number, started = process_mark().split("/")
    dead = opened(experiment, pcc_heartbeat=now, pcc_process=f"{boot}/{space}/{number}/{int(started) - 1}")
    for outer, lives in ((beating, True), (stale, False), (dead, False), (opened(experiment), False)):
        inner = MlflowClient().create_run(experiment, tags={"mlflow.parentRunId": outer}).info.run_id
        assert (may_live(outer), may_live(inner)) == (lives, lives)
        MlflowClient().set_terminated(outer, "KILLED")
        assert (may_live(outer), may_live(inner)) == (False, False)
        MlflowClient().set_terminated(inner)
        assert not may_live(inner)


def test_a_living_run_that_was_closed_by_mistake_is_opened_again(experiment: str) -> None:
    client = MlflowClient()
    root = opened(experiment, pcc_heartbeat="1000", pcc_process=ELSEWHERE)
    inner = client.create_run(experiment, tags={"mlflow.parentRunId": root}).info.run_id
    failed = client.create_run(experiment, tags={"mlflow.parentRunId": root, ERROR_TAG: "DataError: no"}).info.run_id
    client.set_terminated(failed, "FAILED")
    sweep(experiment, time.time())
    revive(client, root)
    assert [status(run) for run in (root, inner, failed)] == ["RUNNING", "RUNNING", "FAILED"]
    assert ERROR_TAG not in client.get_run(root).data.tags


def test_an_outermost_run_says_from_its_start_whose_it_is(mlflow_store: Path) -> None:
    with step_run("pipeline") as outer, step_run("train") as inner:
        tags = MlflowClient().get_run(outer.run_id).data.tags
        assert abs(int(tags[BEAT_TAG]) - time.time()) < 60
        assert tags[PROCESS_TAG] == process_mark()
        assert BEAT_TAG not in MlflowClient().get_run(inner.run_id).data.tags


def test_a_heart_beats_by_the_servers_clock_and_stops(experiment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pcc_pipeline.tracking.delivery.heartbeat._BEAT_SECONDS", 0.05)
    run = opened(experiment)
    beat = Heartbeat(run, offset=1000.0)
    beat.start()
    deadline = time.monotonic() + 60
    while BEAT_TAG not in MlflowClient().get_run(run).data.tags:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    beat.stop()
    assert int(MlflowClient().get_run(run).data.tags[BEAT_TAG]) > time.time() + 900
    assert not beat._thread.is_alive()


def test_the_next_start_closes_what_a_killed_process_left(mlflow_store: Path) -> None:
    """And leaves alone what a living one is at."""
    code = (
        "import time\nfrom pcc_pipeline.tracking.runs import step_run\n"
        "with step_run('pipeline') as a, step_run('train') as b:\n"
        "    print(a.run_id, b.run_id, flush=True)\n    time.sleep(300)\n"
    )
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{mlflow_store}/mlflow.db"}
    command = [sys.executable, "-c", code]
    with (
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as dying,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as living,
    ):
        assert dying.stdout is not None
        assert living.stdout is not None
        dead, alive = dying.stdout.readline().split(), living.stdout.readline().split()
        dying.send_signal(signal.SIGKILL)
        dying.wait(timeout=60)
        with step_run("embed"):
            assert {status(run) for run in dead} == {"KILLED"}
            assert {status(run) for run in alive} == {"RUNNING"}
        living.kill()
