"""Which rows train, which validate and which test: made once here, so that training and evaluation agree."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pcc_pipeline.config import Params
from pcc_pipeline.data.dataset import Dataset
from pcc_pipeline.data.splits import group_ids, overlapping, split


@dataclass(frozen=True)
class Sides:
    """Row positions in the data set, and each row's group.

    Attributes:
        test: empty where the test rows are a file of their own.
        overlapping: training rows left out because their text also stands in the test file.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    groups: np.ndarray
    overlapping: int = 0


def assign(dataset: Dataset, params: Params, test_file: Dataset | None) -> Sides:
    """Split `dataset` by groups of equal texts; with a test file, no text of it stays on the training side.

    Raises:
        DataError: a side would be empty, or training would see fewer than two classes.
    """
    data = params.data
    groups = group_ids(dataset.texts, dataset.groups)
    if test_file is None:
        kept = np.arange(len(groups))
        test_size = data.test_size
    else:
        kept = np.flatnonzero(~_groups_touched(groups, overlapping(dataset.texts, test_file.texts)))
        test_size = 0.0
    parts = split(dataset.labels[kept], groups[kept], test_size, data.validation_size, data.stratify, data.random_state)
    return Sides(
        kept[parts.train], kept[parts.validation], kept[parts.test], groups, overlapping=len(groups) - len(kept)
    )


def _groups_touched(groups: np.ndarray, touched: np.ndarray) -> np.ndarray:
    # A row that shares a group with a leaked text leaks as well.
    return np.isin(groups, groups[touched])
