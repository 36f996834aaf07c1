"""`score`: a file of messages in, a file of predictions in the downstream system's columns out, in bounded memory."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd

from pcc_pipeline.config import Params
from pcc_pipeline.config.paths import local_path
from pcc_pipeline.data.contract import TEXT, CheckedBatch
from pcc_pipeline.data.dataset import CheckedFile
from pcc_pipeline.data.notes import ReadNotes
from pcc_pipeline.data.vector_origin import file_of, origin_of
from pcc_pipeline.errors import ConfigError
from pcc_pipeline.evaluation.metric_names import metric_names
from pcc_pipeline.evaluation.predictions import NO_EXTRA_COLUMNS, ExtraColumns, ScoredBy, prediction_frame
from pcc_pipeline.persons.manifest import Manifest
from pcc_pipeline.sealing.parquet import write_frame
from pcc_pipeline.steps.answering.batch_vectors import BatchVectors, answers
from pcc_pipeline.steps.answering.challenge import Challenge, challenge_of, is_challengers, shadow_frame, shadow_path
from pcc_pipeline.steps.inputs.chosen_model import chosen_model
from pcc_pipeline.steps.inputs.datasets import input_files, progress_bar, read, unlabelled
from pcc_pipeline.steps.inputs.early_checks import demand_input
from pcc_pipeline.steps.inputs.model_vectors import OF_THE_DATA, demand_encoder
from pcc_pipeline.steps.inputs.own_files import demand_own_files
from pcc_pipeline.steps.records.monitoring_log import Monitor, monitored
from pcc_pipeline.steps.records.persons import add_batch, manifest_payloads, new_manifest
from pcc_pipeline.steps.records.prediction_file import SUFFIXES, extra_columns, writing, writing_shadow
from pcc_pipeline.steps.records.used_options import used
from pcc_pipeline.storage.objects import BUCKET_SCHEME, replacing
from pcc_pipeline.tracking import payloads
from pcc_pipeline.tracking.logged_models.log_and_load import TrainedModel
from pcc_pipeline.tracking.runs import step_run

logger = logging.getLogger(__name__)

_ALL = slice(None)


@dataclass(frozen=True)
class ScoreOutcome:
    """One scored file.

    Attributes:
        label_counts: label -> rows that were decided so, every label of the models included.
        challenger: version of the challenger, the rows that it answered, and where, if they are not used; None where
            it had no part.
    """

    run_id: str
    model_uri: str
    model_version: str
    source: str
    output: Path
    rejected: Path
    rows: int
    rejected_rows: int
    seconds: float
    label_counts: Mapping[str, int]
    notes: tuple[str, ...] = ()
    challenger: tuple[str, int, Path | None] | None = None

    @property
    def rows_per_second(self) -> float:
        return self.rows / self.seconds if self.seconds else 0.0

    @property
    def left_to_a_person(self) -> int:
        """Rows that the model's rule does not decide."""
        return self.rows - sum(self.label_counts.values())

    @property
    def summary(self) -> list[str]:
        largest = sorted(self.label_counts.items(), key=lambda pair: (-pair[1], pair[0]))
        shown = [f"{label} {count:,}" for label, count in largest[:5]]
        more = [f"{len(largest) - 5} more labels"] if len(largest) > 5 else []
        rejected = f"           {self.rejected_rows:,} rows rejected, with their reasons in {self.rejected}"
        left = f"           {self.left_to_a_person:,} rows left to a person: see prediction_notes"
        return [
            f"scored     {self.rows:,} rows of {self.source} with {self.model_version}, {self.rows_per_second:,.0f}/s",
            f"           {', '.join([*shown, *more])}",
            *([left] if self.left_to_a_person else []),
            *self._challenged,
            f"           predictions in {self.output}",
            *([rejected] if self.rejected_rows else []),
            *(f"warning    {note}" for note in self.notes),
        ]

    @property
    def _challenged(self) -> list[str]:
        if self.challenger is None:
            return []
        version, rows, shadow = self.challenger
        answered = f"           challenger {version} answered {rows:,} rows"
        return [f"{answered} beside, in {shadow}"] if shadow else [f"{answered} of them: see model_version"]


