"""Rows as a table of numbers whose mean is a sketch of them: enough to compare two sets of rows, and nothing of a row.

Of a number, the columns say whether it is above each of some edges, so that their means are the share of rows above;
of labels, which one it is; of components, how large they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pcc_pipeline.monitoring.change.signals import Signals, entropy

LABELS, PROBABILITIES, COMPONENTS = "labels", "probabilities", "components"
# Signals of one number each.
NUMBERS = ("confidence", "length", "unknown", "novelty")
Sketch = Mapping[str, np.ndarray]

_SHARES = np.array([0.01, 0.025, *np.arange(0.05, 0.96, 0.05), 0.975, 0.99])
# Of a class's probability the upper end says most: there stand the rows of that class.
_SHARES_OF_PROBABILITIES = np.array([0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99])
# Of more classes, those with most rows.
_MOST_CLASSES = 100
_ROWS_AT_A_TIME = 4096


@dataclass(frozen=True)
class Sketcher:
    """Edges and scales, taken from the reference rows.

    Attributes:
        n_classes: K.
        edges: number -> ascending edges.
        classes: indices of the classes whose probabilities are sketched, (k,); `class_edges` are theirs, (k, E).
        scales: standard deviation of each component, (D,).
        novelty: mean and standard deviation of distance, and of entropy, over the reference rows; see `novelty`.
    """

    n_classes: int
    edges: Mapping[str, np.ndarray]
    classes: np.ndarray
    class_edges: np.ndarray
    scales: np.ndarray
    novelty_scales: tuple[float, float, float, float] | None

    @staticmethod
    def of(signals: Signals, n_classes: int) -> Sketcher:
        """With edges at fixed shares of these rows."""
        nothing = Sketcher(n_classes, {}, np.empty(0, int), np.empty((0, 0)), np.empty(0), None)
        scales = None
        if signals.distance is not None and signals.probabilities is not None:
            spread = entropy(signals.probabilities)
            scales = (*_scale(signals.distance), *_scale(spread))
        partly = Sketcher(n_classes, nothing.edges, nothing.classes, nothing.class_edges, nothing.scales, scales)
        edges = {
            name: np.unique(np.quantile(numbers, _SHARES))
            for name in NUMBERS
            if (numbers := partly.number(name, signals)) is not None
        }
        classes, class_edges = nothing.classes, nothing.class_edges
        if signals.probabilities is not None:
            common = np.argsort(-np.bincount(signals.predicted, minlength=n_classes), kind="stable")[:_MOST_CLASSES]
            classes = np.sort(common)
            class_edges = np.quantile(signals.probabilities[:, classes], _SHARES_OF_PROBABILITIES, axis=0).T
        spreads = nothing.scales if signals.components is None else signals.components.std(axis=0)
        return Sketcher(n_classes, edges, classes, class_edges, spreads, scales)

    def novelty(self, signals: Signals) -> np.ndarray | None:
        """How unlike the learned messages each row is: distance and entropy, each in standard deviations, added up."""
        if self.novelty_scales is None or signals.distance is None or signals.probabilities is None:
            return None
        distance, distance_spread, entropies, entropy_spread = self.novelty_scales
        far = (signals.distance - distance) / distance_spread
        unsure = (entropy(signals.probabilities) - entropies) / entropy_spread
        total: np.ndarray = far + unsure
        return total

    def number(self, name: str, signals: Signals) -> np.ndarray | None:
        """One of `NUMBERS` of each row, (n,)."""
        return self.novelty(signals) if name == "novelty" else getattr(signals, name)

    def table(self, signals: Signals) -> dict[str, np.ndarray]:
        """Block -> float32 (n, its columns); a block that the rows do not give is left out."""
        rows = len(signals)
        labels = np.zeros((rows, self.n_classes), dtype=np.float32)
        labels[np.arange(rows), signals.predicted] = 1
        blocks = {LABELS: labels}
        for name, edges in self.edges.items():
            if (numbers := self.number(name, signals)) is not None:
                blocks[name] = (numbers[:, None] > edges).astype(np.float32)
        if signals.probabilities is not None and len(self.classes):
            above = signals.probabilities[:, self.classes, None] > self.class_edges
            blocks[PROBABILITIES] = above.reshape(rows, -1).astype(np.float32)
        if signals.components is not None and len(self.scales):
            blocks[COMPONENTS] = (signals.components / self.scales).astype(np.float32)
        return blocks

    def sketch(self, signals: Signals) -> dict[str, np.ndarray]:
        """Block -> mean over the rows, float64."""
        sums: dict[str, np.ndarray] = {}
        for start in range(0, len(signals), _ROWS_AT_A_TIME):
            for name, block in self.table(signals.take(slice(start, start + _ROWS_AT_A_TIME))).items():
                sums[name] = sums.get(name, 0) + block.sum(axis=0, dtype=np.float64)
        return {name: total / len(signals) for name, total in sums.items()}


def _scale(numbers: np.ndarray) -> tuple[float, float]:
    return float(numbers.mean(dtype=np.float64)), max(float(numbers.std(dtype=np.float64)), 1e-9)
