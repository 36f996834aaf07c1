"""Fitted models as joblib files that a machine with scikit-learn alone can load: written here, and never read.

Loading such a file runs what it holds, and whoever can write to a target could have put it there. What is published
is known again by its bytes alone.

The bytes are made to depend on the model and not on the process that writes it: equal strings are written once
(pickle goes by identity, which differs with what was imported before), the padding inside the records of a tree's
nodes, which is uninitialised memory, is zeroed, and a random state loses the entropy that it was first made from, which
its own state has replaced. The number of threads is left, which is the machine's: a gradient boosting holds it, and the
weights that lbfgs finds are rounded by it.
"""

from __future__ import annotations

import gzip
import io
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
from joblib.numpy_pickle import NumpyPickler

from pcc_pipeline.errors import ModelError, StorageError
from pcc_pipeline.features.full_vectors import FULL_WIDTH

_READABLE_THERE = ("joblib", "numpy", "scipy", "sklearn")


def check_classifier(classifier: Any) -> None:
    """Whether the downstream system can use this classifier: 584 numbers in, probabilities and `str` labels out.

    Raises:
        ModelError: it cannot.
    """
    if not hasattr(classifier, "predict_proba") or not hasattr(classifier, "classes_"):
        raise ModelError(f"{type(classifier).__name__} is no fitted classifier that gives probabilities")
    if others := {type(label).__name__ for label in classifier.classes_ if not isinstance(label, str)}:
        raise ModelError(f"the classifier's labels must be strings, not {', '.join(sorted(others))}")
    width = getattr(classifier, "n_features_in_", FULL_WIDTH)
    if width != FULL_WIDTH:
        raise ModelError(f"a published classifier takes {FULL_WIDTH} numbers, this one takes {width}")


def write_plain(part: Any, path: Path) -> None:
    """Write a fitted estimator to `path`.

    Raises:
        ModelError: it holds something that is not of scikit-learn, NumPy, SciPy or Python.
        StorageError: the file cannot be written.
    """
    # A reloaded model shares its parts in one way only, whether it came from training or from a file.
    plain = _reloaded(part, path.name)
    try:
        # A forest takes a sixth of the room; joblib.load finds out by itself. No name and time in the gzip header.
        with path.open("wb") as file, gzip.GzipFile("", "wb", compresslevel=3, fileobj=file, mtime=0) as packed:
            _StablePickler(packed).dump(plain)
    except OSError as error:
        raise StorageError(
            f"cannot write: {error.strerror or error}",
            where=str(path),
            fix="see that there is space for temporary files, or point TMPDIR elsewhere",
        ) from error


def _reloaded(part: Any, name: str) -> Any:
    try:
        return _PlainUnpickler(io.BytesIO(pickle.dumps(part, protocol=pickle.HIGHEST_PROTOCOL)), name).load()
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ModelError(f"the model cannot be written: {type(error).__name__}", where=name) from error


class _PlainUnpickler(pickle.Unpickler):
    """Refuses what the downstream system could not import."""

    def __init__(self, file: io.BytesIO, name: str) -> None:
        super().__init__(file)
        self._name = name

    def find_class(self, module: str, name: str) -> Any:
        root = module.partition(".")[0]
        if root not in _READABLE_THERE and root not in sys.stdlib_module_names:
            raise ModelError(
                f"the model holds {module}.{name}, which the downstream system does not have",
                where=self._name,
                fix="publish a model made of scikit-learn's own estimators",
            )
        return super().find_class(module, name)


class _StablePickler(NumpyPickler):  # type: ignore[misc] # joblib is untyped
    def __init__(self, file: Any) -> None:
        super().__init__(file)
        self._strings: dict[str, str] = {}
        self._random_states: dict[int, np.random.RandomState] = {}

    def save(self, obj: Any) -> Any:
        if type(obj) is str:
            obj = self._strings.setdefault(obj, obj)
        elif type(obj) is np.ndarray and obj.dtype.names:
            records = np.zeros(obj.shape, dtype=obj.dtype)
            for name in obj.dtype.names:
                records[name] = obj[name]
            obj = records
        elif type(obj) is np.random.RandomState:
            obj = self._random_states.setdefault(id(obj), _with_state(obj))
        return super().save(obj)


def _with_state(state: np.random.RandomState) -> np.random.RandomState:
    other = np.random.RandomState(0)
    other.set_state(state.get_state())
    return other
