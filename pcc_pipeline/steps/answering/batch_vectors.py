"""Vectors of a model's batches of messages, brought or made, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np

from pcc_pipeline.config import Params
from pcc_pipeline.data.contract import TEXT, CheckedBatch
from pcc_pipeline.encoder.caches.entries import VectorCache
from pcc_pipeline.encoder.embed_texts import Progress, embed
from pcc_pipeline.encoder.sentence_encoder import Encoder
from pcc_pipeline.steps.inputs.datasets import cache_of, encoder_of
from pcc_pipeline.steps.inputs.model_vectors import demand_encoder, refuse_texts
from pcc_pipeline.tracking.logged_models.log_and_load import TrainedModel

# Rows that the lexical half and the classifier see at a time: the n-grams of 512 texts of the greatest length that the
# contract allows take about 200 MB.
_ROWS_AT_A_TIME = 512


def answers(model: TrainedModel, vectors: np.ndarray, texts: Sequence[str]) -> np.ndarray:
    """Probabilities float64 (n, K) of n rows, in bounded memory."""
    probabilities = np.empty((len(texts), len(model.classes)))
    for start in range(0, len(texts), _ROWS_AT_A_TIME):
        part = slice(start, start + _ROWS_AT_A_TIME)
        probabilities[part] = model.probabilities(vectors[part], texts[part])
    return probabilities


class BatchVectors:
    """The vectors of a model's batches; encoder and cache open at the first batch that brings none."""

    def __init__(self, params: Params, model: TrainedModel) -> None:
        self._params = params
        self._model = model
        self._stack = ExitStack()
        self._opened: tuple[Encoder, VectorCache | None] | None = None

    def __enter__(self) -> BatchVectors:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def vectors(self, checked: CheckedBatch, progress: Progress) -> np.ndarray:
        """Of a batch with good rows: those that it brings, or of its texts."""
        if checked.vectors is not None:
            progress(len(checked.good))
            return checked.vectors
        encoder, cache = self._open()
        vectors, _ = embed([str(text) for text in checked.good[TEXT]], encoder, cache, progress)
        return vectors

    def _open(self) -> tuple[Encoder, VectorCache | None]:
        if self._opened is None:
            model = self._model
            refuse_texts(model)
            encoder, name = encoder_of(self._params), self._params.preprocessing.embedding_model
            demand_encoder(
                encoder.digest, model, f"the encoder {encoder.name}", f"preprocessing.embedding_model: {name}"
            )
            self._opened = encoder, self._stack.enter_context(cache_of(self._params, encoder))
        return self._opened
