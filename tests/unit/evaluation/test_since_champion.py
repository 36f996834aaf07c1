"""Rows beside those that the champion learned: what differs is named, and luck is not."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from scipy.stats import fisher_exact

from pcc_pipeline.evaluation.over_time.since_champion import RowCounts, difference
from pcc_pipeline.evaluation.slices import length_counts


def drawn(shares: list[float], rows: int, random: np.random.Generator) -> RowCounts:
    labels = Counter(f"label {place}" for place in random.choice(len(shares), rows, p=shares))
    return RowCounts(labels, length_counts(pd.Series(random.integers(1, 300, rows))))


def test_rows_that_are_drawn_alike_seldom_differ() -> None:
    random = np.random.default_rng(0)
    shares = random.dirichlet(np.full(30, 2.0)).tolist()
    named = 0
    for _ in range(300):
        found = difference(drawn(shares, 2000, random), drawn(shares, 400, random))
        assert found is not None
        assert found.looked_at > 30
        named += bool(found.changed)
    # 5 % of 300, and what luck adds to them.
    assert named <= 24


def test_what_changed_is_named_with_its_shares_the_greatest_change_first() -> None:
    before = RowCounts({"access": 500, "delete": 300, "other": 200}, {"0 to 50": 900, "51 to 100": 100})
    now = RowCounts({"access": 100, "delete": 90, "other": 60, "opt_out": 50}, {"0 to 50": 150, "51 to 100": 150})
    found = difference(before, now)
    assert found is not None
    assert (found.new, found.gone, found.rows_before, found.rows_now) == (("opt_out",), (), 1000, 300)
    shown = [(each.kind, each.value, each.before, round(each.now, 3)) for each in found.changed]
    assert shown[:2] == [("length", "0 to 50", 0.9, 0.5), ("length", "51 to 100", 0.1, 0.5)]
    assert shown[2:] == [("label", "access", 0.5, 0.333), ("label", "opt_out", 0.0, 0.167)]
    chance = fisher_exact([[100, 200], [500, 500]], alternative="less").pvalue
    assert chance * 2 * found.looked_at < 0.05
    reverse = difference(now, before)
    assert reverse is not None
    assert (reverse.new, reverse.gone) == ((), ("opt_out",))


@pytest.mark.parametrize("rows", [1, 3])
def test_few_rows_show_nothing_and_none_are_not_compared(rows: int) -> None:
    before = RowCounts({"a": 900, "b": 100}, {})
    found = difference(before, RowCounts({"b": rows - 1, "c": 1}, {}))
    assert found is not None
    assert not found.lengths
    assert found.new == ("c",)
    assert difference(before, RowCounts({}, {})) is None
    assert difference(RowCounts({"a": 0}, {}), before) is None


def test_lengths_are_counted_in_order_without_a_text() -> None:
    assert length_counts(pd.Series([3, 120, 60, 10_000, 50])) == {
        "0 to 50": 2,
        "51 to 100": 1,
        "101 to 200": 1,
        "801 or more": 1,
    }
