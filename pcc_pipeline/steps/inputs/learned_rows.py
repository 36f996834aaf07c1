"""The rows that a model learned, with the vectors that are at hand for them: nothing is encoded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pcc_pipeline.config import Params
from pcc_pipeline.data.dataset import Dataset, Strings
from pcc_pipeline.data.vector_column import Vectors
from pcc_pipeline.encoder.caches.entries import text_key
from pcc_pipeline.encoder.sentence_encoder import SentenceEncoder
from pcc_pipeline.encoder.sentence_width import SENTENCE_WIDTH
from pcc_pipeline.errors import DataError, FeatureError
from pcc_pipeline.steps.inputs.datasets import cache_of
from pcc_pipeline.steps.inputs.model_vectors import OF_THE_DATA, demand_encoder
from pcc_pipeline.steps.inputs.test_rows import training_file
from pcc_pipeline.tracking.logged_models.log_and_load import LoadedModel
from pcc_pipeline.tracking.runs import read_split, read_training_run


@dataclass(frozen=True)
class LearnedRows:
    """Rows that a model learned.

    Attributes:
        case_ids, labels: (n,).
        vectors: (n, 384), of their sentence halves.
        without: how many more it learned whose vectors are not at hand.
    """

    case_ids: Strings
    labels: Strings
    vectors: Vectors
    without: int


def learned_rows(loaded: LoadedModel, params: Params, encoder: SentenceEncoder, data: str | None = None) -> LearnedRows:
    """The rows of the training file that its run recorded as learned, with vectors of the file or of the cache.

    Args:
        params: where the cache is.
        encoder: the model's own.
        data: where the training file lies now, if not where its training read it.

    Raises:
        DataError: the file is not there or not the one of the training; or no record says which rows were learned.
        FeatureError: no vector is at hand, or they are of another encoder.
    """
    training = read_training_run(loaded.run_id)
    record = read_split(training)
    if record is None:
        raise DataError(f"the run that trained {loaded.model.model_version} kept no record of the rows that it learned")
    address = data or training.params.data.path
    dataset = training_file(loaded, training, address)
    dataset = dataset.take(np.flatnonzero(record.learned))
    if dataset.vectors is None:
        return _cached(dataset, params, encoder)
    if dataset.vectors.shape[1] != SENTENCE_WIDTH:
        raise FeatureError("the training file brings whole vectors, which a text cannot be compared with")
    demand_encoder(dataset.encoder_digest, loaded.model, OF_THE_DATA)
    return LearnedRows(dataset.case_ids, dataset.labels, dataset.vectors, 0)


def _cached(dataset: Dataset, params: Params, encoder: SentenceEncoder) -> LearnedRows:
    keys = [text_key(text) for text in dataset.texts]
    with cache_of(params, encoder) as cache:
        known = {} if cache is None else cache.get(list(dict.fromkeys(keys)))
    if not known:
        raise FeatureError("the embedding cache holds no vector of the training messages")
    there = np.array([key in known for key in keys], dtype=bool)
    vectors = np.stack([known[key] for key in keys if key in known])
    return LearnedRows(dataset.case_ids[there], dataset.labels[there], vectors, int((~there).sum()))
