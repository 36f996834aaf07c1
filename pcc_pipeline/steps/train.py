"""`train`: split, search, fit, measure, log the model, register it as challenger."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pcc_pipeline.config import Params
from pcc_pipeline.data.columns import label_text
from pcc_pipeline.data.contract import TIMESTAMP
from pcc_pipeline.data.dataset import Dataset, spelled
from pcc_pipeline.data.labels import spellings
from pcc_pipeline.data.quality.counts import DuplicateReport, duplicates
from pcc_pipeline.data.quality.near_duplicates import near_duplicates
from pcc_pipeline.data.splits import TimeWindow
from pcc_pipeline.data.vector_file import give_back
from pcc_pipeline.encoder.sentence_encoder import BUNDLED_ENCODER, SentenceEncoder
from pcc_pipeline.errors import ConfigError, FeatureError
from pcc_pipeline.evaluation.cautions import warnings as cautions
from pcc_pipeline.evaluation.label_issues import LabelIssues, find_label_issues
from pcc_pipeline.evaluation.metrics import objective
from pcc_pipeline.evaluation.over_time.volumes import volumes
from pcc_pipeline.evaluation.page.facts import TrainedFacts, parameters
from pcc_pipeline.evaluation.report import Report, cv_metrics, report
from pcc_pipeline.evaluation.slices import length_counts
from pcc_pipeline.features.full_vectors import FULL_WIDTH, needs_lexical
from pcc_pipeline.model.calibration import HeldScores
from pcc_pipeline.model.families import complete
from pcc_pipeline.model.fitting import FittedModel, Recipe, Rows, fit, prepare
from pcc_pipeline.model.lineage import Basis, Numbered, lineage
from pcc_pipeline.model.selection import FeaturesUsed, without_idle
from pcc_pipeline.monitoring.change.learned_space import LearnedSpace
from pcc_pipeline.monitoring.profile import Origin
from pcc_pipeline.plurals import counted
from pcc_pipeline.search.pools.dask_cluster import demand_cluster
from pcc_pipeline.search.shared_study.conclusion import SharedStudy
from pcc_pipeline.search.trials import SearchOutcome
from pcc_pipeline.steps.inputs.datasets import (
    HandedOn,
    contract_of,
    encoded,
    encoder_of,
    input_files,
    load_dataset,
    newest_timestamp,
    rows_of,
    slices_of,
)
from pcc_pipeline.steps.inputs.early_checks import demand_input
from pcc_pipeline.steps.inputs.exclusion import Exclusion, read_exclusion
from pcc_pipeline.steps.inputs.own_files import demand_own_files
from pcc_pipeline.steps.inputs.split import Split, assign
from pcc_pipeline.steps.inputs.suppressed import demand_same_list, list_digest
from pcc_pipeline.steps.inputs.test_rows import HeldOut, set_aside, whole_file
from pcc_pipeline.steps.pages.mlflow_pages import model_page, training_page, version_page, version_tags
from pcc_pipeline.steps.records.persons import manifest_payloads, training_manifest
from pcc_pipeline.steps.records.reference_profile import data_figures, profile_payloads, reference, usual_of
from pcc_pipeline.steps.records.summary import rows_by_class
from pcc_pipeline.steps.records.training_record import (
    TrainingRecord,
    metadata_document,
    metrics_document,
    training_payloads,
)
from pcc_pipeline.steps.records.used_options import used
from pcc_pipeline.steps.training.backtest import plan_backtest, run_backtest
from pcc_pipeline.steps.training.calibrate import Answering, learn_to_answer, scores_of
from pcc_pipeline.steps.training.sampled import Sampled
from pcc_pipeline.steps.training.search import (
    CHALLENGER,
    SearchedElsewhere,
    SearchRows,
    held_scores,
    recipe_of,
    register_once,
    search,
)
from pcc_pipeline.steps.training.split_rows import SplitRows
from pcc_pipeline.storage.objects import replacing
from pcc_pipeline.tracking import payloads
from pcc_pipeline.tracking.delivery.operations import NUMBER, Registered
from pcc_pipeline.tracking.environment import account
from pcc_pipeline.tracking.logged_models.log_and_load import TrainedModel
from pcc_pipeline.tracking.provenance import code_version
from pcc_pipeline.tracking.registry import versions
from pcc_pipeline.tracking.registry.approvals import TRAINED_BY_TAG
from pcc_pipeline.tracking.registry.erased import LIST_TAG
from pcc_pipeline.tracking.runs import SPLIT_FILE, SPLIT_TAG, Place, StepRun, step_run

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainOutcome:
    """A trained, logged and registered model.

    Attributes:
        is_challenger: whether it has the alias; not where a training that began later had registered its model before.
    """

    run_id: str
    model_uri: str
    registered_name: str
    registered_version: str
    is_challenger: bool
    pcc_version: str
    validation: Report
    cross_validation: dict[str, float]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    held_out: HeldOut
    search: SearchOutcome | None
    scoring: str
    class_counts: Mapping[str, Mapping[str, int]]

    @property
    def summary(self) -> list[str]:
        searched = [] if self.search is None or self.search.planned < 2 else self._searched
        alias = f", alias {CHALLENGER}" if self.is_challenger else f"; {CHALLENGER} stays a version trained later"
        return [
            *searched,
            f"trained    {self.registered_name} version {self.registered_version} ({self.pcc_version}){alias}",
            f"           validation macro F1 {self.validation.scores['f1_macro']:.4f}, "
            f"accuracy {self.validation.scores['accuracy']:.4f} on {counted(self.validation.n_rows, 'row')}",
            *(f"           {note}" for note in self.notes),
            *rows_by_class(self.class_counts),
            *(f"warning    {warning}" for warning in self.warnings),
        ]

    @property
    def _searched(self) -> list[str]:
        assert self.search is not None, "something was searched"
        best = self.search.best
        spread = "" if best.std is None else f" ± {best.std:.4f}"
        return [
            f"searched   {self.search.summary}",
            f"           best is trial {best.number}, {self.scoring} {best.score:.4f}{spread} over "
            f"{len(best.fold_scores)} folds: {parameters(without_idle(best.hyperparameters))}",
        ]


@dataclass(frozen=True)
class SharedOutcome:
    """A run that helped to search a study, whose model another run has registered.

    Attributes:
        registered_version: empty where MLflow is away, and that run's machine keeps the model for later.
        tried: how many candidates this run tried, of `trials` in all.
    """

    run_id: str
    study_name: str
    tried: int
    trials: int
    concluded_by: str
    registered_name: str
    registered_version: str

    @property
    def summary(self) -> list[str]:
        made = f"{self.registered_name} version {self.registered_version}"
        kept = f"the model of {self.registered_name}, which its machine keeps until MLflow is back"
        return [
            f"searched   {self.tried:,} of the {self.trials:,} candidates of study {self.study_name}",
            f"trained    by run {self.concluded_by}: {made if self.registered_version else kept}",
        ]


def run(params: Params, at_hand: Mapping[str, HandedOn] | None = None) -> TrainOutcome | SharedOutcome:
    """Train on `data.path`; test rows are set aside and not looked at.

    Args:
        at_hand: the files by their addresses, where `embed` read them in this process; these are not read again.

    Returns:
        A SharedOutcome where several runs searched a study in PostgreSQL, and another one of them registered the model.

    Raises:
        DataError: a file cannot be read, or does not keep the contract.
        ConfigError: also where somebody was erased since the rows were read.
        FeatureError, ModelError, SearchError, TrackingError.
    """
    with step_run("train", params) as opened:
        at_hand = {} if at_hand is None else at_hand
        for address in (params.data.path, params.data.test_path):
            if address not in at_hand:
                demand_input(address, contract_of(params, slices=slices_of(params, address)))
        demand_cluster(params.compute)
        exclusion = read_exclusion(params.data.exclude)
        demand_own_files(
            {
                name: getattr(params.data, name.removeprefix("data."))
                for name in ("data.path", "data.test_path", "data.exclude")
            },
            {"output.label_issues": params.output.label_issues},
        )
        encoder = encoder_of(params)
        version = versions.claim_pcc_version(params.registry.model_name, datetime.now(UTC), opened.run_id)
        before = versions.numbered_versions(params.registry.model_name)
        opened.log(
            payloads.LoggedParams(used(params, "train")),
            payloads.Text("params.yaml", yaml.safe_dump(params.document(), sort_keys=False, allow_unicode=True)),
            payloads.Tags({"pcc.encoder_digest": encoder.digest, **code_version().tags()}),
        )
        # Before the rows are read by it: an older list is noticed at the end, a newer one would hide rows.
        listed = list_digest(params)
        for each in at_hand.values():
            demand_same_list(each.listed, params)
        dataset, test_file = _read(params.data.path, params, at_hand), None
        if params.data.test_path is not None:
            test_file = _read(params.data.test_path, params, at_hand, sorted(set(dataset.labels)))
        tags = {"pcc.data_digest": dataset.digest}
        if listed:
            tags[LIST_TAG] = listed
        if dataset.vectors_digest is not None:
            tags["pcc.vectors_digest"] = dataset.vectors_digest
        if test_file is not None:
            tags["pcc.test_digest"] = test_file.digest
        files = input_files(params.data.path, "training", dataset)
        if test_file is not None:
            files += input_files(str(params.data.test_path), "testing", test_file)
        opened.log(payloads.Tags(tags), payloads.Inputs(files), payloads.Table("rejected.parquet", dataset.rejected))
        if parts := [*dataset.files, *(test_file.files if test_file is not None else ())]:
            opened.log(payloads.Json("data_files.json", parts))
        split = assign(dataset, params, test_file, exclusion.ids)
        quality = duplicates(split.record.keys.texts, list(dataset.labels), list(dataset.case_ids))
        windows = plan_backtest(dataset, split, params)
        digests = {
            "data_digest": dataset.digest,
            "split_digest": split.record.digest,
            "encoder_digest": encoder.digest,
        }
        if dataset.vectors_digest is not None:
            digests["vectors_digest"] = dataset.vectors_digest
        tags = {SPLIT_TAG: split.record.digest}
        if (newest := newest_timestamp(dataset, split.both if params.model.refit else split.train)) is not None:
            tags["pcc.data_newest"] = newest
        opened.log(payloads.Tags(tags), payloads.Table(SPLIT_FILE, split.record.frame()))
        opened.log(*manifest_payloads(training_manifest(params, dataset, split, test_file)))
        _demand_its_encoder(dataset, encoder, params)
        if dataset.vectors is None:
            if (handed := at_hand.get(params.data.path)) is not None:
                dataset, backend = handed.with_vectors(dataset), handed.encoder_backend
            else:
                dataset, backend = encoded(dataset, params, encoder, "vectors"), encoder.backend
            opened.log(payloads.Tags({"pcc.encoder_backend": backend}))
        rows = rows_of(dataset)
        split_rows = SplitRows.of(rows, split)
        # From here on the vectors are those of `split_rows`: all rows' in the file's order would be held twice.
        dataset, in_order = replace(dataset, vectors=None), rows if windows else None
        del rows
        if test_file is None:
            test = set_aside(dataset, split.record, params.data.path)
            test = replace(test, dataset=replace(test.dataset, vectors=split_rows.test_vectors))
        else:
            if (handed := at_hand.get(str(params.data.test_path))) is not None:
                test_file = handed.with_vectors(test_file)
            test = whole_file(test_file, str(params.data.test_path))
        test_texts = test.dataset.texts
        material = _Material(
            dataset,
            split,
            split_rows,
            exclusion,
            quality,
            encoder,
            digests,
            test,
            test_texts,
            windows,
            in_order,
            before,
            listed,
        )
        with ExitStack() as until_registered:
            return _train(params, material, version, opened, until_registered)


@dataclass(frozen=True)
class _Material:
    """What a model is trained from, once it is read, split and encoded.

    Attributes:
        dataset: without vectors, which `split_rows` has.
        digests: of data, vectors that came with it, split and encoder, by name.
        test: rows that are set aside for `evaluate`; of them the training looks at `test_texts` alone, for copies of
            training rows.
        windows: of the backtest; empty where none was asked for.
        in_order: all rows in the file's order, for the backtest; None where none was asked for.
        before: the registered versions with a number when the training began, newest first.
        listed: the digest of the list of erased persons by which the rows were read.
    """

    dataset: Dataset
    split: Split
    split_rows: SplitRows
    exclusion: Exclusion
    quality: DuplicateReport
    encoder: SentenceEncoder
    digests: Mapping[str, str]
    test: HeldOut
    test_texts: Sequence[str]
    windows: Sequence[TimeWindow]
    in_order: Rows | None
    before: Sequence[Numbered]
    listed: str


def _train(
    params: Params, material: _Material, version: str, opened: StepRun, until_registered: ExitStack
) -> TrainOutcome | SharedOutcome:
    dataset, split, encoder = material.dataset, material.split, material.encoder
    train, validation = material.split_rows.train, material.split_rows.validation
    classes = sorted(set(train.labels))
    positive = _positive_label(params, classes)
    learned = train.labels
    if params.model.refit:
        learned = np.concatenate([learned, validation.labels[np.isin(validation.labels, classes)]])
    recipe = recipe_of(params, train.labels, learned)
    searched: SearchOutcome | None = None
    held: HeldScores | None = None
    shared: SharedStudy | None = None
    place = classes.index(positive) if positive is not None else 1
    search_rows = SearchRows(train, split.groups[split.train], classes, place, material.digests).sampled(
        params.model.in_memory_rows, params.data.random_state
    )
    give_back(train.vectors)
    if params.model.folds_used:
        result = until_registered.enter_context(search(search_rows, recipe, params, version, opened))
        if isinstance(result, SearchedElsewhere):
            return _left(result, params, opened)
        searched, held, shared = result.outcome, result.held, result.shared
    chosen = searched.best.hyperparameters if searched else params.model.fixed
    hyperparameters = complete(params.model.type, without_idle(chosen))
    recipe = recipe.only_for(hyperparameters)

    logger.info("fitting %s on %s rows", params.model.type, f"{len(train.texts):,}")
    fitted = fit(prepare(train, recipe), hyperparameters, recipe)
    if held is None and params.learns_rule:
        held = held_scores(search_rows, recipe, params, hyperparameters)
    in_folds = len(search_rows.train.texts) if searched is not None or held is not None else None
    sampled = Sampled.of_training(
        params, train.labels, learned, recipe, folds=in_folds, lexical=needs_lexical(train.vectors)
    )
    by_validation: np.ndarray | None = None
    if held is None and params.needs_held_scores:
        # No folds were fitted, so nothing is fitted for this alone.
        held, by_validation = scores_of(fitted, validation, classes)
    answering = learn_to_answer(params, held, place)
    measured = replace(fitted, classifier=answering.applied(fitted.classifier))
    of_validation = measured.probabilities(validation)
    if by_validation is not None and answering.calibration is not None:
        # Each row by calibrators that did not see it.
        of_validation[by_validation] = answering.calibration.held
    reports = {
        "train": report("train", train.labels, measured.probabilities(train), classes, positive),
        "val": report("val", validation.labels, of_validation, classes, positive),
    }
    issues = _label_issues(answering, dataset.case_ids[split.train], classes)
    final = _refit(material.split_rows.both(), hyperparameters, recipe) if params.model.refit else fitted
    give_back(train.vectors)
    backtest, not_tested = run_backtest(material.windows, material.in_order, hyperparameters, params)
    near = near_duplicates(train.texts, [*validation.texts, *material.test_texts])
    doubts = (
        *dataset.notes,
        *material.exclusion.warnings(dataset, split),
        *(searched.warnings if searched else ()),
        *dict.fromkeys((*fitted.warnings, *final.warnings)),
        *answering.warnings,
        *sampled.warnings,
        *(backtest.doubts if backtest else ()),
        *not_tested,
        *cautions(reports["train"], reports["val"], quality=material.quality, near=near, only_tested=split.only_tested),
    )
    cross_validation = cv_metrics(searched.best.fold_scores) if searched else {}
    corrected = searched.corrected_score(partial(objective, scoring=params.model.scoring)) if searched else None
    if corrected is not None:
        cross_validation[f"cv/{params.model.scoring}_corrected"] = corrected

    rule = answering.rule
    answers = [*classes, *([rule.label] if rule is not None and rule.abstains else [])]
    basis = Basis.of(params, answers, encoder.digest, train.vectors.shape[1], dataset.digest)
    record = TrainingRecord(
        params=params,
        version=version,
        lineage=lineage(basis, material.before),
        classes=classes,
        hyperparameters=hyperparameters,
        split=split,
        labels=dataset.labels,
        lengths=length_counts(dataset.frame["text_length"].iloc[split.both]),
        quality=material.quality,
        reports=reports,
        cross_validation=cross_validation,
        near=near,
        search=searched,
        warnings=doubts,
        rejected=len(dataset.rejected),
        blank_lines=dataset.blank_lines,
        solver=final.solver,
        features=FeaturesUsed.of(final.classifier, hyperparameters),
        answering=answering,
        sampled=sampled,
        issues=issues,
        backtest=backtest,
        volumes=volumes(dataset.frame.get(TIMESTAMP), dataset.labels),
    )
    model = TrainedModel(
        classifier=answering.applied(final.classifier),
        lexical=final.lexical,
        classes=tuple(classes),
        model_version=version,
        embedding_model=encoder.name,
        encoder_digest=encoder.digest,
        vector_width=train.vectors.shape[1],
        positive_label=positive,
        decision=answering.rule,
    )
    profile = reference(
        validation.texts,
        validation.vectors,
        validation.labels,
        of_validation,
        fitted.lexical,
        Origin(
            space=LearnedSpace.of(train.vectors, params.data.random_state),
            classes=classes,
            model_version=version,
            encoder_digest=encoder.digest,
            source="validation",
            exact=not params.model.refit,
            seed=params.data.random_state,
            figures=data_figures(record.metrics),
            usual=usual_of(dataset, record.volumes, datetime.now(UTC)),
        ),
        None
        if TIMESTAMP not in dataset.frame
        else dataset.frame[TIMESTAMP].iloc[material.split_rows.validation_places],
    )
    metadata = metadata_document(record, encoder.name, FULL_WIDTH)
    facts = TrainedFacts(metadata, metrics_document(record), dataset.digest)
    folder = None if params.preprocessing.embedding_model == BUNDLED_ENCODER else encoder.folder
    logged = [
        *training_payloads(record, metadata),
        *profile_payloads(profile),
        payloads.Tags({"pcc.balance": recipe.balance_method, "pcc.calibration": answering.method}),
        payloads.Tags({**record.lineage.tags(), **sampled.tags}),
        payloads.Note(training_page(facts, opened.run_id)),
    ]
    its_place = _place(params, record, facts, encoder, dataset)

    def register() -> Registered:
        demand_same_list(material.listed, params)
        return opened.log_model(model, folder, metadata, logged, its_place)

    registered = register_once(shared, opened, register)
    if issues is not None:
        with replacing(Path(params.output.label_issues)) as partial_file:
            issues.table.to_parquet(partial_file, index=False)
    return TrainOutcome(
        opened.run_id,
        registered.model_uri,
        params.registry.model_name,
        registered.version,
        registered.alias_moved,
        version,
        reports["val"],
        record.cross_validation,
        (
            record.lineage.line,
            *_cv_line(record),
            *record.features.line,
            *sampled.line,
            *answering.line,
            *([] if issues is None else [issues.line]),
            *([] if backtest is None else [backtest.line]),
            *_notes(dataset, split),
            *material.exclusion.notes(split),
        ),
        doubts,
        material.test,
        searched,
        params.model.scoring,
        record.class_counts
        if len(split.test)
        else {**record.class_counts, "test": Counter(map(str, material.test.dataset.labels))},
    )


def _left(elsewhere: SearchedElsewhere, params: Params, opened: StepRun) -> SharedOutcome:
    conclusion = elsewhere.conclusion
    outcome = SharedOutcome(
        opened.run_id,
        elsewhere.study_name,
        elsewhere.tried,
        conclusion.trials,
        conclusion.run_id,
        params.registry.model_name,
        conclusion.version,
    )
    note = "\n".join(f"- {' '.join(line.split())}" for line in outcome.summary)
    opened.log(payloads.Tags({"pcc.concluded_by": conclusion.run_id}), payloads.Note(note))
    return outcome


def _cv_line(record: TrainingRecord) -> tuple[str, ...]:
    """The search's score, never without a word on how it was come by."""
    scoring, scores = record.params.model.scoring, record.cross_validation
    corrected = scores.get(f"cv/{scoring}_corrected")
    if record.search is None or corrected is None:
        return ()
    tried = sum(trial.state == "complete" for trial in record.search.trials)
    return (
        f"cross-validation {scoring} {corrected:.4f} once corrected for choosing the best of {tried} candidates, "
        f"which scored {scores[f'cv/{scoring}_mean']:.4f}",
    )


