"""Every model type of the table: it builds, fits, gives probabilities, and says what it cannot do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.multiclass import OneVsRestClassifier

from pcc_pipeline.errors import ModelError
from pcc_pipeline.model.builders import PENALTIES_OF, Task
from pcc_pipeline.model.families import FAMILIES, build_classifier, complete, faults
from pcc_pipeline.model.fitting import PreparedRows, Recipe, fit
from pcc_pipeline.search.spaces import space_faults

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # tiny data is no concern

LABELS = ("data_deletion", "opt_out", "other", "privacy_request")
# Ensembles of the default sizes would only take longer.
QUICK: dict[str, dict[str, Any]] = {
    "RandomForest": {"n_estimators": 10},
    "HistGradientBoosting": {"max_iter": 5},
    "MLP": {"hidden_layer_sizes": [16], "max_iter": 40, "learning_rate_init": 0.02},
    "Voting": {"members": ["LogisticRegression", "LinearSVC"]},
    "Stacking": {"members": ["LogisticRegression", "SGD"], "cv": 3},
}


def rows(n_classes: int, per_class: int = 45, width: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Vectors around one corner for each label."""
    rng = np.random.default_rng(1)
    labels = np.array([label for label in LABELS[:n_classes] for _ in range(per_class)], dtype=object)
    centres = np.eye(n_classes, width) * 2
    vectors = centres[np.repeat(np.arange(n_classes), per_class)] + rng.normal(size=(len(labels), width)) * 0.3
    return vectors.astype(np.float32), labels


def fitted(name: str, n_classes: int, seed: int = 0, balanced: bool = False) -> Any:
    classifier = build_classifier(name, QUICK.get(name, {}), Task(n_classes, seed, balanced))
    return classifier.fit(*rows(n_classes))


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("n_classes", [2, 4])
def test_every_type_fits_text_labels_and_gives_probabilities(name: str, n_classes: int) -> None:
    vectors, labels = rows(n_classes)
    classifier = fitted(name, n_classes)
    probabilities = classifier.predict_proba(vectors)
    assert probabilities.shape == (len(labels), n_classes)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-6)
    assert probabilities.min() >= 0
    assert list(classifier.classes_) == list(LABELS[:n_classes])
    predicted = classifier.predict(vectors)
    assert all(isinstance(label, str) for label in predicted)
    assert (predicted == labels).mean() > 0.8


@pytest.mark.parametrize("name", FAMILIES)
def test_every_type_is_reproducible_under_its_seed(name: str) -> None:
    vectors, _ = rows(4)
    first, second = (fitted(name, 4, seed=5).predict_proba(vectors) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_default_builds_and_is_within_its_domain(name: str) -> None:
    family = FAMILIES[name]
    assert set(family.defaults) == set(family.domains)
    assert faults(name, dict(family.defaults)) == []
    build_classifier(name, {}, Task(2, 0))


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("method", ["grid", "random", "optuna"])
def test_every_default_space_lies_within_the_domains(name: str, method: str) -> None:
    space = FAMILIES[name].space
    assert space, "a search of this type would have nothing to try"
    assert set(space) <= set(FAMILIES[name].domains)
    assert space_faults(name, dict(space), method) == []
    for option, given in space.items():
        values = [given["low"], given["high"], *given.get("grid", [])] if isinstance(given, dict) else given
        domain = FAMILIES[name].domains[option]
        assert [domain.fault(value) for value in values] == [""] * len(values)


def test_an_unknown_hyperparameter_is_told_with_those_there_are() -> None:
    with pytest.raises(
        ModelError, match=r"(?s)D: LinearSVC has no such hyperparameter; there are C, loss.*type LinearSVC"
    ):
        build_classifier("LinearSVC", {"D": 1}, Task(2, 0))


def test_all_wrong_hyperparameters_are_told_together() -> None:
    found = dict(faults("LogisticRegression", {"C": -1, "penalty": "l3", "max_iter": 1.5, "tol": 1e-3}))
    assert set(found) == {"C", "penalty", "max_iter"}
    assert found["C"] == "-1 is not a number from 1e-08 to 1e+08"
    assert found["penalty"] == "'l3' is not one of l1, l2, elasticnet"


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("LogisticRegression", {"solver": "lbfgs", "penalty": "l1"}, "solvers that can: liblinear, saga"),
        ("LogisticRegression", {"solver": "liblinear", "penalty": "elasticnet"}, "solvers that can: saga"),
        ("LogisticRegression", {"l1_ratio": 0.5}, "l1_ratio belongs to penalty elasticnet, not to l2"),
        ("LogisticRegression", {"solver": "saga", "penalty": "elasticnet"}, "elasticnet needs l1_ratio"),
        ("Voting", {"members": ["SGD", "SGD"]}, "a member is named twice"),
        ("Stacking", {"members": ["SGD", "SGD"]}, "a member is named twice"),
        ("Voting", {"members": ["SGD", "MLP"], "weights": [1, 2, 3]}, "3 weights for 2 members"),
        ("Voting", {"members": ["SGD", "Voting"]}, "holds 'Voting', which is not one of LogisticRegression"),
        ("Stacking", {"members": ["SGD"]}, "is not a list of at least 2"),
    ],
)
def test_values_that_cannot_go_together_are_told(name: str, values: dict[str, Any], message: str) -> None:
    ((_, problem),) = faults(name, values)
    assert message in problem
    with pytest.raises(ModelError, match=r"model\.type " + name):
        build_classifier(name, values, Task(2, 0))


