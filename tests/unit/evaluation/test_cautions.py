"""Results that should be doubted say so, and others say nothing."""

from __future__ import annotations

import numpy as np

from pcc_pipeline.data.quality.counts import DuplicateReport
from pcc_pipeline.data.quality.near_duplicates import NearDuplicates
from pcc_pipeline.evaluation.cautions import warnings
from pcc_pipeline.evaluation.report import Report, report

CLASSES = ["data_deletion", "opt_out", "other"]


def made(split: str, wrong: int, rows: int = 60) -> Report:
    """Three equal classes with this many rows given the next class instead, spread over the classes."""
    y = np.arange(rows) % 3
    predicted = np.where(np.arange(rows) < wrong, (y + 1) % 3, y)
    return report(split, np.array(CLASSES)[y], np.eye(3)[predicted], CLASSES)


def test_an_ordinary_result_raises_no_doubt():
    assert warnings(made("train", 6), made("test", 9)) == ()
    assert warnings(None, made("test", 9)) == ()


def test_a_score_too_good_to_believe_is_doubted():
    (said,) = warnings(made("train", 0), made("test", 0))
    assert "The test score is too good to believe unseen (accuracy 1.0000" in said
    assert "both sides of the split" in said


def test_a_training_score_far_over_the_held_out_one_is_doubted():
    (said,) = warnings(made("train", 3), made("val", 15))
    assert "0.950 on train and 0.750 on val" in said
    assert warnings(made("train", 3), made("val", 8)) == ()


def test_unknown_labels_classes_never_predicted_and_classes_without_rows_are_named():
    labels = ["data_deletion"] * 5 + ["opt_out"] * 5 + ["misspelt"]
    found = report("test", labels, np.eye(3)[[0] * 11], CLASSES)
    unknown, never, absent = warnings(None, found)
    assert "1 of 11 test rows have a label that the model does not know and count as errors: misspelt." in unknown
    assert "never predicted: 1 (opt_out)" in never
    assert "without test rows, of which nothing is measured: 1 (other)" in absent


def test_duplicates_and_conflicts_are_counted():
    duplicates, conflicts = warnings(None, made("test", 9), quality=DuplicateReport(5000, 3800, 1200, 9, 7, 15, ()))
    assert duplicates.startswith("1,200 rows repeat the text")
    assert conflicts.startswith("Texts that stand in the data with more than one label: 7.")


def test_long_lists_of_labels_are_cut():
    labels = [f"label_{place:02d}" for place in range(15)]
    (said, *_) = warnings(None, report("test", labels, np.eye(3)[[0] * 15], CLASSES))
    assert "label_09 and 5 more" in said
    assert "label_10" not in said


def test_near_duplicates_across_the_sides_are_doubted_and_counted():
    assert warnings(None, made("val", 9), near=NearDuplicates(looked_at=200, repeated=1)) == ()
    (said,) = warnings(None, made("val", 9), near=NearDuplicates(looked_at=60, repeated=42))
    assert "42 of 60 held-out rows repeat a training row but for accents" in said
