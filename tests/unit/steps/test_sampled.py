"""Of more rows than `model.in_memory_rows` some things are learned from a sample, and the run says which."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pcc_pipeline.config import load_params
from pcc_pipeline.data.splits import stratified_sample
from pcc_pipeline.features.full_vectors import needs_lexical
from pcc_pipeline.model.fitting import Rows, prepare
from pcc_pipeline.steps.training.sampled import Sampled
from pcc_pipeline.steps.training.search import SearchRows, recipe_of, study_identity

SETTINGS = {"model.in_memory_rows": "1000"}


def rows(width: int = 584, rare: int = 20) -> Rows:
    """2,000 rows of three labels, one of them rare."""
    draws = np.random.default_rng(3)
    labels = np.array(["a"] * 1_400 + ["b"] * (600 - rare) + ["c"] * rare, dtype=object)[draws.permutation(2_000)]
    texts = [f"message {place} about {label * 3} {place % 7}" for place, label in enumerate(labels)]
    return Rows(texts, draws.normal(size=(2_000, width)).astype(np.float32), labels)


def params(**more: str):
    return load_params(None, {**SETTINGS, **more})


def of_training(settings, given: Rows, recipe, folds: int | None) -> Sampled:
    lexical = needs_lexical(given.vectors)
    return Sampled.of_training(settings, given.labels, given.labels, recipe, folds=folds, lexical=lexical)


def test_a_study_resumes_under_a_balancing_of_the_same_kind_alone() -> None:
    """Fewer rows in memory make another balancing of the same rows, and scores of the two do not compare."""
    labels = np.array(["a"] * 900 + ["b"] * 80 + ["c"] * 20, dtype=object)
    given = Rows([f"message {place}" for place in range(1_000)], np.zeros((1_000, 4), np.float32), labels)
    identities = {}
    for most in ("100000", "50000", "1000"):
        settings = params(**{"model.in_memory_rows": most, "preprocessing.balance_method": "SMOTE"})
        search_rows = SearchRows(given, np.arange(1_000), ["a", "b", "c"], 1, {}).sampled(int(most), 0)
        assert search_rows.places is None
        identities[most] = study_identity(settings, search_rows, recipe_of(settings, labels, labels))
    assert identities["100000"] == identities["50000"]
    assert identities["100000"] != identities["1000"]
    exact = params(**{"model.in_memory_rows": "100000", "model.solver_exact": "true"})
    search_rows = SearchRows(given, np.arange(1_000), ["a", "b", "c"], 1, {})
    assert study_identity(exact, search_rows, recipe_of(exact, labels, labels)) != identities["100000"]


def test_a_sample_has_each_labels_share_and_all_rows_of_a_rare_one() -> None:
    given = rows()
    places = stratified_sample(given.labels, 1_000, 0)
    assert (np.diff(places) > 0).all()
    counts = {name: int((given.labels[places] == name).sum()) for name in "abc"}
    assert counts == {"a": 700, "b": 290, "c": 20}
    assert stratified_sample(given.labels, 1_000, 0).tolist() == places.tolist()
    assert stratified_sample(given.labels, 1_000, 1).tolist() != places.tolist()
    assert stratified_sample(given.labels, 2_000, 0).tolist() == list(range(2_000))


def test_a_search_of_few_rows_has_them_all_and_of_many_a_sample_whose_places_are_known() -> None:
    given = rows()
    search_rows = SearchRows(given, np.arange(2_000), ["a", "b", "c"], 1, {})
    assert search_rows.sampled(2_000, 0) is search_rows
    some = search_rows.sampled(1_000, 0)
    assert some.places is not None
    assert some.train.texts == [given.texts[place] for place in some.places]
    assert some.groups.tolist() == some.places.tolist()
    np.testing.assert_array_equal(some.train.vectors, given.vectors[some.places])


@pytest.mark.parametrize(
    ("family", "instead", "said"),
    [("LogisticRegression", "class_weight", "weighed instead"), ("MLP", "none", "nothing is balanced")],
)
def test_no_rows_are_made_beside_many_and_the_run_says_so(family: str, instead: str, said: str) -> None:
    given, settings = rows(), params(**{"model.type": family})
    recipe = recipe_of(settings, given.labels, given.labels)
    assert recipe.balance_method == instead
    sampled = of_training(settings, given, recipe, 1_010)
    assert sampled.balance == ("SMOTE", instead)
    assert said in sampled.warnings[0]
    assert sampled.line == ("search and calibration by 1,010 of 2,000 training rows (model.in_memory_rows)",)
    assert sampled.tags == {"pcc.sampled_rows": "1010 of 2000: search and calibration"}
    few = params(**{"model.type": family, "model.in_memory_rows": "2100"})
    recipe = recipe_of(few, given.labels, given.labels)
    assert recipe.balance_method == "SMOTE"
    whole = of_training(few, given, recipe, 2_000)
    assert (whole.tags, whole.line, whole.warnings) == ({}, (), ())


def test_rows_that_balancing_would_make_count_too() -> None:
    """Three labels, the largest of 1,400 rows: 4,200 rows."""
    given, settings = rows(), params(**{"model.in_memory_rows": "2099"})
    recipe = recipe_of(settings, given.labels, given.labels)
    assert recipe.balance_method == "class_weight"
    sampled = of_training(settings, given, recipe, 2_000)
    assert (sampled.tags, sampled.line) == ({}, ())
    assert "SMOTE would make 4,200 rows of 2,000, more than twice model.in_memory_rows" in sampled.warnings[0]


def test_validation_rows_that_the_last_fit_learns_from_count_too() -> None:
    given = rows()
    settings, before = params(**{"model.in_memory_rows": "1900"}), given.take(np.arange(1_800))
    recipe = recipe_of(settings, before.labels, given.labels)
    assert recipe.balance_method == "class_weight"
    sampled = Sampled.of_training(settings, before.labels, given.labels, recipe, folds=1_800, lexical=True)
    assert (sampled.rows, sampled.of, sampled.uses) == (1_900, 2_000, ("lexical half",))
    assert "makes no rows beside 2,000" in sampled.warnings[0]


def test_the_lexical_half_of_many_rows_is_learned_from_a_sample_and_made_for_all() -> None:
    given = rows(width=384)
    settings = params(**{"preprocessing.balance": "false", "preprocessing.svd_components": "5"})
    recipe = recipe_of(settings, given.labels, given.labels)
    prepared = prepare(given, recipe)
    assert prepared.vectors.shape == (2_000, 584)
    np.testing.assert_array_equal(prepared.vectors[:, :384], given.vectors)
    assert np.abs(prepared.vectors[:, 384:389]).sum(axis=1).all()
    places = stratified_sample(given.labels, 1_000, recipe.seed)
    from_sample = prepare(given.take(places), replace(recipe, most_rows=None))
    np.testing.assert_allclose(prepared.vectors[places, 384:], from_sample.vectors[:, 384:], atol=1e-5)
    sampled = of_training(settings, given, recipe, None)
    assert sampled.uses == ("lexical half",)
    assert sampled.rows == 1_000
