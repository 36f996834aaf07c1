"""One at a time over all machines that share a tracking server, by tags of a registered model.

MLflow has no lock and no compare-and-swap, but Lamport's bakery needs none: who comes writes a tag of their own, takes
a number above all that are there, and has the turn when no smaller one is left (L. Lamport, "A new solution of
Dijkstra's concurrent programming problem", CACM 17(8), 1974). Whoever may promote may set and delete these tags; nobody
who may only read can.

A process that is in the queue beats: it counts up in a second tag of its own. Who waits takes another to be dead once
nothing of it has changed for `STALE_SECONDS` of the waiter's own time, and takes its tags away. So no two clocks are
compared. Only a process's first tag gives it its place, and none writes that one again, so a process that was taken for
dead finds it gone when it wakes up (`Turn.check`).
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Thread

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from pcc_pipeline import interruption
from pcc_pipeline.errors import TrackingError
from pcc_pipeline.tracking.delivery.heartbeat import server_now
from pcc_pipeline.tracking.delivery.outages import ask, is_server
from pcc_pipeline.tracking.registry.versions import asking
from pcc_pipeline.tracking.store.paging import pages, quoted
from pcc_pipeline.waiting import jittered

TICKET_TAG, BEAT_TAG = "pcc.turn.", "pcc.turn_beat."


class BusyError(TrackingError):
    """Another process has the turn, and is alive."""


@dataclass(frozen=True)
class Queue:
    """One of the queues of a registered model.

    Attributes:
        what: what is done by turns, as a message says it.
        wait: for how many seconds a process waits for those before it.
    """

    what: str
    ticket: str
    beat: str
    wait: float


PROMOTION = Queue("promotion", TICKET_TAG, BEAT_TAG, 300.0)
# Longer than it takes to know that another is dead; who is alive may train for hours.
RETRAINING = Queue("retraining", "pcc.retrain_turn.", "pcc.retrain_beat.", 90.0)
# Who erases trains again for it; another waits for that.
ERASING = Queue("erasure", "pcc.erase_turn.", "pcc.erase_beat.", 6 * 3600.0)
STALE_SECONDS = 60.0
# A beat that is later than this costs the process its turn, long before another takes it away.
_LATE_SECONDS, _BEAT_SECONDS = 30.0, 5.0
# What a waiter did not look at for this long, such as in an outage, it knows nothing about.
_LOOKED_AWAY_SECONDS = 15.0

logger = logging.getLogger(__name__)


class Turn:
    """A process's place in the queue of a registered model."""

    def __init__(self, name: str, who: str, queue: Queue) -> None:
        self._name, self._who, self._place = name, who, queue
        self._client = MlflowClient()
        self._server = is_server(mlflow.get_tracking_uri())
        self._id = uuid.uuid4().hex
        self._count, self._confirmed, self._late = 0, _clock(), False
        self._ended = Event()
        self._thread = Thread(target=self._beat_on, daemon=True, name="pcc-turn")

    def check(self) -> None:
        """Whether the turn is still this process's: to be asked right before each thing that only one may do.

        Raises:
            TrackingError: it is not, or that cannot be said.
        """
        self._late |= _clock() - self._confirmed > _LATE_SECONDS
        with asking(f"registered model {self._name}"):
            if self._late or self._id not in self._tickets(self._tags()):
                raise TrackingError(
                    "this process stood still, or was cut off from MLflow, and has lost its turn to another "
                    f"{self._place.what}",
                    where=f"registered model {self._name}",
                    fix="look which version is champion now, and do it again if it is not the right one",
                )

    def take(self) -> None:
        """Wait for the turn.

        Raises:
            TrackingError: others had it for minutes, or MLflow does not answer.
        """
        self._tags()  # the first call opens the store, which may take long
        deadline = time.monotonic() + self._place.wait
        while not self._queue():
            self._leave()
        self._thread.start()
        watch = _Watch()
        while ahead := self._ahead(tags := self._tags()):
            for dead in watch.unchanged(
                {
                    holder: (tags[self._place.ticket + holder], tags.get(self._place.beat + holder, ""))
                    for holder in ahead
                }
            ):
                logger.warning(
                    "a %s of %s did not end: its place in the queue is taken away", self._place.what, self._name
                )
                self._remove(dead)
            if time.monotonic() > deadline:
                first = min(ahead, key=lambda holder: _order(holder, tags[self._place.ticket + holder]))
                who = tags[self._place.ticket + first].partition(" ")[2]
                raise BusyError(
                    f"another {self._place.what} has held the registry for minutes{f', of {who}' if who else ''}",
                    where=f"registered model {self._name}, tag {self._place.ticket}{first}",
                    fix="wait for it, or end its process; one that is gone is passed by itself after a minute",
                )
            interruption.sleep(jittered(0.3 * min(len(ahead), 10)))  # the nearer, the more often
        beat = self._place.beat
        gone = {name.removeprefix(beat) for name in tags if name.startswith(beat)} - {*self._tickets(tags)}
        for holder in gone:
            self._remove(holder)  # of one that beat once more when it had been taken for dead

    def leave(self) -> None:
        """Give the turn, or the place in the queue, back."""
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join(_LATE_SECONDS)
        self._leave()

    def _queue(self) -> bool:
        """Take a number; False where that took so long that others may have looked at the queue without it."""
        began = _clock()
        ticket = self._place.ticket + self._id
        self._client.set_registered_model_tag(self._name, ticket, f"0 {self._who}")  # 0: about to take a number
        self._confirmed = began
        highest = max((_number(value) for value in self._tickets(self._tags()).values()), default=0)
        self._client.set_registered_model_tag(self._name, ticket, f"{highest + 1} {self._who}")
        return _clock() - began < _LATE_SECONDS

    def _ahead(self, tags: Mapping[str, str]) -> list[str]:
        tickets = self._tickets(tags)
        if self._id not in tickets:
            raise TrackingError(
                "this process stood still, or was cut off from MLflow, and has lost its place in the queue",
                where=f"registered model {self._name}",
                fix="do it again",
            )
        own = _order(self._id, tickets[self._id])
        return [holder for holder, value in tickets.items() if holder != self._id and _order(holder, value) < own]

    def _tickets(self, tags: Mapping[str, str]) -> dict[str, str]:
        ticket = self._place.ticket
        return {name.removeprefix(ticket): value for name, value in tags.items() if name.startswith(ticket)}

    def _tags(self) -> dict[str, str]:
        return dict(self._client.get_registered_model(self._name).tags)

    def _leave(self) -> None:
        self._remove(self._id)
        self._id = uuid.uuid4().hex

    def _remove(self, holder: str) -> None:
        for tag in (self._place.ticket, self._place.beat):
            self._client.delete_registered_model_tag(self._name, tag + holder)

    def _beat_on(self) -> None:
        while not self._ended.wait(_BEAT_SECONDS):
            try:
                self._beat()
            except (MlflowException, SQLAlchemyError, OSError) as error:
                logger.debug("no beat of the turn: %s", type(error).__name__)

    def _beat(self) -> None:
        now, tag = _clock(), self._place.beat + self._id
        self._count += 1
        if self._server:
            document = {"name": self._name, "key": tag, "value": str(self._count)}
            answer = ask("/api/2.0/mlflow/registered-models/set-tag", "POST", timeout=_BEAT_SECONDS, json=document)
            if answer.status_code != 200:
                raise MlflowException(f"beat refused: {answer.status_code}")
        else:
            self._client.set_registered_model_tag(self._name, tag, str(self._count))
        # Once late is lost: another may be about to take the turn away, whom this beat no longer reaches.
        self._late |= now - self._confirmed > _LATE_SECONDS
        self._confirmed = now  # when it was sent: it cannot have been written before


