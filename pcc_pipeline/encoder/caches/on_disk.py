"""Vectors in files of this machine: one SQLite file per encoder and backend.

Each `put` is one transaction, so an interrupted run keeps what it had finished, and several processes may share the
file. Sealed vectors stand in a file of their own. A file that is damaged as a whole is removed, and a new one begun.

Beside the vectors stands the day that each was made on, in a table of its own, so that earlier versions of this program
can use the file, too. What they put there, or put there before there were days, is as old as the table.
"""

from __future__ import annotations

import fcntl
import logging
import random
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import date
from pathlib import Path
from types import TracebackType
from typing import IO, Self, TypeVar

import numpy as np

from pcc_pipeline.encoder.caches.entries import Aged, Entries, Form, forms, today
from pcc_pipeline.errors import FeatureError
from pcc_pipeline.files import private_file, private_folder

# SQLite's default limit of bound variables was 999 for long; 500 keys a query costs nothing measurable.
_KEYS_PER_QUERY = 500
_TABLE = "vectors (key BLOB PRIMARY KEY, vector BLOB NOT NULL)"
# How the names of a cache's files end.
_PLAIN, _SEALED = ".sqlite", ".sealed.sqlite"
# Those that were made before a day.
_AGED = (
    "FROM vectors LEFT JOIN made ON made.key = vectors.key "
    "WHERE coalesce(made.day, (SELECT day FROM made WHERE key = x'')) < ?"
)
# Seconds that another process may hold the file.
_PATIENCE = 60
_ROOM_LEFT = ("freelist_count", "page_count")
# What SQLite calls a file that is damaged, or none of its own.
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT)
_ROOM = (
    "free some space or mend the folder's permissions, or set preprocessing.cache_dir to another folder "
    "(null switches the cache off)"
)

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")