def run(params: Params, model_uri: str | None = None, output: str | None = None) -> ScoreOutcome:
    """Score `data.path`. Rows that break the contract get no prediction; they go to `output.rejected`.

    Vectors of 584 numbers in the data are used as they are, and of 384 completed; only texts need the encoder. With
    `ab_test.challenger_share` the challenger answers that share of the cases, with `ab_test.shadow` all of them beside.

    Args:
        model_uri: `models:/name@alias`, `models:/name/3`, `runs:/<id>/model`; default is the champion.
        output: a local .parquet or .csv; default is `output.scores`.

    Raises:
        ConfigError: the output cannot be of this name, or there is no challenger that was asked for.
        TrackingError: there is no such model, or no champion yet.
        DataError: the file cannot be read, or too many of its rows are rejected.
        FeatureError: the model cannot use these rows, or the configured encoder is not the model's.
        StorageError: the predictions cannot be written. Nothing half-written stays under a final name.
    """
    address, name = params.data.path, output or params.output.scores
    with step_run("score", params) as opened, monitored(Path(params.output.monitoring_log), opened.run_id) as monitor:
        opened.log(
            payloads.LoggedParams({**used(params, "score"), "output.scores": name}),
            payloads.Tags({"pcc.scored_source": address}),
        )
        target = _target(name, params)
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
        logger.info("scoring %s with %s", address, model.model_version)
        began = time.perf_counter()
        notes = ReadNotes()
        # Groups serve the split of training rows alone, so a file to score need not have them.
        file = CheckedFile(unlabelled(params), address, kept=False)
        manifest = new_manifest(params)
        counts = _score_file(params, model, challenge, target, monitor, notes, file, manifest)
        classes = dict.fromkeys([*model.classes, *(challenge.model.classes if challenge and challenge.used else ())])
        outcome = ScoreOutcome(
            run_id=opened.run_id,
            model_uri=loaded.model_uri,
            model_version=model.model_version,
            source=address,
            output=target,
            rejected=Path(params.output.rejected),
            rows=monitor.passed_validation,
            rejected_rows=monitor.dropped_cases,
            seconds=time.perf_counter() - began,
            label_counts={label: counts[label] for label in classes},
            notes=(*notes.lines, *file.notes_on_kept_out),
            challenger=None if challenge is None else challenge.told(target),
        )
        # Counts and no predictions: a million rows a day are the downstream system's to keep, not MLflow's.
        opened.log(
            payloads.Metrics(_metrics(outcome)),
            payloads.Inputs(input_files(address, "scoring", file)),
            *manifest_payloads(manifest),
            payloads.Models(used=[loaded.source.model_id, *([challenge.loaded.source.model_id] if challenge else [])]),
        )
        return outcome


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


def _target(name: str, params: Params) -> Path:
    where, target = f"output.scores: {name}", local_path(name)
    if name.startswith(BUCKET_SCHEME):
        raise ConfigError("scores are written to this machine", where=where, fix="name a local file and copy it")
    if not target.name.lower().endswith(SUFFIXES):
        raise ConfigError(
            f"scores are written as Parquet or CSV, not as {target.suffix or 'a file without a suffix'}",
            where=where,
            fix=f"give a path that ends in {' or '.join(SUFFIXES)}",
        )
    if params.output.encrypt_scores and not target.name.lower().endswith(".parquet"):
        raise ConfigError("only Parquet is encrypted", where=where, fix="give a path that ends in .parquet")
    demand_own_files(
        {"data.path": params.data.path},
        {
            "output.rejected": params.output.rejected,
            "output.monitoring_log": params.output.monitoring_log,
            "output.scores": target,
            **({"ab_test.shadow": shadow_path(target)} if params.ab_test.shadow else {}),
        },
    )
    return target


def _demand_same_classes(params: Params, model: TrainedModel, challenger: TrainedModel) -> None:
    if "probabilities" in params.output.extra_columns and tuple(model.classes) != tuple(challenger.classes):
        raise ConfigError(
            f"{model.model_version} and {challenger.model_version} have other labels, so their probabilities have no "
            "columns in common",
            where="output.extra_columns",
            fix="leave out probabilities, or let one version answer",
        )


