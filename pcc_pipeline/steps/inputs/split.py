"""Which rows train, which validate and which test: decided here, once, by the training; later runs read its record."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from pcc_pipeline.config import Params
from pcc_pipeline.data.contract import CASE_ID, TIMESTAMP
from pcc_pipeline.data.dataset import Dataset
from pcc_pipeline.data.split_record import TEST, TRAIN, VALIDATION, SplitRecord
from pcc_pipeline.data.splits import RowKeys, split, split_by_time, split_stable
from pcc_pipeline.errors import DataError


@dataclass(frozen=True)
class Split:
    """Row positions in the data set, and each row's group.

    Attributes:
        train, validation: in the order of their case ids, so that the file's order changes nothing that is learned.
        both: train and validation together, in the same order.
        test: empty where the test rows are a file of their own.
        record: the same for later runs.
        overlapping: rows left out because their text or group also stands elsewhere.
        overlaps: where.
        excluded: rows left out of training and validation because a list says so.
        only_tested: labels of test rows that no row to train or validate on has.
    """

    train: np.ndarray
    validation: np.ndarray
    both: np.ndarray
    test: np.ndarray
    groups: np.ndarray
    record: SplitRecord
    overlapping: int = 0
    overlaps: str = ""
    excluded: int = 0
    only_tested: tuple[str, ...] = ()


def assign(
    dataset: Dataset, params: Params, test_file: Dataset | None, excluded: frozenset[str] = frozenset()
) -> Split:
    """Split `dataset` by groups; with a test file, no text or group of it stays on the training side.

    Args:
        excluded: case ids of rows that are neither trained nor validated on. The other rows stay on the side where they
            would be with them, and test rows where they are, so that models with and without the rows compare.

    Raises:
        DataError: a side would be empty, or training would see fewer than two classes.
    """
    data = params.data
    keys = RowKeys.of(dataset.texts, dataset.groups)
    groups = keys.group_ids()
    kept, test_size = np.arange(len(groups)), data.test_size
    if test_file is not None:
        kept, test_size = np.flatnonzero(~keys.known_to(RowKeys.of(test_file.texts, test_file.groups))), 0.0
    labels, of_kept = dataset.labels[kept], groups[kept]
    if data.split == "time":
        times = times_of(dataset, data.path, "data.split: time", "data.split: random")
        parts = split_by_time(labels, of_kept, times[kept], test_size, data.validation_size)
    elif data.split == "stable":
        parts = split_stable(labels, keys.take(kept), test_size, data.validation_size, data.random_state)
    else:
        parts = split(labels, of_kept, test_size, data.validation_size, data.stratify, data.random_state)
    by_id = kept[dataset.frame[CASE_ID].iloc[kept].reset_index(drop=True).argsort().to_numpy()]
    both = by_id[np.isin(by_id, kept[np.concatenate([parts.train, parts.validation])])]
    listed = dataset.frame[CASE_ID].iloc[both].isin(excluded).to_numpy()
    both = both[~listed]
    training = np.isin(both, kept[parts.train])
    train, validation, test = both[training], both[~training], kept[parts.test]
    if listed.any():
        _demand_rows(dataset, train, validation if len(parts.validation) else train)
    positions = {TRAIN: train, VALIDATION: validation, TEST: test}
    record = SplitRecord.of(keys, positions, dataset.labels, refit=params.model.refit)
    where = [
        *(["in the test file"] if test_file is not None else []),
        *(["in earlier rows"] if data.split == "time" else []),
        *(["in a held-out group"] if data.split == "stable" and keys.groups is not None else []),
    ]
    overlaps = " or ".join(where)
    return Split(
        train,
        validation,
        both,
        test,
        groups,
        record,
        overlapping=len(groups) - len(both) - int(listed.sum()) - len(test),
        overlaps=overlaps,
        excluded=int(listed.sum()),
        only_tested=tuple(sorted(set(dataset.labels[test]) - set(dataset.labels[both]))),
    )


def _demand_rows(dataset: Dataset, train: np.ndarray, validation: np.ndarray) -> None:
    if len(set(dataset.labels[train])) < 2 or not len(validation):
        raise DataError(
            f"without the rows that data.exclude lists, {len(train):,} training rows of "
            f"{len(set(dataset.labels[train]))} classes and {len(validation):,} validation rows are left",
            where="data.exclude",
            fix="list fewer rows",
        )


def times_of(dataset: Dataset, path: str, option: str, instead: str) -> np.ndarray:
    """Each row's time in UTC.

    Args:
        option: what needs the times; `instead` is what does without.

    Raises:
        DataError: rows have none.
    """
    column = dataset.frame.get(TIMESTAMP, None)
    missing = len(dataset.frame) if column is None else int(column.isna().sum())
    if column is None or missing:
        raise DataError(
            f"{option} needs the time of every row, and {missing:,} of {len(dataset.frame):,} rows have no {TIMESTAMP}",
            where=path,
            fix=f"fill the column (data.schema: [timestamp] sends rows without one to the rejected), or set {instead}",
        )
    return pd.to_datetime(column, utc=True).dt.tz_convert(None).to_numpy()
