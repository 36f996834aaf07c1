"""Which of the rows that a model learned lie nearest to a text: what it has to go by there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class LearnedRow:
    """A row that a model learned, by its case id; `similarity` is the cosine of the two sentence vectors, -1..1."""

    case_id: str
    label: str
    similarity: float


def nearest_rows(
    vector: np.ndarray, vectors: np.ndarray, case_ids: Sequence[str], labels: Sequence[str], most: int
) -> tuple[LearnedRow, ...]:
    """The rows nearest to a vector, the nearest first; equally near ones in their order.

    Args:
        vector: (width,).
        vectors: (n, width), of the rows.
        case_ids, labels: (n,).
    """
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(vector)
    near = (vectors @ vector) / np.where(lengths > 0, lengths, 1.0)
    return tuple(
        LearnedRow(str(case_ids[place]), str(labels[place]), float(near[place]))
        for place in np.argsort(-near, kind="stable")[:most]
    )
