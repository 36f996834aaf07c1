"""Labels that look wrong, by confident learning: rows that a model which did not learn them is sure to be another's.

Northcutt, Jiang and Chuang, "Confident learning", Journal of Artificial Intelligence Research 2021, section 3.1. A test
holds these few lines equal to the cleanlab package's answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

COLUMNS = ("case_id", "label", "suggested", "score")
_ROUNDING = 1e-6
_MOST_SHOWN = 50


@dataclass(frozen=True)
class LabelIssues:
    """A list to review.

    Attributes:
        looked_at: rows that had held-out probabilities.
        table: columns `case_id`, `label`, `suggested` and `score`, the surest first. The score, 0..1, is how much more
            probable the suggestion is than the label.
    """

    looked_at: int
    table: pd.DataFrame

    @property
    def line(self) -> str:
        """What the summary says of it."""
        return (
            f"{len(self.table):,} of {self.looked_at:,} training rows have a label that looks wrong; "
            "label_issues.parquet lists them for review, and nothing was removed"
        )

    def to_json(self) -> list[dict[str, Any]]:
        """The first 50, for metrics.json."""
        return [
            {**{name: str(row[name]) for name in COLUMNS[:3]}, "score": float(row["score"])}
            for row in self.table.head(_MOST_SHOWN).to_dict("records")
        ]


def find_label_issues(
    case_ids: Sequence[str] | np.ndarray, y: NDArray[Any], probabilities: NDArray[Any], classes: Sequence[str]
) -> LabelIssues:
    """Look for wrong labels.

    Args:
        case_ids: (n,).
        y: class indices, (n,).
        probabilities: (n, K), each row's by a model that did not learn it.
    """
    rows = wrong_labels(y, probabilities)
    likely = probabilities.argmax(axis=1)
    score = probabilities[rows, likely[rows]] - probabilities[rows, y[rows]]
    order = np.argsort(-score, kind="stable")
    names, rows = np.asarray(classes, dtype=object), rows[order]
    columns = (np.asarray(case_ids, dtype=object)[rows], names[y[rows]], names[likely[rows]])
    table = pd.DataFrame(dict(zip(COLUMNS, columns, strict=False))).astype("str")
    return LabelIssues(len(y), table.assign(score=score[order].astype(np.float64)))


def wrong_labels(y: NDArray[Any], probabilities: NDArray[Any]) -> NDArray[np.intp]:
    """The rows off the diagonal of the confident joint, ascending.

    A class is confidently a row's where its probability reaches the mean that the class has on its own rows; of several
    such the most probable counts. Rows whose label is the most probable class after all are left out.
    """
    n_classes = probabilities.shape[1]
    rows_of = np.bincount(y, minlength=n_classes)
    own = np.bincount(y, weights=probabilities[np.arange(len(y)), y], minlength=n_classes)
    # No probability reaches the mean of a class without rows.
    mean = np.where(rows_of > 0, np.maximum(own / np.maximum(rows_of, 1), 2 * _ROUNDING), 2.0)
    confident, likely = probabilities >= mean - _ROUNDING, probabilities.argmax(axis=1)
    decided = np.where(confident.sum(axis=1) > 1, likely, confident.argmax(axis=1))
    return np.flatnonzero(confident.any(axis=1) & (decided != y) & (likely != y))