def _notes(dataset: Dataset, split: Split) -> tuple[str, ...]:
    left_out = f"{split.overlapping:,} rows left out: their text or group also stands {split.overlaps}"
    return (*dataset.rejection_line, *([left_out] if split.overlapping else []))


def _label_issues(answering: Answering, case_ids: np.ndarray, classes: list[str]) -> LabelIssues | None:
    """None where no row was scored by a model that did not learn it."""
    calibration = answering.calibration
    if calibration is None or calibration.rows is None:
        return None
    return find_label_issues(case_ids[calibration.rows], calibration.labels, calibration.held, classes)


def _read(address: str, params: Params, at_hand: Mapping[str, HandedOn], known_labels: Sequence[str] = ()) -> Dataset:
    """The file as it stands at hand, else from its address; of the labels see `load_dataset`."""
    if (handed := at_hand.get(address)) is not None:
        return spelled(handed.read, known_labels)
    return load_dataset(address, params, known_labels, slices_of(params, address))


def _demand_its_encoder(dataset: Dataset, encoder: SentenceEncoder, params: Params) -> None:
    if dataset.encoder_digest not in (None, encoder.digest):
        raise FeatureError(
            f"the vectors in this file were made by another encoder than {encoder.name}, which the model would be "
            "served with",
            where=params.data.path,
            fix="set preprocessing.embedding_model to the encoder of these vectors, or embed the texts again",
        )


