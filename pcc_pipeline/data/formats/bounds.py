"""How much a file may become in memory: files of a few bytes can stand for terabytes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from pcc_pipeline.errors import DataError

# What the strings of one batch may take; 8,192 vectors of 584 numbers take 19 MB.
BATCH_BYTES = 64_000_000
# A file may expand to a thousand times its size, as with gzip at most, and a small one to a gigabyte.
_MAX_RATIO, _MAX_SMALL = 1_000, 2**30


class Budget:
    """The bytes that a file may still expand to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = path.stat().st_size
        self._left = max(_MAX_SMALL, _MAX_RATIO * self._size)

    def take(self, size: int) -> None:
        """Counts `size` bytes; DataError once they are too many."""
        self._left -= size
        if self._left < 0:
            raise DataError(
                f"the file of {self._size:,} bytes expands to more than {_MAX_RATIO:,} times its size",
                where=str(self._path),
                fix="write the rows again: it repeats one long value, or announces rows that it does not hold",
            )


def parts(sizes: np.ndarray[Any, np.dtype[np.int64]]) -> Iterator[slice]:
    """Cuts rows of these sizes in bytes into stretches of some BATCH_BYTES; a larger row is a stretch of its own."""
    places = np.cumsum(sizes) // BATCH_BYTES
    for start, stop in pairwise([0, *(np.flatnonzero(np.diff(places)) + 1).tolist(), len(sizes)]):
        yield slice(start, stop)


class Room:
    """The memory for the rows of one file that are held at once: half of what this machine has."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._limit = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
        self._taken = 0

    def take(self, size: int) -> None:
        """Counts `size` bytes; DataError once they are too many."""
        self._taken += size
        if self._taken > self._limit:
            raise DataError(
                f"the rows take more than {self._limit / 2**30:,.1f} GiB, half of this machine's memory",
                where=self._source,
                fix="give a part of the rows, or use a machine with more memory",
            )
