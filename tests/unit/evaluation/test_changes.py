"""Patterns of a daily series: what is planted is found as what it is, where it is; of noise the level holds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import f as f_distribution

from pcc_pipeline.evaluation.over_time.changes import (
    change_chance,
    further_changes,
    rooted,
    share_residuals,
    weekly_chance,
)


def noise(days: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=days)


def test_the_weekly_chance_is_that_of_an_analysis_of_variance_with_weeks_as_blocks() -> None:
    values = noise(70) + np.repeat(noise(10, 1), 7) * 3
    values[20] = np.nan
    kept = np.flatnonzero(np.arange(70) // 7 != 2)
    week, day = kept // 7, kept % 7
    blocks = (week[:, None] == np.unique(week)).astype(float)
    both = np.hstack([blocks, (day[:, None] == np.arange(1, 7)).astype(float)])
    squares = [float(((values[kept] - x @ np.linalg.lstsq(x, values[kept])[0]) ** 2).sum()) for x in (blocks, both)]
    ratio = (squares[0] - squares[1]) / 6 / (squares[1] / 48)
    chance, of_weekday = weekly_chance(values, 3)
    assert chance == pytest.approx(f_distribution.sf(ratio, 6, 48))
    # The series begins on a Thursday.
    assert of_weekday[3] == pytest.approx(values[kept][day == 0].mean() - values[kept].mean())
    assert of_weekday.sum() == pytest.approx(0)


def test_a_weekly_pattern_is_seen_through_changes_of_level_and_few_weeks_show_none() -> None:
    values = noise(84)
    values[np.arange(84) % 7 >= 5] -= 2
    values[42:] += 10
    chance, of_weekday = weekly_chance(values, 0)
    assert chance < 1e-6
    assert of_weekday[:5].min() > of_weekday[5:].max()
    assert weekly_chance(values[:27], 0)[0] == 1.0
    assert weekly_chance(np.ones(60), 0)[0] == 1.0


def test_a_break_and_a_trend_are_told_apart() -> None:
    broken = noise(90)
    broken[55:] += 2
    chance, change = change_chance(broken)
    assert change is not None
    assert (chance < 0.001, change.kind) == (True, "break")
    assert abs((change.at or 0) - 55) <= 2
    chance, change = change_chance(noise(90) + np.linspace(0, 3, 90))
    assert change is not None
    assert (chance < 0.001, change.kind) == (True, "trend")


def test_several_breaks_are_found_in_order() -> None:
    values = noise(180)
    values[60:120] += 3
    values[120:] -= 2
    chance, change = change_chance(values)
    assert change is not None
    assert chance < 0.001
    found = further_changes(values, change, 0.001)
    assert [each.kind for each in found] == ["break", "break"]
    assert [each.at for each in found] == pytest.approx([60, 120], abs=2)


def test_noise_changes_in_one_of_twenty_series_and_days_alike_in_few_more() -> None:
    draws = np.random.default_rng(5)
    n, days = 400, 120
    alike = np.zeros((n, days))
    for day in range(days):
        alike[:, day] = 0.3 * alike[:, day - 1] * bool(day) + draws.normal(size=n)
    upper = 0.05 + 2 * np.sqrt(0.05 * 0.95 / n)
    assert np.mean([change_chance(each)[0] <= 0.05 for each in draws.normal(size=(n, days))]) < upper
    assert np.mean([weekly_chance(each, 0)[0] <= 0.05 for each in draws.normal(size=(n, days))]) < upper
    assert np.mean([change_chance(each)[0] <= 0.05 for each in alike]) < 0.12


@pytest.mark.parametrize("values", [np.ones(60), np.zeros(13), np.arange(60.0), np.array([])])
def test_series_without_any_spread_and_short_ones_change_nothing(values: np.ndarray) -> None:
    assert change_chance(values) == (1.0, None)


def test_counts_and_shares_become_numbers_of_like_spread() -> None:
    draws = np.random.default_rng(2)
    for mean in (5, 50):
        assert rooted(draws.poisson(mean, 4000)).std() == pytest.approx(1, abs=0.06)
    rows = draws.integers(0, 30, 4000)
    residuals = share_residuals(draws.binomial(rows, 0.2), rows)
    assert np.isnan(residuals[rows == 0]).all()
    few = residuals[(rows > 0) & (rows < 5)]
    assert few.std() == pytest.approx(residuals[rows > 20].std(), abs=0.1)
