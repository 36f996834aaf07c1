"""Rows moved by their mean, so that they lie around zero.

With x = c + z, x . w + b is z . w + (b + c . w): the same weights fit x and z, and the intercepts differ by c . w. To a
solver in single precision it makes a difference: far from zero it rounds away what tells the rows apart, and takes its
standstill for the end. Sentence vectors lie so near that it saves a few iterations and no more.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pcc_pipeline.data.vector_file import give_back, is_on_disk, written
from pcc_pipeline.solvers.problem import BLOCK_ROWS


def centred(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows (n, d) less their mean, and the mean, (d,): of rows that lie in a file, in another one.

    Raises:
        StorageError: there is no room for it.
    """
    total = sum(block.sum(axis=0, dtype=np.float64) for block in _blocks(rows))
    # Of the rows' own precision, so that the difference is rounded once.
    centre = (total / len(rows)).astype(rows.dtype)
    blocks = (block - centre for block in _blocks(rows))
    if is_on_disk(rows):
        return written(blocks, rows.shape[1]), centre.astype(np.float64)
    there, start = np.empty_like(rows), 0
    for block in blocks:
        there[start : start + len(block)] = block
        start += len(block)
    return there, centre.astype(np.float64)


def _blocks(rows: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), BLOCK_ROWS):
        yield rows[start : start + BLOCK_ROWS]
        give_back(rows)
