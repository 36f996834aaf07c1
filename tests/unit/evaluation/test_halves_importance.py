"""Which half of the vectors a model goes by."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

from pcc_pipeline.evaluation.explanations.halves_importance import halves_importance
from pcc_pipeline.evaluation.plots.halves import feature_halves
from pcc_pipeline.model.probabilities import CALIBRATORS, assembled
from pcc_pipeline.model.selection import on_features

CLASSES = ("a", "b", "c", "never")


@pytest.fixture(scope="module")
def rows() -> tuple[np.ndarray, np.ndarray]:
    """Class c shows in the lexical half alone, a against b in the sentence half alone."""
    random = np.random.default_rng(0)
    y = np.arange(240) % 3
    vectors = random.normal(scale=0.1, size=(240, 584)).astype(np.float32)
    vectors[:, 3] += (y == 0) * 2 - (y == 1) * 2
    vectors[:, 500] += (y == 2) * 4
    return vectors, y


def _labels(y: np.ndarray) -> np.ndarray:
    return np.array(CLASSES, dtype=object)[y]


def test_a_linear_models_weights_are_its_contributions_whatever_calibrates_it(rows) -> None:
    vectors, y = rows
    plain = LogisticRegression(max_iter=500).fit(vectors, _labels(y))
    result = halves_importance(plain, CLASSES, vectors, y)
    each = plain.coef_[:, None, :] * (vectors - vectors.mean(axis=0))
    for place, half in enumerate((slice(0, 384), slice(384, 584))):
        np.testing.assert_allclose(result.weights[:3, place], np.abs(each[:, :, half].sum(axis=2)).mean(axis=1), 1e-4)
    assert (result.method, np.isnan(result.lexical_shares).tolist()) == ("contributions", [False] * 3 + [True])
    assert result.lexical_shares[2] > 0.5 > max(result.lexical_shares[:2])
    scale = CALIBRATORS["temperature"]()
    scale.beta_ = 0.5
    calibrated = assembled(plain, "temperature", [scale])
    np.testing.assert_array_equal(halves_importance(calibrated, CLASSES, vectors, y).weights, result.weights)
    document = result.to_json()
    assert document["by_class"][3] == {"label": "never", "sentence_share": None, "lexical_share": None}
    assert document["sentence_share"] + document["lexical_share"] == pytest.approx(1)


def test_two_classes_and_models_fitted_fold_by_fold_are_linear_too(rows) -> None:
    vectors, y = rows
    two = y < 2
    model = CalibratedClassifierCV(LinearSVC(), cv=2).fit(vectors[two], _labels(y[two]))
    result = halves_importance(model, CLASSES[:2], vectors[two], y[two])
    assert result.method == "contributions"
    assert result.lexical_shares[0] == result.lexical_shares[1] < 0.3


@pytest.mark.parametrize("linear", [LogisticRegression(max_iter=500), CalibratedClassifierCV(LinearSVC(), cv=2)])
def test_of_a_model_of_some_features_the_others_weigh_nothing(rows, linear) -> None:
    vectors, y = rows
    kept = np.array([3, 50, 500, 510])
    part = clone(linear).fit(vectors[:, kept], _labels(y))
    result = halves_importance(on_features(part, kept, 584), CLASSES, vectors, y)
    blank = np.zeros_like(vectors)
    blank[:, kept] = vectors[:, kept]
    np.testing.assert_allclose(
        halves_importance(on_features(part, kept, 584), CLASSES, blank, y).weights, result.weights
    )
    members = [one.estimator for one in getattr(part, "calibrated_classifiers_", [])] or [part]
    coefficients = np.mean([member.coef_ for member in members], axis=0)
    apart = vectors[:, kept] - vectors[:, kept].mean(axis=0)
    expected = np.abs(apart[:, 2:] @ coefficients[:, 2:].T).mean(axis=0)
    np.testing.assert_allclose(result.weights[:3, 1], expected, rtol=1e-4)


def test_of_any_other_model_a_half_weighs_what_shuffling_it_costs(rows) -> None:
    vectors, y = rows
    model = DecisionTreeClassifier(max_depth=2, random_state=0).fit(vectors, _labels(y))
    y = np.where(np.arange(len(y)) == 5, -1, y)
    result = halves_importance(model, CLASSES, vectors, y)
    assert result.method == "permutation"
    assert (result.weights[:3] >= 0).all()
    assert result.lexical_shares[2] > max(result.lexical_shares[:2])
    np.testing.assert_array_equal(result.weights, halves_importance(model, CLASSES, vectors, y).weights)


def test_the_figure_shows_each_class_that_has_shares(rows) -> None:
    vectors, y = rows
    result = halves_importance(LogisticRegression().fit(vectors, _labels(y)), CLASSES, vectors, y)
    (axes,) = feature_halves(result).axes
    assert axes.get_yticklabels()[0].get_text() == "c"
    assert len(axes.get_yticklabels()) == 3
    constant = halves_importance(LogisticRegression().fit(vectors, _labels(y)), CLASSES, vectors * 0, y)
    assert "Neither half" in feature_halves(constant).axes[0].texts[0].get_text()
