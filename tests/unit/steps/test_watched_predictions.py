"""Files of predictions as rows that are watched: every answer is one, whoever decides it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest

from pcc_pipeline.config import Params, load_params
from pcc_pipeline.data.contract import RowPlaces
from pcc_pipeline.evaluation.predictions import ExtraColumns, ScoredBy, prediction_frame
from pcc_pipeline.model.decision import DecisionRule, likeliest_of
from pcc_pipeline.steps.watching.predictions import of_predictions
from pcc_pipeline.steps.watching.watched_file import AnsweredFile
from pcc_pipeline.steps.watching.watched_rows import WatchedRows

VERSION, ROWS = "v20260101_000000", 400
PLAIN, ODD = ["access", "deletion", "opt_out"], ["access", "deletion", "opt-out / do not sell"]


@pytest.fixture
def params(tmp_path: Path) -> Params:
    return load_params(None, {"lineage.suppression_file": f"{tmp_path}/none.json", "lineage.key_file": f"{tmp_path}/k"})


def scored(classes: Sequence[str], rule: DecisionRule, *, probabilities: bool) -> tuple[np.ndarray, pd.DataFrame]:
    """Probabilities, and the file that `score` makes of them."""
    answers = np.random.default_rng(0).dirichlet([0.6] * len(classes), ROWS)
    by = ScoredBy(VERSION, "an encoder", classes, datetime.now(UTC), rule)
    frame = prediction_frame([f"c{place}" for place in range(ROWS)], answers, by)
    extra = ExtraColumns(probabilities=probabilities, classes=classes)
    return answers, extra.added_to(frame, RowPlaces(np.arange(ROWS)), answers)


def watched(params: Params, classes: Sequence[str], *frames: pd.DataFrame) -> WatchedRows:
    model = cast("Any", SimpleNamespace(classes=classes, model_version=VERSION))
    return of_predictions(params, [AnsweredFile(f"{at}.csv", one, ()) for at, one in enumerate(frames)], (), model)


@pytest.mark.parametrize("probabilities", [False, True])
@pytest.mark.parametrize("label", [None, "REVIEW"])
@pytest.mark.parametrize("classes", [PLAIN, ODD])
def test_a_row_left_to_a_person_is_an_answer_and_not_rejected(
    params: Params, classes: list[str], label: str | None, probabilities: bool
) -> None:
    """Else the file would break the contract for as long as the version abstains, and the sure rows alone be seen."""
    rule = DecisionRule(threshold=0.6, label=label)
    answers, frame = scored(classes, rule, probabilities=probabilities)
    assert rule.left_to_a_person(answers).mean() > 0.1
    rows = watched(params, classes, frame)
    assert not rows.rejected.any()
    np.testing.assert_array_equal(rows.signals.predicted, answers.argmax(axis=1))
    np.testing.assert_allclose(rows.signals.confidence, answers.max(axis=1))
    assert (rows.signals.probabilities is not None) == probabilities


def test_each_row_counts_since_ids_that_were_made_repeat_where_texts_do(params: Params) -> None:
    _, frame = scored(PLAIN, DecisionRule(), probabilities=False)
    rows = watched(params, PLAIN, frame[:300], frame[200:])
    assert (len(rows), len(set(rows.case_ids)), rows.notes) == (ROWS + 100, ROWS, ())


def test_an_answer_that_is_no_label_of_the_model_is_rejected(params: Params) -> None:
    _, frame = scored(PLAIN, DecisionRule(), probabilities=False)
    frame.loc[:9, "predicted_label"] = "something else"
    assert watched(params, PLAIN, frame).rejected.sum() == 10


def test_the_likeliest_label_is_read_from_the_note_that_a_rule_writes() -> None:
    for label in (*ODD, "a; most likely b"):
        for rule in (DecisionRule(threshold=0.9), DecisionRule(threshold=2.0, score="margin")):
            assert likeliest_of(rule.note(0.5, label)) == label
    assert [likeliest_of(note) for note in (None, float("nan"), "", "not predicted: no text")] == [None] * 4
