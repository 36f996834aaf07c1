"""A backtest trains on the past alone; where the messages change, the old model falls and training again helps."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from pcc_pipeline.config import load_params
from pcc_pipeline.data.splits import TimeWindow, windows_by_time
from pcc_pipeline.model.fitting import Rows, prepare
from pcc_pipeline.steps.training import backtest
from pcc_pipeline.steps.training.backtest import run_backtest

HYPERPARAMETERS = {"C": 1.0, "penalty": "l2", "solver": "lbfgs", "l1_ratio": None, "max_iter": 200, "tol": 1e-4}


def rows_and_windows(*, changed: bool) -> tuple[Rows, list[TimeWindow]]:
    """600 rows in the order of time, whose two labels change their meaning after the first 400, if they do."""
    draws = np.random.default_rng(4)
    y = draws.integers(0, 2, 600)
    vectors = draws.normal(size=(600, 584)).astype(np.float32)
    place = np.where(np.arange(600) < 400, 0, 1) if changed else np.zeros(600, dtype=int)
    vectors[np.arange(600), place] += 12 * (y - 0.5)
    labels = np.array(["no", "yes"], dtype=object)[y]
    times = np.datetime64("2026-01-01", "us") + np.arange(600) * np.timedelta64(1, "h")
    windows = windows_by_time(labels, np.arange(600).astype(np.uint64), times, 6)
    return Rows([f"text {place}" for place in range(600)], vectors, labels), windows


def test_a_change_shows_in_the_model_that_was_trained_once_and_heals_in_those_trained_again(caplog) -> None:
    caplog.set_level(logging.INFO, "pcc_pipeline")
    rows, windows = rows_and_windows(changed=True)
    found, _ = run_backtest(windows, rows, HYPERPARAMETERS, load_params(None))
    assert found is not None
    assert [each.trained_rows for each in found.windows] == [300, 350, 400, 450, 500, 550]
    assert [each.rows for each in found.windows] == [50] * 6
    once = [each.accuracy_trained_once for each in found.windows]
    assert min(once[:2]) > 0.95
    assert max(once[2:]) < 0.75
    assert [each.worse for each in found.windows] == [False, False, True, False, False, False]
    assert found.windows[-1].accuracy > max(once[2:]) + 0.15
    assert found.to_json()["retraining"]["differs"]
    said = [record.getMessage() for record in caplog.records if "backtest, window" in record.getMessage()]
    assert len(said) == 6
    assert "backtest, window 3 of 6: trained on 400 rows before 2026-01-17 16:00 UTC" in said[2]


def test_where_nothing_changes_no_window_is_worse_and_nothing_is_left_undone() -> None:
    rows, windows = rows_and_windows(changed=False)
    found, left = run_backtest(windows[-2:], rows, HYPERPARAMETERS, load_params(None))
    assert found is not None
    assert not any(each.worse for each in found.windows)
    assert found.doubts == ()
    assert min(each.accuracy for each in found.windows) > 0.95
    assert left == ()
    assert run_backtest([], rows, HYPERPARAMETERS, load_params(None)) == (None, ())


def test_the_rows_of_a_window_and_those_after_it_change_nothing_that_is_learned() -> None:
    rows, windows = rows_and_windows(changed=False)
    later = Rows(rows.texts, rows.vectors.copy(), rows.labels.copy())
    later.vectors[400:] = 0.0
    later.labels[400:] = later.labels[400:][::-1]
    params = load_params(None)
    one, other = (run_backtest(windows[:2], each, HYPERPARAMETERS, params)[0] for each in (rows, later))
    assert one is not None
    assert other is not None
    assert one.windows == pytest.approx(other.windows)


def test_a_past_that_allows_no_training_leaves_its_window_out_and_not_the_model_that_stands() -> None:
    """Here three rows of a label, where calibration takes five folds."""
    rows, windows = rows_and_windows(changed=False)
    rows.labels[[10, 50, 90]] = "rare"
    rows.labels[310:600:20] = "rare"
    params = load_params(None, {"model.type": "LinearSVC", "preprocessing.balance_method": "none"})
    chosen = {"C": 1.0, "loss": "squared_hinge", "max_iter": 1000, "calibration_folds": 5}
    measured, left = run_backtest(windows, rows, chosen, params)
    assert measured is not None
    assert [each.trained_rows for each in measured.windows] == [350, 400, 450, 500, 550]
    (why,) = left
    assert why.startswith("backtest: window 1 of 6 is left out: LinearSVC cannot be fitted on these rows")
    nothing, why_not = run_backtest(windows[:1], rows, chosen, params)
    assert (nothing, len(why_not)) == (None, 1)


def test_of_the_rankings_of_features_that_a_search_compared_a_window_makes_the_chosen_one_alone(monkeypatch) -> None:
    rows, windows = rows_and_windows(changed=False)
    params = load_params(
        None, {"model.search_space": {"feature_selection": ["none", "mutual_information", "recursive"]}}
    )
    recipes = []
    monkeypatch.setattr(backtest, "prepare", lambda past, recipe: recipes.append(recipe) or prepare(past, recipe))
    chosen = {**HYPERPARAMETERS, "feature_selection": "mutual_information", "n_features": 10}
    assert run_backtest(windows[-1:], rows, chosen, params)[0] is not None
    assert [recipe.rankings for recipe in recipes] == [("mutual_information",)]
