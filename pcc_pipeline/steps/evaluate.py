"""`evaluate`: a logged model on rows that it has not seen; the only step that reads test rows."""

from __future__ import annotations

import logging
import math
import shlex
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pcc_pipeline.config import Params
from pcc_pipeline.data.contract import TIMESTAMP
from pcc_pipeline.evaluation.answers import Answers
from pcc_pipeline.evaluation.cautions import warnings as cautions
from pcc_pipeline.evaluation.explanations.halves_importance import halves_importance
from pcc_pipeline.evaluation.metrics import label_indices
from pcc_pipeline.evaluation.page.facts import EvaluatedFacts, TrainedFacts
from pcc_pipeline.evaluation.page.sections import model_card, report_page
from pcc_pipeline.evaluation.plots.coverage import risk_coverage_curve
from pcc_pipeline.evaluation.plots.figures import figures
from pcc_pipeline.evaluation.plots.halves import feature_halves
from pcc_pipeline.evaluation.plots.over_time import score_against_time, volumes_over_time
from pcc_pipeline.evaluation.predictions import ScoredBy, prediction_frame
from pcc_pipeline.evaluation.report import Report
from pcc_pipeline.evaluation.slices import slice_documents, slice_warnings
from pcc_pipeline.monitoring.profile import Origin, ReferenceProfile
from pcc_pipeline.plurals import counted
from pcc_pipeline.steps.inputs.early_checks import demand_input
from pcc_pipeline.steps.inputs.own_files import demand_own_files
from pcc_pipeline.steps.inputs.test_rows import HeldOut, held_out
from pcc_pipeline.steps.judging.outlook import champion_beside, gate_outlook, since_champion
from pcc_pipeline.steps.pages.mlflow_pages import CARD, REPORT, evaluation_page, version_page
from pcc_pipeline.steps.records.monitoring_log import monitored
from pcc_pipeline.steps.records.persons import manifest_payloads, new_manifest
from pcc_pipeline.steps.records.prediction_file import extra_columns, writing
from pcc_pipeline.steps.records.reference_profile import profile_payloads, reference, since_words
from pcc_pipeline.steps.records.summary import scores_by_class
from pcc_pipeline.steps.records.test_scores import Measurement, measure
from pcc_pipeline.steps.records.used_options import used_on_model
from pcc_pipeline.storage.objects import replacing
from pcc_pipeline.tracking import payloads
from pcc_pipeline.tracking.logged_models.log_and_load import load_trained_model
from pcc_pipeline.tracking.registry.reference_profiles import DIGEST_TAG, RUN_TAG, read_profile
from pcc_pipeline.tracking.registry.versions import Resolved
from pcc_pipeline.tracking.runs import TrainingRun, read_training_run, step_run

logger = logging.getLogger(__name__)
# Options of `output` that name a file of their own.
_FILES = ("predictions", "metrics", "report", "monitoring_log")


@dataclass(frozen=True)
class EvaluateOutcome:
    """One model's scores on one set of rows.

    Attributes:
        model_id: of the logged model.
        document: `test` as metrics.json has it.
        facts: of the model's training.
        inputs: the files that the rows stand in.
        pictures: file stem -> the figure as PNG.
        promotable: name and number of its version, where it is not the champion and no gate that was judged fails.
    """

    run_id: str
    model_uri: str
    model_id: str
    model_version: str
    test: Report
    answers: Answers
    document: dict[str, Any]
    facts: TrainedFacts
    inputs: list[payloads.InputFile]
    pictures: dict[str, bytes]
    predictions: Path
    metrics: Path
    report: Path
    figures: Path
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    promotable: tuple[str, str] | None = None

    @property
    def next_steps(self) -> list[str]:
        """What to do now: to promote it, unless a gate stands against that."""
        if self.promotable is None:
            return []
        name, number = self.promotable
        return [f"make version {number} the champion: pcc promote --model {shlex.quote(f'models:/{name}/{number}')}"]

    @property
    def summary(self) -> list[str]:
        scores, (low, high) = self.test.scores, self.test.intervals["f1_macro"]
        areas = ", ".join(
            f"{name} {'not measured' if math.isnan(scores[key]) else f'{scores[key]:.4f}'}"
            for name, key in (("ROC-AUC", "roc_auc"), ("PR-AUC", "pr_auc"))
        )
        return [
            f"evaluated  {self.model_version} on {counted(self.test.n_rows, 'test row')}",
            *(f"           {note}" for note in self.notes),
            f"           macro F1 {scores['f1_macro']:.4f} (95% interval {low:.4f} to {high:.4f}), "
            f"accuracy {scores['accuracy']:.4f}, {areas}",
            *scores_by_class(self.document["by_class"]),
            *(f"           {line}" for line in self.answers.lines),
            f"           report     {self.report}: whether it may serve, on one page",
            f"           predictions in {self.predictions}, all scores in {self.metrics}, figures in {self.figures}",
            *(f"warning    {warning}" for warning in self.warnings),
        ]


