"""What a file is like is counted right, the same in batches of any size, and told without a word of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pcc_pipeline.data.contract import Contract
from pcc_pipeline.data.dataset import CheckedFile
from pcc_pipeline.data.quality.profile import KnownModel, LabelCounts, Profile, Profiler
from pcc_pipeline.data.splits import RowKeys

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def profiled(
    frame: pd.DataFrame, label: str | None = "intent", batch: int = 4, model: KnownModel | None = None
) -> Profile:
    contract = Contract(label)
    file, profiler = CheckedFile(contract, "a file", kept=False), Profiler(contract, NOW)
    for start in range(0, len(frame), batch):
        rows = frame.iloc[start : start + batch]
        profiler.add(rows, file.add(rows))
    return profiler.profile(file, (), 0, model)


def rows(*texts: Any, **columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"text": pd.Series(list(texts), dtype=object), **columns})


@pytest.fixture
def mixed() -> pd.DataFrame:
    """Ten rows, each odd in a way of its own; two break the contract."""
    return rows(
        "Delete my account",
        "delete my account!",
        "Stop",
        "Bitte lÃ¶schen Sie das",
        "<b>Delete</b> it&nbsp;all",
        "Удалите мои данные",
        "Where is my parcel",
        "What do you know about me",
        "  ",
        None,
        intent=["a", "b", "a", "a", "A ", "a", "a", "a", "a", "a"],
        word_count=[3, 3, 1, 4, 2, 3, 99, None, 1, 1],
        timestamp=["2026-02-27", "2026-02-20", "2026-02-20T23:00", "2199-01-01", *[None] * 6],
        note=["x", *[None] * 9],
    )


def test_each_number_is_that_of_the_rows(mixed: pd.DataFrame) -> None:
    found = profiled(mixed)
    numbers = found.metrics
    expected = {
        **{"rows": 10, "rejected_rows": 2, "empty_texts": 2, "validity": 0.8, "unique_texts": 7, "uniqueness": 7 / 8},
        **{"duplicate_rows": 1, "most_copies": 2, "conflicting_texts": 1, "rows_in_conflict": 2, "consistency": 0.75},
        **{"one_word_texts": 1, "broken_encoding_rows": 1, "markup_rows": 1, "other_script_rows": 1},
        **{"miscounted_rows": 1, "labels": 3, "rare_labels": 3, "near_equal_label_rows": 1, "label_imbalance": 6},
        **{"missing/text": 0.2, "missing/timestamp": 0.6, "missing/label": 0, "completeness": (8 + 10 + 9 + 4) / 40},
        **{"age_days": 2, "ahead_rows": 1, "days": 8, "days_without_rows": 6, "longest_gap_days": 6},
        **{"rows_per_day": 3 / 8, "characters/greatest": 25, "words/least": 1, "words/median": 3},
    }
    assert {name: numbers[f"quality/{name}"] for name in expected} == pytest.approx(expected)
    assert [(column.name, column.contract_name, column.filled) for column in found.columns] == [
        ("text", "text", 8),
        ("intent", "label", 10),
        ("word_count", "word_count", 9),
        ("timestamp", "timestamp", 4),
        ("note", None, 1),
    ]
    assert [(one.column, one.reason, one.rows, one.first) for one in found.rejections] == [
        ("text", "blank", 1, "8"),
        ("text", "missing", 1, "9"),
    ]


def test_batches_of_any_size_say_the_same(mixed: pd.DataFrame) -> None:
    assert profiled(mixed, batch=1) == profiled(mixed, batch=3) == profiled(mixed, batch=10)


def test_a_file_without_labels_or_without_a_good_row_has_a_profile() -> None:
    found = profiled(rows("a b", "A b", "c"), label=None)
    assert found.labels is None
    assert "quality/consistency" not in found.metrics
    assert found.metrics["quality/duplicate_rows"] == 1
    empty = profiled(rows(None, " ", intent=["a", "b"]))
    assert (empty.good, empty.rejected, empty.labels, empty.characters) == (0, 2, None, None)
    assert empty.metrics["quality/validity"] == 0
    assert np.isfinite(list(empty.metrics.values())).all()


def test_times_that_all_lie_ahead_have_no_age() -> None:
    found = profiled(rows("a", "b", timestamp=["2199-01-01", "2199-05-01"]), label=None)
    assert found.times is not None
    assert (found.times.ahead, found.times.newest, found.times.span) == (2, None, 0)
    assert "quality/age_days" not in found.metrics


def test_a_file_is_compared_with_a_model() -> None:
    learned = RowKeys.of(["Delete my account", "something else"])
    model = KnownModel("v1", ("a", "b", "c"), False, learned)
    against = profiled(rows("delete my account", "Stop", "Go", intent=["a", "B", "c"]), model=model).against
    assert against is not None
    assert (against.unknown, against.unknown_rows, against.absent, against.learned_rows) == (("B",), 1, ("b",), 1)
    folding = KnownModel("v1", ("a", "b", "c"), True, None)
    against = profiled(rows("x", "y", intent=["a", "B"]), model=folding).against
    assert against is not None
    assert (against.unknown_rows, against.absent, against.learned_rows) == (0, ("c",), None)


def test_labels_that_may_be_texts_are_counted_and_not_shown() -> None:
    text = "I want you to delete it, now"
    few = LabelCounts.of({"opt_out": 900, "Data deletion": 2, text: 2, "Wants a copy, by post": 40, "x" * 90: 50})
    assert list(few.rows) == ["opt_out", "Wants a copy, by post", "Data deletion"]
    assert (few.kinds, few.not_shown, few.rows_not_shown, few.rare) == (5, 2, 52, 2)
    texts = LabelCounts.of({f"word{n}": 1 for n in range(30)})
    assert texts.are_texts
    assert (texts.rows, texts.not_shown) == ({}, 30)
