"""Vectors on disk by encoder and text, so that a text is encoded once in its life.

One SQLite file per encoder and backend. A key is the SHA-256 of the text: the cache holds no text. Each `put` is one
transaction, so an interrupted run keeps what it had finished, and several processes may share the file.

An entry proves itself: with each vector stands a checksum of key and vector, and what does not match it is absent.
A file that is damaged as a whole is removed, and a new one begun.
"""

from __future__ import annotations

import fcntl
import logging
import sqlite3
import zlib
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import numpy as np

from pcc_pipeline.errors import FeatureError
from pcc_pipeline.files import private_file, private_folder

# SQLite's default limit of bound variables was 999 for long; 500 keys a query costs nothing measurable.
_KEYS_PER_QUERY = 500
_CHECKSUM_BYTES = 4
# What SQLite calls a file that is damaged, or none of its own.
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT)
_ROOM = (
    "free some space or mend the folder's permissions, or set preprocessing.cache_dir to another folder "
    "(null switches the cache off)"
)

logger = logging.getLogger(__name__)


def text_key(text: str) -> bytes:
    """32 bytes that stand for a text. Lone surrogates, which CSV files can hold, are kept apart."""
    return sha256(text.encode("utf-8", "surrogatepass")).digest()


class EmbeddingCache:
    """A store of float32 vectors of one width, by `text_key`; `space` names what computed them.

    Raises:
        FeatureError: the folder cannot be written, the disk is full, or the file is a database of something else.
    """

    def __init__(self, folder: Path, space: str, width: int) -> None:
        self._width = width
        self._path = folder / f"{space}.sqlite"
        self._lock: IO[bytes] | None = None
        self._connection: sqlite3.Connection | None = None
        self._warned = False
        try:
            private_folder(folder)
            # Held, shared, by whoever uses the file: SQLite's files must not be replaced under another process.
            self._lock = private_file(self._path.with_suffix(".lock")).open("ab")
            fcntl.flock(self._lock, fcntl.LOCK_SH)
            self._connection = self._opened()
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
        present: list[bytes] = []
        blobs: list[bytes] = []
        damaged = 0
        size = 4 * self._width
        try:
            for start in range(0, len(keys), _KEYS_PER_QUERY):
                for key, blob in self._rows(keys[start : start + _KEYS_PER_QUERY]):
                    if isinstance(blob, bytes) and len(blob) == size + _CHECKSUM_BYTES and _proves_itself(key, blob):
                        present.append(key)
                        blobs.append(blob[:size])
                    else:
                        damaged += 1
        except sqlite3.Error as error:
            self._mend(error)
            return {}
        table = np.frombuffer(b"".join(blobs), dtype="<f4").reshape(-1, self._width)
        finite = np.isfinite(table).all(axis=1)
        damaged += int(len(finite) - finite.sum())
        if damaged and not self._warned:
            self._warned = True
            logger.warning(
                "%d of %d vectors in the cache %s are damaged, or were kept without a checksum by an earlier version: "
                "they are made again",
                damaged,
                damaged + int(finite.sum()),
                self._path,
            )
        return {key: vector for key, vector, good in zip(present, table, finite, strict=True) if good}

    def put(self, keys: Sequence[bytes], vectors: np.ndarray) -> None:
        """Store `vectors` (len(keys), width) in one transaction."""
        blobs = (vector.tobytes() for vector in vectors.astype("<f4"))
        rows = [(key, blob + _checksum(key, blob)) for key, blob in zip(keys, blobs, strict=True)]
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

    def _opened(self) -> sqlite3.Connection:
        connection = sqlite3.connect(private_file(self._path), timeout=60)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute("CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB NOT NULL)")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

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
            self._connection = self._opened()
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


def _checksum(key: bytes, vector: bytes) -> bytes:
    """CRC-32, which misses no error of a few bits; four times as fast here as the shortest cryptographic digest."""
    return zlib.crc32(vector, zlib.crc32(key)).to_bytes(_CHECKSUM_BYTES, "little")


def _proves_itself(key: bytes, blob: bytes) -> bool:
    return _checksum(key, blob[:-_CHECKSUM_BYTES]) == blob[-_CHECKSUM_BYTES:]