@pytest.mark.parametrize("solver", PENALTIES_OF)
@pytest.mark.parametrize("n_classes", [2, 4])
def test_every_solver_fits_every_penalty_it_is_said_to(solver: str, n_classes: int) -> None:
    vectors, labels = rows(n_classes)
    for penalty in PENALTIES_OF[solver]:
        ratio = 0.5 if penalty == "elasticnet" else None
        values = {"solver": solver, "penalty": penalty, "l1_ratio": ratio, "C": 1, "max_iter": 200}
        classifier = build_classifier("LogisticRegression", values, Task(n_classes, 0)).fit(vectors, labels)
        assert classifier.predict_proba(vectors).shape == (len(labels), n_classes)


def test_l1_makes_zeros_and_l2_does_not() -> None:
    """The penalty's name reaches scikit-learn as the right ratio."""
    vectors, labels = rows(2)

    def zeros(penalty: str) -> int:
        model = build_classifier(
            "LogisticRegression", {"penalty": penalty, "solver": "liblinear", "C": 0.3}, Task(2, 0)
        )
        return int((model.fit(vectors, labels).coef_ == 0).sum())

    assert zeros("l1") > 5
    assert zeros("l2") == 0


def test_liblinear_takes_many_classes_one_against_the_rest() -> None:
    values = {"solver": "liblinear"}
    assert isinstance(build_classifier("LogisticRegression", values, Task(3, 0)), OneVsRestClassifier)
    assert not isinstance(build_classifier("LogisticRegression", values, Task(2, 0)), OneVsRestClassifier)


def test_a_type_that_cannot_weigh_classes_says_so() -> None:
    with pytest.raises(ModelError, match=r"(?s)MLP cannot weigh classes.*class_weight.*choose SMOTE"):
        build_classifier("MLP", {}, Task(2, 0, balanced=True))
    with pytest.raises(ModelError, match="Voting cannot weigh classes"):
        build_classifier("Voting", {"members": ["SGD", "MLP"]}, Task(2, 0, balanced=True))


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "MLP"])
def test_weighing_classes_makes_a_rare_one_likelier(name: str) -> None:
    rng = np.random.default_rng(0)
    labels = np.array(["common"] * 90 + ["rare"] * 10, dtype=object)
    vectors = rng.normal(size=(100, 5)) + (labels == "rare")[:, None] * 0.5
    hyperparameters = dict(QUICK.get(name, {}))
    if name == "RandomForest":
        hyperparameters["min_samples_leaf"] = 8  # trees without a limit reach pure leaves whatever the weights

    def share(method: str) -> float:
        fitted = fit(PreparedRows(None, vectors, labels), hyperparameters, Recipe(name, method, {}, seed=0))
        return float(fitted.classifier.predict_proba(vectors)[:, 1].mean())

    assert share("class_weight") > share("none") + 0.05


def test_defaults_fill_what_is_not_given() -> None:
    assert complete("LinearSVC", {"C": 3}) == {**FAMILIES["LinearSVC"].defaults, "C": 3}
    build_classifier("MLP", {"hidden_layer_sizes": [4]}, Task(2, 0))
    assert FAMILIES["MLP"].defaults["hidden_layer_sizes"] == [128]
