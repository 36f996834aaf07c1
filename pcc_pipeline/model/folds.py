"""Cross-validation folds prepared once and shared by every candidate of a search.

Lexical half, balancing and rankings of features depend on the fold and not on the candidate, so they are made once per
fold, stored as plain arrays and memory-mapped by whoever fits a candidate, in this process or another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from pcc_pipeline.errors import ModelError
from pcc_pipeline.features.full_vectors import full_vectors
from pcc_pipeline.files import temporary_place
from pcc_pipeline.model.calibration import raw_scores
from pcc_pipeline.model.fitting import PreparedRows, Recipe, Rows, fit, prepare
from pcc_pipeline.model.probabilities import class_probabilities

# (true class indices (n,), probabilities (n, K), K) -> metric name -> value
Scorer = Callable[[np.ndarray, np.ndarray, int], dict[str, float]]
_PARTS = ("train_vectors", "train_labels", "held_vectors", "held_labels")


def prepare_fold(rows: Rows, train: np.ndarray, held: np.ndarray, recipe: Recipe, folder: Path) -> None:
    """Prepare one fold into `folder`; `rows.labels` are class indices.

    Raises:
        ModelError: it cannot be written.
    """
    prepared = prepare(rows.take(train), recipe)
    other = rows.take(held)
    vectors = full_vectors(other.vectors, prepared.lexical, other.texts)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, values in zip(_PARTS, (prepared.vectors, prepared.labels, vectors, other.labels), strict=True):
            np.save(folder / f"{name}.npy", values)
        for method, order in prepared.rankings.items():
            np.save(_ranking_file(folder, method), order)
    except OSError as error:  # numpy's says how much it could not write, and neither where nor why
        raise ModelError(
            f"the folds of the search cannot be written: {error.strerror or error}",
            where=str(temporary_place()),
            fix="make room there, or point TMPDIR to a folder on another disk",
        ) from error


@dataclass(frozen=True)
class FoldObjective:
    """Scores one candidate on one prepared fold: `objective(hyperparameters, fold) -> metric name -> value`.

    Small to send to a worker process: it holds the folds' folder, not their rows.
    """

    folder: Path
    recipe: Recipe
    n_classes: int
    scorer: Scorer

    def __call__(self, hyperparameters: Mapping[str, Any], fold: int) -> dict[str, float]:
        _, probabilities, labels = self._answers(hyperparameters, fold)
        return self.scorer(labels, probabilities, self.n_classes)

    def held(self, hyperparameters: Mapping[str, Any], fold: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of the rows that a fold holds out: raw scores (n, K) for calibrators, probabilities (n, K), class indices."""
        classifier, probabilities, labels = self._answers(hyperparameters, fold)
        vectors = _open(self.fold_folder(fold))[2]
        return raw_scores(classifier, range(self.n_classes), vectors), probabilities, np.array(labels)

    def fold_folder(self, fold: int) -> Path:
        return self.folder / f"fold-{fold}"

    def _answers(self, hyperparameters: Mapping[str, Any], fold: int) -> tuple[Any, np.ndarray, np.ndarray]:
        """The fitted classifier; of the held rows its probabilities (n, K), and class indices."""
        folder = self.fold_folder(fold)
        train_vectors, train_labels, held_vectors, held_labels = _open(folder)
        rankings = {method: np.load(_ranking_file(folder, method)) for method in self.recipe.rankings}
        fitted = fit(PreparedRows(None, train_vectors, train_labels, rankings), hyperparameters, self.recipe)
        probabilities = class_probabilities(fitted.classifier, range(self.n_classes), held_vectors)
        return fitted.classifier, probabilities, held_labels


@lru_cache(maxsize=64)
def _open(folder: Path) -> Sequence[np.ndarray]:
    return [np.load(folder / f"{name}.npy", mmap_mode="r") for name in _PARTS]


def _ranking_file(folder: Path, method: str) -> Path:
    return folder / f"ranking_{method}.npy"
