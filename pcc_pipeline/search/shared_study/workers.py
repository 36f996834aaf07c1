"""Which runs work on a study in PostgreSQL, and the lock under which they look at it, one at a time.

A run beats: it writes the database's time into its row of a table beside Optuna's. It is dead once its process is seen
to be gone on this very machine, or once it has not beaten for `STALE_SECONDS` by the database's clock, so that no two
machines' clocks are compared. Who was cut off from the database itself knows nothing of the others' beats meanwhile,
and begins to count when it is back.

A run that was taken for dead and lives loses the candidates that it had under way, and nothing else: whatever it says
of them is refused, since they have ended already.
"""

from __future__ import annotations

import hashlib
import json
import logging
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Any, Literal

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from pcc_pipeline.processes import process_lives, process_mark
from pcc_pipeline.search.plan import Participant

STALE_SECONDS = 60.0
_BEAT_SECONDS = 5.0
# Who stands still for longer under the lock loses it, by the database's doing; none is there for nearly as long.
_LOCK_SECONDS = 60

State = Literal["searching", "waiting", "concluding"]

_TABLE = "pcc_search_workers"
_CREATE = f"""
CREATE TABLE IF NOT EXISTS {_TABLE} (
    study text NOT NULL, worker text NOT NULL, run text NOT NULL, process text NOT NULL, state text NOT NULL,
    settings text NOT NULL, beat timestamptz NOT NULL, PRIMARY KEY (study, worker)
)"""
_ENTER = f"""
INSERT INTO {_TABLE} VALUES (:study, :worker, :run, :process, 'searching', :settings, clock_timestamp())
ON CONFLICT (study, worker) DO UPDATE SET beat = clock_timestamp()
RETURNING extract(epoch FROM beat)"""
_ALL = f"""
SELECT worker, run, process, state, settings, extract(epoch FROM beat) AS beat,
       extract(epoch FROM clock_timestamp()) AS now
FROM {_TABLE} WHERE study = :study"""
_OWN = "WHERE study = :study AND worker = :worker"

logger = logging.getLogger(__name__)


def lock_key(subject: str) -> int:
    """The number of an advisory lock of PostgreSQL."""
    digest = hashlib.sha256(f"pcc_pipeline search {subject}".encode()).digest()
    return int.from_bytes(digest[:8], signed=True)


