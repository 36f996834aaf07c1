"""Features are ranked by what tells classes apart, on real training rows alone; a model of some of them is whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.feature_selection import RFE
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import mutual_info_score

from pcc_pipeline.errors import ModelError
from pcc_pipeline.model.fitting import PreparedRows, Recipe, Rows, fit, prepare
from pcc_pipeline.model.folds import FoldObjective, prepare_fold
from pcc_pipeline.model.probabilities import bare
from pcc_pipeline.model.selection import METHODS, FeaturesUsed, kept_features, ranking

TELLING = [5, 130, 400, 570]
RECIPE = Recipe("LogisticRegression", "none", {}, seed=0, rankings=METHODS)
# Enough where the subject is the rows that are ranked on.
QUICK = replace(RECIPE, rankings=("l1", "mutual_information"))


@pytest.fixture(scope="module")
def rows() -> Rows:
    """Four features tell three classes apart, the first by far the least; the last ten are the same for all rows."""
    random = np.random.default_rng(1)
    labels = np.arange(180) % 3
    vectors = random.normal(scale=0.05, size=(180, 584)).astype(np.float32)
    for place, size, label in zip(TELLING, (0.1, 0.2, 0.2, 0.2), (0, 0, 1, 2), strict=True):
        vectors[:, place] += size * (labels == label)
    vectors[:, 574:] = 0
    return Rows([""] * 180, vectors, np.array(["a", "b", "c"], dtype=object)[labels])


@pytest.fixture(scope="module")
def prepared(rows: Rows) -> PreparedRows:
    return prepare(rows, RECIPE)


@pytest.mark.parametrize("method", METHODS)
def test_what_tells_classes_apart_comes_first_and_what_is_the_same_for_all_rows_last(
    prepared: PreparedRows, method: str
) -> None:
    order = prepared.rankings[method]
    assert set(order[:4]) == set(TELLING)
    assert len(set(order)) == len(order)
    same = set(range(574, 584))
    assert not same & set(order[:-10]) if method != "l1" else not same & set(order)
    assert len(order) == 584 or method == "l1"


def test_information_is_scikit_learns_of_the_same_tenths(rows: Rows, prepared: PreparedRows) -> None:
    some = rows.vectors[:, prepared.rankings["mutual_information"][:40]]
    tenths = [np.searchsorted(np.quantile(column, np.arange(1, 10) / 10), column) for column in some.T]
    theirs = [mutual_info_score(rows.labels, tenth) for tenth in tenths]
    assert theirs == sorted(theirs, reverse=True)


def test_elimination_keeps_what_scikit_learn_s_keeps() -> None:
    """One feature a round, both on features of one spread; ours weighs by the spread, which is then the same."""
    random = np.random.default_rng(0)
    vectors = random.normal(size=(120, 9))
    labels = np.array(["a", "b", "c"])[(vectors[:, :3] * [3, 2, 1]).argmax(axis=1)]
    vectors = (vectors - vectors.mean(axis=0)) / vectors.std(axis=0)

    def weights(some: np.ndarray, hyperparameters: object) -> np.ndarray:
        return np.asarray(LogisticRegression(C=10).fit(some, labels).coef_)

    order = ranking("recursive", vectors, labels, np.ones(120), weights)
    for kept in (1, 3, 6):
        theirs = RFE(LogisticRegression(C=10), n_features_to_select=kept).fit(vectors, labels)
        assert set(order[:kept]) == set(np.flatnonzero(theirs.support_))


def test_made_up_rows_have_no_say_and_classes_as_much_as_after_balancing(rows: Rows) -> None:
    few = rows.take(np.flatnonzero((rows.labels != "c") | (np.arange(180) < 24)))
    made_up, weighed, plain = (
        prepare(few, replace(QUICK, balance_method=method)) for method in ("SMOTE", "class_weight", "none")
    )
    assert len(made_up.labels) > len(weighed.labels)
    for method in QUICK.rankings:
        np.testing.assert_array_equal(made_up.rankings[method], weighed.rankings[method])
        assert not np.array_equal(weighed.rankings[method], plain.rankings[method])
        assert 570 in made_up.rankings[method][:4]  # what shows the rare class


def test_held_out_rows_change_no_ranking(rows: Rows, tmp_path: Path) -> None:
    train, held = np.arange(120), np.arange(120, 180)
    other = rows.vectors.copy()
    other[120:] = 9
    for name, vectors in (("a", rows.vectors), ("b", other)):
        prepare_fold(Rows(rows.texts, vectors, rows.labels), train, held, QUICK, tmp_path / name)
    for method in QUICK.rankings:
        first, second = (np.load(tmp_path / side / f"ranking_{method}.npy") for side in "ab")
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("family", "values", "solver"),
    [
        ("LogisticRegression", {"penalty": "l1", "solver": "liblinear"}, "pcc_pipeline/proximal_newton"),
        ("LogisticRegression", {"penalty": "l2", "solver": "saga"}, "pcc_pipeline/quasi_newton"),
        ("LogisticRegression", {}, "scikit-learn/lbfgs"),
        ("RandomForest", {"n_estimators": 10}, "scikit-learn"),
        ("Voting", {"members": ["LinearSVC", "SGD"]}, "scikit-learn"),
    ],
)
def test_a_model_of_some_features_is_the_classifier_of_these_columns(
    rows: Rows, prepared: PreparedRows, family: str, values: dict[str, object], solver: str
) -> None:
    """By the same solver, and it takes whole vectors as every other."""
    recipe = replace(RECIPE, family=family)
    fitted = fit(prepared, {**values, "feature_selection": "mutual_information", "n_features": 20}, recipe)
    kept = kept_features(fitted.classifier)
    assert kept is not None
    assert kept.tolist() == sorted(prepared.rankings["mutual_information"][:20])
    by_hand = fit(PreparedRows(None, np.ascontiguousarray(rows.vectors[:, kept]), rows.labels), values, recipe)
    expected = by_hand.classifier.predict_proba(rows.vectors[:, kept])
    np.testing.assert_allclose(fitted.classifier.predict_proba(rows.vectors), expected, atol=1e-12)
    assert (fitted.solver, by_hand.solver) == (solver, solver)
    assert fitted.classifier.n_features_in_ == 584
    used = FeaturesUsed.of(fitted.classifier, {"feature_selection": "mutual_information"})
    assert (used.sentence, used.lexical) == (int((kept < 384).sum()), int((kept >= 384).sum()))
    assert used.line == (
        f"features 20 of 584 by mutual_information: {used.sentence} of the sentence half, {used.lexical} of the "
        "lexical half",
    )


def test_a_candidate_that_chooses_none_is_fitted_as_if_there_were_no_choice(rows: Rows, prepared: PreparedRows) -> None:
    plain = fit(prepare(rows, replace(RECIPE, rankings=())), {}, RECIPE)
    with_choice = fit(prepared, {"feature_selection": "none", "n_features": 20}, RECIPE)
    assert type(bare(with_choice.classifier)) is type(bare(plain.classifier)) is LogisticRegression
    np.testing.assert_array_equal(with_choice.classifier.coef_, plain.classifier.coef_)
    assert FeaturesUsed.of(plain.classifier, {}).line == ()


def test_folds_rank_once_for_all_candidates(rows: Rows, tmp_path: Path) -> None:
    encoded = Rows(rows.texts, rows.vectors, np.searchsorted(["a", "b", "c"], rows.labels.astype(str)))
    prepare_fold(encoded, np.arange(120), np.arange(120, 180), QUICK, tmp_path / "fold-0")
    scored = FoldObjective(tmp_path, QUICK, 3, lambda y, table, k: {"accuracy": float((table.argmax(1) == y).mean())})
    accuracies = [
        scored({"feature_selection": method, "n_features": n}, 0)["accuracy"]
        for method in ("none", *QUICK.rankings)
        for n in (4, 584)
    ]
    assert accuracies[0] == accuracies[1] < min(accuracies[2], accuracies[4])
    scores, probabilities, labels = scored.held({"feature_selection": "l1", "n_features": 4}, 0)
    assert (scores.shape, probabilities.shape, len(labels)) == ((60, 3), (60, 3), 60)


def test_rows_that_tell_nothing_are_refused_in_words(rows: Rows) -> None:
    with pytest.raises(ModelError, match="rows of one class"):
        prepare(rows.take(np.flatnonzero(rows.labels == "a")), RECIPE)
    same = Rows(rows.texts, np.ones_like(rows.vectors), rows.labels)
    with pytest.raises(ModelError, match="no feature any weight"):
        prepare(same, replace(RECIPE, rankings=("l1",)))
