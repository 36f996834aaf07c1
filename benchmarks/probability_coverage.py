"""How often the 95 % intervals of ROC-AUC, PR-AUC, log loss and calibration error hold the score of the population.

    python -m benchmarks.probability_coverage [--simulations 400]

Logits are normal around the true label's, which stands `apart` higher; probabilities are their softmax, made too sure
(`sharpness` above 1) in half of the populations. Labels are more and less frequent, 2 to 1. The population's score is
that of 200,000 rows. Where a test set lacks labels, its areas are means over those that it has.
"""

from __future__ import annotations

import argparse
import sys
import time
from functools import lru_cache

import numpy as np

from pcc_pipeline.evaluation.answers import calibration_interval
from pcc_pipeline.evaluation.intervals.probability_intervals import probability_intervals
from pcc_pipeline.evaluation.metrics import expected_calibration_error, probability_scores

SCORES = ("roc_auc", "pr_auc", "log_loss", "ece")
ROWS, SHARPNESS = (60, 200, 1000, 3000), (1.0, 2.0)
# Labels, and how far apart: right in about 80, 90 and 99 % of the rows.
POPULATIONS = ((2, 1.2), (2, 1.8), (2, 3.3), (10, 2.6), (10, 3.3), (10, 5.0), (77, 3.6), (77, 4.3), (77, 6.0))
_MANY, _AT_A_TIME = 200_000, 20_000


def drawn(
    rows: int, n_labels: int, apart: float, sharpness: float, draws: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Label indices, shape (rows,), and the probabilities that a model gives, shape (rows, n_labels)."""
    share = np.linspace(2, 1, n_labels)
    y = draws.choice(n_labels, p=share / share.sum(), size=rows)
    logits = draws.normal(size=(rows, n_labels))
    logits[np.arange(rows), y] += apart
    # The law of the label at such logits: normal densities whose means differ by `apart` in one place.
    logits = (logits * apart + np.log(share)) * sharpness
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return y, shares / shares.sum(axis=1, keepdims=True)


def scores(y: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """What the intervals are of."""
    of_areas = probability_scores(y, probabilities, 1)
    return {**{name: of_areas[name] for name in SCORES[:3]}, "ece": expected_calibration_error(y, probabilities)}


@lru_cache
def truth(n_labels: int, apart: float, sharpness: float) -> dict[str, float]:
    """The population's scores, and `right`, the share of its rows that are labelled right."""
    draws = np.random.default_rng(1)
    parts = [drawn(_AT_A_TIME, n_labels, apart, sharpness, draws) for _ in range(_MANY // _AT_A_TIME)]
    y, probabilities = (np.concatenate([part[place] for part in parts]) for place in (0, 1))
    return {**scores(y, probabilities), "right": float((probabilities.argmax(axis=1) == y).mean())}


def coverage(n_labels: int, rows: int, apart: float, sharpness: float, *, simulations: int) -> dict[str, float]:
    """The share of simulated test sets whose interval holds the population's score, for each of `SCORES`."""
    true, held = truth(n_labels, apart, sharpness), dict.fromkeys(SCORES, 0)
    for seed in range(simulations):
        y, probabilities = drawn(rows, n_labels, apart, sharpness, np.random.default_rng(1000 + seed))
        ends = {**probability_intervals(y, probabilities, 1), "ece": calibration_interval(y, probabilities)}
        for name, (low, high) in ends.items():
            held[name] += low <= true[name] <= high
    return {name: number / simulations for name, number in held.items()}


def main() -> int:
    """Run it, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.probability_coverage", description=__doc__)
    parser.add_argument("--simulations", type=int, default=400, help="of each line (default 400)")
    simulations, begun, lowest = parser.parse_args().simulations, time.perf_counter(), dict.fromkeys(SCORES, 1.0)
    print(f"{'labels':>6}{'apart':>7}{'right':>7}{'sharp':>7}{'rows':>6}" + "".join(f"{name:>10}" for name in SCORES))
    for n_labels, apart in POPULATIONS:
        for sharpness in SHARPNESS:
            right = truth(n_labels, apart, sharpness)["right"]
            for rows in ROWS:
                held = coverage(n_labels, rows, apart, sharpness, simulations=simulations)
                lowest = {name: min(lowest[name], held[name]) for name in SCORES}
                cells = "".join(f"{held[name]:>10.1%}" for name in SCORES)
                print(f"{n_labels:>6}{apart:>7}{right:>7.0%}{sharpness:>7}{rows:>6}{cells}", flush=True)
    said = ", ".join(f"{name} {share:.1%}" for name, share in lowest.items())
    print(f"lowest: {said}; {simulations} simulations a line, {time.perf_counter() - begun:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
