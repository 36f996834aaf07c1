"""`model.search_space`: every fault is named with its key, and what has none becomes dimensions."""

from __future__ import annotations

from typing import Any

import pytest

from pcc_pipeline.errors import SearchError
from pcc_pipeline.model.families import FAMILIES
from pcc_pipeline.search.spaces import Categorical, Interval, space_faults, space_of


@pytest.mark.parametrize("family", FAMILIES)
def test_every_familys_own_space_is_without_fault_for_every_method(family: str) -> None:
    for method in ("none", "grid", "random", "optuna"):
        assert space_faults(family, None, method) == []


@pytest.mark.parametrize(
    ("space", "key", "problem"),
    [
        ({"c": [1]}, "c", "LogisticRegression has no such hyperparameter; there are C, "),
        ({"C": [1, -1]}, "C", "-1 is not a number from 1e-08"),
        ({"C": []}, "C", "the list of choices is empty"),
        ({"C": [1, 2, 1]}, "C", "1 is listed twice"),
        ({"C": 1}, "C", "1 is neither a list of choices nor a range such as {low: 0.01"),
        ({"penalty": "l1"}, "penalty", "'l1' is neither a list"),
        ({"penalty": ["l3"]}, "penalty", "'l3' is not one of l1, l2"),
        ({"C": {"low": 1}}, "C.high", "is missing; a range is written {low"),
        ({"C": {"low": "1e-3", "high": 1}}, "C.low", "'1e-3' is not a number; it is text in YAML: write 0.001"),
        ({"C": ["1e3"]}, "C", "write 1000.0"),
        ({"C": {"low": 2.0, "high": 1}}, "C", "low 2.0 is not below high 1"),
        ({"C": {"low": 0, "high": 1, "log": True}}, "C.low", "0 is not a number from 1e-08"),
        ({"max_iter": {"low": 1.5, "high": 9}}, "max_iter.low", "1.5 is not a whole number"),
        ({"C": {"low": 1, "high": 9, "log": "yes"}}, "C.log", "'yes' is neither true nor false"),
        ({"C": {"low": 1, "high": 9, "step": 2}}, "C.step", "a range has no such key; there are low, high, log, grid"),
        ({"C": {"low": 1, "high": 9, "grid": [0]}}, "C.grid", "0 is not a number from"),
        ({"C": {"low": 1, "high": 9, "grid": 5}}, "C.grid", "5 is not a list of points"),
        ({"C": {"low": True, "high": 9}}, "C.low", "True is not a number"),
        ({"n_features": [100, 600]}, "n_features", "600 is not a whole number from 1 to 584"),
        (
            {"feature_selection": ["lasso"]},
            "feature_selection",
            "'lasso' is not one of none, l1, mutual_information, rec",
        ),
        ({}, "", "there is nothing in it; name hyperparameters to search (C, "),
    ],
)
def test_a_fault_names_its_key_and_what_there_is(space: dict[str, Any], key: str, problem: str) -> None:
    assert any(at == key and problem in text for at, text in space_faults("LogisticRegression", space, "random")), (
        space_faults("LogisticRegression", space, "random")
    )


def test_log_needs_a_bound_above_zero() -> None:
    space = {"l2_regularization": {"low": 0, "high": 1.0, "log": True}}
    family = next(name for name, known in FAMILIES.items() if "l2_regularization" in known.domains)
    assert ("l2_regularization.low", "0 is not above 0, which log: true needs") in space_faults(family, space, "random")


def test_all_faults_are_reported_at_once() -> None:
    assert len(space_faults("LogisticRegression", {"c": [1], "C": [-1], "penalty": []}, "random")) == 3


def test_a_grid_search_of_a_range_says_what_to_write() -> None:
    space = {"C": {"low": 0.1, "high": 10}}
    ((key, problem),) = space_faults("LogisticRegression", space, "grid")
    assert key == "C.grid"
    assert "such as grid: [0.1, 10]" in problem
    assert space_faults("LogisticRegression", space, "random") == []


def test_values_that_only_clash_together_are_no_fault() -> None:
    assert space_faults("LogisticRegression", {"penalty": ["l1"], "solver": ["lbfgs"]}, "grid") == []


def test_dimensions_are_whole_only_between_whole_bounds() -> None:
    space = space_of(
        "LogisticRegression",
        {"max_iter": {"low": 10, "high": 20}, "C": {"low": 1, "high": 2.5, "log": True}, "penalty": ["l1", "l2"]},
    )
    assert space == {
        "max_iter": Interval(10, 20),
        "C": Interval(1, 2.5, log=True),
        "penalty": Categorical(("l1", "l2")),
    }
    assert [dimension.size for dimension in space.values()] == [11, float("inf"), 2]


def test_a_faulty_space_raises_with_all_its_faults() -> None:
    with pytest.raises(SearchError, match=r"C: -1 is not.*penalty: the list of choices is empty"):
        space_of("LogisticRegression", {"C": [-1], "penalty": []})


@pytest.mark.parametrize(
    ("family", "fixed", "left"),
    [
        ("LogisticRegression", {"max_iter": 50}, {"C": None, "penalty": ["l2"], "solver": ["lbfgs", "liblinear"]}),
        ("LogisticRegression", {"C": 1}, {"penalty": ["l2"], "solver": ["lbfgs", "liblinear"]}),
        # lbfgs fits no l1.
        ("LogisticRegression", {"penalty": "l1"}, {"C": None, "solver": ["liblinear"]}),
        ("LogisticRegression", {"penalty": "elasticnet", "solver": "saga", "l1_ratio": 0.5}, {"C": None}),
        ("LogisticRegression", {"C": 1, "penalty": "l1", "solver": "liblinear"}, {}),
        ("RandomForest", {"n_estimators": 50}, {"min_samples_leaf": None, "max_features": ["sqrt", "log2"]}),
        ("Voting", {"weights": [1, 2]}, {"members": [["LogisticRegression", "LinearSVC"]]}),
        ("Voting", {"members": ["SGD", "MLP"]}, {}),
    ],
)
def test_a_familys_own_space_leaves_alone_what_is_fixed(
    family: str, fixed: dict[str, Any], left: dict[str, list[Any] | None]
) -> None:
    space = space_of(family, None, fixed)
    assert {name: list(at.choices) if isinstance(at, Categorical) else None for name, at in space.items()} == left


def test_a_space_that_was_written_goes_over_what_is_fixed() -> None:
    fixed = {"C": 1, "penalty": "l1", "solver": "saga"}
    assert space_of("LogisticRegression", {"C": [2, 3]}, fixed) == {"C": Categorical((2, 3))}
    assert set(space_of("LogisticRegression", "older", fixed)) == {"C", "penalty", "solver"}
