"""What a step prints at its end lines up, is short for many labels, and tells of nothing that did not happen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pcc_pipeline.encoder.embed_texts import EmbeddingCounts
from pcc_pipeline.search.trials import SearchOutcome, Trial
from pcc_pipeline.steps.embed import EmbeddedFile
from pcc_pipeline.steps.records.summary import duration, rows_by_class, scores_by_class


def entry(label: str, f1: float | None, support: int = 1200) -> dict[str, Any]:
    intervals = {} if f1 is None else {"f1": [f1 - 0.1, f1 + 0.1]}
    return {"label": label, "f1": f1, "precision": f1, "recall": f1, "support": support, "intervals": intervals}


def test_scores_stand_in_columns_with_the_worst_class_first() -> None:
    lines = scores_by_class([entry("good", 0.9), entry("a longer name", 0.5, 7), entry("unseen", None, 0)])
    assert [line.strip().partition("  ")[0] for line in lines[1:]] == ["a longer name", "good", "unseen"]
    assert len({len(line) for line in lines}) == 1
    assert lines[2].endswith("1,200")
    assert "0.400 to 0.600" in lines[1]


def test_seventy_seven_classes_take_a_dozen_lines() -> None:
    lines = scores_by_class([entry(f"label {number:02}", number / 100) for number in range(77)])
    assert len(lines) == 12
    assert "label 00" in lines[1]
    assert lines[-1].strip() == "… and 67 classes with a higher F1"
    counts = {"train": {f"label {number:02}": 100 - number for number in range(77)}, "test": {"label 76": 1}}
    lines = rows_by_class(counts)
    assert len(lines) == 13
    assert "label 00" in lines[1]
    assert lines[-3].strip() == "… 67 classes between these"
    assert lines[-2].split() == ["label", "76", "24", "1"]
    assert lines[-1].split()[-2:] == [f"{sum(counts['train'].values()):,}", "1"]


def test_a_label_cannot_steer_the_terminal() -> None:
    assert "\x1b" not in "".join(rows_by_class({"train": {"\x1b[2J": 3}}) + scores_by_class([entry("\x1b[2J", 0.5)]))


@pytest.mark.parametrize(("seconds", "text"), [(48.2, "48 s"), (312, "5 min 12 s"), (7380, "2 h 03 min")])
def test_a_duration_reads_like_a_clock(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        (EmbeddingCounts(rows=12), "12 rows, with the vectors that the file brings, 0 rows rejected"),
        (EmbeddingCounts(12, 10, 10), "12 rows, 10 different texts, 10 from the cache, 0 rows rejected"),
        (EmbeddingCounts(12, 10, 4, 8.0), "6 encoded at 0.8 texts/s"),
    ],
)
def test_embedding_tells_of_what_was_done_only(counts: EmbeddingCounts, text: str) -> None:
    file = EmbeddedFile("cases.csv", Path("cases.parquet"), "ab" * 32, counts, 12, pd.DataFrame())
    assert text in file.summary[1]


def test_candidates_that_tell_no_rows_apart_are_counted() -> None:
    def trial(number: int, *areas: float) -> Trial:
        folds = tuple({"roc_auc": area, "f1_macro": 0.3} for area in areas)
        return Trial(number, {"C": 1.0}, "complete", folds, 0.3, 0.0, 1.0, "", 0.0)

    trials = (trial(0, 0.5, 0.5), trial(1, 0.5, 0.7), trial(2, 0.9, 0.9))
    outcome = SearchOutcome(trials, trials[2], None, None, 3, None)
    assert outcome.summary == "3 candidates: 3 complete; 1 of them scored a constant: the same for every row"


def test_candidates_whose_solver_stopped_early_are_counted_and_warned_of() -> None:
    def trial(number: int, *marks: dict[str, float]) -> Trial:
        folds = tuple({"f1_macro": 0.3, **mark} for mark in marks)
        return Trial(number, {"C": 1.0}, "complete", folds, 0.3, 0.0, 1.0, "", 0.0)

    trials = (trial(0, {}, {"not_converged": 1.0}), trial(1, {}, {}), trial(2, {}, {}))
    outcome = SearchOutcome(trials, trials[2], None, None, 3, None)
    assert outcome.summary == "3 candidates: 3 complete; 1 of them stopped before they converged"
    assert outcome.warnings == (
        "1 of 3 candidates stopped before they converged, and are compared as they were then; raise max_iter",
    )
    assert SearchOutcome(trials[1:], trials[2], None, None, 2, None).warnings == ()
