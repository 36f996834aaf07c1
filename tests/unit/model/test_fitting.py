"""What is learned is learned from the training side alone, and a fitted model predicts what its parts say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_info, threadpool_limits

from pcc_pipeline.data.sample.messages import sample
from pcc_pipeline.errors import ModelError
from pcc_pipeline.evaluation.metrics import scores
from pcc_pipeline.features.lexical import lexical_vectors
from pcc_pipeline.model.builders import Task
from pcc_pipeline.model.families import build_classifier
from pcc_pipeline.model.fitting import Recipe, Rows, fit, prepare
from pcc_pipeline.model.folds import FoldObjective, prepare_fold
from pcc_pipeline.model.probabilities import class_probabilities, decided
from pcc_pipeline.solvers import logistic

RECIPE = Recipe("LogisticRegression", "SMOTE", {"n_features": 4096}, seed=3)


@pytest.fixture(scope="module")
def rows() -> Rows:
    frame = sample(240)
    vectors = np.random.default_rng(0).normal(size=(240, 384)).astype(np.float32)
    return Rows(list(frame["text"]), vectors, frame["intent"].to_numpy(object))


def test_held_out_rows_change_nothing_that_is_learned(rows: Rows, tmp_path: Path) -> None:
    """Whatever stands on the other side of a fold, the prepared training arrays are the same."""
    other = Rows(["something else entirely"] * 240, rows.vectors[::-1].copy(), rows.labels)
    train, held = np.arange(180), np.arange(180, 240)
    mixed = Rows(
        [*rows.texts[:180], *other.texts[180:]], np.vstack([rows.vectors[:180], other.vectors[180:]]), rows.labels
    )
    prepare_fold(rows, train, held, RECIPE, tmp_path / "a")
    prepare_fold(mixed, train, held, RECIPE, tmp_path / "b")
    for name in ("train_vectors", "train_labels"):
        first, second = (np.load(tmp_path / side / f"{name}.npy", allow_pickle=True) for side in "ab")
        assert np.array_equal(first, second)
    held_first, held_second = (np.load(tmp_path / side / "held_vectors.npy") for side in "ab")
    assert not np.array_equal(held_first, held_second)


def test_balancing_adds_no_row_to_the_held_out_side(rows: Rows, tmp_path: Path) -> None:
    train, held = np.arange(180), np.arange(180, 240)
    prepare_fold(rows, train, held, RECIPE, tmp_path)
    assert len(np.load(tmp_path / "train_labels.npy", allow_pickle=True)) > 180
    assert np.array_equal(np.load(tmp_path / "held_labels.npy", allow_pickle=True), rows.labels[held])


def test_a_fold_is_prepared_of_hashed_terms_as_of_texts(rows: Rows, tmp_path: Path) -> None:
    train, held = np.arange(180), np.arange(180, 240)
    prepare_fold(rows, train, held, RECIPE, tmp_path / "texts")
    prepare_fold(rows.hashed(RECIPE.lexical), train, held, RECIPE, tmp_path / "terms")
    for name in ("train_vectors", "held_vectors"):
        first, second = (np.load(tmp_path / side / f"{name}.npy") for side in ("texts", "terms"))
        np.testing.assert_array_equal(first, second)


def test_a_fold_knows_what_its_rows_were_made_of(rows: Rows, tmp_path: Path) -> None:
    classes, labels = np.unique(rows.labels, return_inverse=True)
    encoded = replace(rows, labels=labels)
    prepare_fold(encoded, np.arange(180), np.arange(180, 240), RECIPE, tmp_path / "fold-0")
    scored = FoldObjective(tmp_path, RECIPE, len(classes), lambda *_: {})
    mixture, vectors = scored.carried(0).rows.mixture, np.load(tmp_path / "fold-0" / "train_vectors.npy")
    assert mixture.shape == (len(vectors), 180)
    np.testing.assert_allclose(mixture @ vectors[:180], vectors, atol=1e-5)
    # A folder that is used again keeps nothing of what was in it.
    unbalanced = replace(RECIPE, balance_method="none")
    prepare_fold(encoded, np.arange(180), np.arange(180, 240), unbalanced, tmp_path / "fold-0")
    assert not (tmp_path / "fold-0" / "mixture.npz").exists()


def test_the_lexical_half_is_that_of_the_training_texts(rows: Rows) -> None:
    part = rows.take(np.arange(100))
    prepared = prepare(part, RECIPE)
    assert prepared.vectors.shape[1] == 584
    assert np.allclose(prepared.vectors[:100, 384:], lexical_vectors(prepared.lexical, part.texts))


def test_whole_vectors_need_no_lexical_half(rows: Rows) -> None:
    whole = Rows(rows.texts, np.hstack([rows.vectors, rows.vectors[:, :200]]), rows.labels)
    assert prepare(whole, RECIPE).lexical is None


def test_the_same_seed_gives_the_same_model(rows: Rows) -> None:
    first, second = (fit(prepare(rows, RECIPE), {}, RECIPE).probabilities(rows) for _ in range(2))
    assert np.array_equal(first, second)


def test_exact_leaves_the_fit_to_scikit_learn_and_agrees_with_ours(rows: Rows) -> None:
    exact = Recipe(RECIPE.family, RECIPE.balance_method, RECIPE.lexical, RECIPE.seed, exact=True)
    prepared = prepare(rows, RECIPE)
    ours, theirs = (
        fit(prepared, {"C": 1.0, "penalty": "l1", "solver": "liblinear"}, recipe).probabilities(rows)
        for recipe in (RECIPE, exact)
    )
    assert not np.array_equal(ours, theirs)
    assert np.abs(ours - theirs).max() < 0.05


@pytest.mark.parametrize("exact", [False, True])
def test_every_fit_keeps_blas_to_one_thread(rows: Rows, exact: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of them take twice as long on cores of their own, and far longer beside other work."""
    threads = []

    def fit_of(original: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **options: Any) -> Any:
            threads.append({each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"})
            return original(*arguments, **options)

        return watched

    monkeypatch.setattr(LogisticRegression, "fit", fit_of(LogisticRegression.fit))
    monkeypatch.setattr("pcc_pipeline.solvers.logistic._solve", fit_of(logistic._solve))
    with threadpool_limits(2, user_api="blas"):
        for solver in ("lbfgs", "liblinear"):
            fit(prepare(rows, RECIPE), {"penalty": "l2", "solver": solver}, replace(RECIPE, exact=exact))
    assert threads
    assert all(each == {1} for each in threads)


def test_a_fit_that_stops_early_is_warned_of(rows: Rows) -> None:
    fitted = fit(prepare(rows, RECIPE), {"max_iter": 1}, RECIPE)
    assert fitted.warnings == ("LogisticRegression stopped before it converged; raise max_iter",)


def test_rows_that_scikit_learn_refuses_are_a_clear_error(rows: Rows) -> None:
    recipe = Recipe("LinearSVC", "none", RECIPE.lexical, 0)
    few = rows.take(np.arange(12))
    with pytest.raises(ModelError, match=r"LinearSVC cannot be fitted on these rows: .*"):
        fit(prepare(few, recipe), {"calibration_folds": 12}, recipe)


def test_a_class_absent_from_a_fold_has_probability_zero(rows: Rows, tmp_path: Path) -> None:
    labels = np.searchsorted(np.unique(rows.labels), rows.labels)
    without = np.flatnonzero(labels != 2)
    encoded = Rows(rows.texts, rows.vectors, labels)
    prepare_fold(encoded, without[:150], np.flatnonzero(labels == 2)[:5], RECIPE, tmp_path / "fold-0")
    seen = {}

    def scorer(truth: np.ndarray, probabilities: np.ndarray, n_classes: int) -> dict[str, float]:
        seen["probabilities"] = probabilities
        return scores(truth, probabilities, n_classes)

    FoldObjective(tmp_path, RECIPE, 4, scorer)({}, 0)
    assert seen["probabilities"].shape == (5, 4)
    assert not seen["probabilities"][:, 2].any()


def test_a_row_that_no_class_claims_gets_equal_shares_of_the_classes_that_were_seen() -> None:
    class Undecided:
        classes_ = np.array(["a", "c"], dtype=object)

        def predict_proba(self, vectors: np.ndarray) -> np.ndarray:
            return np.array([[np.nan, np.nan], [0.0, 0.0], [0.25, 0.75]])[: len(vectors)]

    table = class_probabilities(Undecided(), ("a", "b", "c"), np.zeros((3, 584)))
    assert table.tolist() == [[0.5, 0, 0.5], [0.5, 0, 0.5], [0.25, 0, 0.75]]


@pytest.mark.parametrize("family", ["LogisticRegression", "SGD"])
def test_making_a_classifier_decide_changes_no_other_answer(family: str) -> None:
    rng = np.random.default_rng(0)
    labels = np.array(["a", "b", "c"] * 30, dtype=object)
    vectors = rng.normal(size=(90, 20)).astype(np.float32) + (labels == "b")[:, None]
    plain = build_classifier(family, {}, Task(3, 0)).fit(vectors, labels)
    sure = decided(plain)
    shares = sure.predict_proba(vectors)
    np.testing.assert_allclose(shares, plain.predict_proba(vectors), atol=1e-6)
    # Two probabilities may round to the same 1, and the label must be that of the table, which takes the first.
    assert sure.predict(vectors).tolist() == sure.classes_[shares.argmax(axis=1)].tolist()
    assert decided(sure) is sure