def _score_file(
    params: Params,
    model: TrainedModel,
    challenge: Challenge | None,
    target: Path,
    monitor: Monitor,
    notes: ReadNotes,
    file: CheckedFile,
    manifest: Manifest | None,
) -> Counter[str]:
    """Writes the predictions and the rejected rows; returns label -> rows. `monitor` counts rows on the way."""
    address, counts, now = params.data.path, Counter[str](), datetime.now(UTC)
    rule = model.decision if challenge is None else challenge.loosest(model.decision)
    sealed = params.output.encrypt_scores
    with ExitStack() as stack:
        partial = stack.enter_context(replacing(target, shared=True))
        bar = stack.enter_context(progress_bar(None, f"score {address}"))
        scorer = stack.enter_context(BatchVectors(params, model))
        beside = None
        if challenge is not None:
            stack.callback(challenge.close)
            if challenge.settings.shadow:
                beside = stack.enter_context(writing_shadow(shadow_path(target), sealed=sealed))
        batches = read(address, notes)
        first = next(batches)
        extra = extra_columns(params, model.classes, several_files=file_of(first) is not None)
        with writing(partial, target, extra, rule, sealed=sealed) as write:
            for batch in chain([first], batches):
                checked = file.add(batch)
                bar.update(len(checked.rejected))
                monitor.total_cases = file.total_rows
                monitor.dropped_cases += len(checked.rejected)
                add_batch(manifest, checked, "scored", address)
                if len(checked.good):
                    if checked.vectors is not None:
                        demand_encoder(origin_of(batch), model, OF_THE_DATA)
                    vectors = scorer.vectors(checked, bar.update)
                    if challenge is None:
                        write(_answered(model, vectors, checked, _ALL, extra, now, counts))
                    elif beside is not None:
                        used = _answered(model, vectors, checked, _ALL, extra, now, counts)
                        write(used)
                        its = challenge.vectors(checked, vectors, model)
                        other = _answered(challenge.model, its, checked, _ALL, NO_EXTRA_COLUMNS, now, Counter())
                        beside(shadow_frame(used, other))
                        challenge.rows += len(other)
                    else:
                        cases = checked.good["case_id"].to_numpy(dtype=object)
                        dealt = is_challengers(cases, challenge.settings.challenger_share)
                        parts = []
                        if not dealt.all():
                            parts.append(_answered(model, vectors, checked, ~dealt, extra, now, counts))
                        if dealt.any():
                            its = challenge.vectors(checked, vectors, model)
                            parts.append(_answered(challenge.model, its, checked, dealt, extra, now, counts))
                        write(pd.concat(parts).sort_index())
                        challenge.rows += int(dealt.sum())
                    monitor.passed_validation += len(checked.good)
        rejected = file.rejected(params.data.max_rejected_fraction)
        with replacing(Path(params.output.rejected)) as rejected_partial:
            write_frame(rejected, rejected_partial, sealed=params.output.encrypts)
    if challenge is not None:
        monitor.notes = f"challenger {challenge.model.model_version}: {challenge.rows} rows"
    return counts


def _answered(
    model: TrainedModel,
    vectors: np.ndarray,
    checked: CheckedBatch,
    rows: np.ndarray | slice,
    extra: ExtraColumns,
    now: datetime,
    counts: Counter[str],
) -> pd.DataFrame:
    """A model's predictions for some rows of a batch, with their places in it as the index; counts the labels.

    Args:
        rows: a mask, or `_ALL`.
    """
    places = np.arange(len(checked.good))[rows]
    texts = checked.good[TEXT].astype(str).to_numpy(dtype=object)[rows]
    probabilities = answers(model, vectors[rows], list(texts))
    by = ScoredBy(model.model_version, model.embedding_model, model.classes, now, model.decision)
    predictions = prediction_frame(checked.good["case_id"].to_numpy(dtype=object)[rows], probabilities, by)
    decided = ~model.decision.left_to_a_person(probabilities)
    counts.update(np.array(model.classes, dtype=object)[probabilities.argmax(axis=1)[decided]])
    return extra.added_to(predictions, checked.places.take(places), probabilities).set_axis(places, axis=0)
