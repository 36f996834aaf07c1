"""What to know about labels before trusting a score: duplicates, texts with two labels, and the classes' sizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from pcc_pipeline.data.splits import fold_text

_SAMPLE_SIZE = 10


@dataclass(frozen=True)
class DuplicateReport:
    """Counts over texts that are equal once case, punctuation and spaces are folded.

    duplicate_rows: rows beyond the first of each text. conflicting_texts: texts with more than one label.
    rows_in_conflict: all rows of those texts. conflicting_case_ids: up to 10 of them.
    """

    rows: int
    unique_texts: int
    duplicate_rows: int
    conflicting_texts: int
    rows_in_conflict: int
    conflicting_case_ids: tuple[str, ...]


@dataclass(frozen=True)
class ClassCounts:
    """Rows per class, the largest first; `smallest` is the name of the rarest."""

    counts: dict[str, int]

    @property
    def smallest(self) -> str:
        return min(self.counts, key=lambda label: (self.counts[label], label))

    @property
    def smallest_rows(self) -> int:
        return self.counts[self.smallest]

    @property
    def imbalance(self) -> float:
        """Rows of the largest class per row of the smallest."""
        return max(self.counts.values()) / self.smallest_rows


def duplicates(texts: Sequence[str], labels: Sequence[str], case_ids: Sequence[str]) -> DuplicateReport:
    """Counts duplicate texts and duplicates that disagree on the label; all three (n,)."""
    folded = pd.Series([fold_text(text) for text in texts], dtype=object)
    label = pd.Series(list(labels), dtype=object)
    in_conflict = label.groupby(folded).transform("nunique") > 1 if len(folded) else pd.Series([], dtype=bool)
    ids = [str(case_id) for case_id, conflict in zip(case_ids, in_conflict, strict=True) if conflict]
    unique = int(folded.nunique())
    return DuplicateReport(
        rows=len(folded),
        unique_texts=unique,
        duplicate_rows=len(folded) - unique,
        conflicting_texts=int(folded[in_conflict].nunique()),
        rows_in_conflict=len(ids),
        conflicting_case_ids=tuple(ids[:_SAMPLE_SIZE]),
    )


def class_counts(labels: Sequence[str]) -> ClassCounts:
    """Counts rows per class; equal counts in the labels' order."""
    counted = Counter(str(label) for label in labels)
    return ClassCounts(dict(sorted(counted.items(), key=lambda item: (-item[1], item[0]))))
