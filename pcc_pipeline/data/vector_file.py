"""Vectors that are too many to be held twice: in a file on this machine's disk, mapped into memory.

Whoever reads them meets an ordinary array. Its pages are the system's to take back, since the file has them; so a
training needs memory for what it works on, and not for all rows. The file has no name: nothing of it is left, however
the process ends.
"""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterable
from typing import Any, BinaryIO, cast

import numpy as np

from pcc_pipeline.data.vector_column import Vectors
from pcc_pipeline.files import no_temporary_room

# Fewer bytes stay in memory: writing and mapping a file would only take time.
LARGE_BYTES = 64 * 2**20
# Bytes that are gathered in memory for one write.
_BLOCK_BYTES = 32 * 2**20

Positions = np.ndarray[Any, np.dtype[np.int64]]


class GrowingVectors:
    """The vectors of a data set, batch by batch: in memory while they are few, then in a file."""

    def __init__(self) -> None:
        self._parts: list[Vectors] = []
        self._file: _VectorFile | None = None
        self._bytes = 0

    def add(self, batch: Vectors) -> int:
        """Takes the next rows (n, width), and returns how many bytes of memory they stay in.

        Raises:
            StorageError: there is no room on the disk.
        """
        self._bytes += batch.nbytes
        if self._file is None and self._bytes < LARGE_BYTES:
            self._parts.append(batch)
            return batch.nbytes
        if self._file is None:
            self._file = _VectorFile(batch.shape[1])
            for part in self._parts:
                self._file.write(part)
            self._parts.clear()
        self._file.write(batch)
        return 0

    def whole(self) -> Vectors | None:
        """All rows, (n, width); None where none came."""
        if self._file is not None:
            return self._file.mapped()
        return np.concatenate(self._parts) if self._parts else None


def is_on_disk(vectors: np.ndarray) -> bool:
    """Whether these are the pages of a mapped file, or a part of them."""
    part: Any = vectors
    while isinstance(part, np.ndarray):
        if isinstance(part, np.memmap):
            return True
        part = part.base
    return False


def taken(vectors: Vectors, positions: Positions) -> Vectors:
    """The rows at these positions: of many that lie in a file, in another one.

    Raises:
        StorageError: there is no room for it.
    """
    many = len(positions) * vectors.shape[1] * vectors.itemsize >= LARGE_BYTES
    return in_order(vectors, positions) if many and is_on_disk(vectors) else vectors[positions]


def in_order(vectors: Vectors, positions: Positions) -> Vectors:
    """The rows at these positions, one after another, in a file of their own.

    Raises:
        StorageError: there is no room for it.
    """
    rows = max(1, _BLOCK_BYTES // (vectors.itemsize * vectors.shape[1]))
    starts = range(0, len(positions), rows)
    return written((vectors[positions[start : start + rows]] for start in starts), vectors.shape[1])


def written(blocks: Iterable[Vectors], width: int) -> Vectors:
    """Blocks of rows (n, width), one after another, in a file.

    Raises:
        StorageError: there is no room for it.
    """
    file = _VectorFile(width)
    for block in blocks:
        file.write(block)
    return file.mapped()


class _VectorFile:
    """A file without a name that holds float32 rows."""

    def __init__(self, width: int) -> None:
        self._width, self._rows = width, 0
        try:
            self._file = cast(BinaryIO, tempfile.TemporaryFile(prefix="pcc-vectors-", buffering=0))  # noqa: SIM115
        except OSError as error:
            raise no_temporary_room(error) from error
        # Of a reading that fails, too. A mapping holds on to the file by itself.
        weakref.finalize(self, self._file.close)

    def write(self, rows: Vectors) -> None:
        # Not through the mapping: a full disk would end the process there by a signal.
        left = np.ascontiguousarray(rows, dtype=np.float32).data.cast("B")
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            raise no_temporary_room(error) from error
        self._rows += len(rows)

    def mapped(self) -> Vectors:
        shape = (self._rows, self._width)
        if not self._rows:
            return np.zeros(shape, dtype=np.float32)
        # A plain array over the mapping: libraries treat np.memmap, a class of its own, in their own ways.
        return np.asarray(np.memmap(cast(Any, self._file), dtype=np.float32, mode="r", shape=shape))
