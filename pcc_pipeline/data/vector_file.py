"""Vectors that are too many to be held twice: in a file on this machine's disk, mapped into memory.

Whoever reads them meets an ordinary array. Its pages are the system's to take back, since the file has them; so a
training needs memory for what it works on, and not for all rows. The file has no name: nothing of it is left, however
the process ends.
"""

from __future__ import annotations

import mmap
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from hashlib import sha256
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
    return _mapping(vectors) is not None


def are_many(vectors: np.ndarray) -> bool:
    """Whether these belong into a file, if they do not lie in one."""
    return is_on_disk(vectors) or vectors.nbytes >= LARGE_BYTES


def give_back(vectors: np.ndarray) -> None:
    """Let go of the pages of a mapped file that were read so far: they come back from the file when they are asked for.

    Without it they count as this process's memory until the system needs it for something else.
    """
    mapping = _mapping(vectors)
    if mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED)


def digest_of(vectors: Vectors) -> str:
    """SHA-256 of the rows' numbers, in order."""
    total = sha256()
    rows = _rows_of_block(vectors.shape[1])
    for start in range(0, len(vectors), rows):
        total.update(np.ascontiguousarray(vectors[start : start + rows]).data)
        give_back(vectors)
    return total.hexdigest()


def _mapping(vectors: np.ndarray) -> mmap.mmap | None:
    part: Any = vectors
    while isinstance(part, np.ndarray):
        part = part.base
    part = part.obj if isinstance(part, memoryview) else part
    return part if isinstance(part, mmap.mmap) else None


def _rows_of_block(width: int) -> int:
    return max(1, _BLOCK_BYTES // (4 * max(width, 1)))


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
    rows = _rows_of_block(vectors.shape[1])

    def blocks() -> Iterator[Vectors]:
        for start in range(0, len(positions), rows):
            yield vectors[positions[start : start + rows]]
            give_back(vectors)

    return written(blocks(), vectors.shape[1])


def columns(vectors: Vectors, kept: Positions) -> Vectors:
    """Some of the columns, each row's numbers one after another: of many rows that lie in a file, in another one.

    Raises:
        StorageError: there is no room for it.
    """
    if not is_on_disk(vectors) or len(vectors) * len(kept) * vectors.itemsize < LARGE_BYTES:
        return np.ascontiguousarray(vectors[:, kept])
    rows = _rows_of_block(vectors.shape[1])
    return written((vectors[start : start + rows, kept] for start in range(0, len(vectors), rows)), len(kept))


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
        # Not np.memmap, a class of its own that libraries treat in their own ways.
        mapping = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        return np.frombuffer(mapping, dtype=np.float32).reshape(shape)
