"""Balancing of training rows. It sees the rows of one fold's training side and never a validation or test row."""

from __future__ import annotations

from typing import Any

import numpy as np

from pcc_pipeline.errors import ModelError

# The neighbours that SMOTE interpolates between, its authors' choice (Chawla et al. 2002).
_NEIGHBOURS = 5


def balance(vectors: np.ndarray, labels: np.ndarray, method: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of `vectors` (n, d) and `labels` (n,) with the smaller classes filled up, float32.

    `none` and `class_weight` return the rows unchanged: weighing is the classifier's affair. Classes too small for
    the method's neighbours are first repeated up to what it needs, so that one rare class does not lower the number
    of neighbours for all.

    Raises:
        ModelError: the method cannot work on these rows (ADASYN on classes that do not touch).
    """
    if method in ("none", "class_weight"):
        return vectors, labels
    from imblearn.over_sampling import RandomOverSampler

    if method != "RandomOverSampler":
        classes, counts = np.unique(labels, return_counts=True)
        # BorderlineSMOTE looks at ten neighbours of any class, so it wants as many rows in all.
        few = {name: _NEIGHBOURS + 1 for name, count in zip(classes, counts, strict=True) if count <= _NEIGHBOURS}
        if few:
            vectors, labels = RandomOverSampler(sampling_strategy=few, random_state=seed).fit_resample(vectors, labels)
    try:
        filled, names = _sampler(method, seed).fit_resample(vectors, labels)
    except (ValueError, RuntimeError) as error:
        raise ModelError(
            f"{method} cannot balance these rows: {str(error).splitlines()[0]}",
            where="preprocessing.balance_method",
            fix="choose SMOTE, RandomOverSampler or class_weight",
        ) from error
    return np.asarray(filled, dtype=np.float32), np.asarray(names)


def _sampler(method: str, seed: int) -> Any:
    from imblearn.over_sampling import ADASYN, SMOTE, BorderlineSMOTE, RandomOverSampler

    samplers = {
        "SMOTE": lambda: SMOTE(k_neighbors=_NEIGHBOURS, random_state=seed),
        "BorderlineSMOTE": lambda: BorderlineSMOTE(k_neighbors=_NEIGHBOURS, random_state=seed),
        "ADASYN": lambda: ADASYN(n_neighbors=_NEIGHBOURS, random_state=seed),
        "RandomOverSampler": lambda: RandomOverSampler(random_state=seed),
    }
    return samplers[method]()
