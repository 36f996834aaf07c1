"""Labels that came after the messages that are watched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pandas as pd

from pcc_pipeline.config import Params
from pcc_pipeline.data.contract import CASE_ID
from pcc_pipeline.data.labels import respelled
from pcc_pipeline.errors import DataError
from pcc_pipeline.steps.inputs.datasets import read
from pcc_pipeline.steps.watching.watched_file import labels_in
from pcc_pipeline.steps.watching.watched_rows import WatchedRows
from pcc_pipeline.tracking.payloads import InputFile


def with_labels(rows: WatchedRows, address: str, params: Params) -> tuple[WatchedRows, list[InputFile]]:
    """The same rows with labels that came later, joined by case id, in whole or in part.

    Raises:
        DataError: the file lacks a column, names a case twice with two labels, or names none of these rows.
    """
    column = params.data.label_column
    frame = pd.concat(list(read(address)), ignore_index=True)
    if missing := [name for name in (CASE_ID, column) if name not in frame]:
        raise DataError(
            f"the file of labels has no column {' and no column '.join(missing)}",
            where=address,
            fix=f"give {CASE_ID} and {column}; another column of labels by data.label_column",
        )
    labels = pd.Series(labels_in(frame[column]), index=frame[CASE_ID].astype(str)).dropna()
    different = labels.groupby(level=0).nunique()
    if twice := int((different > 1).sum()):
        raise DataError(f"{twice:,} cases have two labels", where=address, fix="keep one row for each case")
    known = labels[~labels.index.duplicated()].to_dict()
    joined = np.array([known.get(str(case), own) for case, own in zip(rows.case_ids, rows.labels, strict=True)], object)
    if not any(str(case) in known for case in rows.case_ids):
        raise DataError(
            f"none of its {len(known):,} labelled cases is among the {len(rows):,} rows",
            where=address,
            fix="give labels by the case ids of the file, or of its predictions",
        )
    digest = sha256(repr(sorted(known.items())).encode(errors="surrogatepass")).hexdigest()
    return replace(rows, labels=joined), [InputFile(address, "labels", digest, len(frame))]


def spelled(rows: WatchedRows, classes: Sequence[str]) -> WatchedRows:
    """With labels as the model spells them: for its training those that differ by blanks or case alone were one."""
    there = rows.labels != None  # noqa: E711 # of each element
    labels = rows.labels.copy()
    labels[there] = respelled(labels[there], classes)
    return replace(rows, labels=labels)
