"""Rows that are watched: what is looked at of each, whatever it was read from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from pcc_pipeline.monitoring.change.signals import Signals
from pcc_pipeline.monitoring.windows import days_of
from pcc_pipeline.tracking.payloads import InputFile


@dataclass(frozen=True)
class WatchedRows:
    """Good rows, n of them, in the order of the files.

    Attributes:
        signals: see there; of a file of predictions without texts, what these show.
        texts: the number of each row's text among the different ones, (n,); None without texts.
        times: the column `timestamp`; None where there is none.
        labels: true labels, (n,) object, None where a row has none.
        learned: which rows have a text that the model learned, (n,) bool: they say nothing of how it does on others.
        rejected: which rows of the file break the contract, or were not answered, (total,) bool.
        missing: `missing/<column>` -> rows without a value, (n,) bool, of the optional columns; None where they were
            not checked, as in a file of predictions.
    """

    signals: Signals
    case_ids: np.ndarray
    texts: np.ndarray | None
    times: pd.Series | None
    labels: np.ndarray
    learned: np.ndarray
    rejected: np.ndarray
    missing: dict[str, np.ndarray] | None
    inputs: list[InputFile]
    notes: tuple[str, ...]
    lineage: bytes | None = None

    def __len__(self) -> int:
        return len(self.case_ids)

    def without(self, some: np.ndarray) -> WatchedRows:
        """Without some rows, (n,) bool, which are rejected then."""
        if not some.any():
            return self
        rejected = self.rejected.copy()
        rejected[np.flatnonzero(~rejected)[some]] = True
        return replace(
            self,
            signals=self.signals.take(~some),
            case_ids=self.case_ids[~some],
            texts=None if self.texts is None else self.texts[~some],
            times=None if self.times is None else self.times[~some].reset_index(drop=True),
            labels=self.labels[~some],
            learned=self.learned[~some],
            rejected=rejected,
            missing=None if self.missing is None else {name: one[~some] for name, one in self.missing.items()},
        )

    @cached_property
    def days(self) -> np.ndarray | None:
        """The day of each row in UTC, (n,) datetime64[D]; None where there are no times."""
        return None if self.times is None else days_of(self.times)
