"""Second derivatives of a loss by a few of the weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from pcc_pipeline.solvers.problem import BLOCK_ROWS, Problem


class Curvature:
    """Sums over the rows of curvature * left feature * right feature, in blocks of rows."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        # Picking features out of the rows reads all the rows' memory; laid out by feature it reads what it picks.
        # Only while a copy is small.
        self._across = np.ascontiguousarray(problem.rows.T) if len(problem.rows) <= BLOCK_ROWS else None

    def blocks(self, used: np.ndarray) -> Iterator[tuple[np.ndarray, Block]]:
        """Of some of the problem's rows, ascending places: a part of them, and what sums over these."""
        for start in range(0, len(used), BLOCK_ROWS):
            some = used[start : start + BLOCK_ROWS]
            yield some, Block(self._problem, self._across, some)


class Block:
    """Some of a problem's rows."""

    def __init__(self, problem: Problem, across: np.ndarray | None, some: np.ndarray) -> None:
        self._rows, self._across, self._places = problem.rows, across, some
        self._mixture: Any = None
        if problem.mixture is not None and len(some) == problem.mixture.shape[0]:
            self._places, self._mixture = np.arange(len(problem.rows)), problem.mixture
        elif problem.mixture is not None:
            mixture = problem.mixture[some]
            self._places, columns = np.unique(mixture.indices, return_inverse=True)
            shape = (len(some), len(self._places))
            self._mixture = csr_array((mixture.data, columns, mixture.indptr), shape=shape)

    def features(self, features: np.ndarray) -> np.ndarray:
        """(w, r) of the rows that those of the block are, or are mixtures of.

        `features` ascend; the one behind the last is that of the intercepts, 1 in each row.
        """
        width = self._rows.shape[1]
        inner = features[: np.searchsorted(features, width)]
        few = len(self._places) < len(self._rows) // 4
        if self._across is None or few:
            part = self._rows.take(self._places, axis=0).take(inner, axis=1).T
        elif len(self._places) < len(self._rows):
            part = self._across[inner].take(self._places, axis=1)
        else:
            part = self._across[inner]
        if len(inner) == len(features):
            return part
        return np.vstack([part, np.ones((1, part.shape[1]), dtype=part.dtype)])

    def weighed(self, curvature: np.ndarray) -> Weighed:
        """The sums where each row of the block has a curvature, (rows of the block,)."""
        if self._mixture is None:
            return Weighed(curvature, None, None)
        scaled = self._mixture.copy()
        scaled.data = scaled.data * np.repeat(curvature, np.diff(scaled.indptr))
        both = (self._mixture.T @ scaled).tocsr()
        own = both.diagonal()
        both.setdiag(0)
        both.eliminate_zeros()
        mixed = np.unique(both.indices)
        return Weighed(own, mixed, both[mixed][:, mixed])


class Weighed:
    """A block's rows with a curvature each; of rows that are mixed, one for each two that are mixed together."""

    def __init__(self, own: np.ndarray, mixed: np.ndarray | None, both: Any) -> None:
        self._own, self._mixed, self._both = own, mixed, both

    def square(self, part: np.ndarray) -> np.ndarray:
        """(w, w) for features (w, r) by themselves; no curvature is negative."""
        scaled = part * np.sqrt(self._own)
        total: np.ndarray = scaled @ scaled.T
        return total + self._of_mixed(part, part)

    def cross(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """(v, w) for features (v, r) and (w, r)."""
        total: np.ndarray = left @ (right * self._own).T
        return total + self._of_mixed(left, right)

    def _of_mixed(self, left: np.ndarray, right: np.ndarray) -> np.ndarray | float:
        if self._mixed is None:
            return 0.0
        total: np.ndarray = left[:, self._mixed] @ (self._both @ right[:, self._mixed].T)
        return total
