"""Whether messages have changed: one verdict from several statistics, each judged by what chance alone makes of it.

What chance makes of a statistic is found by drawing rows: windows of n and references of m rows, both with replacement
from the m reference rows, compared with each other as a window is with the reference (Efron and Tibshirani, An
Introduction to the Bootstrap, 1993, chapter 16). So a threshold follows the size of the window, and knows that the
reference is a sample too.

The statistics go together by the least of their p-values (Tippett, 1931). They hang on each other, so what is least by
chance is taken from the same draws, in each of which all statistics were computed on the same rows (Westfall and Young,
1993): the verdict's rate of false alarms is the one asked for, where Bonferroni's correction would only bound it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from pcc_pipeline.monitoring.change.shift_statistics import statistics
from pcc_pipeline.monitoring.change.signals import Signals
from pcc_pipeline.monitoring.change.sketches import Sketch, Sketcher

# Statistics are scaled by rows, so that between these sizes little changes.
SIZES = (50, 150, 500, 1500, 5000)
DRAWS = 1000
# Statistic -> what it compares, in plain words.
PLAIN = {
    "labels": "shares of the predicted labels",
    "probabilities": "probabilities of the labels",
    "confidence": "how sure the model is",
    "novelty": "rows less like what it learned",
    "unknown_terms": "terms that no training text has",
    "length": "lengths of the texts",
    "vectors": "where the texts lie in the space of vectors",
}
# Fewer rows say too little: chance alone makes anything of them.
FEWEST_ROWS = 30


@dataclass(frozen=True)
class Chance:
    """What statistics are by chance.

    Attributes:
        names: of the statistics, T.
        draws: size of the window -> (draws, T).
    """

    names: tuple[str, ...]
    draws: Mapping[int, np.ndarray]

    @staticmethod
    def drawn(signals: Signals, sketcher: Sketcher, seed: int, sizes: Sequence[int] = SIZES) -> Chance:
        """From reference rows (m), for windows of these sizes."""
        table, rows = sketcher.table(signals), len(signals)
        draws = np.random.default_rng(seed)
        references = _sketches(table, rows, draws)
        made = {}
        for size in sizes:
            by_name = statistics(references, _sketches(table, size, draws), rows, size)
            names = tuple(by_name)
            # As it is kept, so that it judges the same before and after it was written.
            made[size] = np.column_stack(list(by_name.values())).astype(np.float16).astype(np.float64)
        return Chance(names, made)

    def without(self, name: str) -> Chance:
        """The same without one statistic, by which no window is judged then."""
        kept = [place for place, each in enumerate(self.names) if each != name]
        names = tuple(self.names[place] for place in kept)
        return Chance(names, {size: table[:, kept] for size, table in self.draws.items()})

    def of_size(self, rows: int) -> np.ndarray:
        """The draws for windows of the nearest size, (draws, T)."""
        return self.draws[min(self.draws, key=lambda size: abs(np.log(size / rows)))]


def _sketches(table: Mapping[str, np.ndarray], rows: int, draws: np.random.Generator) -> dict[str, np.ndarray]:
    """`DRAWS` sketches of so many rows each, drawn with replacement."""
    there = len(next(iter(table.values())))
    weights = draws.multinomial(rows, np.full(there, 1 / there), size=DRAWS).astype(np.float32)
    with threadpool_limits(1, user_api="blas"):
        return {name: (weights @ block).astype(np.float64) / rows for name, block in table.items()}


@dataclass(frozen=True)
class Drift:
    """One window beside the reference.

    Attributes:
        rows: of the window.
        statistics: name -> value; `p_values` are of each alone.
        p_value: of the least of these, among what it is by chance; NaN where there are too few rows.
        alarm: whether that is at most the rate of false alarms that was asked for.
    """

    rows: int
    statistics: Mapping[str, float]
    p_values: Mapping[str, float]
    p_value: float
    alarm: bool

    @property
    def causes(self) -> tuple[str, ...]:
        """Statistics that chance rarely makes so large, the rarest first; none without an alarm."""
        if not self.alarm:
            return ()
        least = min(self.p_values.values())
        causes = [name for name, p in self.p_values.items() if p <= max(least, 0.05 / len(self.p_values))]
        return tuple(sorted(causes, key=lambda name: self.p_values[name]))


def drift(reference: Sketch, reference_rows: int, window: Sketch, rows: int, chance: Chance, rate: float) -> Drift:
    """The verdict on a window.

    Args:
        reference, window: sketches by one Sketcher; what the window lacks is not judged.
        rate: of false alarms, by window.
    """
    by_name = {
        name: float(value)
        for name, value in statistics(reference, window, reference_rows, rows).items()
        if name in chance.names
    }
    if rows < FEWEST_ROWS:
        return Drift(rows, by_name, dict.fromkeys(by_name, float("nan")), float("nan"), False)
    by_chance = chance.of_size(rows)[:, [chance.names.index(name) for name in by_name]]
    several, total = len(by_chance) + 1, np.vstack([by_chance, list(by_name.values())])
    # The window is one of the draws: of each statistic, how many of all are at least as large.
    ordered = np.sort(total, axis=0)
    p_values = np.column_stack(
        [
            1 - np.searchsorted(ordered[:, place], total[:, place], side="left") / several
            for place in range(len(by_name))
        ]
    )
    least = p_values.min(axis=1)
    p_value = float((least <= least[-1]).mean())
    return Drift(rows, by_name, dict(zip(by_name, map(float, p_values[-1]), strict=True)), p_value, p_value <= rate)
