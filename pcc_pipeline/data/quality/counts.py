"""What to know about labels before trusting a score: duplicates, texts with two labels, and the classes' sizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pcc_pipeline.data.splits import Keys

_SAMPLE_SIZE = 10


@dataclass(frozen=True)
class DuplicateReport:
    """Counts over texts that are equal once case, punctuation and spaces are folded.

    duplicate_rows: rows beyond the first of each text. most_copies: rows of the text that most rows have.
    conflicting_texts: texts with more than one label.
    rows_in_conflict: all rows of those texts. conflicting_case_ids: up to 10 of them.
    """

    rows: int
    unique_texts: int
    duplicate_rows: int
    most_copies: int
    conflicting_texts: int
    rows_in_conflict: int
    conflicting_case_ids: tuple[str, ...]

    def shares(self, rejected: int) -> dict[str, float]:
        """What of a file is good, each 0..1, as `quality/…`; of a file that has these rows and `rejected` others.

        `validity`: rows that keep the contract. `uniqueness`: different texts for each good row. `consistency`: good
        rows whose text has one label throughout.
        """
        shares = {"quality/validity": self.rows / max(self.rows + rejected, 1)}
        if self.rows:
            shares["quality/uniqueness"] = self.unique_texts / self.rows
            shares["quality/consistency"] = 1 - self.rows_in_conflict / self.rows
        return shares


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


def duplicates(
    texts: Keys, labels: Sequence[str] | None = None, case_ids: Sequence[str] | None = None
) -> DuplicateReport:
    """Counts duplicate texts and duplicates that disagree on the label.

    Args:
        texts: (n,) keys of the texts, as `RowKeys` makes them.
        labels: (n,); None where there are none, and so no text has two.
        case_ids: (n,); None where no row needs to be named.
    """
    text_of, different = pd.factorize(texts)
    in_conflict = np.zeros(len(texts), dtype=bool)
    if labels is not None and len(texts):
        label_of, kinds = pd.factorize(np.asarray(labels, dtype=object))
        pairs = np.unique(text_of.astype(np.int64) * len(kinds) + label_of)
        in_conflict = (np.bincount(pairs // len(kinds), minlength=len(different)) > 1)[text_of]
    named = [] if case_ids is None else [str(case_ids[place]) for place in np.flatnonzero(in_conflict)[:_SAMPLE_SIZE]]
    return DuplicateReport(
        rows=len(texts),
        unique_texts=len(different),
        duplicate_rows=len(texts) - len(different),
        most_copies=int(np.bincount(text_of).max(initial=0)),
        conflicting_texts=len(np.unique(text_of[in_conflict])),
        rows_in_conflict=int(in_conflict.sum()),
        conflicting_case_ids=tuple(named),
    )


def class_counts(labels: Sequence[str]) -> ClassCounts:
    """Counts rows per class; equal counts in the labels' order."""
    counted = Counter(str(label) for label in labels)
    return ClassCounts(dict(sorted(counted.items(), key=lambda item: (-item[1], item[0]))))
