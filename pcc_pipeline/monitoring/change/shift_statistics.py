"""How far two sets of rows lie apart, in one number for each kind of change, from their sketches.

Each is scaled by the rows of both sets so that without a change it hangs little on how many they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from pcc_pipeline.monitoring.change.sketches import COMPONENTS, LABELS, PROBABILITIES, Sketch

# (sketch of the reference, of a window, rows of both: m, n) -> (…,); sketches are (…, columns).
_Statistic = Callable[[np.ndarray, np.ndarray, int, int], np.ndarray]


def _both(reference_rows: int, rows: int) -> float:
    return reference_rows * rows / (reference_rows + rows)


def _chi_square(reference: np.ndarray, window: np.ndarray, reference_rows: int, rows: int) -> np.ndarray:
    """Pearson's statistic of a table of two rows, the counts of labels in both sets."""
    pooled = (reference * reference_rows + window * rows) / (reference_rows + rows)
    apart = np.divide((window - reference) ** 2, pooled, out=np.zeros_like(pooled), where=pooled > 0)
    return np.asarray(_both(reference_rows, rows) * apart.sum(axis=-1))


def _greatest_gap(reference: np.ndarray, window: np.ndarray, reference_rows: int, rows: int) -> np.ndarray:
    """Kolmogorov and Smirnov's statistic at the edges: the greatest difference of the shares of rows above."""
    return np.asarray(np.sqrt(_both(reference_rows, rows)) * np.abs(window - reference).max(axis=-1))


def _risen(reference: np.ndarray, window: np.ndarray, reference_rows: int, rows: int) -> np.ndarray:
    """Mean gain of the shares of rows above the edges, as by Mann and Whitney; only a rise counts."""
    return np.asarray(np.sqrt(_both(reference_rows, rows)) * (window - reference).mean(axis=-1))


def _fallen(reference: np.ndarray, window: np.ndarray, reference_rows: int, rows: int) -> np.ndarray:
    return -_risen(reference, window, reference_rows, rows)


def _moved(reference: np.ndarray, window: np.ndarray, reference_rows: int, rows: int) -> np.ndarray:
    """Squared differences of means, in standard deviations, added up: Hotelling's statistic without correlations."""
    return np.asarray(_both(reference_rows, rows) * ((window - reference) ** 2).sum(axis=-1))


# Statistic -> the block that it compares, and how.
_STATISTICS: Mapping[str, tuple[str, _Statistic]] = {
    "labels": (LABELS, _chi_square),
    "probabilities": (PROBABILITIES, _greatest_gap),
    "confidence": ("confidence", _fallen),
    "novelty": ("novelty", _risen),
    "unknown_terms": ("unknown", _risen),
    "length": ("length", _greatest_gap),
    "vectors": (COMPONENTS, _moved),
}
NAMES = tuple(_STATISTICS)


def statistics(reference: Sketch, window: Sketch, reference_rows: int, rows: int) -> dict[str, np.ndarray]:
    """Name -> statistic, of the blocks that both sketches have, each sketch (…, columns)."""
    return {
        name: compare(reference[block], window[block], reference_rows, rows)
        for name, (block, compare) in _STATISTICS.items()
        if block in reference and block in window
    }
