"""A model, and a challenger beside it, on the rows of files: predictions out, batch by batch, in bounded memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from itertools import chain
from typing import NamedTuple, Self

import numpy as np
import pandas as pd

from pcc_pipeline.config import Params
from pcc_pipeline.data.contract import TEXT, CheckedBatch
from pcc_pipeline.data.dataset import CheckedFile
from pcc_pipeline.data.vector_origin import file_of, origin_of
from pcc_pipeline.encoder.embed_texts import Progress
from pcc_pipeline.evaluation.predictions import NO_EXTRA_COLUMNS, ExtraColumns, ScoredBy, prediction_frame
from pcc_pipeline.model.decision import DecisionRule
from pcc_pipeline.persons.manifest import Manifest
from pcc_pipeline.steps.answering.batch_vectors import BatchVectors, answers
from pcc_pipeline.steps.answering.challenge import Challenge, is_challengers, shadow_frame
from pcc_pipeline.steps.inputs.model_vectors import OF_THE_DATA, demand_encoder
from pcc_pipeline.steps.records.persons import add_batch
from pcc_pipeline.steps.records.prediction_file import extra_columns
from pcc_pipeline.tracking.logged_models.log_and_load import TrainedModel

_ALL = slice(None)


class Scored(NamedTuple):
    """Label -> rows of a file that were decided so, and the rows that the challenger answered."""

    counts: Counter[str]
    challenger_rows: int


Write = Callable[[pd.DataFrame], None]


class Output(NamedTuple):
    """Where the predictions of a file go.

    Attributes:
        extra: the columns behind the downstream system's.
        beside: takes both versions' answers, where the challenger's are not used.
    """

    write: Write
    extra: ExtraColumns
    beside: Write | None = None


class FileScorer:
    """What answers; its encoder and cache open at the first text, and serve the files after it, too."""

    def __init__(self, params: Params, model: TrainedModel, challenge: Challenge | None) -> None:
        self.params, self.model, self.challenge = params, model, challenge
        self._stack = ExitStack()
        self._vectors = self._stack.enter_context(BatchVectors(params, model))
        if challenge is not None:
            self._stack.callback(challenge.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back what it opened."""
        self._stack.close()

    @property
    def rule(self) -> DecisionRule:
        """The rule that leaves rows without a label, if that of either does."""
        return self.model.decision if self.challenge is None else self.challenge.loosest(self.model.decision)

    @property
    def classes(self) -> list[str]:
        """The labels of whoever answers, each once."""
        its = self.challenge.model.classes if self.challenge is not None and self.challenge.used else ()
        return list(dict.fromkeys([*self.model.classes, *its]))

    def opened(self, batches: Iterator[pd.DataFrame]) -> tuple[ExtraColumns, Iterator[pd.DataFrame]]:
        """The columns behind the downstream system's for these rows, and the batches again."""
        first = next(batches, None)
        several = first is None or file_of(first) is not None
        there = [] if first is None else [first]
        return extra_columns(self.params, self.model.classes, several_files=several), chain(there, batches)

    def score(
        self,
        batches: Iterator[pd.DataFrame],
        file: CheckedFile,
        manifest: Manifest | None,
        output: Output,
        progress: Progress = lambda _: None,
        after: Callable[[CheckedBatch], None] = lambda _: None,
    ) -> Scored:
        """Answer the rows of a file that keep the contract.

        Args:
            file: is given the batches, and then knows counts and rejected rows.
            manifest: is given who stood in them.
            after: called with each batch once its predictions are written.

        Raises:
            FeatureError: the model cannot use these rows, or the configured encoder is not the model's.
        """
        counts, now, challenger_rows = Counter[str](), datetime.now(UTC), 0
        for batch in batches:
            checked = file.add(batch)
            progress(len(checked.rejected))
            add_batch(manifest, checked, "scored", file.source)
            if len(checked.good):
                if checked.vectors is not None:
                    demand_encoder(origin_of(batch), self.model, OF_THE_DATA)
                vectors = self._vectors.vectors(checked, progress)
                used, other, its = self._both(vectors, checked, output.extra, now, counts)
                challenger_rows += its
                output.write(used)
                if output.beside is not None and other is not None:
                    output.beside(shadow_frame(used, other))
            after(checked)
        return Scored(counts, challenger_rows)

    def _both(
        self, vectors: np.ndarray, checked: CheckedBatch, extra: ExtraColumns, now: datetime, counts: Counter[str]
    ) -> tuple[pd.DataFrame, pd.DataFrame | None, int]:
        """The predictions of a batch, the challenger's where they are not used, and its rows; counts the labels."""
        model, challenge = self.model, self.challenge
        if challenge is None:
            return _answered(model, vectors, checked, _ALL, extra, now, counts), None, 0
        if not challenge.used:
            used = _answered(model, vectors, checked, _ALL, extra, now, counts)
            its = challenge.vectors(checked, vectors, model)
            other = _answered(challenge.model, its, checked, _ALL, NO_EXTRA_COLUMNS, now, Counter())
            return used, other, len(other)
        cases = checked.good["case_id"].to_numpy(dtype=object)
        dealt = is_challengers(cases, challenge.settings.challenger_share)
        parts = []
        if not dealt.all():
            parts.append(_answered(model, vectors, checked, ~dealt, extra, now, counts))
        if dealt.any():
            its = challenge.vectors(checked, vectors, model)
            parts.append(_answered(challenge.model, its, checked, dealt, extra, now, counts))
        return pd.concat(parts).sort_index(), None, int(dealt.sum())


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
