"""Where the learned messages lie: principal components of their vectors, and prototypes, each the mean of several rows.

No vector of a single message is kept: of a prototype that stands for fewer rows than `FEWEST` nothing is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

# What a prototype stands for at least: the mean of fewer rows would nearly be one of them.
FEWEST = 5
COMPONENTS, _PROTOTYPES, _ROWS_OF_ONE = 64, 200, 15
# More rows would change neither components nor prototypes by as much as they are rounded.
_MOST_ROWS = 20_000
_ROWS_AT_A_TIME = 4096


@dataclass(frozen=True)
class LearnedSpace:
    """Principal components of the learned vectors, and prototypes among them.

    Attributes:
        center: mean of the learned vectors, (W,).
        basis: orthonormal columns, (W, D).
        prototypes: (P, D), in components.
    """

    center: np.ndarray
    basis: np.ndarray
    prototypes: np.ndarray

    @staticmethod
    def of(vectors: np.ndarray, seed: int) -> LearnedSpace:
        """Learned from the vectors (n, W) that a model learned from."""
        draws = np.random.default_rng(seed)
        if len(vectors) > _MOST_ROWS:
            vectors = vectors[np.sort(draws.choice(len(vectors), _MOST_ROWS, replace=False))]
        center = vectors.mean(axis=0, dtype=np.float64)
        centred = vectors - center.astype(np.float32)
        _, directions = np.linalg.eigh(np.asarray(centred.T @ centred, dtype=np.float64))
        basis = directions[:, ::-1][:, : min(COMPONENTS, *vectors.shape)]
        # As they are kept, so that they mean the same before and after they were written.
        center, basis = _rounded(center), _rounded(basis)
        components = (vectors - center) @ basis
        return LearnedSpace(center, basis, _rounded(_prototypes(components, seed)))

    def project(self, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Components (n, D), and the squared distance from the nearest prototype (n,), both float32.

        The distance counts what lies outside the components too: there, prototypes stand at 0.
        """
        components = np.empty((len(vectors), self.basis.shape[1]), dtype=np.float32)
        distance = np.empty(len(vectors), dtype=np.float32)
        squares = (self.prototypes**2).sum(axis=1)
        # The last digits hang on the number of threads on some processors, and workers have fewer than one process.
        with threadpool_limits(1, user_api="blas"):
            for start in range(0, len(vectors), _ROWS_AT_A_TIME):
                part = slice(start, start + _ROWS_AT_A_TIME)
                centred = vectors[part] - self.center
                components[part] = inside = centred @ self.basis
                length = (inside**2).sum(axis=1)
                outside = np.maximum((centred**2).sum(axis=1) - length, 0)
                nearest = (squares - 2 * inside @ self.prototypes.T).min(axis=1)
                distance[part] = outside + np.maximum(nearest + length, 0)
        return components, distance


def _prototypes(components: np.ndarray, seed: int) -> np.ndarray:
    count = min(_PROTOTYPES, len(components) // _ROWS_OF_ONE)
    if count < 2:
        return np.asarray(components.mean(axis=0, keepdims=True))
    from sklearn.cluster import MiniBatchKMeans  # slow to import, and only training needs it

    with threadpool_limits(1):
        clusters = MiniBatchKMeans(count, random_state=seed, n_init=1, max_iter=20, batch_size=2048).fit(components)
    sizes = np.bincount(clusters.labels_, minlength=count)
    means = [components[clusters.labels_ == place].mean(axis=0) for place in np.flatnonzero(sizes >= FEWEST)]
    return np.asarray(means if means else components.mean(axis=0, keepdims=True))


def _rounded(numbers: np.ndarray) -> np.ndarray:
    return np.asarray(numbers.astype(np.float16), dtype=np.float32)
