"""Scores of validation rows, which calibration and the rule of decision learn from."""

from __future__ import annotations

import numpy as np
import pytest

from pcc_pipeline.errors import DataError
from pcc_pipeline.model.fitting import FittedModel, Recipe, Rows, fit, prepare
from pcc_pipeline.steps.training.calibrate import scores_of

CLASSES = ["x", "y"]


def rows_of(*labels: str) -> Rows:
    vectors = np.random.default_rng(0).normal(size=(len(labels), 584)).astype(np.float32)
    return Rows(["a text"] * len(labels), vectors, np.array(labels, dtype=object))


@pytest.fixture(scope="module")
def fitted() -> FittedModel:
    recipe = Recipe("LogisticRegression", "none", {}, 0)
    return fit(prepare(rows_of(*CLASSES * 20), recipe), {}, recipe)


def test_rows_of_labels_that_the_model_does_not_know_are_out(fitted: FittedModel) -> None:
    held, known = scores_of(fitted, rows_of("z", "y", "z", "x"), CLASSES)
    assert (list(held.labels), list(known)) == ([1, 0], [1, 3])


def test_validation_rows_that_all_have_new_labels_are_an_error_with_advice(fitted: FittedModel) -> None:
    with pytest.raises(DataError, match="no validation row has a label that a training row has") as error:
        scores_of(fitted, rows_of("z", "z", "z"), CLASSES)
    assert error.value.where == "3 validation rows, 2 labels in training"
    assert "model.calibration: none" in error.value.fix
