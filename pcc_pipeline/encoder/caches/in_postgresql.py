"""Vectors in a PostgreSQL that several machines share: a table, with a row for each text, encoder and backend.

Where vectors are removed, the table is written anew (VACUUM FULL): a row that was deleted would stand in its file on.
As with Redis, one that is away costs time and no answer; only where vectors are to be removed, it has to be there.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import date
from types import TracebackType
from typing import Any

import numpy as np

from pcc_pipeline.encoder.caches.entries import Aged, Entries, Form, forms, today
from pcc_pipeline.encoder.caches.unless_away import UnlessAway, Use, reason_of
from pcc_pipeline.errors import ConfigError, FeatureError
from pcc_pipeline.sealing.keys import all_keys

_TABLE = """
CREATE TABLE IF NOT EXISTS pcc_vectors (
    name bytea NOT NULL, sealed boolean NOT NULL, space text NOT NULL, entry bytea NOT NULL, day integer NOT NULL,
    PRIMARY KEY (name, sealed, space)
)
"""
# Of two that make it at the same time, one would fail.
_ALONE = "SELECT pg_advisory_xact_lock(hashtext('pcc_vectors'))"
_SIZE = "coalesce(sum(octet_length(name) + octet_length(entry)), 0)"
_NAMES_A_ROUND = 1000
_SECONDS_TO_CONNECT, _SECONDS_TO_ANSWER = 3, 10
# More for the answer's way. A server that stands still does not keep to its own limit either.
_SECONDS_TO_HANG_UP = _SECONDS_TO_ANSWER + 2


class PostgresCaches:
    """The caches of a PostgreSQL.

    Args:
        address: `postgresql://…`, with user and password where it asks for them; the user may make a table, or owns
            pcc_vectors.
        where: the address as a person may read it.

    Raises:
        ConfigError: the extra `postgresql` is not installed, or the address is none.
    """

    def __init__(self, address: str, where: str) -> None:
        try:
            import psycopg
            import psycopg.conninfo
        except ModuleNotFoundError as error:
            raise ConfigError(
                "preprocessing.cache needs the extra postgresql",
                where=where,
                fix="pip install -c constraints.txt -e '.[postgresql]'",
            ) from error
        plain = address.replace("postgresql+psycopg://", "postgresql://", 1)
        try:
            psycopg.conninfo.conninfo_to_dict(plain)
        except psycopg.ProgrammingError as error:
            raise ConfigError(
                "the address of the shared cache is none",  # whose words hold the password
                where=f"preprocessing.cache: {where}",
                fix="postgresql://user:password@host:5432/database",
            ) from error
        self._address, self._where = plain, where

    def open(self, space: str, width: int, *, sealed: bool) -> PostgresCache:
        """As `CachePlace`."""
        return PostgresCache(self._address, self._where, space, width, sealed=sealed)

    def count(self, keys: Collection[bytes]) -> int:
        """As `CachePlace`."""
        with self._demanded() as connection:
            rounds = list(self._rounds(connection, keys))
            query = "SELECT count(*) FROM pcc_vectors WHERE sealed = %s AND name = ANY(%s)"
            return sum(connection.execute(query, one).fetchone()[0] for one in rounds)

    def forget(self, keys: Collection[bytes] | None) -> int:
        """As `CachePlace`."""
        with self._demanded() as connection:
            if keys is None:
                removed = int(connection.execute("DELETE FROM pcc_vectors").rowcount)
            else:
                query = "DELETE FROM pcc_vectors WHERE sealed = %s AND name = ANY(%s)"
                removed = sum(connection.execute(query, one).rowcount for one in self._rounds(connection, keys))
            self._written_anew(connection)
            return removed

    def aged(self, before: date) -> list[Aged]:
        """As `CachePlace`."""
        with self._demanded() as connection:
            return self._old(connection, before)

    def forget_aged(self, before: date) -> list[Aged]:
        """As `CachePlace`."""
        with self._demanded() as connection:
            old = self._old(connection, before)
            if old:
                connection.execute("DELETE FROM pcc_vectors WHERE day < %s", (before.toordinal(),))
                self._written_anew(connection)
            return old

    def _old(self, connection: Any, before: date) -> list[Aged]:
        query = f"SELECT count(*), {_SIZE} FROM pcc_vectors WHERE day < %s"
        vectors, size = connection.execute(query, (before.toordinal(),)).fetchone()
        return [Aged(self._where, int(vectors), int(size))] if vectors else []

    def _rounds(self, connection: Any, keys: Collection[bytes]) -> Iterator[tuple[bool, list[bytes]]]:
        """`sealed` and names, as many as go into one query."""
        every = list(keys)
        yield from ((False, every[at : at + _NAMES_A_ROUND]) for at in range(0, len(every), _NAMES_A_ROUND))
        there = "SELECT EXISTS (SELECT 1 FROM pcc_vectors WHERE sealed)"
        if every and (all_keys() or connection.execute(there).fetchone()[0]):
            names = [form.name(key) for form in forms(sealed=True) for key in every]
            yield from ((True, names[at : at + _NAMES_A_ROUND]) for at in range(0, len(names), _NAMES_A_ROUND))

    @staticmethod
    def _written_anew(connection: Any) -> None:
        # Also where nothing was removed now: an earlier call may have been cut off between the two.
        warnings: list[str] = []
        connection.add_notice_handler(lambda notice: warnings.append(str(notice.message_primary)))
        connection.execute("VACUUM FULL pcc_vectors")
        if warnings:  # such as of a user who may not
            raise FeatureError(
                f"the vectors were removed, and the table could not be written anew without them: {warnings[0]}",
                where="preprocessing.cache, table pcc_vectors",
                fix="do this again as the user that owns the table, or have its owner run: VACUUM FULL pcc_vectors",
            )

    @contextmanager
    def _demanded(self) -> Iterator[Any]:
        import psycopg

        try:
            with _connected(self._address, None) as connection:
                yield connection
        except psycopg.Error as error:
            raise FeatureError(
                f"the shared cache of vectors cannot be used: {reason_of(error, self._address)}",
                where=f"preprocessing.cache: {self._where}",
                fix="start it, or mend the address, and do this again",
            ) from error


class PostgresCache(AbstractContextManager["PostgresCache"]):
    """The vectors of one encoder in a PostgreSQL; `space` names what computed them.

    Raises:
        ConfigError: they are to be sealed, and there is no key.
    """

    def __init__(self, address: str, where: str, space: str, width: int, *, sealed: bool) -> None:
        import psycopg

        self._address, self._space, self._sealed = address, space, sealed
        self._entries = Entries(width, where, sealed=sealed)
        self._connection: Any = None
        self._unless_away = UnlessAway(where, address, psycopg.Error, _is_refusal)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def get(self, keys: Sequence[bytes]) -> dict[bytes, np.ndarray]:
        """The vectors that are there, by key; a damaged entry counts as absent."""
        stored: list[tuple[Form, bytes, bytes, object]] = []

        def look() -> None:
            left = list(dict.fromkeys(keys))
            query = "SELECT name, entry FROM pcc_vectors WHERE sealed = %s AND space = %s AND name = ANY(%s)"
            for form in self._entries.forms:
                for at in range(0, len(left), _NAMES_A_ROUND):
                    key_of = {form.name(key): key for key in left[at : at + _NAMES_A_ROUND]}
                    # Binary: a bytea as text is twice as long.
                    with _hanging_up(connection := self._open()):
                        rows = connection.execute(query, (self._sealed, self._space, list(key_of)), binary=True)
                    stored.extend((form, key_of[bytes(name)], bytes(name), bytes(entry)) for name, entry in rows)
                there = {key for _, key, _, _ in stored}
                left = [key for key in left if key not in there]

        self._try(look, "reading")
        return self._entries.vectors(stored)

    def put(self, keys: Sequence[bytes], vectors: np.ndarray) -> None:
        """Keep `vectors` (len(keys), width); a vector is as old as the first that stood there."""

        def keep() -> None:
            # Sorted, so that two that put the same texts wait for each other and do not lock each other out.
            entries = sorted(dict(self._entries.of(keys, vectors)).items())
            query = (
                "INSERT INTO pcc_vectors (name, sealed, space, entry, day) "
                "SELECT name, %s, %s, entry, %s FROM unnest(%s::bytea[], %s::bytea[]) AS new (name, entry) "
                "ON CONFLICT (name, sealed, space) DO UPDATE SET entry = EXCLUDED.entry"
            )
            for at in range(0, len(entries), _NAMES_A_ROUND):
                names, blobs = zip(*entries[at : at + _NAMES_A_ROUND], strict=True)
                with _hanging_up(connection := self._open()):
                    connection.execute(query, (self._sealed, self._space, today(), list(names), list(blobs)))

        self._try(keep, "writing")

    def _try(self, work: Callable[[], None], use: Use) -> None:
        def closing() -> None:
            try:
                work()
            except BaseException:
                self._close()  # the next try is by a new connection
                raise

        self._unless_away.do(closing, use)

    def _open(self) -> Any:
        if self._connection is None:
            self._connection = _connected(self._address, _SECONDS_TO_ANSWER)
        return self._connection

    def _close(self) -> None:
        if self._connection is not None:
            with suppress(Exception):  # one that is broken is gone already
                self._connection.close()
            self._connection = None


def _is_refusal(error: Exception) -> bool:
    """Whether a PostgreSQL that works said no, and not that it ends or has no connection left."""
    state = getattr(error, "sqlstate", None)
    return state is not None and not state.startswith(("08", "57P", "53300"))


def _connected(address: str, seconds: int | None) -> Any:
    """A connection to a database that has the table; each statement is a transaction of its own.

    Args:
        seconds: in which each statement must be answered; None: however long it takes.
    """
    import psycopg

    connection = psycopg.connect(address, autocommit=True, connect_timeout=_SECONDS_TO_CONNECT)
    try:
        with _hanging_up(connection):
            if seconds is not None:
                connection.execute(f"SET statement_timeout = '{seconds}s'")
            if connection.execute("SELECT to_regclass('pcc_vectors')").fetchone() == (None,):
                with connection.transaction():
                    connection.execute(_ALONE)
                    connection.execute(_TABLE)
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def _hanging_up(connection: Any) -> Iterator[None]:
    """Within, a statement that has no answer in time ends as where the server closes the connection."""

    def hang_up() -> None:
        with suppress(Exception), socket.socket(fileno=os.dup(connection.fileno())) as line:  # or it is closed by now
            line.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(_SECONDS_TO_HANG_UP, hang_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
