"""Duplicates and contradictions are counted, and shown by case id, never by text."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from pcc_pipeline.data.quality.counts import class_counts, duplicates
from pcc_pipeline.data.splits import RowKeys


def test_duplicates_and_contradictions_are_counted() -> None:
    texts = ["Hi!", "hi", "HI.", "bye", "Bye", "once"]
    report = duplicates(RowKeys.of(texts).texts, ["a", "b", "a", "c", "c", "a"], list("123456"))
    assert (report.rows, report.unique_texts, report.duplicate_rows) == (6, 3, 3)
    assert (report.conflicting_texts, report.rows_in_conflict, report.most_copies) == (1, 3, 3)
    assert report.conflicting_case_ids == ("1", "2", "3")
    assert "hi" not in repr(report).casefold().replace("which", "")
    shares = report.shares(rejected=2)
    assert shares == {"quality/validity": 0.75, "quality/uniqueness": 0.5, "quality/consistency": 0.5}


def test_without_labels_no_text_has_two() -> None:
    report = duplicates(RowKeys.of(["a", "A", "b"]).texts)
    assert (report.duplicate_rows, report.conflicting_texts, report.conflicting_case_ids) == (1, 0, ())


def test_at_most_ten_case_ids_are_shown() -> None:
    report = duplicates(RowKeys.of(["x"] * 30).texts, ["a", "b"] * 15, [str(i) for i in range(30)])
    assert report.rows_in_conflict == 30
    assert report.conflicting_case_ids == tuple(str(i) for i in range(10))


def test_no_rows_are_no_error() -> None:
    report = duplicates(RowKeys.of([]).texts, [], [])
    assert (report.rows, report.most_copies, report.shares(0)) == (0, 0, {"quality/validity": 0.0})


def test_the_known_duplicates_of_banking77_are_found(real_data: Callable[[str], pd.DataFrame]) -> None:
    """Its notes count 31 near-duplicates in train and one text with two labels."""
    frame = real_data("banking77")
    report = duplicates(RowKeys.of(frame["text"].tolist()).texts, frame["intent"].tolist())
    assert 25 <= report.duplicate_rows <= 40
    assert report.conflicting_texts == 1


def test_classes_are_counted_largest_first() -> None:
    counts = class_counts(["b", "a", "b", "c", "b", "a"])
    assert list(counts.counts.items()) == [("b", 3), ("a", 2), ("c", 1)]
    assert (counts.smallest, counts.smallest_rows, counts.imbalance) == ("c", 1, 3.0)
