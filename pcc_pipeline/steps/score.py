"""`score`: messages in, predictions in the downstream system's columns out, in bounded memory.

Into one file, or into a folder with a part for each file of the input, which several processes and machines may share.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from pcc_pipeline.config import Params
from pcc_pipeline.config.paths import in_brief, local_path, output_address
from pcc_pipeline.data.contract import CheckedBatch
from pcc_pipeline.data.dataset import CheckedFile
from pcc_pipeline.data.notes import ReadNotes
from pcc_pipeline.errors import ConfigError
from pcc_pipeline.evaluation.metric_names import metric_names
from pcc_pipeline.masking import masked
from pcc_pipeline.plurals import counted
from pcc_pipeline.sealing.parquet import write_frame
from pcc_pipeline.steps.answering.challenge import Challenge, challenge_of, shadow_path
from pcc_pipeline.steps.answering.file_scorer import FileScorer, Output, Scored
from pcc_pipeline.steps.inputs.addresses import files_of
from pcc_pipeline.steps.inputs.chosen_model import chosen_model
from pcc_pipeline.steps.inputs.datasets import input_files, progress_bar, read, unlabelled
from pcc_pipeline.steps.inputs.early_checks import demand_bucket, demand_input
from pcc_pipeline.steps.inputs.own_files import demand_own_files, demand_own_folder
from pcc_pipeline.steps.parts.folder import PARTS_TAG, Part, PartsFolder, is_parts_address
from pcc_pipeline.steps.parts.running import (
    PartsWritten,
    demand_inputs,
    demand_whole,
    inputs_payload,
    lineage_payloads,
    run_parts,
    with_threads,
)
from pcc_pipeline.steps.parts.scoring import ScoreTask, job_of
from pcc_pipeline.steps.parts.surroundings import Surroundings
from pcc_pipeline.steps.records.monitoring_log import Monitor, monitored
from pcc_pipeline.steps.records.persons import manifest_payloads, new_manifest
from pcc_pipeline.steps.records.prediction_file import SUFFIXES, writing, writing_shadow
from pcc_pipeline.steps.records.used_options import used
from pcc_pipeline.storage.objects import BUCKET_SCHEME, replacing
from pcc_pipeline.storage.objects import writing as writing_at
from pcc_pipeline.tracking import payloads
from pcc_pipeline.tracking.logged_models.log_and_load import LoadedModel, TrainedModel
from pcc_pipeline.tracking.runs import StepRun, step_run

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScoreOutcome:
    """What was scored: one data set into a file, or this run's share of one in parts.

    Attributes:
        output, rejected: where predictions and rejected rows are.
        label_counts: label -> rows that were decided so, every label of the models included.
        challenger: version of the challenger, the rows that it answered, and where, if they are not used; None where
            it had no part.
        parts: of a data set in parts.
        scored: rows that this run scored itself; those of parts that stood before are not among them.
    """

    run_id: str
    model_uri: str
    model_version: str
    source: str
    output: str
    rejected: str
    rows: int
    rejected_rows: int
    seconds: float
    label_counts: Mapping[str, int]
    notes: tuple[str, ...] = ()
    challenger: tuple[str, int, str | None] | None = None
    parts: PartsWritten | None = None
    scored: int | None = None

    @property
    def rows_per_second(self) -> float:
        done = self.rows if self.scored is None else self.scored
        return done / self.seconds if self.seconds else 0.0

    @property
    def left_to_a_person(self) -> int:
        """Rows that the model's rule does not decide."""
        return self.rows - sum(self.label_counts.values())

    @property
    def summary(self) -> list[str]:
        largest = sorted(self.label_counts.items(), key=lambda pair: (-pair[1], pair[0]))
        shown = [f"{label} {count:,}" for label, count in largest[:5]]
        more = [counted(len(largest) - 5, "more label")] if len(largest) > 5 else []
        rejected = f"           {counted(self.rejected_rows, 'row')} rejected, with their reasons in {self.rejected}"
        left = f"           {counted(self.left_to_a_person, 'row')} left to a person: see prediction_notes"
        where, speed = [f"           predictions in {self.output}"], f", {self.rows_per_second:,.0f}/s"
        if self.parts is not None:
            where = [f"           {line}" for line in self.parts.lines]
            speed = speed if self.parts.made else ""
        return [
            f"scored     {counted(self.rows, 'row')} of {in_brief(self.source)} with {self.model_version}{speed}",
            f"           {', '.join([*shown, *more])}",
            *([left] if self.left_to_a_person else []),
            *self._challenged,
            *where,
            *([rejected] if self.rejected_rows else []),
            *(f"warning    {note}" for note in self.notes),
        ]

    @property
    def _challenged(self) -> list[str]:
        if self.challenger is None:
            return []
        version, rows, shadow = self.challenger
        answered = f"           challenger {version} answered {counted(rows, 'row')}"
        return [f"{answered} beside, in {shadow}"] if shadow else [f"{answered} of them: see model_version"]


