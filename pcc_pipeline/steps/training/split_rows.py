"""The rows of each side of a training, without a copy of vectors that lie in a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pcc_pipeline.data.vector_file import are_many, in_order
from pcc_pipeline.model.fitting import Rows
from pcc_pipeline.steps.inputs.split import Split


@dataclass(frozen=True)
class SplitRows:
    """What a training fits and measures on.

    Attributes:
        train: in the order of `Split.train`.
        validation: in any order; `validation_places` are their positions in the data set.
        both: train and validation rows together; not those of a label that no training row has.
        test_vectors: in the order of `Split.test`.
    """

    train: Rows
    validation: Rows
    both: Callable[[], Rows]
    test_vectors: np.ndarray
    validation_places: np.ndarray

    @classmethod
    def of(cls, rows: Rows, split: Split) -> SplitRows:
        """The sides of all rows.

        Many vectors are laid out in a file, side by side, wherever they were made, so that each side, and train and
        validation together, are a stretch of it: no solver needs a copy to have its rows one after another.

        Raises:
            StorageError: there is no room for the file.
        """
        known = np.isin(rows.labels[split.validation], _different(rows.labels[split.train]))
        if not are_many(rows.vectors):
            both = split.both[np.isin(rows.labels[split.both], _different(rows.labels[split.train]))]
            train, validation = rows.take(split.train), rows.take(split.validation)
            return cls(train, validation, lambda: rows.take(both), rows.vectors[split.test], split.validation)
        validation_rows = np.concatenate([split.validation[known], split.validation[~known]])
        ends = np.cumsum([len(split.train), known.sum(), len(validation_rows) - known.sum(), len(split.test)])
        order = np.concatenate([split.train, validation_rows, split.test])
        vectors, labels = in_order(rows.vectors, order), rows.labels[order]
        texts = [rows.texts[place] for place in order[: ends[2]]]

        def part(start: int, end: int) -> Rows:
            return Rows(texts[start:end], vectors[start:end], labels[start:end])

        return cls(
            part(0, ends[0]), part(ends[0], ends[2]), lambda: part(0, ends[1]), vectors[ends[2] :], validation_rows
        )


def _different(labels: np.ndarray) -> Sequence[str]:
    return sorted(set(labels))
