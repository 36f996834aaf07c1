"""`evaluate`: a logged model on rows that it has not seen; the only step that reads test rows."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from pcc_pipeline.config import Params
from pcc_pipeline.data.dataset import Dataset
from pcc_pipeline.errors import DataError
from pcc_pipeline.evaluation.cautions import warnings as cautions
from pcc_pipeline.evaluation.figures import figures
from pcc_pipeline.evaluation.metrics import label_indices
from pcc_pipeline.evaluation.predictions import prediction_frame
from pcc_pipeline.evaluation.report import Report, report
from pcc_pipeline.model.fitting import Rows
from pcc_pipeline.steps.datasets import encoder_of, load_dataset, rows_of
from pcc_pipeline.steps.sides import assign
from pcc_pipeline.storage.objects import replacing
from pcc_pipeline.tracking import payloads
from pcc_pipeline.tracking.models import LoadedModel, load_trained_model
from pcc_pipeline.tracking.runs import TrainingRun, read_training_run, step_run

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluateOutcome:
    """One model's scores on one set of rows."""

    run_id: str
    model_uri: str
    model_version: str
    test: Report
    predictions: Path
    metrics: Path
    warnings: tuple[str, ...]

    @property
    def summary(self) -> list[str]:
        scores, (low, high) = self.test.scores, self.test.intervals["f1_macro"]
        return [
            f"evaluated  {self.model_version} on {self.test.n_rows:,} test rows",
            f"           macro F1 {scores['f1_macro']:.4f} (95% interval {low:.4f} to {high:.4f}), "
            f"accuracy {scores['accuracy']:.4f}, ROC-AUC {scores['roc_auc']:.4f}, PR-AUC {scores['pr_auc']:.4f}",
            f"           predictions in {self.predictions}, all scores in {self.metrics}",
            *(f"warning    {warning}" for warning in self.warnings),
        ]


def run(params: Params, model_uri: str | None = None, data: str | None = None) -> EvaluateOutcome:
    """Evaluate a model on `data.test_path` if it is given, else on the test rows that its training set aside.

    Args:
        model_uri: `models:/name@alias`, `models:/name/3`, `runs:/<id>/model`; default is the challenger.
        data: where the model's training file lies now, if not where its training run found it.

    Raises:
        DataError: the training file has changed, so its test rows cannot be told from its training rows.
    """
    with step_run("evaluate") as opened:
        loaded = load_trained_model(model_uri or f"models:/{params.registry.model_name}@challenger")
        training = read_training_run(loaded.run_id)
        rows, case_ids, source = _test_rows(params, training, loaded, data)
        opened.log(
            payloads.Params(params.flat()),
            payloads.Tags(
                {
                    "pcc.version": loaded.model.model_version,
                    "pcc.encoder_digest": loaded.model.encoder_digest,
                    "pcc.model_uri": loaded.model_uri,
                    "pcc.training_run": loaded.run_id,
                    "pcc.test_source": source,
                }
            ),
        )
        logger.info("evaluating %s on %s rows", loaded.model.model_version, f"{len(rows.texts):,}")
        started = datetime.now(UTC)
        probabilities = loaded.model.probabilities(rows.vectors, rows.texts)
        classes, positive = list(loaded.model.classes), loaded.model.positive_label
        found = report("test", rows.labels, probabilities, classes, positive)
        doubts = cautions(None, found)
        predictions = prediction_frame(
            case_ids, probabilities, classes, loaded.model.model_version, loaded.model.embedding_model, started
        )
        document = {**training.metrics, "test": {**found.to_json(), "source": source}, "test_warnings": list(doubts)}
        place = classes.index(positive) if positive is not None else 1
        drawings = figures(label_indices(rows.labels, classes), probabilities, classes, positive=place)
        opened.log(
            payloads.Metrics(found.metrics(), model_id=loaded.source.model_id),
            payloads.Json("metrics.json", document),
            payloads.Table("predictions.parquet", predictions),
            payloads.Figures(drawings),
        )
        targets = Path(params.output.predictions), Path(params.output.metrics)
        with replacing(targets[0]) as partial:
            predictions.to_parquet(partial, index=False)
        with replacing(targets[1]) as partial:
            partial.write_text(payloads.json_text(document), encoding="utf-8")
        return EvaluateOutcome(
            opened.run_id, loaded.model_uri, loaded.model.model_version, found, targets[0], targets[1], doubts
        )


def _test_rows(
    params: Params, training: TrainingRun, loaded: LoadedModel, data: str | None
) -> tuple[Rows, np.ndarray, str]:
    """The rows to measure, their case ids, and where they come from."""
    learned = training.params
    encoder = encoder_of(learned)
    other = params.data.test_path
    if other is not None:
        test = load_dataset(other, params)
        return rows_of(test, learned, encoder, "test vectors")[0], test.case_ids, other
    if learned.data.test_path is not None:
        test = load_dataset(learned.data.test_path, learned)
        _demand_digest(test, training.tags.get("pcc.test_digest"), learned.data.test_path, loaded, "test_data")
        return rows_of(test, learned, encoder, "test vectors")[0], test.case_ids, learned.data.test_path
    address = data or learned.data.path
    dataset = load_dataset(address, learned)
    _demand_digest(dataset, training.tags.get("pcc.data_digest"), address, loaded, "data")
    held = assign(dataset, learned, None).test
    rows, _ = rows_of(_only(dataset, held), learned, encoder, "test vectors")
    return rows, dataset.case_ids[held], f"held-out rows of {address}"


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