def _positive_label(params: Params, classes: list[str]) -> str | None:
    label = params.data.positive_label
    if len(classes) != 2:
        return None
    if label is not None:
        # Named as it stands in the file, such as True.
        spelling = spellings([label_text(label)], classes) if params.data.normalise_labels else {}
        label = spelling.get(label_text(label), label_text(label))
    if label is not None and label not in classes:
        raise ConfigError(
            f"data.positive_label {label!r} is not one of the labels",
            where=params.data.path,
            fix=f"name one of {', '.join(classes)}, or null for the last in alphabetical order",
        )
    return label if label is not None else classes[1]


def _refit(both: Rows, hyperparameters: dict[str, Any], recipe: Recipe) -> FittedModel:
    """The final model learns from validation rows too; its reported scores are those of the fit that did not.

    Not from those of a label that no training row has, as by time a new one may be: nothing of it was searched or
    calibrated.
    """
    logger.info("fitting again on training and validation rows together, %s rows", f"{len(both.texts):,}")
    return fit(prepare(both, recipe), hyperparameters, recipe)


def _place(
    params: Params, record: TrainingRecord, facts: TrainedFacts, encoder: SentenceEncoder, dataset: Dataset
) -> Place:
    # In the order in which MLflow's list of versions shows them; one version's own page sorts them by name.
    tags = {
        **version_tags(facts),
        **{f"metric.{name}": f"{value:.6f}" for name, value in record.headline.items()},
        "pcc.version": record.version,
        **record.lineage.tags(),
        "pcc.solver": record.solver,
        TRAINED_BY_TAG: account(),
        "pcc.data_digest": dataset.digest,
        "pcc.encoder_digest": encoder.digest,
        **code_version().tags(),
    }
    name = params.registry.model_name
    return Place(name, CHALLENGER, tags, version_page(facts, name, NUMBER), model_page(name))
