"""Cross-validation folds prepared once and shared by every candidate of a search.

Lexical half, balancing and rankings of features depend on the fold and not on the candidate, so they are made once per
fold, stored as plain arrays and memory-mapped by whoever fits a candidate, in this process or another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import load_npz, save_npz

from pcc_pipeline.errors import ModelError
from pcc_pipeline.features.full_vectors import full_vectors
from pcc_pipeline.files import temporary_place
from pcc_pipeline.model.calibration import raw_scores
from pcc_pipeline.model.fitting import FittedModel, PreparedRows, Recipe, Rows, fit, prepare
from pcc_pipeline.model.probabilities import class_probabilities

# (true class indices (n,), probabilities (n, K), K) -> metric name -> value
Scorer = Callable[[np.ndarray, np.ndarray, int], dict[str, float]]
# Among the scores of a fold whose fit stopped before it converged: 1. Others do not have it.
NOT_CONVERGED = "not_converged"
_PARTS = ("train_vectors", "train_labels", "held_vectors", "held_labels")
_MIXTURE = "mixture.npz"


def prepare_fold(rows: Rows, train: np.ndarray, held: np.ndarray, recipe: Recipe, folder: Path) -> None:
    """Prepare one fold into `folder`; `rows.labels` are class indices.

    Raises:
        ModelError: it cannot be written.
    """
    prepared = prepare(rows.take(train), recipe)
    other = rows.take(held)
    vectors = full_vectors(other.vectors, prepared.lexical, other.texts, other.terms)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, values in zip(_PARTS, (prepared.vectors, prepared.labels, vectors, other.labels), strict=True):
            np.save(folder / f"{name}.npy", values)
        for method, order in prepared.rankings.items():
            np.save(_ranking_file(folder, method), order)
        (folder / _MIXTURE).unlink(missing_ok=True)
        if prepared.mixture is not None:
            save_npz(folder / _MIXTURE, prepared.mixture, compressed=False)
    except OSError as error:  # numpy's says how much it could not write, and neither where nor why
        raise ModelError(
            f"the folds of the search cannot be written: {error.strerror or error}",
            where=str(temporary_place()),
            fix="make room there, or point TMPDIR to a folder on another disk",
        ) from error


@dataclass(frozen=True)
class FoldRows:
    """A prepared fold.

    Attributes:
        train_vectors, train_labels: training rows, balanced.
        held_vectors, held_labels: rows that are held out.
        rankings: features by rank, method -> order.
        mixture: what balancing made rows of, as in `Balanced`.
    """

    train_vectors: np.ndarray
    train_labels: np.ndarray
    held_vectors: np.ndarray
    held_labels: np.ndarray
    rankings: Mapping[str, np.ndarray]
    mixture: Any


@dataclass(frozen=True)
class CarriedFold:
    """A `FoldObjective` of one fold, with its rows: for a worker of another machine."""

    rows: FoldRows
    recipe: Recipe
    n_classes: int
    scorer: Scorer

    def __call__(self, hyperparameters: Mapping[str, Any], fold: int) -> dict[str, float]:
        fitted, probabilities = _answers(self.rows, hyperparameters, self.recipe, self.n_classes)
        scores = self.scorer(self.rows.held_labels, probabilities, self.n_classes)
        return {**scores, NOT_CONVERGED: 1.0} if fitted.warnings else scores


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
        return CarriedFold(self._rows(fold), self.recipe, self.n_classes, self.scorer)(hyperparameters, fold)

    def carried(self, fold: int) -> CarriedFold:
        """The same for one fold, with its rows in memory."""
        rows = self._rows(fold)
        parts = {name: np.array(getattr(rows, name)) for name in _PARTS}
        carried = FoldRows(**parts, rankings=rows.rankings, mixture=rows.mixture)
        return CarriedFold(carried, self.recipe, self.n_classes, self.scorer)

    def held(self, hyperparameters: Mapping[str, Any], fold: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of the rows that a fold holds out: raw scores (n, K) for calibrators, probabilities (n, K), class indices."""
        rows = self._rows(fold)
        fitted, probabilities = _answers(rows, hyperparameters, self.recipe, self.n_classes)
        raw = raw_scores(fitted.classifier, range(self.n_classes), rows.held_vectors)
        return raw, probabilities, np.array(rows.held_labels)

    def fold_folder(self, fold: int) -> Path:
        return self.folder / f"fold-{fold}"

    def _rows(self, fold: int) -> FoldRows:
        folder = self.fold_folder(fold)
        rankings = {method: np.load(_ranking_file(folder, method)) for method in self.recipe.rankings}
        return FoldRows(*_open(folder), rankings=rankings, mixture=_opened_mixture(folder))


def _answers(
    rows: FoldRows, hyperparameters: Mapping[str, Any], recipe: Recipe, n_classes: int
) -> tuple[FittedModel, np.ndarray]:
    """The fitted model, and its probabilities (n, K) of the held rows."""
    prepared = PreparedRows(None, rows.train_vectors, rows.train_labels, rows.rankings, rows.mixture)
    fitted = fit(prepared, hyperparameters, recipe)
    return fitted, class_probabilities(fitted.classifier, range(n_classes), rows.held_vectors)


def let_go() -> None:
    """Give back the folds that this process has open: a file that was deleted keeps its room while somebody has it."""
    _open.cache_clear()
    _opened_mixture.cache_clear()


@lru_cache(maxsize=64)
def _open(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    first, second, third, fourth = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in _PARTS)
    return first, second, third, fourth


@lru_cache(maxsize=64)
def _opened_mixture(folder: Path) -> Any:
    return load_npz(folder / _MIXTURE) if (folder / _MIXTURE).exists() else None


def _ranking_file(folder: Path, method: str) -> Path:
    return folder / f"ranking_{method}.npy"