def run(
    params: Params, model_uri: str | None = None, data: str | None = None, at_hand: HeldOut | None = None
) -> EvaluateOutcome:
    """Evaluate a model on `data.test_path` if it is given, else on the test rows that its training set aside.

    Rows of a test file that the model has learned are left out and counted.

    Args:
        model_uri: `models:/name@alias`, `models:/name/3`, `runs:/<id>/model`; default is the challenger.
        data: where the model's training file lies now, if not where its training run found it.
        at_hand: the test rows, from the model's training in this process.

    Raises:
        DataError: the training file has changed, so its test rows cannot be told from its training rows; or there are
            no rows that the model has not learned.
        FeatureError: its encoder is not what stands under that name now.
    """
    with (
        step_run("evaluate", params) as opened,
        monitored(Path(params.output.monitoring_log), opened.run_id) as monitor,
    ):
        demand_own_files(
            {"data.path": data or params.data.path, "data.test_path": params.data.test_path},
            {f"output.{name}": getattr(params.output, name) for name in _FILES},
        )
        if at_hand is None:
            demand_input(params.data.test_path or data)
        loaded = load_trained_model(model_uri or f"models:/{params.registry.model_name}@challenger")
        monitor.model_version, monitor.embedding_model = loaded.model.model_version, loaded.model.embedding_model
        training = read_training_run(loaded.run_id)
        held = at_hand or held_out(params, training, loaded, data, params.evaluation.slices)
        monitor.total_cases, monitor.passed_validation = held.total_rows, len(held.dataset.frame)
        monitor.dropped_cases = held.total_rows - monitor.passed_validation
        another_file = held.unchecked or params.data.test_path not in (None, training.params.data.test_path)
        beside = champion_beside(params, loaded, held.dataset.rows_digest)
        opened.log(
            payloads.LoggedParams(used_on_model(params, "evaluate", training.params, data)),
            payloads.Tags({"pcc.version": loaded.model.model_version, "pcc.model_uri": loaded.model_uri}),
        )
        manifest = new_manifest(params)
        if manifest is not None:
            manifest.add(held.dataset.frame, held.dataset.places, "test", held.address)
        opened.log(*manifest_payloads(manifest))
        logger.info("evaluating %s on %s rows", loaded.model.model_version, f"{len(held.dataset.frame):,}")
        started = datetime.now(UTC)
        measured = measure(loaded, held, params, training.params, params.evaluation.slices)
        test_report, probabilities = measured.report, measured.probabilities
        classes, positive = list(loaded.model.classes), loaded.model.positive_label
        unchecked = (f"Rows that the model learned may be among them: {held.unchecked}.",) if held.unchecked else ()
        weaker = slice_warnings(measured.slices, test_report.scores["accuracy"])
        doubts = (*unchecked, *held.file_notes, *cautions(None, test_report), *weaker)
        by = ScoredBy(loaded.model.model_version, loaded.model.embedding_model, classes, started, loaded.model.decision)
        predictions = prediction_frame(held.dataset.case_ids, probabilities, by)
        y = label_indices(measured.rows.labels, classes)
        importance = halves_importance(loaded.model.classifier, classes, measured.rows.vectors, y)
        facts = TrainedFacts(training.metadata, training.metrics, training.tags.get("pcc.data_digest", ""))
        since = since_champion(beside, facts, held.dataset)
        test = {
            **test_report.to_json(),
            "answers": measured.answers.to_json(),
            "slices": slice_documents(measured.slices),
            "importance": importance.to_json(),
            "since_champion": None if since is None else since.to_json(),
            "source": held.source,
            "overlap_removed_rows": held.learned_rows,
        }
        document = {**training.metrics, "test": test, "test_warnings": list(doubts)}
        place = classes.index(positive) if positive is not None else 1
        drawings = figures(y, probabilities, classes, positive=place)
        drawings["risk_coverage"] = risk_coverage_curve(measured.answers, test_report.n_rows)
        drawings["feature_halves"] = feature_halves(importance)
        if (backtest := training.metrics.get("backtest")) is not None:
            drawings["score_against_time"] = score_against_time(backtest["windows"])
        if (counted := training.metrics.get("volumes")) is not None:
            drawings["volumes_over_time"] = volumes_over_time(counted)
        pictures = payloads.drawn(drawings)
        name, version = loaded.source.name, loaded.version
        of_profile: tuple[str, ...] = ()
        evaluated = EvaluatedFacts(
            facts,
            test,
            doubts,
            model_uri or loaded.model_uri,
            started,
            gate_outlook(params, training, measured, beside),
            (name, version) if name is not None and version is not None else None,
            beside.facts,
            since,
            None if training.metrics["data"].get("label_issues") is None else training.metrics["label_issues"],
        )
        page, run = report_page(evaluated, pictures), (opened.experiment_id, opened.run_id)
        opened.log(
            *measured.record,
            payloads.Json("metrics.json", document),
            payloads.Table("predictions.parquet", predictions),
            payloads.Figures(pictures),
            payloads.Text(REPORT, page),
            payloads.Text(CARD, model_card(evaluated)),
            payloads.Note(evaluation_page(facts, test, doubts, evaluated.model, run)),
        )
        if name is not None and version is not None:
            # Of the version's own test rows; of another file, what is usual there would pass for what is usual.
            watched = None if another_file else _watched_by(measured, training)
            of_profile = since_words(watched)
            opened.log(*profile_payloads(watched))
            scores = {} if watched is None else {RUN_TAG: opened.run_id}
            scores |= measured.version_tags
            opened.describe(name, version, version_page(facts, name, version, test, doubts, run), scores)
        targets = Path(params.output.predictions), Path(params.output.metrics), Path(params.output.report)
        places = held.dataset.places
        extra = extra_columns(params, classes, several_files=places.files is not None)
        with replacing(targets[0]) as partial, writing(partial, str(targets[0]), extra, loaded.model.decision) as write:
            write(extra.added_to(predictions, places, probabilities))
        for stem, picture in pictures.items():
            with replacing(Path(params.output.figures_dir) / f"{stem}.png") as partial:
                partial.write_bytes(picture)
        with replacing(targets[1]) as partial:
            partial.write_text(payloads.json_text(document), encoding="utf-8")
        with replacing(targets[2]) as partial:
            partial.write_text(page, encoding="utf-8")
        return EvaluateOutcome(
            run_id=opened.run_id,
            model_uri=loaded.model_uri,
            model_id=loaded.source.model_id,
            model_version=loaded.model.model_version,
            test=test_report,
            answers=measured.answers,
            document=test,
            facts=facts,
            inputs=held.inputs,
            pictures=pictures,
            predictions=targets[0],
            metrics=targets[1],
            report=targets[2],
            figures=Path(params.output.figures_dir),
            notes=(*held.notes, *of_profile),
            warnings=doubts,
            promotable=None
            if beside.is_this or any(gate.passes is False for gate in evaluated.gates)
            else evaluated.registered,
        )


def _watched_by(measured: Measurement, training: TrainingRun) -> ReferenceProfile | None:
    """The profile from the test rows, by what the training says of the rows that it learned; None without that."""
    if DIGEST_TAG not in training.tags:
        return None
    model, rows = measured.loaded.model, measured.rows
    before = read_profile(Resolved(measured.loaded.source.model_id, training.run_id))
    return reference(
        rows.texts,
        rows.vectors[:, : model.vector_width],
        rows.labels,
        measured.probabilities,
        model.lexical,
        Origin(
            space=before.space,
            classes=model.classes,
            model_version=model.model_version,
            encoder_digest=model.encoder_digest,
            source="test",
            exact=True,
            seed=training.params.data.random_state,  # as the training drew, whoever evaluates
            figures=before.figures,
            usual=before.usual,
        ),
        measured.held.dataset.frame.get(TIMESTAMP),
    )
