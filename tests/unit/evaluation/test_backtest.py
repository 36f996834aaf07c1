"""What the windows of a backtest come to: which are worse than chance allows, and whether training again pays."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from scipy.stats import binomtest

from pcc_pipeline.evaluation.intervals.chances import as_uneven_chance, beyond_chance
from pcc_pipeline.evaluation.over_time.backtest import Backtest, WindowScores, window_scores
from pcc_pipeline.evaluation.plots.over_time import score_against_time
from pcc_pipeline.tracking.payloads import drawn

START = datetime(2026, 1, 1, tzinfo=UTC)


def window(number: int, hits: int, rows: int = 100, gained: int = 0, lost: int = 0) -> WindowScores:
    score, period = hits / rows, START + timedelta(days=30 * number)
    return WindowScores(
        *(number, period, period + timedelta(days=29), 100 * number, rows, 3, 0, score, (score - 0.1, 1.0)),
        *(score, (score - 0.1, 1.0), score - 0.05, score - 0.05, gained, lost),
    )


def test_a_window_that_is_worse_than_chance_allows_is_marked_and_only_the_latest_warns() -> None:
    falling = Backtest.of([window(1, 90), window(2, 91), window(3, 70)], ["not converged", "not converged"])
    assert [each.worse for each in falling.windows] == [False, False, True]
    assert falling.doubts[0] == "not converged"
    assert "latest window of the backtest, 2026-04-01 to 2026-04-30, the accuracy is 0.700 on 100" in falling.doubts[1]
    risen = Backtest.of([window(1, 70), window(2, 91), window(3, 90)])
    assert ([each.worse for each in risen.windows], risen.doubts) == ([True, False, False], ())
    assert not any(each.worse for each in Backtest.of([window(1, 90), window(2, 88), window(3, 86)]).windows)
    assert not Backtest.of([window(1, 10)]).windows[0].worse


def test_windows_of_luck_alone_are_called_worse_in_one_of_twenty_backtests() -> None:
    draws = np.random.default_rng(0)
    called = [
        any(each.worse for each in Backtest.of([window(place, int(hits)) for place, hits in enumerate(row)]).windows)
        for row in draws.binomial(100, 0.9, (400, 5))
    ]
    assert np.mean(called) < 0.05 + 2 * np.sqrt(0.05 * 0.95 / 400)


@pytest.mark.parametrize(("one", "other"), [(0, 0), (3, 3), (12, 2), (0, 6), (40, 25)])
def test_the_chance_of_an_uneven_count_is_the_binomial_tests(one: int, other: int) -> None:
    expected = binomtest(one, one + other).pvalue if one + other else 1.0
    assert as_uneven_chance(one, other) == pytest.approx(expected)


def test_of_many_chances_those_are_named_that_hold_for_so_many() -> None:
    assert beyond_chance({"a": 0.01, "b": 0.04, "c": 0.012}) == {"a", "b", "c"}
    assert beyond_chance({"a": 0.02, "b": 0.04, "c": 0.03}) == set()
    assert beyond_chance({}) == set()


def test_retraining_is_judged_by_the_rows_on_which_the_two_models_differ_after_the_first_window() -> None:
    known = Backtest.of([window(1, 90, gained=50), window(2, 90, gained=9, lost=1), window(3, 90, gained=3)])
    document = known.to_json()
    assert (document["retraining"]["gained"], document["retraining"]["lost"]) == (12, 1)
    assert document["retraining"]["differs"]
    assert not Backtest.of([window(1, 90), window(2, 90, gained=3, lost=1)]).to_json()["retraining"]["differs"]
    json.dumps(document, allow_nan=False)
    assert list(known.table["f1_macro_low"]) == [each.f1_macro_interval[0] for each in known.windows]
    assert known.metrics_of(known.windows[1])["backtest/f1_macro_trained_once"] == pytest.approx(0.85)
    figure = score_against_time(document["windows"])
    assert set(drawn({"score": figure})) == {"score"}
    assert (len(figure.legends), figure.axes[0].get_legend()) == (1, None)  # outside of what is drawn


def test_a_window_is_measured_with_each_models_own_classes() -> None:
    labels = np.array(["a", "b", "c", "d", "a"], dtype=object)
    now = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.8, 0.1, 0.1], [0.1, 0.8, 0.1]])
    once = np.array([[0.9, 0.1], [0.1, 0.9], [0.9, 0.1], [0.9, 0.1], [0.9, 0.1]])
    found = window_scores(1, (START, START), (9, 2), labels, (now, ["a", "b", "c"]), (once, ["a", "b"]))
    assert (found.rows, found.trained_rows, found.repeated_rows, found.new_label_rows) == (5, 9, 2, 1)
    assert (found.accuracy, found.accuracy_trained_once) == (3 / 5, 3 / 5)
    assert (found.retraining_gained, found.retraining_lost) == (1, 1)
