"""Folds that candidates are measured on: a solver that stops early shows, and so does a disk that is full."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pcc_pipeline.errors import ModelError
from pcc_pipeline.files import own_temporary_files
from pcc_pipeline.model.fitting import Recipe, Rows
from pcc_pipeline.model.folds import NOT_CONVERGED, FoldObjective, prepare_fold


def test_folds_that_find_no_room_say_where_and_what_to_do(
    disk: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = disk("size=256k")
    monkeypatch.setattr(tempfile, "tempdir", str(small))
    rows = Rows([""] * 400, np.zeros((400, 584), np.float32), np.arange(400) % 2)
    recipe = Recipe("LogisticRegression", "none", {}, seed=0)
    with own_temporary_files(), tempfile.TemporaryDirectory() as folder, pytest.raises(ModelError) as raised:
        prepare_fold(rows, np.arange(300), np.arange(300, 400), recipe, Path(folder) / "fold-0")
    said = str(raised.value)
    assert "the folds of the search cannot be written: " in said
    assert f"where: {small}\n" in said
    assert "TMPDIR" in said


def accuracy(labels: np.ndarray, probabilities: np.ndarray, n_classes: int) -> dict[str, float]:
    return {"accuracy": float((probabilities.argmax(axis=1) == labels).mean())}


@pytest.mark.parametrize("solver", ["lbfgs", "saga"])
@pytest.mark.parametrize(("max_iter", "names"), [(1, {"accuracy", NOT_CONVERGED}), (1000, {"accuracy"})])
def test_a_fit_that_stops_before_it_converged_is_marked(
    solver: str, max_iter: int, names: set[str], tmp_path: Path
) -> None:
    draws = np.random.default_rng(0)
    labels = np.arange(400) % 4
    vectors = (draws.normal(size=(4, 584))[labels] + 3 * draws.normal(size=(400, 584))).astype(np.float32)
    recipe = Recipe("LogisticRegression", "none", {}, seed=0)
    objective = FoldObjective(tmp_path, recipe, 4, accuracy)
    prepare_fold(Rows([""] * 400, vectors, labels), np.arange(300), np.arange(300, 400), recipe, tmp_path / "fold-0")
    scores = objective({"solver": solver, "penalty": "l2", "max_iter": max_iter}, 0)
    assert set(scores) == names
