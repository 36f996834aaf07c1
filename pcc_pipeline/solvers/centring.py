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
# The same of one column, which others that are wider may hide among all: a mean of ten times the spread.
_COLUMN_FAR = 0.99


def centred(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows (n, d) less their mean, and the mean, (d,).

    Many rows stay as they are, with zeros for their mean, unless they or one of their columns are far from zero: where
    they lie in a file they take another one. It does not matter where they lie, so that a worker that was sent them
    fits as one that reads them from their file.

    Raises:
        StorageError: there is no room for it.
    """
    many = rows.nbytes >= LARGE_BYTES
    total, squares = np.zeros(rows.shape[1]), np.zeros(rows.shape[1])
    for block in _blocks(rows, many):
        total += block.sum(axis=0, dtype=np.float64)
        if many:
            squares += np.square(block).sum(axis=0, dtype=np.float64)
    if many and not _are_far(total**2 / len(rows), squares):
        return rows, np.zeros(rows.shape[1])
    # Of the rows' own precision, so that the difference is rounded once.
    centre = (total / len(rows)).astype(rows.dtype)
    if many and is_on_disk(rows):
        there = written((block - centre for block in _blocks(rows, many)), rows.shape[1])
    else:
        there = rows - centre
    return there, centre.astype(np.float64)


def _are_far(of_mean: np.ndarray, squares: np.ndarray) -> bool:
    """Whether the mean's part of each column's sum of squares says so, (d,) both."""
    return bool(of_mean.sum() > _FAR * squares.sum() or (of_mean > _COLUMN_FAR * squares).any())


def _blocks(rows: np.ndarray, many: bool) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), BLOCK_ROWS):
        yield rows[start : start + BLOCK_ROWS]
        if many:
            give_back(rows)
