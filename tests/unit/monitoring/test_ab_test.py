"""Two versions are told apart by the labels that came back, as published formulas and exact counts say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import betabinom, binom, norm
from sklearn.metrics import f1_score

from pcc_pipeline.monitoring.field.ab_test import (
    ALIKE,
    CHALLENGER_BETTER,
    CHAMPION_BETTER,
    MISMATCH,
    UNDECIDED,
    Terms,
    compare_pairs,
    compare_shares,
    mismatch_evidence,
    normal_mixture,
    paired_evidence,
)
from pcc_pipeline.monitoring.field.power import labels_needed, pairs_needed, still_needed


def answers(rows: int, right: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    draws = np.random.default_rng(seed)
    expected = draws.choice(["a", "b", "c"], size=rows, p=[0.6, 0.3, 0.1])
    return expected, np.where(draws.random(rows) < right, expected, "b")


def test_the_evidence_is_the_mean_likelihood_ratio_over_normal_drifts_and_the_interval_its_inverse() -> None:
    value, variance, scale = 0.04, 0.0003, 0.03

    def ratio(drift: float) -> float:
        return math.exp((value * drift - drift**2 / 2) / variance) * norm.pdf(drift, scale=scale)

    interval, evidence = normal_mixture(value, variance, scale, 0.95)
    assert evidence == pytest.approx(math.log(quad(ratio, -0.5, 0.5)[0]), rel=1e-6)
    for edge in (interval.low, interval.high):
        assert normal_mixture(value - edge, variance, scale, 0.95)[1] == pytest.approx(math.log(20))


def test_the_evidence_of_pairs_and_of_shares_is_that_of_beta_binomial_counts() -> None:
    assert paired_evidence(9, 3) == pytest.approx(betabinom.logpmf(9, 12, 5, 5) - binom.logpmf(9, 12, 0.5))
    expected = betabinom.logpmf(80, 1000, 100, 900) - binom.logpmf(80, 1000, 0.1)
    assert mismatch_evidence(80, 920, 0.1) == pytest.approx(expected)
    assert paired_evidence(0, 0) == mismatch_evidence(0, 0, 0.1) == 0


def test_the_evidence_of_pairs_is_a_fair_bet_where_either_wins_half() -> None:
    """Its mean is 1 at every number of rows; so it exceeds 20 in at most 1 of 20 tests, however often one looks."""
    for rows in (1, 7, 40):
        won = np.arange(rows + 1)
        bets = np.exp([paired_evidence(int(one), rows - int(one)) for one in won])
        assert (binom.pmf(won, rows, 0.5) * bets).sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("right", "verdict"),
    [((0.9, 0.8), CHALLENGER_BETTER), ((0.8, 0.9), CHAMPION_BETTER), ((0.88, 0.88), UNDECIDED)],
)
def test_shares_are_told_apart_where_they_differ(right: tuple[float, float], verdict: str) -> None:
    made = compare_shares(answers(800, right[0], 0), answers(3200, right[1], 1), Terms(share=0.2))
    assert (made.verdict, made.mismatch) == (verdict, "")
    assert made.rows == (800, 3200)
    assert made.differences["accuracy"].value == pytest.approx(made.accuracy[0] - made.accuracy[1])
    assert {each.label for each in made.recalls} == {"a", "b", "c"}
    f1 = [
        f1_score(*answers(rows, share, seed), average="macro")
        for rows, share, seed in zip((800, 3200), right, (0, 1), strict=True)
    ]
    assert made.differences["f1_macro"].value == pytest.approx(f1[0] - f1[1])
    assert (still_needed(made) == 0) == (verdict != UNDECIDED)


def test_shares_that_do_not_match_decide_nothing() -> None:
    made = compare_shares(answers(800, 0.9, 0), answers(3200, 0.7, 1), Terms(share=0.1))
    assert made.verdict == MISMATCH
    assert made.mismatch == "the challenger has 800 of 4,000 labelled cases (20.0%), where 10.0% were to be its"
    answered = compare_shares(answers(80, 0.9, 0), answers(320, 0.7, 1), Terms(share=0.2), (500, 4000))
    assert answered.mismatch.startswith("the challenger has 500 of 4,500 answered cases")


def test_pairs_that_rarely_differ_are_alike_and_pairs_that_one_wins_are_not() -> None:
    expected, champion = answers(2000, 0.9, 3)
    assert compare_pairs(expected, champion, champion, Terms()).verdict == ALIKE
    better = champion.copy()
    better[:60] = expected[:60]
    won = compare_pairs(expected, better, champion, Terms(difference=0.001))
    assert won.differences["accuracy"].value == pytest.approx((champion[:60] != expected[:60]).mean() * 60 / 2000)
    worse = np.where(np.arange(2000) % 20 == 0, "d", champion)
    lost = compare_pairs(expected, worse, champion, Terms())
    assert lost.verdict == CHAMPION_BETTER
    assert all(each.difference.low <= each.difference.value <= each.difference.high for each in lost.recalls)


def test_all_right_so_far_is_no_proof() -> None:
    expected = np.array(["a", "b"] * 3)
    for made in (
        compare_shares((expected, expected), (expected, expected), Terms()),
        compare_pairs(expected, expected, expected, Terms()),
    ):
        assert made.verdict == UNDECIDED
        assert made.differences["f1_macro"].high > 0.03
        assert still_needed(made) > 100


def test_the_labels_needed_show_the_difference_at_that_look_with_the_power_asked_for() -> None:
    needed = labels_needed(0.9, 0.05, 0.5)
    assert 0.9 * needed.looked_at_once == pytest.approx(
        2 * (1.96 + 0.8416) ** 2 / 0.05**2 * (0.9 * 0.1 + 0.85 * 0.15) * 0.9, rel=0.01
    )
    assert needed.looked_at_daily > needed.looked_at_once
    draws = np.random.default_rng(0)
    rows = needed.looked_at_daily // 2
    seen = 0
    for _ in range(400):
        shares = draws.binomial(rows, 0.85) / rows - draws.binomial(rows, 0.9) / rows
        seen += normal_mixture(shares, (0.85 * 0.15 + 0.9 * 0.1) / rows, 0.05, 0.95)[1] >= math.log(20)
    assert seen / 400 == pytest.approx(0.8, abs=0.06)
    assert pairs_needed(0.1, 0.05).looked_at_daily < needed.looked_at_daily
    with pytest.raises(ValueError, match="differing from difference to 1"):
        pairs_needed(0.01, 0.05)