@contextmanager
def own_session(url: URL) -> Iterator[Connection]:
    """A connection whose every statement is a transaction; else it would stand in one for as long as a search lasts."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    try:
        with engine.connect() as session:
            yield session
    finally:
        engine.dispose()


@dataclass(frozen=True)
class Peer:
    """Another living run that works on the study."""

    worker: str
    run_id: str
    state: str
    settings: Mapping[str, str]


@dataclass
class Workers:
    """This run among those that work on a study; `worker` is its name there, told apart from every other."""

    url: URL
    study: str
    participant: Participant
    worker: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __post_init__(self) -> None:
        self.has_entered = False
        self._engine: Engine = create_engine(self.url, pool_size=1, max_overflow=0)
        # Since when, by the database's clock, this run has been in touch with it; None while it is not.
        self.in_touch_since: float | None = None
        self._ended = Event()
        self._thread = Thread(target=self._beat_on, daemon=True, name="pcc-study-beat")
        self.row = {
            "study": self.study,
            "worker": self.worker,
            "run": self.participant.run_id,
            "process": process_mark(),
            "settings": json.dumps(dict(self.participant.settings), sort_keys=True),
        }

    @contextmanager
    def alone(self) -> Iterator[Alone]:
        """Within, no other run looks at the study or claims a candidate: what is seen then stays so.

        Raises:
            SQLAlchemyError: the database is away, or took the lock from this process, as that stood still for long.
        """
        with self._engine.begin() as connection:
            connection.execute(text(f"SET LOCAL idle_in_transaction_session_timeout = '{_LOCK_SECONDS}s'"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": lock_key(f"claims {self.study}")})
            yield Alone(self, connection)

    def make_table(self) -> None:
        """See that the table is there; only one may do so at a time, as PostgreSQL fails those that race."""
        with self._engine.begin() as connection:
            if connection.execute(text("SELECT to_regclass(:table)"), {"table": _TABLE}).scalar() is None:
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": lock_key("workers' table")})
                connection.execute(text(_CREATE))

    def begin_to_beat(self) -> None:
        self._thread.start()

    def leave(self) -> None:
        """End the beat and give back what this run had claimed. Where the database is away, the others notice."""
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join(_BEAT_SECONDS)
        with suppress(SQLAlchemyError), self._engine.begin() as connection:
            connection.execute(text(f"DELETE FROM {_TABLE} {_OWN}"), self.row)
        self._engine.dispose()

    def _beat_on(self) -> None:
        with ExitStack() as open_now:
            session: Connection | None = None
            while not self._ended.wait(_BEAT_SECONDS):
                try:
                    session = session or open_now.enter_context(own_session(self.url))
                    beat = float(session.execute(text(_ENTER), self.row).scalar_one())
                    if self.in_touch_since is None:
                        self.in_touch_since = beat
                except SQLAlchemyError as error:
                    logger.debug("no beat in the study: %s", type(error).__name__)
                    self.in_touch_since, session = None, None
                    with suppress(SQLAlchemyError):
                        open_now.close()


@dataclass(frozen=True)
class Alone:
    """The table of a study, while this run alone looks at it."""

    workers: Workers
    connection: Connection

    def enter(self) -> None:
        """Be one of those who work on the study, from now on."""
        beat = self.connection.execute(text(_ENTER), self.workers.row).scalar_one()
        self.workers.in_touch_since, self.workers.has_entered = float(beat), True

    def _enter_again(self) -> None:
        logger.warning("this run was not heard of for so long that it was taken for dead; it goes on")
        self.connection.execute(text(_ENTER), self.workers.row)

    def peers(self) -> tuple[Peer, ...]:
        """The others that live; the rows of the dead are taken away.

        A run that was taken for dead itself enters again: what it claims from here on is its own.
        """
        rows = self.connection.execute(text(_ALL), self.workers.row).mappings().all()
        if self.workers.has_entered and all(row["worker"] != self.workers.worker for row in rows):
            self._enter_again()
        living = []
        for row in rows:
            if row["worker"] == self.workers.worker:
                continue
            if self._is_dead(row):
                logger.warning("the run %s works on the study no more: what it was trying is tried again", row["run"])
                dead = {"study": self.workers.study, "worker": row["worker"]}
                self.connection.execute(text(f"DELETE FROM {_TABLE} {_OWN}"), dead)
            else:
                living.append(Peer(row["worker"], row["run"], row["state"], json.loads(row["settings"])))
        return tuple(living)

    def _is_dead(self, row: Mapping[Any, Any]) -> bool:
        since = self.workers.in_touch_since
        silent = since is not None and float(row["now"]) - max(float(row["beat"]), since) > STALE_SECONDS
        return silent or process_lives(row["process"]) is False

    def set_state(self, state: State) -> None:
        """Say what this run does; the others go by it."""
        values = self.workers.row | {"state": state}
        self.connection.execute(text(f"UPDATE {_TABLE} SET state = :state {_OWN}"), values)

    def own_state(self) -> str | None:
        """None where this run was taken for dead and has not beaten since."""
        state = self.connection.execute(text(f"SELECT state FROM {_TABLE} {_OWN}"), self.workers.row).scalar()
        return None if state is None else str(state)

    def now(self) -> float:
        """Seconds since 1970 by the database's clock."""
        return float(self.connection.execute(text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one())

    def demand_lock(self) -> None:
        """Fails with SQLAlchemyError where the database has taken the lock away meanwhile."""
        self.connection.execute(text("SELECT 1"))
