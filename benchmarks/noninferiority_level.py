"""The level and the power of the gate no_worse_than_champion.

The level, to be 5 % at most, is how often it passes a version that is worse by its margin; the power, one as good.

    python -m benchmarks.noninferiority_level [--simulations 2000]

Two models label the same rows. The champion is right in 85 % of each label's rows. In a share of the rows (`differ`)
the two differ: half of those the challenger gets right and the champion wrong, half the other way round. Where the
challenger is to be worse, further rows of each label that the champion gets right are wrong, as many as it takes.
Accuracy hangs on how many rows either model alone gets right; all such pairs of numbers are added up. F1 is simulated:
of a true level of 5 %, 2,000 simulations give more than 6 % in one cell of forty.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from functools import cache, lru_cache

import numpy as np
from scipy.stats import binom

from benchmarks.interval_coverage import population
from pcc_pipeline.gates.noninferiority import difference_of_places

LABELS, ROWS, PREVALENCES = (2, 10, 77), (20, 60, 200, 263, 1000, 3000), ("even", "1/rank")
# Margin, and the share of rows in which the two models differ where they are equally good.
CELLS = ((0.01, 0.1), (0.03, 0.05), (0.05, 0.0))
# Accuracy costs little, and is added up for every pair of these.
MARGINS, DIFFER = (0.01, 0.02, 0.03, 0.05), (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3)
RIGHT = 0.85
# Numbers of rows that are less likely than this are left out of the sum.
_UNLIKELY = 1e-7


def joint(n_labels: int, prevalence: str, differ: float, extra: float) -> np.ndarray:
    """Probabilities of (truth, challenger, champion), shape (K, K, K); `extra` of all rows are lost for nothing."""
    table = population(n_labels, RIGHT, prevalence, np.random.default_rng(0))
    made = np.zeros((n_labels, n_labels, n_labels))
    for label, row in enumerate(table):
        share, wrong = row.sum(), row.copy()
        wrong[label] = 0
        gained, lost = differ / 2 * share, (differ / 2 + extra) * share
        others = np.ones(n_labels) / (n_labels - 1)
        others[label] = 0
        made[label, label, :] += gained * wrong / wrong.sum()
        np.einsum("kk->k", made[label])[:] += wrong * (1 - gained / wrong.sum())
        made[label, label, label] += row[label] - lost
        made[label, :, label] += lost * others
    return made


def difference(made: np.ndarray, metric: str) -> float:
    """Challenger minus champion in the population."""
    return _score(made.sum(axis=2), metric) - _score(made.sum(axis=1), metric)


def _score(table: np.ndarray, metric: str) -> float:
    right = np.diag(table)
    if metric == "accuracy":
        return float(right.sum())
    share = table.sum(axis=1)
    f1 = 2 * right / (table.sum(axis=0) + share)
    return float(f1.mean() if metric == "f1_macro" else (f1 * share).sum())


@lru_cache
def worse_by(margin: float, n_labels: int, prevalence: str, differ: float, metric: str) -> np.ndarray:
    """Two models of which the challenger is worse by `margin` in `metric`."""
    few, many = 0.0, RIGHT - differ
    for _ in range(40):
        extra = (few + many) / 2
        reached = difference(joint(n_labels, prevalence, differ, extra), metric) <= -margin
        few, many = (few, extra) if reached else (extra, many)
    return joint(n_labels, prevalence, differ, many)


def passing(made: np.ndarray, rows: int, metric: str, margin: float, simulations: int, seed: int = 0) -> float:
    """The share of simulated test sets on which the challenger passes."""
    draws, places = np.random.default_rng(seed), np.flatnonzero(made > 0)
    outcomes = np.stack(np.unravel_index(places, made.shape))
    below = np.cumsum(made.ravel()[places])
    passed = 0
    for _ in range(simulations):
        drawn = np.searchsorted(below[:-1] / below[-1], draws.random(rows), side="right")
        truth, challenger, champion = outcomes[:, drawn]
        passed += difference_of_places(truth, challenger, champion, len(made), metric).low >= -margin
    return passed / simulations


def passing_in_accuracy(lost: float, gained: float, rows: int, margin: float) -> float:
    """The probability that the challenger passes, which loses and gains these shares of all rows."""
    numbers = np.arange(rows + 1)
    likely = binom.pmf(numbers, rows, gained)
    total = 0.0
    for number in numbers[likely > _UNLIKELY].tolist():
        most = _most_rows_lost(number, rows, margin)
        total += float(likely[number] * binom.cdf(most, rows - number, lost / (1 - gained)))
    return total


@cache
def _most_rows_lost(gained: int, rows: int, margin: float) -> int:
    """With how many rows lost, beside those gained, the challenger still passes; -1 where with none."""
    few, many = -1, rows - gained + 1
    while many - few > 1:
        between = (few + many) // 2
        few, many = (between, many) if _accuracy_low(gained, between, rows) >= -margin else (few, between)
    return few


@cache
def _accuracy_low(gained: int, lost: int, rows: int) -> float:
    truth = np.zeros(rows, dtype=np.int64)
    challenger, champion = truth.copy(), truth.copy()
    champion[:gained] = 1
    challenger[gained : gained + lost] = 1
    return difference_of_places(truth, challenger, champion, 2, "accuracy").low


def _line(first: Sequence[object], cells: Sequence[tuple[float, float]]) -> None:
    columns = [str(one) for one in first] + [f"{level:.1%} / {power:.0%}" for level, power in cells]
    print("| " + " | ".join(columns) + " |", flush=True)


def _of_accuracy(rows: int) -> tuple[list[tuple[float, float]], float]:
    """Level and power in each cell, and the highest level of all margins and shares of differing rows."""

    def of(extra: float, differ: float, margin: float) -> float:
        return passing_in_accuracy(differ / 2 + extra, differ / 2, rows, margin)

    highest = max(of(margin, differ, margin) for margin in MARGINS for differ in DIFFER)
    return [(of(margin, differ, margin), of(0.0, differ, margin)) for margin, differ in CELLS], highest


def _of_f1(metric: str, prevalence: str, n_labels: int, rows: int, simulations: int) -> list[tuple[float, float]]:
    made = []
    for margin, differ in CELLS:
        level = passing(worse_by(margin, n_labels, prevalence, differ, metric), rows, metric, margin, simulations)
        equal = joint(n_labels, prevalence, differ, 0.0)
        # Where nothing differs, one test set is as good as another.
        power = passing(equal, rows, metric, margin, simulations // 10 if differ else 20)
        made.append((level, power))
    return made


def main() -> int:
    """Run it, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.noninferiority_level", description=__doc__)
    parser.add_argument("--simulations", type=int, default=2000, help="of each level of F1 (default 2000)")
    simulations, begun = parser.parse_args().simulations, time.perf_counter()
    _line(
        ["level / power", "prevalence", "labels", "rows", *(f"{margin}, {differ:.0%}" for margin, differ in CELLS)], []
    )
    print("|---" * (4 + len(CELLS)) + "|")
    highest: dict[str, float] = {}
    for rows in ROWS:
        cells, highest_here = _of_accuracy(rows)
        highest["accuracy"] = max(highest.get("accuracy", 0.0), highest_here)
        _line(["accuracy", "any", "any", rows], cells)
    groups = [("f1_macro", prevalence, n_labels) for prevalence in PREVALENCES for n_labels in LABELS]
    for metric, prevalence, n_labels in [*groups, ("f1_weighted", "1/rank", 10)]:
        for rows in ROWS:
            cells = _of_f1(metric, prevalence, n_labels, rows, simulations)
            highest[metric] = max(highest.get(metric, 0.0), *(level for level, _ in cells))
            _line([metric, prevalence, n_labels, rows], cells)
    levels = ", ".join(f"{metric} {level:.1%}" for metric, level in highest.items())
    print(f"highest level: {levels}; {simulations} simulations, {time.perf_counter() - begun:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
