"""The record of a split: where each row of a training file went, kept with the run, so that no one computes it again.

It holds positions and hashes, and nothing that a customer wrote. By the hashes, rows of any other file are known again
that a model has learned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pcc_pipeline.data.splits import Keys, Labels, Mask, Positions, RowKeys, label_keys
from pcc_pipeline.errors import DataError

TRAIN, VALIDATION, TEST, LEFT_OUT = "train", "validation", "test", "left_out"
_NAMES = (TRAIN, VALIDATION, TEST, LEFT_OUT)
_LEFT_OUT = _NAMES.index(LEFT_OUT)


@dataclass(frozen=True)
class SplitRecord:
    """One line for each good row of the training file, in its order.

    Attributes:
        split: (n,) places in train, validation, test, left_out.
        learned: (n,) booleans, whether the final model was fitted on the row.
        keys: hashes of the folded texts and, where a group column was named, of the groups.
        labels: (n,) hashes of the labels; None in a record of an earlier release.
    """

    split: np.ndarray[Any, np.dtype[np.int8]]
    learned: Mask
    keys: RowKeys
    labels: Keys | None = None

    @classmethod
    def of(cls, keys: RowKeys, positions: Mapping[str, Positions], labels: Labels, *, refit: bool) -> SplitRecord:
        """The record of these row positions under their names; rows that stand in none are left out.

        Args:
            labels: (n,). Of a label that no training row has, as by time a new one may be, no model learns.
            refit: the final model learned from the validation rows as well.
        """
        split = np.full(len(keys.texts), _LEFT_OUT, dtype=np.int8)
        for name, rows in positions.items():
            split[rows] = _NAMES.index(name)
        names = np.asarray(labels, dtype=object)
        # By a hash table: of objects, np.isin compares each row with each other one.
        known = pd.Series(names).isin(pd.unique(names[split == _NAMES.index(TRAIN)])).to_numpy()
        learned = known & np.isin(split, [_NAMES.index(name) for name in ((TRAIN, VALIDATION) if refit else (TRAIN,))])
        return cls(split, learned, keys, label_keys(labels))

    def positions(self, name: str) -> Positions:
        """The rows of `train`, `validation`, `test` or `left_out`, ascending."""
        return np.flatnonzero(self.split == _NAMES.index(name)).astype(np.int64)

    @property
    def learned_keys(self) -> RowKeys:
        """The keys of the rows that the model learned from."""
        return self.keys.take(self.learned)

    def unknown_texts(self, texts: Keys, labels: Labels) -> int:
        """How many different texts of other data stand here not at all, or never with that label.

        By a record of an earlier release, which has no labels: how many stand here not at all.

        Args:
            texts: (n,) keys as `RowKeys` makes them.
        """
        if self.labels is None:
            return int((~np.isin(np.unique(texts), self.keys.texts)).sum())
        # Hashes that are independent of each other, so their exclusive or tells pairs apart as well as either does.
        unknown = ~np.isin(texts ^ label_keys(labels), self.keys.texts ^ self.labels)
        return len(np.unique(texts[unknown]))

    def without(self, positions: Positions) -> SplitRecord:
        """The record without the lines of some rows; positions count anew, as those of a file without these rows."""
        kept = np.ones(len(self.split), dtype=bool)
        kept[positions] = False
        labels = None if self.labels is None else self.labels[kept]
        return SplitRecord(self.split[kept], self.learned[kept], self.keys.take(kept), labels)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all it says, whatever wrote the file."""
        columns = [self.split, self.learned, self.keys.texts.astype("<u8")]
        if self.keys.groups is not None:
            columns.append(self.keys.groups.astype("<u8"))
        head = f"{len(self.split)} rows, {len(columns)} columns"
        if self.labels is not None:
            head += ", labels"
            columns.append(self.labels.astype("<u8"))
        total = sha256(f"{head}\n".encode())
        for column in columns:
            total.update(np.ascontiguousarray(column).tobytes())
        return total.hexdigest()

    def frame(self) -> pd.DataFrame:
        """A table: position, split, learned, text_hash, label_hash and, with groups, group_hash."""
        columns: dict[str, Any] = {
            "position": np.arange(len(self.split), dtype=np.int32),
            "split": pd.Categorical.from_codes(self.split, categories=pd.Index(_NAMES)),
            "learned": self.learned,
            "text_hash": self.keys.texts,
        }
        if self.keys.groups is not None:
            columns["group_hash"] = self.keys.groups
        if self.labels is not None:
            columns["label_hash"] = self.labels
        return pd.DataFrame(columns)

    @classmethod
    def read(cls, path: Path, digest: str, where: str) -> SplitRecord:
        """The record in a Parquet file that `frame` was written to.

        Raises:
            DataError: the file is not readable, or its digest is another one; the message names `where` it came from.
        """
        try:
            table = pq.read_table(path)
            split = pa.compute.index_in(table["split"].cast(pa.string()), pa.array(_NAMES)).to_numpy()
            groups = _keys(table["group_hash"]) if "group_hash" in table.column_names else None
            keys = RowKeys(_keys(table["text_hash"]), groups)
            labels = _keys(table["label_hash"]) if "label_hash" in table.column_names else None
            record = cls(split.astype(np.int8), table["learned"].to_numpy(), keys, labels)
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            raise _altered(where) from error
        if record.digest != digest:
            raise _altered(where)
        return record


def _keys(column: pa.ChunkedArray) -> Keys:
    keys: Keys = column.to_numpy().astype(np.uint64)
    return keys


def _altered(where: str) -> DataError:
    return DataError(
        "the record of the split is damaged or was altered: it is not the one that was written at training",
        where=where,
        fix="train again; find out who can write to the artifact store",
    )
