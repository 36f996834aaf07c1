"""Balancing adds rows to the smaller classes and changes nothing else, however small they are."""

from __future__ import annotations

import numpy as np
import pytest

from pcc_pipeline.config.schema import BalanceMethod
from pcc_pipeline.errors import ModelError
from pcc_pipeline.model.balance import balance

METHODS = list(BalanceMethod.__args__)
FILLING = ["SMOTE", "BorderlineSMOTE", "ADASYN", "RandomOverSampler"]


def rows(counts: dict[str, int], spread: float = 1.5, width: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Classes that overlap, as many rows each as said, in mixed order."""
    rng = np.random.default_rng(3)
    labels = np.array([name for name, count in counts.items() for _ in range(count)], dtype=object)
    centres = {name: rng.normal(size=width) for name in counts}
    vectors = np.array([centres[name] for name in labels]) + rng.normal(size=(len(labels), width)) * spread
    order = rng.permutation(len(labels))
    return vectors[order].astype(np.float32), labels[order]


def counted(labels: np.ndarray) -> dict[str, int]:
    names, counts = np.unique(labels, return_counts=True)
    return dict(zip(names.tolist(), counts.tolist(), strict=True))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_float32_rows_with_a_label_each(method: str) -> None:
    vectors, labels, _ = balance(*rows({"a": 60, "b": 25, "c": 12}), method, 0)
    assert vectors.dtype == np.float32
    assert len(vectors) == len(labels)
    assert np.isfinite(vectors).all()
    assert set(labels) == {"a", "b", "c"}
    assert all(isinstance(label, str) for label in labels)


@pytest.mark.parametrize("method", ["none", "class_weight"])
def test_methods_without_rows_of_their_own_add_none(method: str) -> None:
    vectors, labels = rows({"a": 60, "b": 5})
    balanced, names, _ = balance(vectors, labels, method, 0)
    np.testing.assert_array_equal(balanced, vectors)
    np.testing.assert_array_equal(names, labels)


@pytest.mark.parametrize("method", FILLING)
def test_rows_are_only_added(method: str) -> None:
    vectors, labels = rows({"a": 60, "b": 25, "c": 12})
    kept = vectors.copy()
    balanced, names, _ = balance(vectors, labels, method, 0)
    np.testing.assert_array_equal(balanced[: len(vectors)], vectors)
    np.testing.assert_array_equal(names[: len(labels)], labels)
    np.testing.assert_array_equal(vectors, kept)
    assert counted(names)["a"] == 60
    assert counted(names)["b"] > 25
    assert counted(names)["c"] > 12


@pytest.mark.parametrize("method", ["SMOTE", "BorderlineSMOTE", "RandomOverSampler"])
def test_classes_end_as_large_as_the_largest(method: str) -> None:
    names = balance(*rows({"a": 60, "b": 25, "c": 12}), method, 0).labels
    assert counted(names) == {"a": 60, "b": 60, "c": 60}


@pytest.mark.parametrize("method", FILLING)
@pytest.mark.parametrize("few", [1, 2, 5, 6])
def test_a_tiny_class_is_filled_up_too(method: str, few: int) -> None:
    vectors, labels = rows({"a": 40, "b": 30, "tiny": few})
    if (method, few) == ("ADASYN", 1):
        # One row, repeated, has only itself for neighbours: ADASYN sees no border to learn and says so.
        with pytest.raises(ModelError, match="ADASYN cannot balance these rows"):
            balance(vectors, labels, method, 0)
        return
    balanced, names, _ = balance(vectors, labels, method, 0)
    assert counted(names)["tiny"] >= 6
    assert counted(names)["a"] == 40
    if few == 1:
        # Nothing lies between a row and itself.
        only = vectors[labels == "tiny"][0]
        np.testing.assert_allclose(balanced[names == "tiny"], np.tile(only, (counted(names)["tiny"], 1)), atol=1e-5)


def test_smote_makes_rows_between_those_of_the_class() -> None:
    vectors, labels = rows({"a": 60, "b": 12})
    balanced, names, _ = balance(vectors, labels, "SMOTE", 0)
    made, source = balanced[len(vectors) :], vectors[labels == "b"]
    assert set(names[len(vectors) :]) == {"b"}
    assert (made >= source.min(axis=0) - 1e-6).all()
    assert (made <= source.max(axis=0) + 1e-6).all()
    assert not any((row == source).all(axis=1).any() for row in made)


@pytest.mark.parametrize("method", FILLING)
def test_the_seed_decides(method: str) -> None:
    given = rows({"a": 60, "b": 12}, spread=4)
    np.testing.assert_array_equal(balance(*given, method, 1)[0], balance(*given, method, 1)[0])
    assert not np.array_equal(balance(*given, method, 1)[0], balance(*given, method, 2)[0])


def test_borderline_smote_leaves_a_class_without_a_border() -> None:
    """Its authors fill up only from rows that lie close to other classes; where there are none, it adds none."""
    vectors = np.vstack([rows({"a": 30}, spread=0.01)[0], rows({"b": 12}, spread=0.01)[0] + 100])
    labels = np.array(["a"] * 30 + ["b"] * 12, dtype=object)
    assert counted(balance(vectors, labels, "BorderlineSMOTE", 0)[1]) == {"a": 30, "b": 12}


@pytest.mark.parametrize("method", FILLING)
def test_even_classes_stay_as_they_are(method: str) -> None:
    vectors, labels = rows({"a": 20, "b": 20})
    balanced, names, _ = balance(vectors, labels, method, 0)
    np.testing.assert_array_equal(balanced, vectors)
    np.testing.assert_array_equal(names, labels)


def test_adasyn_says_when_classes_do_not_touch() -> None:
    near = rows({"a": 30}, spread=0.01)[0]
    vectors = np.vstack([near, rows({"b": 10}, spread=0.01)[0] + 100])
    labels = np.array(["a"] * 30 + ["b"] * 10, dtype=object)
    with pytest.raises(ModelError, match=r"(?s)ADASYN cannot balance these rows: .*balance_method.*choose SMOTE"):
        balance(vectors, labels, "ADASYN", 0)


@pytest.mark.parametrize("method", ["SMOTE", "RandomOverSampler"])
@pytest.mark.parametrize("few", [1, 3, 12])
def test_what_rows_were_made_of_is_known(method: str, few: int) -> None:
    vectors, labels = rows({"a": 60, "b": 25, "c": few})
    balanced, _, mixture = balance(vectors, labels, method, 0)
    assert mixture.shape == (180, len(vectors))
    np.testing.assert_allclose(mixture @ vectors, balanced, atol=1e-5)
    np.testing.assert_allclose(mixture.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(mixture[: len(vectors)].toarray(), np.eye(len(vectors)))


@pytest.mark.parametrize("method", ["none", "BorderlineSMOTE", "ADASYN"])
def test_of_other_methods_it_is_not_known(method: str) -> None:
    assert balance(*rows({"a": 60, "b": 25, "c": 12}), method, 0).mixture is None


def test_a_row_that_is_not_the_mixture_it_is_said_to_be_leaves_it_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a later imbalanced-learn may mix in another way: the rows are then what they are, and fits go by them."""
    from imblearn.over_sampling import SMOTE

    generate = SMOTE._generate_samples
    monkeypatch.setattr(SMOTE, "_generate_samples", lambda self, *given: generate(self, *given) + 0.01)
    vectors, labels = rows({"a": 60, "b": 25})
    changed = balance(vectors, labels, "SMOTE", 0)
    assert changed.mixture is None
    assert len(changed.vectors) == 120
