"""Balancing of training rows. It sees the rows of one fold's training side and never a validation or test row."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np

from pcc_pipeline.errors import ModelError

# The neighbours that SMOTE interpolates between, its authors' choice (Chawla et al. 2002).
_NEIGHBOURS = 5
# How far a row may be from the mixture that it is said to be, as a share of the greatest number: rounding.
_ROUNDING = 1e-5


class Balanced(NamedTuple):
    """Rows after balancing: those that there were, and behind them those that were made.

    Attributes:
        vectors: (n, d), float32.
        labels: (n,).
        mixture: a sparse matrix (n, m), float32, that makes the n rows of the m that there were; each of its rows adds
            up to 1. None where none were made, or it is not known how.
    """

    vectors: np.ndarray
    labels: np.ndarray
    mixture: Any = None


def rows_once_balanced(counts: Collection[int]) -> int:
    """Rows once every class has as many as the largest; `counts`: rows by class."""
    return len(counts) * max(counts)


def balance(vectors: np.ndarray, labels: np.ndarray, method: str, seed: int) -> Balanced:
    """Rows of `vectors` (n, d) and `labels` (n,) with the smaller classes filled up.

    `none` and `class_weight` return the rows unchanged: weighing is the classifier's affair. Classes too small for
    the method's neighbours are first repeated up to what it needs, so that one rare class does not lower the number
    of neighbours for all.

    Raises:
        ModelError: the method cannot work on these rows (ADASYN on classes that do not touch).
    """
    if method in ("none", "class_weight"):
        return Balanced(vectors, labels)
    from imblearn.over_sampling import RandomOverSampler

    before, repeated = vectors, np.arange(len(vectors))
    if method != "RandomOverSampler":
        classes, counts = np.unique(labels, return_counts=True)
        # BorderlineSMOTE looks at ten neighbours of any class, so it wants as many rows in all.
        few = {name: _NEIGHBOURS + 1 for name, count in zip(classes, counts, strict=True) if count <= _NEIGHBOURS}
        if few:
            repeating = RandomOverSampler(sampling_strategy=few, random_state=seed)
            vectors, labels = repeating.fit_resample(vectors, labels)
            repeated = repeating.sample_indices_
    sampler = _sampler(method, seed)
    mixing = _noting(sampler, labels) if method == "SMOTE" else []
    try:
        filled, names = sampler.fit_resample(vectors, labels)
    except (ValueError, RuntimeError) as error:
        raise ModelError(
            f"{method} cannot balance these rows: {str(error).splitlines()[0]}",
            where="preprocessing.balance_method",
            fix="choose SMOTE, RandomOverSampler or class_weight",
        ) from error
    filled = np.asarray(filled, dtype=np.float32)
    if method == "RandomOverSampler":
        repeated = sampler.sample_indices_
    mixture = _mixture(before, filled, repeated, mixing) if len(filled) > len(before) else None
    return Balanced(filled, np.asarray(names), mixture)


def _noting(smote: Any, labels: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """What SMOTE makes rows of, once it has: for each class the places of two rows each, and the second one's share."""
    made: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    generate = smote._generate_samples  # it tells nobody else what it mixes

    def noted(
        vectors: np.ndarray,
        others: np.ndarray,
        neighbours: np.ndarray,
        rows: np.ndarray,
        columns: np.ndarray,
        steps: np.ndarray,
        label: Any = None,
        *rest: Any,
    ) -> Any:
        places = np.flatnonzero(labels == label)
        made.append((places[rows], places[neighbours[rows, columns]], np.ravel(steps)))
        return generate(vectors, others, neighbours, rows, columns, steps, label, *rest)

    smote._generate_samples = noted
    return made


def _mixture(
    before: np.ndarray,
    filled: np.ndarray,
    repeated: np.ndarray,
    mixing: list[tuple[np.ndarray, np.ndarray, np.ndarray]],
) -> Any:
    """`Balanced.mixture`; None where the rows are not what it makes, as of a method that mixes in another way.

    Args:
        before: the rows that there were, (m, d).
        filled: all rows, (n, d).
        repeated: the place of each of the first of them among those that there were.
        mixing: how the others were made of the first.
    """
    from scipy.sparse import csr_array

    nothing = (np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), np.empty(0))
    first, second, shares = (np.concatenate(parts) for parts in zip(nothing, *mixing, strict=True))
    if len(repeated) + len(first) != len(filled):
        return None
    # Two numbers for each row; the second is 0 for one that is not mixed. What stands twice in a row adds up.
    columns = np.concatenate([np.column_stack([repeated, repeated]), repeated[np.column_stack([first, second])]])
    second_share = np.concatenate([np.zeros(len(repeated)), shares])
    values = np.column_stack([1 - second_share, second_share]).astype(np.float32)
    starts = np.arange(0, 2 * len(filled) + 1, 2)
    mixture = csr_array((values.ravel(), columns.ravel(), starts), shape=(len(filled), len(before)))
    mixture.sum_duplicates()
    mixture.eliminate_zeros()
    mixture.indices, mixture.indptr = mixture.indices.astype(np.int32), mixture.indptr.astype(np.int32)
    near = np.abs(mixture @ before - filled).max() <= _ROUNDING * np.abs(filled).max()
    return mixture if near else None


def _sampler(method: str, seed: int) -> Any:
    from imblearn.over_sampling import ADASYN, SMOTE, BorderlineSMOTE, RandomOverSampler

    samplers = {
        "SMOTE": lambda: SMOTE(k_neighbors=_NEIGHBOURS, random_state=seed),
        "BorderlineSMOTE": lambda: BorderlineSMOTE(k_neighbors=_NEIGHBOURS, random_state=seed),
        "ADASYN": lambda: ADASYN(n_neighbors=_NEIGHBOURS, random_state=seed),
        "RandomOverSampler": lambda: RandomOverSampler(random_state=seed),
    }
    return samplers[method]()
