"""How often the gate no_worse_than_champion passes a version that is worse by its margin (its level, to be 5 % at
most), and one that is as good (its power).

    python -m benchmarks.noninferiority_level [--simulations 400]

Two models label the same rows. The champion is right in 85 % of each label's rows. In a share of the rows (`differ`)
the two differ: half of those the challenger gets right and the champion wrong, half the other way round. Where the
challenger is to be worse, further rows of each label that the champion gets right are wrong, as many as it takes.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np

from benchmarks.interval_coverage import population
from pcc_pipeline.evaluation.noninferiority import paired_difference

LABELS, ROWS = (2, 4, 10, 77), (20, 60, 200, 263, 500, 1000, 3000)
MARGINS, DIFFER = (0.01, 0.02, 0.03, 0.05), (0.0, 0.02, 0.05, 0.1)
RIGHT = 0.85


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
    return float(right.sum() if metric == "accuracy" else (2 * right / (table.sum(axis=0) + table.sum(axis=1))).mean())


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
    share = made.ravel()[places]
    passed = 0
    for counts in draws.multinomial(rows, share / share.sum(), size=simulations):
        truth, challenger, champion = np.repeat(outcomes, counts, axis=1)
        passed += paired_difference(truth, challenger, champion, metric).low >= -margin
    return passed / simulations


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.noninferiority_level", description=__doc__)
    parser.add_argument("--simulations", type=int, default=400, help="of each number (default 400)")
    parser.add_argument("--metric", choices=("accuracy", "f1_macro"), help="default: both")
    parser.add_argument("--labels", type=int, nargs="*", default=LABELS)
    parser.add_argument("--rows", type=int, nargs="*", default=ROWS)
    parser.add_argument("--prevalence", nargs="*", default=("even", "1/rank"))
    given, begun, highest = parser.parse_args(), time.perf_counter(), 0.0
    print("level / power, by margin (down) and share of rows that differ (across)")
    for metric in (given.metric,) if given.metric else ("accuracy", "f1_macro"):
        for prevalence in given.prevalence:
            for n_labels in given.labels:
                for rows in given.rows:
                    print(f"{metric}, {prevalence}, {n_labels} labels, {rows} rows")
                    for margin in MARGINS:
                        cells = []
                        for differ in DIFFER:
                            worse = worse_by(margin, n_labels, prevalence, differ, metric)
                            level = passing(worse, rows, metric, margin, given.simulations)
                            equal = joint(n_labels, prevalence, differ, 0.0)
                            power = passing(equal, rows, metric, margin, given.simulations // (2 if differ else 10))
                            highest = max(highest, level)
                            cells.append(f"{differ:.0%}: {level:.1%} / {power:.0%}")
                        print(f"  {margin:<6}" + "   ".join(f"{cell:<20}" for cell in cells), flush=True)
    print(f"highest level {highest:.1%}, {given.simulations} simulations, {time.perf_counter() - begun:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
