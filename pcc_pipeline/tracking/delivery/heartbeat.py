"""Which runs are alive: an outermost run beats while its process lives, and the next start closes those that are dead.

`pcc.heartbeat` is the time of the last beat, in seconds since 1970 by the server's clock where a server tells it, so
that machines' clocks need not agree. `pcc.process` names the process, so that on its own machine a killed one is known
at once.
"""

from __future__ import annotations

import logging
import time
from email.utils import parsedate_to_datetime
from threading import Event, Thread

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run, RunTag, ViewType
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from pcc_pipeline.processes import process_lives, process_mark
from pcc_pipeline.tracking.delivery.outages import ask, is_server
from pcc_pipeline.tracking.store.paging import pages
from pcc_pipeline.waiting import jittered

BEAT_TAG, PROCESS_TAG, ERROR_TAG = "pcc.heartbeat", "pcc.process", "pcc.error"
SWEPT = "its process ended without closing it"
# Ten beats missed: a run whose server was away beats again within `_AGAIN_SECONDS` of its return.
STALE_SECONDS = 300.0
_BEAT_SECONDS, _AGAIN_SECONDS = 30.0, 10.0

logger = logging.getLogger(__name__)


def server_now() -> float:
    """Seconds since 1970 by the tracking server's clock; by this machine's where there is no server or it is away."""
    if is_server(mlflow.get_tracking_uri()):
        try:
            date = ask("/health").headers.get("Date")
            if date:
                return parsedate_to_datetime(date).timestamp()
        except (MlflowException, ValueError):
            logger.debug("the server does not tell its time")
    return time.time()


def first_tags(now: float) -> dict[str, str]:
    """The tags of an outermost run that starts now."""
    return {BEAT_TAG: f"{now:.0f}", **({PROCESS_TAG: mark} if (mark := process_mark()) else {})}


class Heartbeat:
    """Beats for one run from a thread of its own until `stop`; a server that is away is tried again.

    Args:
        offset: seconds that the server's clock is ahead of this machine's.
    """

    def __init__(self, run_id: str, offset: float) -> None:
        self._run_id, self._offset = run_id, offset
        self._client = MlflowClient()
        self._server = is_server(mlflow.get_tracking_uri())
        self._ended = Event()
        self._thread = Thread(target=self._work, daemon=True, name="pcc-heartbeat")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join(_AGAIN_SECONDS)

    def _work(self) -> None:
        wait, missed = _BEAT_SECONDS, False
        while not self._ended.wait(wait):
            try:
                self._beat()
                if missed:
                    revive(self._client, self._run_id)
            except (MlflowException, SQLAlchemyError, OSError) as error:
                logger.debug("no heartbeat: %s", type(error).__name__)
                wait, missed = jittered(_AGAIN_SECONDS), True
            else:
                wait, missed = _BEAT_SECONDS, False

    def _beat(self) -> None:
        value = f"{time.time() + self._offset:.0f}"
        if not self._server:
            self._client.set_tag(self._run_id, BEAT_TAG, value)
            return
        document = {"run_id": self._run_id, "key": BEAT_TAG, "value": value}
        answer = ask("/api/2.0/mlflow/runs/set-tag", "POST", json=document)
        if answer.status_code != 200:
            raise MlflowException(f"heartbeat refused: {answer.status_code}")


def revive(client: MlflowClient, run_id: str) -> None:
    """Take back what a sweep did to a run that lives: its server was away for longer than `STALE_SECONDS`."""
    run = client.get_run(run_id)
    for one in [run, *_children(client, run)]:
        if one.info.status == "KILLED" and one.data.tags.get(ERROR_TAG) == SWEPT:
            client.delete_tag(one.info.run_id, ERROR_TAG)
            client.update_run(one.info.run_id, status="RUNNING")


def sweep(experiment_id: str, now: float) -> list[str]:
    """Close the runs of an experiment whose process is gone as KILLED, with the runs within them.

    Gone is a process of this machine that is no more, or one that has not beaten for `STALE_SECONDS`. A run without a
    heartbeat, made by something else, is left alone.

    Returns their ids.
    """
    client = MlflowClient()
    condition = f"attributes.status = 'RUNNING' AND tags.`{BEAT_TAG}` LIKE '%'"
    swept = []
    for run in list(pages(client.search_runs, [experiment_id], condition, ViewType.ACTIVE_ONLY)):
        if not _is_dead(run, now):
            continue
        # A beat may have come since the search.
        if not _is_dead(client.get_run(run.info.run_id), now):
            continue
        for one in [*_children(client, run), run]:
            if one.info.status == "RUNNING":
                client.log_batch(one.info.run_id, tags=[RunTag(ERROR_TAG, SWEPT)])
                client.set_terminated(one.info.run_id, "KILLED")
                swept.append(one.info.run_id)
        logger.warning("closed the run %s as KILLED: %s", run.info.run_id, SWEPT)
    return swept


def may_live(run_id: str) -> bool:
    """Whether a run may be at work: it has not ended, nor has the outermost run around it lost its process.

    Of a run without a heartbeat, made by something else, nobody can tell, and it counts for none.

    Raises:
        MlflowException: MLflow does not answer.
    """
    client, around = MlflowClient(), run_id
    while around:
        run = client.get_run(around)
        if run.info.status != "RUNNING":
            return False
        if BEAT_TAG in run.data.tags:
            return not _is_dead(run, server_now())
        around = run.data.tags.get("mlflow.parentRunId", "")
    return False


def _is_dead(run: Run, now: float) -> bool:
    tags = run.data.tags
    alive = process_lives(tags.get(PROCESS_TAG, ""))
    if run.info.status != "RUNNING" or alive:
        return False
    beat = tags.get(BEAT_TAG, "")
    return alive is False or (beat.isdecimal() and now - int(beat) > STALE_SECONDS)


def _children(client: MlflowClient, parent: Run) -> list[Run]:
    children: list[Run] = []
    waiting = [parent.info.run_id]
    while waiting:
        condition = f"tags.`mlflow.parentRunId` = '{waiting.pop()}' AND attributes.status != 'FINISHED'"
        inner = list(pages(client.search_runs, [parent.info.experiment_id], condition))
        children += inner
        waiting += [run.info.run_id for run in inner]
    return children
