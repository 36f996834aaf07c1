"""Parts of the rows: which there are, how they are measured, and which of them are named as worse."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import fisher_exact

from pcc_pipeline.config.schema import EvaluationParams
from pcc_pipeline.errors import DataError
from pcc_pipeline.evaluation.intervals.chances import fewer_hits_chance
from pcc_pipeline.evaluation.intervals.label_intervals import proportion_interval
from pcc_pipeline.evaluation.slices import (
    groups,
    measure_slices,
    slice_documents,
    slice_metrics,
    slice_warnings,
)


def table(rows: int = 400) -> pd.DataFrame:
    random = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "text_length": pd.array(random.integers(1, 1000, rows), dtype="Int64"),
            "has_personal_info": pd.array([True, False, None, True] * (rows // 4), dtype="boolean"),
            "timestamp": pd.date_range("2026-01-01", periods=rows, freq="4h", tz="UTC"),
            "confidence": random.random(rows),
            "source": ["mail", "chat"] * (rows // 2),
            "country": [f"country {number % 40:02}" if number < 380 else "rest" for number in range(rows)],
            "subject": [f"my own words {number}" for number in range(rows)],
        }
    )


def test_rows_are_grouped_by_ranges_months_and_labels() -> None:
    frame = table()
    by = groups(frame, ["country"])
    assert list(by) == ["text_length", "confidence", "has_personal_info", "month", "source", "country"]
    assert set(by["text_length"]) == {"0 to 50", "51 to 100", "101 to 200", "201 to 400", "401 to 800", "801 or more"}
    lengths = frame["text_length"][by["text_length"] == "51 to 100"]
    assert (lengths.min() >= 51, lengths.max() <= 100) == (True, True)
    assert by["has_personal_info"].value_counts().to_dict() == {"yes": 200, "no": 100, "(empty)": 100}
    assert set(by["month"]) == {"2026-01", "2026-02", "2026-03"}
    assert (len(set(by["country"])), (by["country"] == "(other)").any()) == (21, True)


def test_what_is_no_group_is_refused_and_no_value_of_it_is_said() -> None:
    with pytest.raises(DataError, match=r"(?s)column subject cannot be sliced by: 400 of its 400 values") as refused:
        groups(table(), ["subject"])
    assert "my own words" not in str(refused.value)
    with pytest.raises(DataError, match=r"have no column region; they have text_length, .*country, subject"):
        groups(table(), ["region"])
    with pytest.raises(ValueError, match="text cannot be sliced by"):
        EvaluationParams(slices=("text",))
    # What nobody named is left out in silence, and values of few rows are not told apart.
    assert "source" not in groups(table().assign(source=table()["subject"]))
    rare = table().assign(country=["a@b.example"] * 4 + ["de"] * 396)
    assert set(groups(rare, ["country"])["country"]) == {"de", "(other)"}


def test_a_column_of_texts_is_no_group_however_few_they_are() -> None:
    texts = ["please delete my account " * 5, "stop sending me newsletters " * 5]
    frame = pd.DataFrame({"text_length": [10] * 40, "reason": texts * 20})
    with pytest.raises(DataError, match="as texts are") as raised:
        groups(frame, ["reason"])
    assert "newsletters" not in str(raised.value)
    # The column that is looked at unasked is left out.
    assert "source" not in groups(frame.rename(columns={"reason": "source"}))


def test_the_chance_of_so_few_hits_is_that_of_fishers_exact_test() -> None:
    for hits, rows, all_hits, all_rows in ((3, 10, 60, 80), (0, 5, 5, 40), (10, 10, 30, 30), (7, 9, 8, 12)):
        contrast = [[hits, rows - hits], [all_hits - hits, all_rows - rows - all_hits + hits]]
        expected = fisher_exact(contrast, alternative="less").pvalue
        assert fewer_hits_chance(hits, rows, all_hits, all_rows) == pytest.approx(expected, abs=1e-12)


def test_a_weak_part_is_named_and_chance_seldom_is() -> None:
    random, named = np.random.default_rng(3), 0
    y = np.arange(400) % 2
    for _ in range(200):
        by = {"kind": pd.Series(random.integers(0, 10, 400).astype(str), dtype=object)}
        named += any(each.worse for each in measure_slices(by, y, np.where(random.random(400) < 0.9, y, 1 - y)))
    assert named <= 18  # of 200, at a level of at most 5 %: 1 in 100 passes that
    predicted = y.copy()
    predicted[:20] = 1 - y[:20]
    by = {"kind": pd.Series(["weak"] * 40 + ["good"] * 360, dtype=object)}
    measured = measure_slices(by, y, predicted)
    weak = next(each for each in measured if (each.value, each.metric) == ("weak", "accuracy"))
    assert (weak.rows, weak.score, weak.interval, weak.worse) == (40, 0.5, proportion_interval(20, 40), True)
    assert [each.worse for each in measured if each.value == "good"] == [False, False]
    assert [(each.value, each.score) for each in measured if each.metric == "f1_macro"] == [("good", 1), ("weak", 0.5)]
    (warning,) = slice_warnings(measured, 0.95)
    assert "(2 looked at): kind weak (0.500 on 40 rows)" in warning
    json.dumps(slice_documents(measured), allow_nan=False)


def test_metrics_have_names_that_mlflow_takes() -> None:
    by = {"a/b": pd.Series(["x:y"] * 5 + ["x/y"] * 5, dtype=object)}
    names = slice_metrics(measure_slices(by, np.zeros(10, int), np.zeros(10, int)), "test")
    assert len(names) == 4
    assert all(name.startswith("test/slice/a_b/x_y_") and name.count("/") == 4 for name in names)


def test_rows_of_the_value_other_are_not_those_of_the_rest() -> None:
    values = ["other"] * 6 + ["mail"] * 6 + ["fax", "pigeon"]
    by = groups(pd.DataFrame({"channel": values}), ["channel"])["channel"]
    assert dict(by.value_counts()) == {"other": 6, "mail": 6, "(other)": 2}