@contextmanager
def turn(name: str, who: str, queue: Queue | None = None) -> Iterator[Turn]:
    """The only turn at a registered model, for the block; `who` is named to those who wait in vain.

    Args:
        queue: None is that of promotions; those who are in another do not wait for each other.

    Raises:
        BusyError: others had it for longer than the queue waits.
        TrackingError: MLflow does not answer.
    """
    place = Turn(name, who, queue or PROMOTION)
    # From a signal's point of view all that is done here is one act: it comes before, or after it.
    with interruption.protected():
        try:
            with asking(f"registered model {name}"):
                place.take()
                _remove_old_locks(name)
            interruption.check()
            yield place
        finally:
            try:
                place.leave()
            except (MlflowException, SQLAlchemyError, OSError) as error:
                logger.warning("the turn at %s stays taken for a minute: %s", name, type(error).__name__)


class _Watch:
    """What has not changed for how long, by this process's own clock."""

    def __init__(self) -> None:
        self._since: dict[str, tuple[tuple[str, str], float]] = {}
        self._looked = _clock()

    def unchanged(self, states: Mapping[str, tuple[str, str]]) -> list[str]:
        """Those of `states` that have been the same for `STALE_SECONDS`."""
        now = _clock()
        if now - self._looked > _LOOKED_AWAY_SECONDS:
            self._since.clear()
        self._looked = now
        for holder, state in states.items():
            if holder not in self._since or self._since[holder][0] != state:
                self._since[holder] = (state, now)
        return [holder for holder in states if now - self._since[holder][1] >= STALE_SECONDS]


def _number(ticket: str) -> int:
    number = ticket.partition(" ")[0]
    return int(number) if number.isdecimal() else 0


def _order(holder: str, ticket: str) -> tuple[int, str]:
    """Who is about to take a number may get any: the others wait for that."""
    return _number(ticket), holder


def _clock() -> float:
    """Seconds that pass while the machine sleeps, too, where the system tells them."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def _remove_old_locks(name: str) -> None:
    """Remove what earlier versions of this program locked by: registered models, of which dead processes left some."""
    client = MlflowClient()
    form = re.compile(re.escape(name) + r"\.promoting(?:\.stale-[0-9a-f]{32})?")
    locks = list(pages(client.search_registered_models, f"name LIKE {quoted(f'{name}.promoting%')}"))
    for model in locks:
        made = float(model.creation_timestamp or 0) / 1000
        if form.fullmatch(model.name) and "pcc.lock" in model.tags and server_now() - made > STALE_SECONDS:
            try:
                client.delete_registered_model(model.name)
            except MlflowException as error:  # another's, or gone meanwhile
                logger.info("%s, a lock of an earlier version, stays: %s", model.name, error.error_code)
