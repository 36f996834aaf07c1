"""False verdicts and power of the tests that compare two versions in the field, looked at every day.

    python -m benchmarks.sequential_test [--simulations 1000] [--days 60] [--rows 100]

Each simulation is a test of so many days with so many labelled cases a day, and ends at the first day with a verdict
that the versions differ. With no true difference (A/A) every such verdict is false: at most 5 % of the tests may have
one. Beside ours, on the very same rows, stands the usual z-test of two proportions at 5 % (of pairs: of the wins), once
looked at daily and once on the last day alone.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pcc_pipeline.monitoring.field.ab_test import (
    MISMATCH_LEVEL,
    Terms,
    compare_pairs,
    compare_shares,
    mismatch_evidence,
    normal_mixture,
    paired_evidence,
    proportions_variance,
)
from pcc_pipeline.monitoring.field.power import labels_needed, pairs_needed

TERMS = Terms()
_Z = 1.959963984540054
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Cell:
    """One setting: accuracy of the champion, what the challenger has more, and its share; None is a shadow."""

    accuracy: float
    difference: float
    share: float | None
    differing: float = 0.1

    @property
    def name(self) -> str:
        how = f"share {self.share:.0%}" if self.share is not None else f"shadow, {self.differing:.0%} differ"
        return f"{how}, accuracy {self.accuracy:.0%}"


CELLS = tuple(
    Cell(accuracy, difference, share)
    for difference in (0.0, 0.03, 0.05)
    for accuracy in (0.8, 0.93)
    for share in (0.1, 0.5, None)
)


@dataclass(frozen=True)
class Outcome:
    """Shares of the simulated tests with a verdict that the versions differ, and the median day of ours."""

    ours: float
    naive: float
    once: float
    mismatched: float
    median_day: float | None


def simulate(cell: Cell, simulations: int, days: int, rows: int, seed: int = 0) -> Outcome:
    """Tests of so many days, `rows` labelled cases each day."""
    draws = np.random.default_rng(seed)
    first_day = np.full(simulations, math.inf)
    naive = np.zeros(simulations, dtype=bool)
    once = np.zeros(simulations, dtype=bool)
    mismatched = np.zeros(simulations, dtype=bool)
    for number in range(simulations):
        for day, counts in enumerate(np.cumsum(_days(cell, days, rows, draws), axis=0), start=1):
            evidence, z = _of_pairs(counts) if cell.share is None else _of_shares(counts)
            if evidence >= -math.log(1 - TERMS.confidence):
                first_day[number] = min(first_day[number], day)
            once[number] = abs(z) > _Z
            naive[number] |= once[number]
            if cell.share is not None:
                dealt = mismatch_evidence(int(counts[1]), int(counts[3]), cell.share)
                mismatched[number] |= dealt >= -math.log(MISMATCH_LEVEL)
    decided = first_day[np.isfinite(first_day)]
    half = len(decided) * 2 >= simulations
    return Outcome(
        len(decided) / simulations,
        float(naive.mean()),
        float(once.mean()),
        float(mismatched.mean()),
        float(np.median(first_day)) if half else None,
    )


def _days(cell: Cell, days: int, rows: int, draws: np.random.Generator) -> Counts:
    """Counts a day: hits and rows of the challenger, then of the champion; of pairs wins, losses, and rows."""
    if cell.share is None:
        won = (cell.differing + cell.difference) / 2
        shares = [won, cell.differing - won, 1 - cell.differing]
        drawn = draws.multinomial(rows, shares, size=days)
        return np.column_stack([drawn[:, 0], drawn[:, 1], np.full(days, rows)])
    answered = draws.binomial(rows, cell.share, size=days)
    right = draws.binomial(answered, cell.accuracy + cell.difference)
    return np.column_stack([right, answered, draws.binomial(rows - answered, cell.accuracy), rows - answered])


def _of_shares(counts: Counts) -> tuple[float, float]:
    """Our evidence, and the z of the usual test."""
    right, answered, other, others = map(int, counts)
    if not answered or not others:
        return 0.0, 0.0
    value = right / answered - other / others
    pooled = (right + other) / (answered + others)
    spread = pooled * (1 - pooled) * (1 / answered + 1 / others)
    variance = proportions_variance(right, answered, other, others)
    _, evidence = normal_mixture(value, variance, TERMS.difference, TERMS.confidence)
    return evidence, value / math.sqrt(spread) if spread else 0.0


def _of_pairs(counts: Counts) -> tuple[float, float]:
    wins, losses, _ = map(int, counts)
    return paired_evidence(wins, losses), (wins - losses) / math.sqrt(wins + losses) if wins + losses else 0.0


def the_same_as_the_package(seed: int = 0) -> None:
    """The counts above say what the package says of the rows themselves."""
    draws = np.random.default_rng(seed)
    expected = draws.choice(["a", "b", "c"], size=600)
    answers = [np.where(draws.random(600) < right, expected, "b") for right in (0.9, 0.8)]
    here = slice(0, 200), slice(200, 600)
    shares = compare_shares((expected[here[0]], answers[0][here[0]]), (expected[here[1]], answers[1][here[1]]), TERMS)
    hits = [int((expected[part] == answer[part]).sum()) for part, answer in zip(here, answers, strict=True)]
    assert math.isclose(shares.log_evidence, _of_shares(np.array([hits[0], 200, hits[1], 400]))[0])
    pairs = compare_pairs(expected, answers[0], answers[1], TERMS)
    right = [expected == answer for answer in answers]
    counts = [int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum()), 600]
    assert math.isclose(pairs.log_evidence, _of_pairs(np.array(counts))[0])


def main(arguments: list[str] | None = None) -> int:
    """Run it, and return the exit code: 1 where equal versions were told apart too often."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sequential_test", description=__doc__)
    parser.add_argument("--simulations", type=int, default=1000)
    parser.add_argument("--days", type=int, default=60)
    parser.add_argument("--rows", type=int, default=100, help="labelled cases a day")
    options, begun = parser.parse_args(arguments), time.perf_counter()
    the_same_as_the_package()
    print("| difference | setting | ours | median day | z-test daily | z-test once | share mismatch | labels needed |")
    print("|---|---|---|---|---|---|---|---|")
    worst = 0.0
    for cell in CELLS:
        outcome = simulate(cell, options.simulations, options.days, options.rows)
        if not cell.difference:
            worst = max(worst, outcome.ours)
            needed = ""
        elif cell.share is None:
            needed = f"{pairs_needed(cell.differing, cell.difference).looked_at_daily:,}"
        else:
            needed = f"{labels_needed(cell.accuracy, cell.difference, cell.share).looked_at_daily:,}"
        day = "" if outcome.median_day is None else f"{outcome.median_day:.0f}"
        print(
            f"| {cell.difference:.0%} | {cell.name} | {outcome.ours:.1%} | {day} | {outcome.naive:.1%} | "
            f"{outcome.once:.1%} | {outcome.mismatched:.1%} | {needed} |",
            flush=True,
        )
    print(
        f"false verdicts at most {worst:.1%} of {options.simulations:,} A/A tests of {options.days} days with "
        f"{options.rows} labels each, {time.perf_counter() - begun:.0f} s"
    )
    return int(worst > 1 - TERMS.confidence + 3 * math.sqrt(0.05 * 0.95 / options.simulations))


if __name__ == "__main__":
    sys.exit(main())