def run(params: Params, model_uri: str | None = None, output: str | None = None) -> ScoreOutcome:
    """Score `data.path`. Rows that break the contract get no prediction; they go to `output.rejected`.

    Vectors of 584 numbers in the data are used as they are, and of 384 completed; only texts need the encoder. With
    `ab_test.challenger_share` the challenger answers that share of the cases, with `ab_test.shadow` all of them beside.

    Args:
        model_uri: `models:/name@alias`, `models:/name/3`, `runs:/<id>/model`; default is the champion.
        output: a .parquet or .csv, or a folder, by the slash at its end, for a part for each file of the input; local
            or gs://. Default is `output.scores`.

    Raises:
        ConfigError: the output cannot be of this name, or there is no challenger that was asked for.
        TrackingError: there is no such model, or no champion yet.
        DataError: the file cannot be read, or too many of its rows are rejected.
        FeatureError: the model cannot use these rows, or the configured encoder is not the model's.
        StorageError: the predictions cannot be written. Nothing half-written stays under a final name.
        ComputeError: workers die, or a cluster is gone; the parts that stand stay.
    """
    address, shown = params.data.path, _shown_source(params)
    name = output_address(output, "output.scores") if output else params.output.scores
    with step_run("score", params) as opened, monitored(Path(params.output.monitoring_log), opened.run_id) as monitor:
        opened.log(
            payloads.LoggedParams({**used(params, "score"), "output.scores": masked(name)}),
            payloads.Tags({"pcc.scored_source": shown}),
        )
        _demand_target(name, params)
        if is_parts_address(name):
            demand_inputs(params, unlabelled(params))
        else:
            demand_input(address, unlabelled(params))
        loaded = chosen_model(params, model_uri)
        model = loaded.model
        monitor.model_version, monitor.embedding_model = model.model_version, model.embedding_model
        opened.log(
            payloads.Tags(
                {
                    "pcc.version": model.model_version,
                    "pcc.encoder_digest": model.encoder_digest,
                    "pcc.model_uri": loaded.model_uri,
                    "pcc.training_run": loaded.run_id,
                }
            )
        )
        challenge = challenge_of(params, loaded)
        if challenge is not None:
            _demand_same_classes(params, model, challenge.model)
            opened.log(
                payloads.Tags(
                    {"pcc.ab_challenger": challenge.model.model_version, "pcc.ab_champion": model.model_version}
                )
            )
        logger.info("scoring %s with %s", shown, model.model_version)
        score = _into_parts if is_parts_address(name) else _into_file
        outcome = score(params, opened, loaded, challenge, name, monitor)
        if challenge is not None:
            monitor.notes = f"challenger {challenge.model.model_version}: {(outcome.challenger or ('', 0))[1]} rows"
        # Counts and no predictions: a million rows a day are the downstream system's to keep, not MLflow's.
        opened.log(
            payloads.Metrics(_metrics(outcome)),
            payloads.Models(used=[loaded.source.model_id, *([challenge.loaded.source.model_id] if challenge else [])]),
        )
        return outcome


def _into_file(
    params: Params, opened: StepRun, loaded: LoadedModel, challenge: Challenge | None, target: str, monitor: Monitor
) -> ScoreOutcome:
    """One file of predictions; `monitor` counts rows on the way."""
    address, notes, began = params.data.path, ReadNotes(), time.perf_counter()
    # Groups serve the split of training rows alone, so a file to score need not have them.
    file, manifest = CheckedFile(unlabelled(params), address, kept=False), new_manifest(params)

    def count(checked: CheckedBatch) -> None:
        monitor.total_cases = file.total_rows
        monitor.dropped_cases += len(checked.rejected)
        monitor.passed_validation += len(checked.good)

    with ExitStack() as stack:
        partial = stack.enter_context(writing_at(target, shared=True))
        bar = stack.enter_context(progress_bar(None, f"score {_shown_source(params)}"))
        scorer = stack.enter_context(FileScorer(params, loaded.model, challenge))
        sealed, beside = params.output.encrypt_scores, None
        if challenge is not None and challenge.settings.shadow:
            beside = stack.enter_context(writing_shadow(shadow_path(target), sealed=sealed))
        extra, batches = scorer.opened(read(address, notes))
        with writing(partial, target, extra, scorer.rule, sealed=sealed) as write:
            scored = scorer.score(batches, file, manifest, Output(write, extra, beside), bar.update, count)
        rejected = file.rejected(params.data.max_rejected_fraction)
        with replacing(Path(params.output.rejected)) as rejected_partial:
            write_frame(rejected, rejected_partial, sealed=params.output.encrypts)
    opened.log(payloads.Inputs(input_files(address, "scoring", file)), *manifest_payloads(manifest))
    return ScoreOutcome(
        run_id=opened.run_id,
        model_uri=loaded.model_uri,
        model_version=loaded.model.model_version,
        source=address,
        output=target,
        rejected=params.output.rejected,
        rows=monitor.passed_validation,
        rejected_rows=monitor.dropped_cases,
        seconds=time.perf_counter() - began,
        label_counts={label: scored.counts[label] for label in scorer.classes},
        notes=(*notes.lines, *file.notes_on_kept_out),
        challenger=_challenger_summary(challenge, scored, target),
    )


