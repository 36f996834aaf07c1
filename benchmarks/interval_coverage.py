"""How often the 95 % intervals of accuracy and macro F1 hold the score of the population, and how wide they are.

    python -m benchmarks.interval_coverage [--simulations 400]

Populations are known: a prevalence for each label, an accuracy that is the same for each, and errors that go to every
other label alike (so that with unequal prevalence rare labels have a low precision), or to few. Macro F1 is that of the
population over all labels. Each line is one population and number of rows.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.stats import binom

from pcc_pipeline.evaluation.intervals.label_intervals import macro_f1_interval, proportion_interval

LABELS, ROWS, ACCURACIES = (2, 3, 10, 77), (60, 200, 1000, 3000), (0.8, 0.9, 0.99)
PREVALENCES = ("even", "1/rank", "1/rank, few confusions")


@dataclass(frozen=True)
class Coverage:
    """How often the interval holds the population's score, and its median width.

    Of accuracy by adding up all numbers of hits, of macro F1 as a share of the simulations.
    """

    accuracy: float
    f1_macro: float
    accuracy_width: float
    f1_macro_width: float


def population(n_labels: int, accuracy: float, prevalence: str, draws: np.random.Generator) -> np.ndarray:
    """Probabilities of (truth, prediction), shape (K, K)."""
    share = np.ones(n_labels) if prevalence == "even" else 1 / np.arange(1, n_labels + 1)
    share = share / share.sum()
    errors = np.ones((n_labels, n_labels))
    if prevalence.endswith("few confusions"):
        errors = draws.gamma(0.05, size=(n_labels, n_labels)) + 1e-9
    np.fill_diagonal(errors, 0)
    table = share[:, None] * (1 - accuracy) * errors / errors.sum(axis=1, keepdims=True)
    np.fill_diagonal(table, share * accuracy)
    return np.asarray(table)


@lru_cache
def _of_accuracy(rows: int, accuracy: float) -> float:
    hits = np.arange(rows + 1)
    ends = [proportion_interval(number, rows) for number in hits.tolist()]
    return float(binom.pmf(hits, rows, accuracy)[[low <= accuracy <= high for low, high in ends]].sum())


def coverage(
    n_labels: int, rows: int, accuracy: float, prevalence: str, *, simulations: int, seed: int = 0
) -> Coverage:
    """Draw test rows again and again, and see whether their intervals hold what is true of the population."""
    draws = np.random.default_rng(seed)
    truth, predicted_label = np.divmod(np.arange(n_labels**2), n_labels)
    held, widths = [], []
    for _ in range(simulations):
        table = population(n_labels, accuracy, prevalence, draws)
        f1_macro = float((2 * np.diag(table) / (table.sum(axis=0) + table.sum(axis=1))).mean())
        counts = draws.multinomial(rows, table.ravel() / table.sum())
        y, predicted = np.repeat(truth, counts), np.repeat(predicted_label, counts)
        ends = (
            proportion_interval(int((y == predicted).sum()), rows),
            macro_f1_interval(y, predicted, n_labels),
        )
        held.append(ends[1][0] <= f1_macro <= ends[1][1])
        widths.append([high - low for low, high in ends])
    medians = np.median(widths, axis=0)
    return Coverage(_of_accuracy(rows, accuracy), float(np.mean(held)), float(medians[0]), float(medians[1]))


def main() -> int:
    """Run it, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.interval_coverage", description=__doc__)
    parser.add_argument("--simulations", type=int, default=400, help="of each line (default 400)")
    simulations, begun, lowest = parser.parse_args().simulations, time.perf_counter(), 1.0
    print(f"{'population':<26}{'labels':>7}{'rows':>6}{'right':>7}   accuracy (width)  macro F1 (width)")
    for prevalence in PREVALENCES:
        for n_labels in LABELS:
            for rows in ROWS:
                for accuracy in ACCURACIES:
                    one = coverage(n_labels, rows, accuracy, prevalence, simulations=simulations)
                    lowest = min(lowest, one.accuracy, one.f1_macro)
                    cells = (
                        f"{held:>10.1%} ({width:.3f})"
                        for held, width in (
                            (one.accuracy, one.accuracy_width),
                            (one.f1_macro, one.f1_macro_width),
                        )
                    )
                    print(f"{prevalence:<26}{n_labels:>7}{rows:>6}{accuracy:>7}{''.join(cells)}", flush=True)
    print(f"lowest coverage {lowest:.1%}, {simulations} simulations a line, {time.perf_counter() - begun:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
