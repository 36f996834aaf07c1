"""The backtest of a training: with its hyperparameters, on training and validation rows alone."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from pcc_pipeline.config import Params
from pcc_pipeline.data.dataset import Dataset
from pcc_pipeline.data.splits import TimeWindow, windows_by_time
from pcc_pipeline.errors import ModelError
from pcc_pipeline.evaluation.over_time.backtest import Backtest, window_scores
from pcc_pipeline.model.fitting import FittedModel, Rows, fit, prepare
from pcc_pipeline.steps.inputs.split import Split, times_of
from pcc_pipeline.steps.training.search import recipe_of

logger = logging.getLogger(__name__)


def plan_backtest(dataset: Dataset, split: Split, params: Params) -> list[TimeWindow]:
    """The windows that `evaluation.backtest` asks for, as positions in the data set; none where it asks for none.

    Raises:
        DataError: rows have no time, or there are too few for so many windows.
    """
    if not params.evaluation.backtest:
        return []
    times = times_of(dataset, params.data.path, "evaluation.backtest", "evaluation.backtest: 0")
    both = split.both
    made = windows_by_time(dataset.labels[both], split.groups[both], times[both], params.evaluation.backtest)
    return [TimeWindow(both[each.past], both[each.rows], each.repeated, each.starts, each.ends) for each in made]


def run_backtest(
    windows: Sequence[TimeWindow],
    rows: Rows | None,
    hyperparameters: Mapping[str, Any],
    params: Params,
) -> tuple[Backtest | None, tuple[str, ...]]:
    """Train before each window and measure on it; None where no window was measured.

    A window whose past allows no training is left out: the model is there already, and is not given up for it.

    All that learns from rows learns anew from the past of each window: lexical half, balance, classifier. Labels are
    those of the classifier before calibration, whose calibrators would need folds of each past.

    Args:
        rows: of the whole data set; None where there are no windows.
        hyperparameters: those that the training chose.

    Returns:
        The measured windows, and why others are not among them.
    """
    measured, warnings, left = [], [], []
    first: FittedModel | None = None
    for number, window in enumerate(windows, start=1):
        assert rows is not None, "there are windows"
        past, next_rows = rows.take(window.past), rows.take(window.rows)
        recipe = recipe_of(params, past.labels, past.labels).only_for(hyperparameters)
        try:
            fitted = fit(prepare(past, recipe), hyperparameters, recipe)
        except ModelError as error:
            left.append(f"backtest: window {number} of {len(windows)} is left out: {error.what}")
            logger.warning("%s", left[-1])
            continue
        first = fitted if first is None else first
        warnings += [f"backtest: {warning}" for warning in fitted.warnings]
        answers = [(model.probabilities(next_rows), _classes(model)) for model in (fitted, first)]
        scores = window_scores(
            number,
            (_time(window.starts), _time(window.ends)),
            (len(window.past), window.repeated),
            next_rows.labels,
            answers[0],
            answers[1],
        )
        measured.append(scores)
        logger.info(
            "backtest, window %d of %d: trained on %s rows before %s, macro F1 %.4f on the next %s rows",
            *(number, len(windows), f"{scores.trained_rows:,}", f"{scores.starts:%Y-%m-%d %H:%M} UTC"),
            *(scores.f1_macro, f"{scores.rows:,}"),
        )
    return (Backtest.of(measured, warnings) if measured else None), tuple(left)


def _classes(model: FittedModel) -> list[str]:
    return [str(label) for label in model.classifier.classes_]


def _time(moment: np.datetime64) -> datetime:
    naive: datetime = moment.astype("datetime64[us]").astype(datetime)
    return naive.replace(tzinfo=UTC)
