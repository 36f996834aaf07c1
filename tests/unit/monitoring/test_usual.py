"""What is usual of a file: figures beyond it are told, and those of quiet windows hardly ever."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest
from scipy import stats

from pcc_pipeline.monitoring.health import FileQuality
from pcc_pipeline.monitoring.usual import BLOCK, Figure, Usual, UsualDays, UsualShare, repeating

RATE = 0.05
MONDAY = date(2026, 6, 1)


def clustered(rows: int, seed: int, share: float = 0.1) -> np.ndarray:
    """Rows that have it, more of them in some stretches than chance makes: each hundred has a share of its own."""
    draws = np.random.default_rng(seed)
    shares = np.repeat(draws.beta(2, 2 / share - 2, rows // BLOCK + 1), BLOCK)[:rows]
    return draws.random(rows) < shares


def test_quiet_windows_are_rarely_unusual_however_rows_cluster() -> None:
    """Where one takes rows for independent, every third window alarms."""
    usual = UsualShare.of(clustered(20_000, 0))
    windows = [clustered(800, seed) for seed in range(1, 401)]
    alarms = sum(usual.judge("missing/x", window, RATE).unusual for window in windows)
    assert stats.binomtest(alarms, 400, RATE, "greater").pvalue > 0.01
    naive = sum(stats.binomtest(int(each.sum()), 800, usual.share, "greater").pvalue <= RATE for each in windows)
    assert naive > 80
    assert all(usual.judge("missing/x", clustered(800, seed, 0.3), RATE).unusual for seed in range(20))


@pytest.mark.parametrize("rows", [101, 150, 199, 299])
def test_every_row_of_a_window_counts_the_newest_too(rows: int) -> None:
    """They are the last in order, and what began today is among them."""
    learned = np.zeros(5000, dtype=bool)
    learned[::500] = True
    usual, late = UsualShare.of(learned), np.zeros(rows, dtype=bool)
    late[-(rows % BLOCK) :] = True
    late[:-50] = False
    assert usual.judge("missing/x", late, RATE).unusual == (late.sum() >= 3)
    repeated = repeating(np.where(late, 0, np.arange(rows) + 1))
    assert repeated.sum() == late.sum() - 1


@pytest.mark.parametrize("rows", [100, 150, 199, 250, 299])
def test_quiet_windows_of_any_size_are_rarely_unusual(rows: int) -> None:
    usual = UsualShare.of(np.random.default_rng(0).random(20_000) < 0.1)
    quiet = [np.random.default_rng(seed).random(rows) < 0.1 for seed in range(1, 401)]
    alarms = sum(usual.judge("missing/x", window, RATE).unusual for window in quiet)
    assert stats.binomtest(alarms, 400, RATE, "greater").pvalue > 0.01


@pytest.mark.parametrize(
    ("learned", "window", "unusual"),
    [
        (0.0, 0.05, True),
        (0.0, 0.005, False),  # more than chance, and not worth a word
        (0.4, 0.1, False),  # less than usual
        (0.02, 1.0, True),
    ],
)
def test_only_a_share_well_above_the_usual_one_is_unusual(learned: float, window: float, unusual: bool) -> None:
    usual = UsualShare.of(np.arange(5000) % 1000 < 1000 * learned)
    rows = np.random.default_rng(0).random(2000) < window
    assert usual.judge("missing/x", rows, RATE).unusual == unusual


def test_a_small_window_and_a_small_file_are_judged_by_what_they_are() -> None:
    usual = UsualShare.of(np.zeros(5000, dtype=bool))
    assert usual.judge("x", np.arange(40) < 8, RATE).unusual
    assert not usual.judge("x", np.arange(40) < 1, RATE).unusual
    assert not UsualShare.of(np.zeros(20, dtype=bool)).judge("x", np.arange(40) < 1, RATE).unusual


def test_repeats_are_counted_within_a_block_so_that_the_size_of_a_window_changes_nothing() -> None:
    texts = np.array([1, 2, 1, *range(10, 10 + BLOCK - 3), 1, 1])
    assert np.flatnonzero(repeating(texts)).tolist() == [2, BLOCK + 1]
    draws = np.random.default_rng(0)
    usual = UsualShare.of(repeating(draws.integers(0, 1000, 20_000)))
    for rows in (300, 3000, 30_000):
        assert not usual.judge("repeated_rows", repeating(draws.integers(0, 1000, rows)), 0.01).unusual
    mailing = np.where(draws.random(500) < 0.2, 7, draws.integers(0, 1000, 500))
    assert usual.judge("repeated_rows", repeating(mailing), 0.01).unusual


def days(count: int, seed: int) -> np.ndarray:
    """Rows a day, few at weekends, and days that differ by more than chance."""
    draws = np.random.default_rng(seed)
    expected = np.where(np.arange(count) % 7 < 5, 200.0, 20.0)
    return draws.poisson(expected * draws.gamma(50, 1 / 50, count))


def test_a_day_and_a_week_are_held_against_their_weekdays() -> None:
    """Over training files: each knows its days as well as 84 of them say."""
    first = MONDAY + timedelta(days=84)

    def unusual(usual: UsualDays, start: int, count: int, rows: float) -> bool:
        begin = first + timedelta(days=start)
        return usual.judge(int(rows), begin, begin + timedelta(days=count - 1), RATE).unusual

    known = [UsualDays.of(MONDAY, days(84, seed), whole_ends=True) for seed in range(20)]
    later = days(140, 99)
    for count in (1, 7, 28):
        starts = range(0, 140, count)
        alarms = [
            unusual(usual, start, count, later[start : start + count].sum())
            for usual in known
            if usual
            for start in starts
        ]
        assert np.mean(alarms) < 0.08, count
    usual = known[0]
    assert usual is not None
    assert unusual(usual, 0, 1, 80)  # of a Monday's 200
    assert unusual(usual, 5, 1, 200)  # a Saturday
    assert unusual(usual, 0, 7, 700)
    assert not unusual(usual, 5, 1, 22)


def test_days_that_began_before_the_file_did_are_not_counted_and_few_days_say_nothing() -> None:
    counts = np.array([3, *[100] * 10, 4])
    cut = UsualDays.of(MONDAY, counts, whole_ends=False)
    assert cut is not None
    assert (cut.rows[0], cut.days, cut.longest_gap) == (100.0, 10, 1)
    assert UsualDays.of(MONDAY, np.array([5, 0, 0, 5, 5]), whole_ends=True) is None
    gaps = UsualDays.of(MONDAY, np.array([5, 0, 0, 5, 5, 5, 5, 5]), whole_ends=True)
    assert gaps is not None
    assert gaps.longest_gap == 3


def test_the_newest_row_may_be_as_old_as_at_training_and_one_gap_more() -> None:
    gaps = UsualDays((9.0,) * 7, 0.0, 30, longest_gap=3)
    usual = Usual({}, gaps, lag_days=1.5, lengths=(10, 20, 30))
    age = Figure("days_old", 4.4, None, None, False)
    assert not usual.judge_age(age).unusual
    late = usual.judge_age(replace(age, value=4.6))
    rejected = Figure("rejected_share", 0.0, 0.0, 1.0, False)
    assert FileQuality(rejected, 0.1, late).alarms == ("the newest row is 4.6 days old; usual is 4.5 at most",)
    assert replace(usual, lag_days=None).judge_age(age) == age


def test_a_version_of_an_earlier_release_has_its_limit_of_rejected_rows() -> None:
    rejected = Figure("rejected_share", 0.2, None, None, False)
    assert FileQuality(rejected, 0.1).alarms == ("20.0% of the rows break the data contract; the limit is 10.0%",)
    assert FileQuality(rejected, 0.3).alarms == ()


def test_what_is_usual_is_the_same_after_it_was_written() -> None:
    usual = Usual({"missing/x": UsualShare(0.1, 0.3, 0.02, 9)}, UsualDays((1.0,) * 7, 1.5, 30, 2), 0.5, (1.0, 2.0, 3.0))
    assert Usual.of_document(usual.document()) == usual
    bare = replace(usual, days=None, lag_days=None)
    assert Usual.of_document(bare.document()) == bare