def _into_parts(
    params: Params, opened: StepRun, loaded: LoadedModel, challenge: Challenge | None, name: str, monitor: Monitor
) -> ScoreOutcome:
    """A part for each file of this run's share; `monitor` counts rows as parts come."""
    sources, folder, began = files_of(params.data.path), PartsFolder(name), time.perf_counter()
    opened.log(payloads.Tags({PARTS_TAG: name}))
    job = folder.begin(job_of(params, loaded, challenge))
    task = ScoreTask(
        with_threads(params),
        name,
        job,
        Surroundings.here(params),
        loaded.model_uri,
        None if challenge is None else challenge.loaded.model_uri,
    )
    task.keep(loaded, challenge)

    def seen(part: Part) -> None:
        monitor.total_cases += part.rows + part.rejected
        monitor.dropped_cases += part.rejected
        monitor.passed_validation += part.rows

    with ExitStack() as stack:
        stack.callback(task.let_go)
        written = run_parts(params, folder, job, sources, task, f"score {_shown_source(params)}", seen)
        classes = task.classes
    opened.log(*inputs_payload(params.data.path, written, "scoring"), *lineage_payloads(folder, written.parts))
    folder.lineage_is_kept({part.name for part in written.parts})
    scored = Scored(written.counts, sum(part.challenger_rows for part in written.parts))
    return ScoreOutcome(
        run_id=opened.run_id,
        model_uri=loaded.model_uri,
        model_version=loaded.model.model_version,
        source=params.data.path,
        output=name,
        rejected=folder.rejected_address,
        rows=monitor.passed_validation,
        rejected_rows=monitor.dropped_cases,
        seconds=time.perf_counter() - began,
        label_counts={label: scored.counts[label] for label in classes},
        notes=written.notes,
        challenger=_challenger_summary(challenge, scored, name),
        parts=written,
        scored=sum(part.rows for part in written.made),
    )


def _shown_source(params: Params) -> str:
    """`data.path` as records and the terminal may show it."""
    return str(params.document()["data"]["path"])


def _challenger_summary(challenge: Challenge | None, scored: Scored, target: str) -> tuple[str, int, str | None] | None:
    """The challenger's version, the rows that it answered, and the file that they are in if they are not used."""
    if challenge is None:
        return None
    return challenge.model.model_version, scored.challenger_rows, None if challenge.used else shadow_path(target)


def _metrics(outcome: ScoreOutcome) -> dict[str, float]:
    safe = metric_names(list(outcome.label_counts))
    return {
        "score/rows": outcome.rows,
        "score/rejected_rows": outcome.rejected_rows,
        "score/undecided_rows": outcome.left_to_a_person,
        "score/rows_per_second": outcome.rows_per_second,
        **({} if outcome.challenger is None else {"score/challenger_rows": outcome.challenger[1]}),
        **{f"score/class/{safe[label]}": count for label, count in outcome.label_counts.items()},
    }


def _demand_target(name: str, params: Params) -> None:
    where = f"output.scores: {name}"
    inputs = {"data.path": params.data.path}
    others: dict[str, str | Path] = {
        "output.rejected": params.output.rejected,
        "output.monitoring_log": params.output.monitoring_log,
    }
    if is_parts_address(name):
        if params.ab_test.shadow:
            raise ConfigError(
                "a challenger's answers that are not used go beside one file",
                where=where,
                fix="name a .parquet, or let the challenger answer a share: ab_test.challenger_share",
            )
        demand_own_folder(inputs, name, "output.scores")
        return
    demand_whole(params, "output.scores", "output.scores")
    suffix = Path(name).suffix
    if suffix.lower() not in SUFFIXES:
        raise ConfigError(
            f"scores are written as Parquet or CSV, not as {Path(masked(name)).suffix or 'a file without a suffix'}",
            where=where,
            fix=f"give a path that ends in {' or '.join(SUFFIXES)}, or, for a part for each file, a folder with a "
            "slash at its end",
        )
    if params.output.encrypt_scores and suffix.lower() != ".parquet":
        raise ConfigError("only Parquet is encrypted", where=where, fix="give a path that ends in .parquet")
    targets = {
        "output.scores": name,
        **({"ab_test.shadow": shadow_path(name)} if params.ab_test.shadow else {}),
    }
    if not name.startswith(BUCKET_SCHEME):
        others |= {option: local_path(target) for option, target in targets.items()}
    else:
        demand_bucket(name)
        if name in files_of(params.data.path):
            raise ConfigError(
                "output.scores would replace the file of data.path", where=where, fix="name another object"
            )
    demand_own_files(inputs, others)


def _demand_same_classes(params: Params, model: TrainedModel, challenger: TrainedModel) -> None:
    if "probabilities" in params.output.extra_columns and tuple(model.classes) != tuple(challenger.classes):
        raise ConfigError(
            f"{model.model_version} and {challenger.model_version} have other labels, so their probabilities have no "
            "columns in common",
            where="output.extra_columns",
            fix="leave out probabilities, or let one version answer",
        )
