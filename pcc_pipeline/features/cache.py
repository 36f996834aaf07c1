"""Vectors on disk by encoder and text, so that a text is encoded once in its life.

One SQLite file per encoder and backend. A key is the SHA-256 of the text: the cache holds no text. Each `put` is one
transaction, so an interrupted run keeps what it had finished, and several processes may share the file.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from pcc_pipeline.errors import FeatureError

# SQLite's default limit of bound variables was 999 for long; 500 keys a query costs nothing measurable.
_KEYS_PER_QUERY = 500


def text_key(text: str) -> bytes:
    """32 bytes that stand for a text. Lone surrogates, which CSV files can hold, are kept apart."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


class EmbeddingCache:
    """A store of float32 vectors of one width, by `text_key`; `space` names what computed them.

    Raises:
        FeatureError: the folder cannot be written, the disk is full, or the file is not a cache.
    """

    def __init__(self, folder: Path, space: str, width: int) -> None:
        self._width = width
        self._path = folder / f"{space}.sqlite"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(self._path, timeout=60)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.execute("CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB NOT NULL)")
        except (OSError, sqlite3.Error) as error:
            raise self._failure(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def get(self, keys: Sequence[bytes]) -> dict[bytes, np.ndarray]:
        """The vectors that are there, by key; a damaged entry counts as absent."""
        found: list[bytes] = []
        blobs: list[bytes] = []
        try:
            for start in range(0, len(keys), _KEYS_PER_QUERY):
                part = keys[start : start + _KEYS_PER_QUERY]
                marks = ",".join("?" * len(part))
                rows = self._connection.execute(f"SELECT key, vector FROM vectors WHERE key IN ({marks})", part)
                for key, blob in rows:
                    if isinstance(blob, bytes) and len(blob) == 4 * self._width:
                        found.append(key)
                        blobs.append(blob)
        except sqlite3.Error as error:
            raise self._failure(error) from error
        table = np.frombuffer(b"".join(blobs), dtype="<f4").reshape(-1, self._width)
        finite = np.isfinite(table).all(axis=1)
        return {key: vector for key, vector, good in zip(found, table, finite, strict=True) if good}

    def put(self, keys: Sequence[bytes], vectors: np.ndarray) -> None:
        """Store `vectors` (len(keys), width) in one transaction."""
        rows = [(key, vector.tobytes()) for key, vector in zip(keys, vectors.astype("<f4"), strict=True)]
        try:
            with self._connection:
                self._connection.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", rows)
        except sqlite3.Error as error:
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> FeatureError:
        return FeatureError(
            f"the embedding cache cannot be used: {error}",
            where=str(self._path),
            fix="free some space or mend the folder's permissions, or set preprocessing.cache_dir to another folder "
            "(null switches the cache off)",
        )
