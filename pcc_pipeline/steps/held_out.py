"""The rows that a trained model has not seen: a test file, or those its training set aside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pcc_pipeline.config import Params
from pcc_pipeline.data.dataset import Dataset
from pcc_pipeline.errors import DataError
from pcc_pipeline.model.fitting import Rows
from pcc_pipeline.steps.datasets import encoder_of, load_dataset, rows_of
from pcc_pipeline.steps.sides import assign
from pcc_pipeline.tracking.models import LoadedModel
from pcc_pipeline.tracking.runs import TrainingRun


@dataclass(frozen=True)
class HeldOut:
    """Labelled rows to measure a model on.

    Attributes:
        source: where they come from, for the record.
        total_rows: rows asked for, good and rejected.
    """

    rows: Rows
    case_ids: np.ndarray
    source: str
    total_rows: int
    rejected_rows: int


def held_out(params: Params, training: TrainingRun, loaded: LoadedModel, data: str | None = None) -> HeldOut:
    """The rows of `data.test_path` if it is given, else those of the training's test file, else those it set aside.

    Args:
        data: where the training file lies now, if not where the training run found it.

    Raises:
        DataError: the training's file has changed, so its test rows cannot be told from its training rows.
    """
    learned = training.params
    if params.data.test_path is not None:
        return _whole_file(load_dataset(params.data.test_path, params), learned, params.data.test_path)
    if learned.data.test_path is not None:
        test = load_dataset(learned.data.test_path, learned)
        _demand_digest(test, training.tags.get("pcc.test_digest"), learned.data.test_path, loaded, "test_data")
        return _whole_file(test, learned, learned.data.test_path)
    address = data or learned.data.path
    dataset = load_dataset(address, learned)
    _demand_digest(dataset, training.tags.get("pcc.data_digest"), address, loaded, "data")
    positions = assign(dataset, learned, None).test
    rows, _ = rows_of(_only(dataset, positions), learned, encoder_of(learned), "test vectors")
    return HeldOut(rows, dataset.case_ids[positions], f"held-out rows of {address}", len(positions), 0)


def _whole_file(test: Dataset, learned: Params, address: str) -> HeldOut:
    rows, _ = rows_of(test, learned, encoder_of(learned), "test vectors")
    return HeldOut(rows, test.case_ids, address, test.total_rows, len(test.rejected))


def _only(dataset: Dataset, positions: np.ndarray) -> Dataset:
    vectors: Any = None if dataset.vectors is None else dataset.vectors[positions]
    frame = dataset.frame.iloc[positions].reset_index(drop=True)
    return Dataset(frame, vectors, dataset.rejected, dataset.digest, dataset.total_rows, dataset.contract)


def _demand_digest(dataset: Dataset, wanted: str | None, address: str, loaded: LoadedModel, option: str) -> None:
    if dataset.digest != wanted:
        raise DataError(
            f"this is not the file that {loaded.model.model_version} was trained with: its rows differ, so the rows "
            "that training set aside cannot be found in it",
            where=address,
            fix=f"give the original file with -P {option}=…, or evaluate on another labelled file with -P test_data=…",
        )
