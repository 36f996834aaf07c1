"""The evidence on a version, gathered from MLflow and its test rows, and what the gates make of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from pcc_pipeline.config import Params
from pcc_pipeline.errors import DataError, ModelError, StorageError, TrackingError
from pcc_pipeline.evaluation.gates import GateEvidence, judge
from pcc_pipeline.evaluation.report import Report, report
from pcc_pipeline.evaluation.verdicts import GateVerdict
from pcc_pipeline.steps.datasets import encoder_of
from pcc_pipeline.steps.held_out import HeldOut, held_out
from pcc_pipeline.tracking.models import LoadedModel, load_trained_model
from pcc_pipeline.tracking.promotion import CHAMPION
from pcc_pipeline.tracking.registry import Resolved, find_alias
from pcc_pipeline.tracking.runs import TrainingRun, read_training_run


@dataclass(frozen=True)
class Judgement:
    """A version before its gates.

    Attributes:
        test: its scores on the test rows; None where these cannot be found.
        champion: the registered version that is champion now; None while there is none.
    """

    loaded: LoadedModel
    test: Report | None
    verdicts: tuple[GateVerdict, ...]
    champion: str | None


def judge_version(params: Params, model_uri: str, data: str | None = None) -> Judgement:
    """Measure a version, and the champion on the same rows, and hold both against `registry.gates`.

    Rows that the challenger set aside may have trained the champion, which can only make the champion look better.
    Test rows that cannot be found, or a champion that cannot be loaded, fail the gates that need them.

    Raises:
        TrackingError, ModelError: the version cannot be loaded.
    """
    loaded = load_trained_model(model_uri)
    training = read_training_run(loaded.run_id)
    standing = find_alias(params.registry.model_name, CHAMPION)
    champion, champion_fault = _champion(standing)
    held, test_fault = _held_out(params, training, loaded, data)
    found, predicted, others = None, np.empty(0, dtype=object), None
    if held is not None:
        rows, model = held.rows, loaded.model
        probabilities = model.probabilities(rows.vectors, rows.texts)
        found = report("test", rows.labels, probabilities, list(model.classes), model.positive_label)
        predicted = _labels(loaded, probabilities)
        if champion is not None:
            others = _labels(champion, champion.model.probabilities(rows.vectors, rows.texts))
    serving = "" if standing is not None else encoder_of(params).digest
    evidence = GateEvidence(
        metrics={} if found is None else found.metrics(),
        labels=np.empty(0, dtype=object) if held is None else held.rows.labels,
        predicted=predicted,
        champion_predicted=others,
        data_time=_data_time(training),
        now=datetime.now(UTC),
        encoder_digest=loaded.model.encoder_digest,
        serving_digest=serving if champion is None else champion.model.encoder_digest,
        champion_version=None if standing is None else _name(standing, champion),
        test_fault=test_fault,
        champion_fault=champion_fault,
    )
    verdicts = judge(params.registry.gates, evidence, seed=params.data.random_state)
    return Judgement(loaded, found, verdicts, None if standing is None else standing.version)


def _champion(standing: Resolved | None) -> tuple[LoadedModel | None, str]:
    """The champion, or why it cannot be loaded."""
    if standing is None:
        return None, ""
    try:
        return load_trained_model(standing.model_uri), ""
    except (ModelError, TrackingError) as error:
        return None, f"the champion, version {standing.version}, cannot be loaded: {error.what} ({error.where})"


def _held_out(
    params: Params, training: TrainingRun, loaded: LoadedModel, data: str | None
) -> tuple[HeldOut | None, str]:
    """The version's test rows, or why they cannot be found."""
    try:
        return held_out(params, training, loaded, data), ""
    except (DataError, StorageError) as error:
        return None, f"there are no test rows: {error.what} ({error.where}); give their file as data or test_data"


def _name(standing: Resolved, champion: LoadedModel | None) -> str:
    return f"version {standing.version}" if champion is None else champion.model.model_version


def _labels(loaded: LoadedModel, probabilities: np.ndarray) -> np.ndarray:
    chosen: np.ndarray = np.asarray(loaded.model.classes, dtype=object)[probabilities.argmax(axis=1)]
    return chosen


def _data_time(training: TrainingRun) -> datetime | None:
    newest = training.tags.get("pcc.data_newest") or training.metadata.get("training_timestamp")
    return None if newest is None else datetime.fromisoformat(str(newest))
