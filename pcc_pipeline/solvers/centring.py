"""Rows moved by their mean, so that they lie around zero.

With x = c + z, x . w + b is z . w + (b + c . w): the same weights fit x and z, and the intercepts differ by c . w. To a
solver in single precision it makes a difference: far from zero it rounds away what tells the rows apart, and takes its
standstill for the end. Sentence vectors lie so near that it saves a few iterations and no more.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pcc_pipeline.data.vector_file import LARGE_BYTES, give_back, is_on_disk, written
from pcc_pipeline.solvers.problem import BLOCK_ROWS

# The share of their squares that the mean of many rows holds where they are moved: sentence vectors have 0.2 to 0.3.
_FAR = 0.5


def centred(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows (n, d) less their mean, and the mean, (d,).

    Many rows that lie in a file stay as they are, with zeros for their mean, unless they are far from zero: they take
    another file.

    Raises:
        StorageError: there is no room for it.
    """
    many = is_on_disk(rows) and rows.nbytes >= LARGE_BYTES
    total, squares = np.zeros(rows.shape[1]), 0.0
    for block in _blocks(rows, many):
        total += block.sum(axis=0, dtype=np.float64)
        squares += float(np.vdot(block, block)) if many else 0.0
    if many and total @ total <= _FAR * squares * len(rows):
        return rows, np.zeros(rows.shape[1])
    # Of the rows' own precision, so that the difference is rounded once.
    centre = (total / len(rows)).astype(rows.dtype)
    there = written((block - centre for block in _blocks(rows, many)), rows.shape[1]) if many else rows - centre
    return there, centre.astype(np.float64)


def _blocks(rows: np.ndarray, many: bool) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), BLOCK_ROWS):
        yield rows[start : start + BLOCK_ROWS]
        if many:
            give_back(rows)
