"""The evidence on a version, gathered from MLflow and its test rows, and what the gates make of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from pcc_pipeline.config import Params
from pcc_pipeline.data.dataset import Dataset
from pcc_pipeline.data.labels import respelled
from pcc_pipeline.data.splits import RowKeys
from pcc_pipeline.errors import DataError, FeatureError, ModelError, PccError, StorageError, TrackingError
from pcc_pipeline.gates.evidence import FieldTest, GateEvidence
from pcc_pipeline.gates.judge import judge, take_field_test
from pcc_pipeline.gates.verdicts import GateVerdict
from pcc_pipeline.plurals import counted
from pcc_pipeline.steps.inputs.datasets import encoder_of
from pcc_pipeline.steps.inputs.model_vectors import rows_for_champion
from pcc_pipeline.steps.inputs.test_rows import HeldOut, held_out
from pcc_pipeline.steps.records.test_scores import Measurement, measure
from pcc_pipeline.tracking.delivery.outages import comes_of_outage
from pcc_pipeline.tracking.logged_models.log_and_load import LoadedModel, load_trained_model
from pcc_pipeline.tracking.registry.champion import CHAMPION
from pcc_pipeline.tracking.registry.versions import Resolved, find_alias
from pcc_pipeline.tracking.runs import TrainingRun, read_split, read_training_run
from pcc_pipeline.tracking.store.past_runs import newest_ab_test


@dataclass(frozen=True)
class Judgement:
    """A version before its gates.

    Attributes:
        learned: the configuration of its training.
        test: its measurement on the test rows; None where these cannot be found.
        champion: the registered version that is champion now; None while there is none.
        champion_learned: test rows left out of the comparison because the champion learned them.
    """

    loaded: LoadedModel
    learned: Params
    test: Measurement | None
    verdicts: tuple[GateVerdict, ...]
    champion: str | None
    champion_learned: int = 0

    @property
    def learned_rows(self) -> int:
        """Test rows left out because the version learned them."""
        return 0 if self.test is None else self.test.held.learned_rows

    @property
    def notes(self) -> tuple[str, ...]:
        """The counts of rows left out, as a line where there are any."""
        if not self.learned_rows and not self.champion_learned:
            return ()
        return (
            f"rows left out: {self.learned_rows:,} that the version learned, and of the comparison "
            f"{self.champion_learned:,} that the champion learned",
        )


@dataclass(frozen=True)
class _Compared:
    """The champion on those test rows that it has not learned, or why there is nothing to compare."""

    predicted: np.ndarray | None = None
    rows: np.ndarray | None = None
    fault: str = ""
    note: str = ""

    @property
    def learned(self) -> int:
        return 0 if self.rows is None else int((~self.rows).sum())


def judge_version(
    params: Params, model_uri: str, data: str | HeldOut | None = None, *, forced: bool = False
) -> Judgement:
    """Measure a version, and the champion on the same rows, and hold both against `registry.gates`.

    The rows compared are those that neither has learned. Test rows that cannot be found, a champion that cannot be
    loaded or has no vectors of its own encoder, and what cannot be known fail the gates that need them. A server or a
    bucket that is away for now is no verdict on a version: it is raised, but where the version is forced anyway.

    Args:
        data: the test rows, from the version's training in this process; or where its training file lies now.

    Raises:
        TrackingError, ModelError: the version cannot be loaded.
        StorageError, …: what is needed for a verdict is away.
    """
    loaded = load_trained_model(model_uri)
    training = read_training_run(loaded.run_id)
    standing = find_alias(params.registry.model_name, CHAMPION)
    champion, champion_fault = _champion(standing, forced=forced)
    test, test_fault = _measured(params, training, loaded, data, forced=forced)
    predicted, compared = np.empty(0, dtype=object), _Compared(fault=champion_fault)
    if test is not None:
        predicted = predicted_labels(loaded, test.probabilities)
        if champion is not None:
            compared = _compared(params, champion, test.held.dataset, loaded.model.encoder_digest, forced=forced)
    evidence = GateEvidence(
        metrics={} if test is None else test.report.metrics(),
        labels=np.empty(0, dtype=object) if test is None else test.rows.labels,
        predicted=predicted,
        champion_predicted=compared.predicted,
        data_time=data_time(training),
        dated=dated(training),
        now=datetime.now(UTC),
        encoder_digest=loaded.model.encoder_digest,
        serving_digest=_serving(params, standing, champion),
        champion_version=None if standing is None else _name(standing, champion),
        test_fault=test_fault,
        champion_fault=compared.fault,
        compared=compared.rows,
        champion_note=compared.note,
        field_test=_field_test(params, loaded, champion),
    )
    verdicts = judge(params.registry.gates, evidence)
    return Judgement(
        loaded,
        training.params,
        test,
        verdicts,
        None if standing is None else standing.version,
        compared.learned,
    )


def _field_test(params: Params, loaded: LoadedModel, champion: LoadedModel | None) -> FieldTest | None:
    """What the field says of the two, where a gate asks for it."""
    if champion is None or not take_field_test(params.registry.gates):
        return None
    run = newest_ab_test(loaded.model.model_version, champion.model.model_version)
    if run is None:
        return None
    rows = sum(int(run.metrics.get(f"ab/{whose}/labelled_rows", 0)) for whose in ("challenger", "champion"))
    low = run.metrics.get("ab/accuracy_low", -1.0)
    return FieldTest(run.run_id, run.tags.get("pcc.ab_verdict", ""), low, rows, run.ended or run.started)


def _champion(standing: Resolved | None, *, forced: bool) -> tuple[LoadedModel | None, str]:
    """The champion, or why it cannot be loaded."""
    if standing is None:
        return None, ""
    try:
        return load_trained_model(standing.model_uri), ""
    except (ModelError, StorageError, TrackingError) as error:
        _demand_answer(error, forced)
        return None, f"the champion, version {standing.version}, cannot be loaded: {error.what} ({error.where})"


def _measured(
    params: Params, training: TrainingRun, loaded: LoadedModel, data: str | HeldOut | None, *, forced: bool
) -> tuple[Measurement | None, str]:
    """The version on its test rows, or why there are none that prove anything."""
    try:
        held = data if isinstance(data, HeldOut) else held_out(params, training, loaded, data)
        if fault := unchecked_fault(held):
            return None, fault
        return measure(loaded, held, params, training.params), ""
    except (DataError, FeatureError, StorageError, TrackingError) as error:
        _demand_answer(error, forced)
        return None, f"there are no test rows: {_line(error)}"


def _compared(params: Params, champion: LoadedModel, test: Dataset, made_by: str, *, forced: bool) -> _Compared:
    """The champion's labels for the test rows that it has not learned.

    Of a champion without a record of its split nobody knows which these are. It is then measured on all of them: rows
    that it learned can only make it look better, and the version's task harder.
    """
    version = champion.model.model_version
    try:
        training = read_training_run(champion.run_id)
        record = read_split(training)
        rows, note = None, ""
        if record is None:
            note = "the champion's run kept no record of its split: rows that it learned may make it look better"
        else:
            same_groups = training.params.data.group_column == test.contract.group_column
            rows = ~RowKeys.of(test.texts, test.groups if same_groups else None).known_to(record.learned_keys)
            if not rows.any():
                return _Compared(
                    rows=rows,
                    fault=f"the champion {version} learned all {len(rows):,} test rows, so the two cannot be compared; "
                    "give rows that neither has seen as test_data",
                )
            if not rows.all():
                learned = int((~rows).sum())
                are = "is" if learned == 1 else "are"
                note = f"{counted(learned, 'test row')} that the champion learned {are} left out"
                test = test.take(rows)
        its = rows_for_champion(champion, test, params, training.params, made_by, "test vectors of the champion")
        answers = predicted_labels(champion, champion.model.probabilities(its.vectors, its.texts))
        if test.contract.normalise_labels:
            # Each training takes the most frequent spelling of its own file, and the champion's may be another.
            answers = np.array(respelled(answers, sorted(set(test.labels))), dtype=object)
        return _Compared(answers, rows, note=note)
    except (DataError, FeatureError, ModelError, StorageError, TrackingError) as error:
        _demand_answer(error, forced)
        return _Compared(fault=f"the champion {version} cannot be measured on these rows: {_line(error)}")


def _demand_answer(error: PccError, forced: bool) -> None:
    """Raise what an outage led to: `retrain` would take a gate that failed by it for a verdict, and never ask again."""
    if not forced and comes_of_outage(error):
        raise error


def _line(error: PccError) -> str:
    where = f" ({error.where})" if error.where else ""
    return f"{error.what}{where}" + (f"; {error.fix}" if error.fix else "")


def _serving(params: Params, standing: Resolved | None, champion: LoadedModel | None) -> str:
    """The digest of the champion's encoder, without a champion of the configured one; empty where it is not known."""
    if standing is not None:
        return "" if champion is None else champion.model.encoder_digest
    return installed_digest(params)


def installed_digest(params: Params) -> str:
    """The digest of the configured encoder; empty where there is none."""
    try:
        return encoder_of(params).digest
    except FeatureError:
        return ""


def _name(standing: Resolved, champion: LoadedModel | None) -> str:
    return f"version {standing.version}" if champion is None else champion.model.model_version


def unchecked_fault(held: HeldOut) -> str:
    """Why these rows prove nothing; empty where they do."""
    return f"there are no test rows that it has surely not learned: {held.unchecked}" if held.unchecked else ""


def predicted_labels(loaded: LoadedModel, probabilities: np.ndarray) -> np.ndarray:
    """The most probable label of each row, also where the rule would leave it."""
    chosen: np.ndarray = np.asarray(loaded.model.classes, dtype=object)[probabilities.argmax(axis=1)]
    return chosen


def dated(training: TrainingRun) -> bool:
    """Whether the training data have times."""
    return bool(training.tags.get("pcc.data_newest"))


def data_time(training: TrainingRun) -> datetime | None:
    """The newest timestamp of the training data, else the time of training."""
    newest = training.tags.get("pcc.data_newest") or training.metadata.get("training_timestamp")
    return None if newest is None else datetime.fromisoformat(str(newest))
