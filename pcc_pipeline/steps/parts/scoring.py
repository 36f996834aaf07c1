"""Predictions in parts: the task of one input, and what all of them have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pcc_pipeline.config import Params
from pcc_pipeline.data.dataset import CheckedFile
from pcc_pipeline.data.notes import ReadNotes
from pcc_pipeline.steps.answering.challenge import Challenge
from pcc_pipeline.steps.answering.file_scorer import FileScorer, Output
from pcc_pipeline.steps.inputs.datasets import read, unlabelled
from pcc_pipeline.steps.parts.folder import Part, PartsFolder
from pcc_pipeline.steps.parts.held import Held
from pcc_pipeline.steps.parts.task import PartTask, rules_of
from pcc_pipeline.steps.records.persons import new_manifest
from pcc_pipeline.steps.records.prediction_file import writing
from pcc_pipeline.tracking.logged_models.log_and_load import LoadedModel, load_trained_model

_scorers: Held[FileScorer] = Held()


def job_of(params: Params, loaded: LoadedModel, challenge: Challenge | None) -> dict[str, Any]:
    """What all parts have in common: who answers, which columns there are, and what is asked of rows."""
    model = loaded.model
    share = (
        {}
        if challenge is None
        else {
            "challenger_version": challenge.model.model_version,
            "challenger_id": challenge.loaded.source.model_id,
            "challenger_share": params.ab_test.challenger_share,
        }
    )
    return {
        "kind": "predictions",
        "model_version": model.model_version,
        "model_id": loaded.source.model_id,
        "encoder_digest": model.encoder_digest,
        "extra_columns": sorted(params.output.extra_columns),
        "encrypted": params.output.encrypt_scores,
        **share,
        **({"rejected_encrypted": True} if params.output.encrypts else {}),
        **rules_of(unlabelled(params)),
    }


@dataclass(frozen=True)
class ScoreTask(PartTask):
    """Scores one input into its part. It is sent to workers, and each of them loads the model once.

    Attributes:
        model_uri, challenger_uri: addresses that no later move of an alias can change.
    """

    model_uri: str
    challenger_uri: str | None

    def made(self, folder: PartsFolder, name: str, source: str) -> Part:
        return _scored(self, self._scorer(), folder, name, source)

    def keep(self, loaded: LoadedModel, challenge: Challenge | None) -> None:
        """Use a model that is loaded already, in this process."""
        _scorers.get(self._key, lambda: FileScorer(self.params, loaded.model, challenge))

    @property
    def classes(self) -> list[str]:
        """The labels of whoever answers."""
        return self._scorer().classes

    def let_go(self) -> None:
        """Give back what this process has open for it."""
        _scorers.let_go(self._key)

    def _scorer(self) -> FileScorer:
        return _scorers.get(self._key, self._loaded)

    def _loaded(self) -> FileScorer:
        model, challenge = load_trained_model(self.model_uri).model, None
        if self.challenger_uri is not None:
            challenge = Challenge(load_trained_model(self.challenger_uri), self.params.ab_test, self.params)
        return FileScorer(self.params, model, challenge)

    @property
    def _key(self) -> str:
        # Not only the models: a worker of Dask outlives a run, and the next one may encode in another way.
        return f"{self.model_uri} {self.challenger_uri} {self.params.model_dump_json()}"


def _scored(task: ScoreTask, scorer: FileScorer, folder: PartsFolder, name: str, source: str) -> Part:
    params, notes = task.params, ReadNotes()
    file, manifest = CheckedFile(unlabelled(params), source, kept=False), new_manifest(params)
    made: list[Part] = []
    extra, batches = scorer.opened(read(source, notes, one=True, named=True, may_be_empty=True))
    with folder.writing(name) as partial:

        def about() -> dict[str, str]:
            part = Part(
                name,
                task.job,
                source,
                rows=file.total_rows - len(rejected),
                rejected=len(rejected),
                digest=file.digest,
                kept_out=file.kept_out,
                counts={label: counts[label] for label in scorer.classes if counts[label]},
                notes=(*notes.lines, *file.notes_on_kept_out),
                challenger_rows=challenger_rows,
            )
            made.append(part)
            return part.metadata()

        sealed = params.output.encrypt_scores
        with writing(partial, name, extra, scorer.rule, sealed=sealed, about=about) as write:
            counts, challenger_rows = scorer.score(batches, file, manifest, Output(write, extra))
            rejected = file.all_rejected
        # Before the part, which says that all of it is there.
        folder.keep_rejected(name, rejected, sealed=params.output.encrypts)
        if manifest is not None:
            folder.keep_lineage(name, manifest.to_bytes())
    return made[0]
