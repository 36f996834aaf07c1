"""Files of messages, labelled or not, as the rows that are watched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from pcc_pipeline.data.dataset import check_rejections, join_rejected, kept_out_note
from pcc_pipeline.data.splits import RowKeys
from pcc_pipeline.errors import DataError
from pcc_pipeline.monitoring.change.signals import Signals
from pcc_pipeline.persons.manifest import joined
from pcc_pipeline.steps.parts.running import as_listed
from pcc_pipeline.steps.watching.watched_file import WatchedFile
from pcc_pipeline.steps.watching.watched_rows import WatchedRows
from pcc_pipeline.tracking.payloads import InputFile


def of_messages(
    files: Sequence[WatchedFile], address: str, model_version: str, learned: Callable[[], RowKeys | None]
) -> WatchedRows:
    """All rows of the files, in their order; a case id that stands in two of them counts once, in the first.

    Args:
        address: of all files, as they were named.
        learned: what the rows have that the model learned; None where no record says so.

    Raises:
        DataError: no row is good.
    """
    kept_out = kept_out_note(sum(file.kept_out for file in files))
    signals = [file.signals for file in files if file.signals is not None]
    if not signals:
        several = len(files) > 1
        faults = join_rejected([file.faults.assign(file=file.source) if several else file.faults for file in files])
        if len(faults):
            check_rejections(faults, len(faults), address, 1.0)  # says why there is none
        raise DataError(
            "; ".join(["no good row stays", *kept_out]),
            where=address,
            fix="give a file with rows that keep the data contract",
        )
    keys = learned()
    known = np.concatenate([file.keys.texts for file in files])
    known = np.zeros(len(known), bool) if keys is None else RowKeys(known, None).known_to(keys)
    times = pd.concat([file.times for file in files], ignore_index=True)
    inputs = [InputFile(file.source, "monitoring", file.digest, len(file.rejected)) for file in files]
    contents = [file.lineage for file in files if file.lineage is not None]
    whole = WatchedRows(
        signals=signals[0] if len(signals) == 1 else Signals.joined(signals),
        case_ids=np.concatenate([file.case_ids for file in files]),
        texts=np.unique(np.concatenate([file.texts for file in files]), return_inverse=True)[1],
        times=None if times.isna().all() else times,
        labels=np.concatenate([file.labels for file in files]),
        learned=known,
        rejected=np.concatenate([file.rejected for file in files]),
        missing=_missing(files),
        inputs=as_listed(inputs, address),
        notes=(*dict.fromkeys(line for file in files for line in file.notes), *kept_out),
        lineage=joined(contents, address) if contents else None,
    )
    rows = whole.without(_repeated(files))
    left_out = (
        f"{model_version} learned the texts of {rows.learned.sum():,} of the {len(rows):,} rows: of these only "
        "the quality is judged"
    )
    return replace(rows, notes=(*rows.notes, left_out)) if rows.learned.any() else rows


def _repeated(files: Sequence[WatchedFile]) -> np.ndarray:
    """Which rows have a case id of a row before them, (n,) bool; ids that were made of rows are no case's."""
    own = np.concatenate([np.full(len(file), file.own_ids) for file in files])
    again = np.zeros(len(own), bool)
    again[own] = pd.Series(np.concatenate([file.case_ids for file in files])[own]).duplicated()
    return again


def _missing(files: Sequence[WatchedFile]) -> dict[str, np.ndarray]:
    """`missing/<column>` -> rows without a value; of several files, one that lacks a column has no value there."""
    names = dict.fromkeys(name for file in files for name in file.missing)
    return {
        name: np.concatenate([file.missing.get(name, np.ones(len(file), bool)) for file in files]) for name in names
    }
