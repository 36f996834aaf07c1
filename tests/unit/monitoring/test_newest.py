"""Since when messages are as they are now."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pcc_pipeline.monitoring.change.newest import alike_since
from pcc_pipeline.monitoring.change.signals import Signals

DAYS = np.datetime64("2026-01-01") + np.arange(800).astype("timedelta64[D]")


def _signals(rows: int, seed: int) -> Signals:
    draws = np.random.default_rng(seed)
    signals = Signals.of_answers(draws.dirichlet([2, 1, 1], size=rows))
    return replace(
        signals,
        length=draws.lognormal(4, 0.5, size=rows),
        components=draws.normal(size=(rows, 5)),
        distance=draws.chisquare(5, size=rows),
    )


def _turned(signals: Signals, start: int) -> Signals:
    """From one row on all lie elsewhere."""
    assert signals.components is not None
    components = signals.components.copy()
    components[start:] += 1.5
    return replace(signals, components=components)


@pytest.mark.parametrize("start", [200, 400, 600])
def test_rows_from_a_change_on_are_alike_whatever_their_order(start: int) -> None:
    order = np.random.default_rng(1).permutation(800)
    signals = _turned(_signals(800, 0), start).take(order)
    since = alike_since(signals, DAYS[order], 3, 0)
    assert since is not None
    # To a block of 150 rows: one that holds the change is unlike the rest, or nearly like it.
    assert abs(int((since - DAYS[start]).astype(int))) <= 150


def test_of_very_many_rows_some_are_looked_at() -> None:
    """All of them, a thousand times, would take tens of gigabytes."""
    rows, start = 400_000, 300_000
    seconds = np.datetime64("2026-01-01") + np.arange(rows).astype("timedelta64[s]")
    since = alike_since(_turned(_signals(rows, 0), start), seconds, 3, 0)
    assert since is not None
    assert abs(int((since - seconds[start]).astype(int))) <= rows // 8  # a block of what was looked at


def test_where_nothing_changed_all_rows_count() -> None:
    called = sum(alike_since(_signals(800, seed), DAYS, 3, seed) is not None for seed in range(60))
    assert called <= 4  # one in a hundred is meant; five of sixty would come by chance once in 4,000


def test_of_few_rows_or_rows_without_times_nothing_is_said() -> None:
    signals = _turned(_signals(800, 0), 400)
    assert alike_since(signals.take(np.arange(280, 520)), DAYS[280:520], 3, 0) is None
    few = DAYS.copy()
    few[:500] = np.datetime64("NaT")
    assert alike_since(signals, few, 3, 0) is None
