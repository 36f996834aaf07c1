"""What is looked at of each row: the model's answer, and how like the learned messages the row is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pcc_pipeline.monitoring.change.learned_space import LearnedSpace


@dataclass(frozen=True)
class Signals:
    """Numbers of n rows; what a file does not give is None.

    Attributes:
        predicted: the likeliest label's index, (n,).
        confidence: its probability, (n,).
        probabilities: (n, K).
        length: characters of the text, (n,).
        unknown: share of the text's terms that no training text has, 0..1, (n,); terms are hashed.
        components: principal components of the vector, (n, D).
        distance: squared distance from what was learned, (n,).
    """

    predicted: np.ndarray
    confidence: np.ndarray
    probabilities: np.ndarray | None = None
    length: np.ndarray | None = None
    unknown: np.ndarray | None = None
    components: np.ndarray | None = None
    distance: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.predicted)

    @staticmethod
    def of_answers(probabilities: np.ndarray) -> Signals:
        """Of class probabilities (n, K) alone."""
        return Signals(probabilities.argmax(axis=1), probabilities.max(axis=1), probabilities)

    def with_texts(self, texts: Sequence[str], unknown: np.ndarray | None) -> Signals:
        """The same rows with what their texts show."""
        length = np.fromiter((len(text) for text in texts), dtype=np.float64, count=len(texts))
        return replace(self, length=length, unknown=unknown)

    def with_vectors(self, vectors: np.ndarray, space: LearnedSpace) -> Signals:
        """The same rows with what their vectors (n, W) show."""
        components, distance = space.project(vectors)
        return replace(self, components=components, distance=distance)

    def take(self, rows: np.ndarray | slice) -> Signals:
        """Some of the rows, by positions or a mask."""
        parts: dict[str, Any] = {name: None if part is None else part[rows] for name, part in vars(self).items()}
        return Signals(**parts)

    @staticmethod
    def joined(parts: Sequence[Signals]) -> Signals:
        """Rows of several batches, one after another; what one of them does not give, none gives."""
        columns: dict[str, Any] = {}
        for name in vars(parts[0]):
            arrays = [getattr(part, name) for part in parts]
            columns[name] = None if any(array is None for array in arrays) else np.concatenate(arrays)
        return Signals(**columns)


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """Of each row (n, K), in nats."""
    logs = np.log(probabilities, out=np.zeros_like(probabilities), where=probabilities > 0)
    spread: np.ndarray = -(probabilities * logs).sum(axis=1)
    return spread
