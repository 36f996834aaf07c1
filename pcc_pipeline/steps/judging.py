"""The evidence on a version, gathered from MLflow and its test rows, and what the gates make of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from pcc_pipeline.config import Params
from pcc_pipeline.evaluation.gates import GateEvidence, judge
from pcc_pipeline.evaluation.report import Report, report
from pcc_pipeline.evaluation.verdicts import GateVerdict
from pcc_pipeline.model.fitting import Rows
from pcc_pipeline.steps.datasets import encoder_of
from pcc_pipeline.steps.held_out import held_out
from pcc_pipeline.tracking.models import LoadedModel, load_trained_model
from pcc_pipeline.tracking.promotion import CHAMPION
from pcc_pipeline.tracking.registry import find_alias
from pcc_pipeline.tracking.runs import TrainingRun, read_training_run


@dataclass(frozen=True)
class Judgement:
    """A version before its gates.

    Attributes:
        champion: the registered version that is champion now; None while there is none.
    """

    loaded: LoadedModel
    test: Report
    verdicts: tuple[GateVerdict, ...]
    champion: str | None


def judge_version(params: Params, model_uri: str, data: str | None = None) -> Judgement:
    """Measure a version, and the champion on the same rows, and hold both against `registry.gates`.

    Rows that the challenger set aside may have trained the champion, which can only make the champion look better.

    Raises:
        DataError: the test rows cannot be found again.
        TrackingError, ModelError: the version or the champion cannot be loaded.
    """
    loaded = load_trained_model(model_uri)
    training = read_training_run(loaded.run_id)
    held = held_out(params, training, loaded, data)
    probabilities = loaded.model.probabilities(held.rows.vectors, held.rows.texts)
    found = report("test", held.rows.labels, probabilities, list(loaded.model.classes), loaded.model.positive_label)
    standing = find_alias(params.registry.model_name, CHAMPION)
    champion = None if standing is None else load_trained_model(standing.model_uri)
    evidence = GateEvidence(
        metrics=found.metrics(),
        labels=held.rows.labels,
        predicted=_labels(loaded, probabilities),
        champion_predicted=None if champion is None else _predict(champion, held.rows),
        data_time=_data_time(training),
        now=datetime.now(UTC),
        encoder_digest=loaded.model.encoder_digest,
        serving_digest=encoder_of(params).digest if champion is None else champion.model.encoder_digest,
        champion_version=None if champion is None else champion.model.model_version,
    )
    verdicts = judge(params.registry.gates, evidence, seed=params.data.random_state)
    return Judgement(loaded, found, verdicts, None if standing is None else standing.version)


def _predict(champion: LoadedModel, rows: Rows) -> np.ndarray:
    return _labels(champion, champion.model.probabilities(rows.vectors, rows.texts))


def _labels(loaded: LoadedModel, probabilities: np.ndarray) -> np.ndarray:
    chosen: np.ndarray = np.asarray(loaded.model.classes, dtype=object)[probabilities.argmax(axis=1)]
    return chosen


def _data_time(training: TrainingRun) -> datetime | None:
    newest = training.tags.get("pcc.data_newest") or training.metadata.get("training_timestamp")
    return None if newest is None else datetime.fromisoformat(str(newest))
