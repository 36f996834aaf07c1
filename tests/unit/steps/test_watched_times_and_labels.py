"""Of watched rows: times that lie in the future make no file new, and labels are spelled as the model's."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd

from pcc_pipeline.config import Params
from pcc_pipeline.monitoring.change.signals import Signals
from pcc_pipeline.monitoring.usual import Usual, UsualShare
from pcc_pipeline.steps.watching.later_labels import spelled
from pcc_pipeline.steps.watching.verdicts import file_quality, rows_ahead
from pcc_pipeline.steps.watching.watched_rows import WatchedRows

ROWS, NOW = 200, datetime(2026, 11, 28, 12, tzinfo=UTC)


def watched(times: pd.Series | None = None, labels: np.ndarray | None = None) -> WatchedRows:
    return WatchedRows(
        signals=Signals(np.zeros(ROWS, int), np.ones(ROWS)),
        case_ids=np.arange(ROWS).astype(str).astype(object),
        texts=np.arange(ROWS),
        times=None if times is None else times.astype("datetime64[us, UTC]"),
        labels=np.full(ROWS, None, object) if labels is None else labels,
        learned=np.zeros(ROWS, bool),
        rejected=np.zeros(ROWS, bool),
        missing={},
        inputs=[],
        notes=(),
    )


def test_a_time_in_the_future_does_not_hide_that_a_file_is_late_and_is_told() -> None:
    usual = Usual({"rejected_rows": UsualShare.of(np.zeros(5000, bool))}, None, 1.0, (1.0, 2.0, 3.0))
    profile = cast("Any", SimpleNamespace(usual=usual))
    times = pd.Series(pd.date_range("2026-09-01", periods=ROWS, freq="h", tz="UTC"))
    late = file_quality(watched(times), profile, Params(), NOW)
    times[5] = pd.Timestamp("2062-09-01", tz="UTC")
    times[6] = pd.NaT
    mistyped = file_quality(watched(times), profile, Params(), NOW)
    assert late.age is not None
    assert late.age.unusual
    assert mistyped.age == late.age
    assert rows_ahead(watched(times), NOW) == ("1 row lies in the future",)
    # Clocks and time zones may differ by a day.
    times[5] = pd.Timestamp(NOW) + pd.Timedelta(hours=23)
    assert rows_ahead(watched(times), NOW) == ()
    assert rows_ahead(watched(), NOW) == ()


def test_labels_that_differ_by_blanks_or_case_alone_are_the_models() -> None:
    labels = np.array(["opt_out", "Opt_Out ", None, "OTHER", "unknown"] * (ROWS // 5), dtype=object)
    rows = spelled(watched(labels=labels), ("opt_out", "other"))
    assert list(rows.labels[:5]) == ["opt_out", "opt_out", None, "other", "unknown"]
    assert list(spelled(watched(), ("opt_out",)).labels) == [None] * ROWS