class EmbeddingCache:
    """A store of float32 vectors of one width, by `text_key`; `space` names what computed them.

    Args:
        sealed: the newest key of `sealing.keys` seals what is put, in a file beside that of plain vectors, and all of
            them open what is there.

    Raises:
        ConfigError: it is to be sealed, and there is no key.
        FeatureError: the folder cannot be written, the disk is full, or the file is a database of something else.
    """

    def __init__(self, folder: Path, space: str, width: int, *, sealed: bool = False) -> None:
        self._path = folder / f"{space}{_SEALED if sealed else _PLAIN}"
        self._entries = Entries(width, str(self._path), sealed=sealed)
        self._lock: IO[bytes] | None = None
        self._connection: sqlite3.Connection | None = None
        try:
            private_folder(folder)
            # Held, shared, by whoever uses the file: SQLite's files must not be replaced under another process.
            self._lock = private_file(self._path.with_suffix(".lock")).open("ab")
            fcntl.flock(self._lock, fcntl.LOCK_SH)
            self._connection = _opened(self._path)
        except (OSError, sqlite3.Error) as error:
            self._mend(error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
        if self._lock is not None:
            self._lock.close()

    def get(self, keys: Sequence[bytes]) -> dict[bytes, np.ndarray]:
        """The vectors that are there, by key; a damaged entry counts as absent."""
        stored: list[tuple[Form, bytes, bytes, object]] = []
        try:
            for form in self._entries.forms:
                names = {form.name(key): key for key in keys}
                sought = list(names)
                for start in range(0, len(sought), _KEYS_PER_QUERY):
                    rows = self._rows(sought[start : start + _KEYS_PER_QUERY])
                    stored += [(form, names[name], name, blob) for name, blob in rows]
                if len(self._entries.forms) > 1:
                    keys = [*set(keys) - {key for _, key, _, _ in stored}]
        except sqlite3.Error as error:
            self._mend(error)
            return {}
        return self._entries.vectors(stored)

    def put(self, keys: Sequence[bytes], vectors: np.ndarray) -> None:
        """Store `vectors` (len(keys), width) in one transaction."""
        rows = self._entries.of(keys, vectors)
        try:
            self._store(rows)
        except sqlite3.Error as error:
            self._mend(error)
            try:
                self._store(rows)
            except sqlite3.Error as again:
                raise self._failure(again) from again

    def _rows(self, keys: Sequence[bytes]) -> Sequence[tuple[bytes, object]]:
        if self._connection is None:
            return []
        marks = ",".join("?" * len(keys))
        return self._connection.execute(f"SELECT key, vector FROM vectors WHERE key IN ({marks})", keys).fetchall()

    def _store(self, rows: Sequence[tuple[bytes, bytes]]) -> None:
        if self._connection is not None:
            with self._connection:
                self._connection.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", rows)
                days = [(key, today()) for key, _ in rows]
                self._connection.executemany("INSERT OR REPLACE INTO made VALUES (?, ?)", days)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _mend(self, error: Exception) -> None:
        """Begin a new file where the error says that this one is damaged; else FeatureError.

        While another process uses the file, this one goes on without.
        """
        if self._lock is None or getattr(error, "sqlite_errorcode", 0) & 0xFF not in _DAMAGED:
            raise self._failure(error) from error
        self._close()
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            logger.warning(
                "the embedding cache is damaged (%s), and another process uses it: this run goes on without %s",
                error,
                self._path,
            )
            return
        logger.warning("the embedding cache is damaged (%s); it is begun anew: %s", error, self._path)
        try:
            for end in ("", "-wal", "-shm"):
                Path(f"{self._path}{end}").unlink(missing_ok=True)
            self._connection = _opened(self._path)
            fcntl.flock(self._lock, fcntl.LOCK_SH)
        except (OSError, sqlite3.Error) as again:
            raise self._failure(again) from again

    def _failure(self, error: Exception) -> FeatureError:
        about_room = isinstance(error, OSError) or getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_ERROR
        return FeatureError(
            f"the embedding cache cannot be used: {error}",
            where=str(self._path),
            fix=_ROOM if about_room else "this is a database of something else: move it away",
        )


class FolderCaches:
    """The caches of a folder.

    Files that are damaged, or none of a cache, are passed over: the next run begins those anew. No byte stays of what
    is removed, whoever uses the files meanwhile.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def open(self, space: str, width: int, *, sealed: bool) -> EmbeddingCache:
        """As `CachePlace`; FeatureError also where the file is a database of something else."""
        return EmbeddingCache(self._folder, space, width, sealed=sealed)

    def count(self, keys: Collection[bytes]) -> int:
        """As `CachePlace`."""
        query = "SELECT count(*) FROM vectors WHERE key = ?"

        def present(file: Path, connection: sqlite3.Connection) -> int:
            return sum(connection.execute(query, (key,)).fetchone()[0] for key in _names(file, keys))

        return sum(self._of_files(present))

    def forget(self, keys: Collection[bytes] | None) -> int:
        """As `CachePlace`."""
        removed = 0
        for file in self._files:
            with _forgetting(file, whole=True) as connection:
                if connection is not None:
                    if keys is None:
                        removed += connection.execute("DELETE FROM vectors").rowcount
                    for key in _names(file, keys or ()):
                        removed += connection.execute("DELETE FROM vectors WHERE key = ?", (key,)).rowcount
        return removed

    def aged(self, before: date) -> list[Aged]:
        """As `CachePlace`."""
        return [old for old in self._of_files(lambda file, connection: _aged(file, connection, before)) if old.vectors]

    def forget_aged(self, before: date) -> list[Aged]:
        """As `CachePlace`, of each file in one transaction."""
        removed = []
        for old in self.aged(before):
            with _forgetting(Path(old.where)) as connection:
                if connection is not None:
                    removed.append(_aged(Path(old.where), connection, before))
                    keys = f"SELECT vectors.key {_AGED}"
                    connection.execute(f"DELETE FROM vectors WHERE key IN ({keys})", (before.toordinal(),))
        return removed

    @property
    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("*.sqlite"))

    def _of_files(self, question: Callable[[Path, sqlite3.Connection], Answer]) -> list[Answer]:
        answers = []
        for file in self._files:
            try:
                with _shared(file) as connection:
                    if connection is not None:
                        answers.append(question(file, connection))
            except sqlite3.Error as error:
                raise FeatureError(
                    f"the embedding cache cannot be used: {error}", where=str(file), fix=_ROOM
                ) from error
        return answers


def _aged(file: Path, connection: sqlite3.Connection, before: date) -> Aged:
    query = f"SELECT count(*), coalesce(sum(length(vector)), 0) {_AGED}"
    vectors, size = connection.execute(query, (before.toordinal(),)).fetchone()
    return Aged(str(file), vectors, size)


@contextmanager
def _forgetting(file: Path, *, whole: bool = False) -> Iterator[sqlite3.Connection | None]:
    """A file of a cache in one transaction, after which no byte stays of what was removed in it; None as of `_shared`.

    Args:
        whole: write the file anew, so that nothing stays either of vectors that were put again long before.

    Raises:
        FeatureError: the file cannot be written.
    """
    try:
        with _shared(file) as connection:
            if connection is None:
                yield None
                return
            connection.execute("PRAGMA secure_delete=ON")
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                yield connection
            free, pages = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in _ROOM_LEFT)
            if whole or free > pages / 4:
                connection.execute("VACUUM")
            # The write-ahead log holds what the pages were before.
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        raise FeatureError(f"the embedding cache cannot be used: {error}", where=str(file), fix=_ROOM) from error


@contextmanager
def _shared(file: Path) -> Iterator[sqlite3.Connection | None]:
    """A file of a cache as every user of it opens it; None where it is none, or gone."""
    if not file.is_file() or file.is_symlink() or not file.with_suffix(".lock").is_file():
        yield None
        return
    with file.with_suffix(".lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        try:
            if not _is_cache(file):
                yield None
                return
            connection = _opened(file)
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _DAMAGED:
                raise
            yield None
            return
        with closing(connection):
            yield connection


def _is_cache(file: Path) -> bool:
    with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=_PATIENCE)) as connection:
        (there,) = connection.execute(
            "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND sql = ?", (f"CREATE TABLE {_TABLE}",)
        ).fetchone()
    return bool(there)


def _opened(path: Path) -> sqlite3.Connection:
    # The threads of a worker of Dask take turns at it; whoever has several at a time sees to that.
    connection = sqlite3.connect(private_file(path), timeout=_PATIENCE, check_same_thread=False)
    # A flipped bit can make a blob a text, which need not be UTF-8; the checksum says what it is worth.
    connection.text_factory = bytes
    try:
        _write_ahead(connection)
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute(f"CREATE TABLE IF NOT EXISTS {_TABLE}")
        connection.execute("CREATE TABLE IF NOT EXISTS made (key BLOB PRIMARY KEY, day INTEGER) WITHOUT ROWID")
        connection.execute(
            "CREATE TRIGGER IF NOT EXISTS unmade AFTER DELETE ON vectors "
            "BEGIN DELETE FROM made WHERE key = OLD.key; END"
        )
        with connection:
            # The empty key, which no text has, bears the day of the table itself.
            connection.execute("INSERT OR IGNORE INTO made VALUES (x'', ?)", (today(),))
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Keep the file's changes in a write-ahead log.

    Of two that make a new file so at once, SQLite refuses one without waiting: each reads what it would replace, and
    could wait for the other for ever.
    """
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(random.uniform(0.005, 0.05))
        else:
            return


def _names(file: Path, keys: Collection[bytes]) -> list[bytes]:
    """What the vectors of these keys stand under in a file."""
    return [form.name(key) for form in forms(sealed=file.name.endswith(_SEALED)) for key in keys] if keys else []
