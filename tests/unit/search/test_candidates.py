"""Grid and random candidates, and the factory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pcc_pipeline.errors import SearchError
from pcc_pipeline.model.selection import without_idle
from pcc_pipeline.search.plan import SearchPlan, StudyRecord
from pcc_pipeline.search.searchers import GridSearcher, RandomSearcher, Searcher, make_searcher
from pcc_pipeline.search.spaces import Categorical, Interval, Space, space_of


def values(searcher: Searcher) -> list[dict[str, Any]]:
    found = []
    while candidate := searcher.ask():
        found.append(candidate.hyperparameters)
    return found


def test_the_grid_of_four_c_two_penalties_and_two_solvers_has_16_candidates(tmp_path: Path) -> None:
    space = {"C": [0.1, 1, 10, 100], "penalty": ["l1", "l2"], "solver": ["liblinear", "saga"]}
    plan = SearchPlan("grid", "LogisticRegression", space_of("LogisticRegression", space), n_iter=3)
    searcher = make_searcher(plan, StudyRecord("x", tmp_path, {}))
    found = values(searcher)
    assert searcher.n_trials == len(found) == 16
    assert len({json.dumps(each, sort_keys=True) for each in found}) == 16


def test_a_grid_without_points_says_which() -> None:
    with pytest.raises(SearchError, match="points to try of C"):
        GridSearcher({}, {"C": Interval(1, 2), "penalty": Categorical(("l1",))})


def test_searched_values_are_laid_over_fixed_ones() -> None:
    assert values(GridSearcher({"C": 5, "tol": 1}, {"C": Categorical((1,))})) == [{"C": 1, "tol": 1}]


@pytest.mark.parametrize("n_iter", [3, 9, 400])
def test_random_candidates_that_choose_no_features_come_once(n_iter: int) -> None:
    methods = Categorical(("none", "l1"))
    few: Space = {"feature_selection": methods, "n_features": Interval(5, 8), "C": Categorical((1, 2))}
    many: Space = {"feature_selection": methods, "n_features": Interval(5, 354)}
    for space, different in ((few, 10), (many, 351)):
        searcher = RandomSearcher({"tol": 1}, space, n_iter, seed=0)
        fitted = {json.dumps(without_idle(each), sort_keys=True) for each in values(searcher)}
        assert len(fitted) == searcher.n_trials == min(n_iter, different)
    idle: Space = {"feature_selection": Categorical(("none",)), "n_features": Interval(1, 584)}
    assert len(values(RandomSearcher({}, idle, n_iter, seed=0))) == 1


@pytest.mark.parametrize("n_iter", [3, 20, 24, 1000])
def test_random_candidates_of_a_discrete_space_are_all_different(n_iter: int) -> None:
    space: Space = {"a": Interval(1, 6), "b": Categorical(("x", "y")), "c": Categorical(([1], [1, 2]))}
    found = values(RandomSearcher({}, space, n_iter, seed=0))
    assert len(found) == min(n_iter, 24)
    assert len({json.dumps(each) for each in found}) == len(found)


def test_a_logarithmic_range_is_drawn_evenly_over_its_decades() -> None:
    space: Space = {"a": Interval(0.01, 100.0, log=True), "n": Interval(1, 1000, log=True)}
    found = values(RandomSearcher({}, space, 2000, seed=0))
    a, n = (np.array([each[name] for each in found]) for name in space)
    assert a.min() >= 0.01
    assert a.max() <= 100
    assert np.histogram(np.log10(a), 4, (-2, 2))[0] / 2000 == pytest.approx([0.25] * 4, abs=0.04)
    assert n.min() == 1
    assert n.max() <= 1000
    assert {type(each["n"]) for each in found} == {int}


def test_values_are_plain_python() -> None:
    space: Space = {"a": Interval(0.0, 1.0), "n": Interval(1, 5), "c": Categorical((None, True))}
    found = values(RandomSearcher({}, space, 20, seed=0))
    assert {type(value) for each in found for value in each.values()} == {float, int, type(None), bool}


@pytest.mark.parametrize("sampler", ["tpe", "gp", "qmc"])
def test_optuna_gives_lists_numbers_and_null_back_as_they_were(sampler: Any, tmp_path: Path) -> None:
    space = {"hidden_layer_sizes": [[64], [128, 64]], "alpha": [0.001, 1]}
    plan = SearchPlan("optuna", "MLP", space_of("MLP", space), n_iter=8, sampler=sampler)
    searcher = make_searcher(plan, StudyRecord("x/y z", tmp_path, {}))
    found = values(searcher)
    searcher.close()
    assert {json.dumps(each["hidden_layer_sizes"]) for each in found} == {"[64]", "[128, 64]"}
    assert {(type(each["alpha"]), each["alpha"]) for each in found} == {(float, 0.001), (int, 1)}
    assert (tmp_path / "x%2Fy z.log").exists()
