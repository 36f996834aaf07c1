"""What an evaluation can say of a promotion before anybody asks for one: the gates, and the champion's own scores."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime

from pcc_pipeline.config import Params
from pcc_pipeline.data.dataset import Dataset
from pcc_pipeline.errors import TrackingError
from pcc_pipeline.evaluation.over_time.since_champion import RowCounts, difference
from pcc_pipeline.evaluation.page.facts import ChampionFacts, GateOutlook, SinceChampion, TrainedFacts
from pcc_pipeline.evaluation.slices import length_counts
from pcc_pipeline.gates.evidence import GateEvidence
from pcc_pipeline.gates.judge import outlook
from pcc_pipeline.steps.judging.gate_evidence import (
    data_time,
    dated,
    installed_digest,
    predicted_labels,
    unchecked_fault,
)
from pcc_pipeline.steps.records.test_scores import Measurement
from pcc_pipeline.tracking.logged_models.log_and_load import LoadedModel
from pcc_pipeline.tracking.registry.champion import CHAMPION
from pcc_pipeline.tracking.registry.versions import Resolved, find_alias
from pcc_pipeline.tracking.runs import TrainingRun, read_trained_facts
from pcc_pipeline.tracking.store.past_runs import ROWS_TAG, RecordedRun, measurement_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ChampionBeside:
    """The champion while another version is evaluated, and its measurement on record."""

    champion: Resolved | None
    is_this: bool
    measured: RecordedRun | None
    same_rows: bool

    @property
    def facts(self) -> ChampionFacts | None:
        """For people."""
        if self.champion is None:
            return None
        number = str(self.champion.version)
        if self.is_this or self.measured is None:
            return ChampionFacts(number, self.is_this)
        return ChampionFacts(number, False, self.measured.pcc_version, self.measured.metrics, self.same_rows)


def champion_beside(params: Params, loaded: LoadedModel, rows_digest: str) -> ChampionBeside:
    """The champion beside a version that is about to be measured on the rows with this digest.

    Raises:
        TrackingError: MLflow does not answer.
    """
    champion = find_alias(params.registry.model_name, CHAMPION)
    if champion is None:
        return ChampionBeside(None, False, None, False)
    is_this = champion.model_id == loaded.source.model_id
    measured = None if is_this else measurement_of(champion.run_id, rows_digest)
    return ChampionBeside(
        champion, is_this, measured, measured is not None and measured.tags.get(ROWS_TAG) == rows_digest
    )


def since_champion(beside: ChampionBeside, trained: TrainedFacts, tested: Dataset) -> SinceChampion | None:
    """How the data of an evaluation differ from those that the champion learned; None while there is no champion."""
    champion = beside.champion
    if champion is None:
        return None
    test = RowCounts(Counter(map(str, tested.labels)), length_counts(tested.frame["text_length"]))
    if beside.is_this:
        return SinceChampion(trained, test=difference(_learned(trained), test))
    try:
        theirs = read_trained_facts(champion.run_id)
    except TrackingError as error:
        logger.warning("the champion's training cannot be compared with: %s", error.what)
        return SinceChampion(None)
    before = _learned(theirs)
    same = theirs.data_digest == trained.data_digest and before == _learned(trained)
    return SinceChampion(theirs, None if same else difference(before, _learned(trained)), difference(before, test))


def _learned(trained: TrainedFacts) -> RowCounts:
    """Of the rows that a model learned; an earlier release kept no lengths."""
    labels = trained.metadata.get("class_distribution", {})
    return RowCounts(labels, trained.metrics["data"].get("length_counts", {}))


def gate_outlook(
    params: Params, training: TrainingRun, measured: Measurement, beside: ChampionBeside
) -> tuple[GateOutlook, ...]:
    """What each gate of `registry.gates` will say of this measurement."""
    model = measured.loaded.model
    if beside.is_this:
        serving = model.encoder_digest
    elif beside.champion is not None:
        serving = "" if beside.measured is None else beside.measured.tags.get("pcc.encoder_digest", "")
    else:
        serving = installed_digest(params)
    evidence = GateEvidence(
        metrics=measured.report.metrics(),
        labels=measured.rows.labels,
        predicted=predicted_labels(measured.loaded, measured.probabilities),
        champion_predicted=None,
        data_time=data_time(training),
        dated=dated(training),
        now=datetime.now(UTC),
        encoder_digest=model.encoder_digest,
        serving_digest=serving,
        champion_version=None if beside.champion is None else f"version {beside.champion.version}",
        test_fault=unchecked_fault(measured.held),
    )
    return outlook(params.registry.gates, evidence)
