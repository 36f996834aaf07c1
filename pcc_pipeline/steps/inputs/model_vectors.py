"""Vectors for a trained model: of the very encoder that it was trained with, or none at all."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np

from pcc_pipeline.config import Params
from pcc_pipeline.data.dataset import Dataset
from pcc_pipeline.encoder.sentence_encoder import BUNDLED_ENCODER, SentenceEncoder
from pcc_pipeline.encoder.sentence_width import SENTENCE_WIDTH
from pcc_pipeline.errors import FeatureError
from pcc_pipeline.features.full_vectors import full_vectors
from pcc_pipeline.model.fitting import Rows
from pcc_pipeline.steps.inputs.datasets import encoded, encoder_of, rows_of
from pcc_pipeline.tracking.logged_models.log_and_load import LoadedModel, TrainedModel, bundled_encoder_files
from pcc_pipeline.tracking.runs import read_training_run

OF_THE_DATA = "the encoder that made the vectors in the data"


def rows_for(loaded: LoadedModel, dataset: Dataset, params: Params, learned: Params, what: str) -> Rows:
    """The rows with the data's own vectors, where they are as wide as those of the training.

    Else with vectors made by the encoder that stands under the name of the training's.

    Args:
        params: what encodes, and where the cache is.
        learned: the configuration of the model's training.

    Raises:
        FeatureError: the vectors, or what stands under the encoder's name now, are of another encoder; or the model
            takes whole vectors and the data brings none.
    """
    model = loaded.model
    if _fit(dataset, model):
        demand_encoder(dataset.encoder_digest, model, OF_THE_DATA)
        return rows_of(dataset)
    refuse_texts(model)
    name = learned.preprocessing.embedding_model
    encoder = encoder_of(params, name)
    demand_encoder(encoder.digest, model, f"the encoder {encoder.name}", f"the embedding model {name}")
    return rows_of(encoded(dataset, params, encoder, what))


def rows_for_champion(
    loaded: LoadedModel, dataset: Dataset, params: Params, learned: Params, made_by: str, what: str
) -> Rows:
    """The same for a champion that is measured on another model's rows: by its own encoder, wherever that lies.

    Args:
        made_by: digest of the encoder of the data's vectors, where these do not say.

    Raises:
        FeatureError: the champion's encoder is not at hand; or it takes whole vectors and the data brings none.
    """
    model = loaded.model
    if _fit(dataset, model) and (dataset.encoder_digest or made_by) == model.encoder_digest:
        return rows_of(dataset)
    refuse_texts(model)
    with ExitStack() as stack:
        return rows_of(encoded(dataset, params, _own_encoder(loaded, params, learned, stack), what))


def own_encoder(loaded: LoadedModel, params: Params | None = None) -> SentenceEncoder:
    """The very encoder that a model was trained with, ready to encode.

    Args:
        params: what encodes; None is the configuration of the training.

    Raises:
        FeatureError: it is not at hand; or the model takes whole vectors.
    """
    refuse_texts(loaded.model)
    learned = read_training_run(loaded.run_id).params
    with ExitStack() as stack:
        encoder = _own_encoder(loaded, params or learned, learned, stack)
        # Its weights load at the first text, while the copy that the model may carry is there.
        encoder.encode(["a text"])
    return encoder


def demand_encoder(digest: str | None, model: TrainedModel, what: str, where: str = "embeddings") -> None:
    """Nothing, if the digest is that of the model's encoder, or not known.

    Raises:
        FeatureError: it is another one's.
    """
    if digest is not None and digest != model.encoder_digest:
        raise FeatureError(
            f"{what} is not the one that {model.model_version} was trained with ({model.embedding_model}), so its "
            "predictions would mean nothing",
            where=where,
            fix=f"use the {model.embedding_model} of its training, or train again with this encoder",
        )


def refuse_texts(model: TrainedModel) -> None:
    """Before any text is encoded.

    Raises:
        FeatureError: the model takes whole vectors.
    """
    full_vectors(np.empty((0, SENTENCE_WIDTH), dtype=np.float32), model.lexical, ())


def _fit(dataset: Dataset, model: TrainedModel) -> bool:
    # Whole vectors hold a lexical half of somebody's; a model that has its own was not trained on those.
    return dataset.vectors is not None and dataset.vectors.shape[1] == model.vector_width


def _own_encoder(loaded: LoadedModel, params: Params, learned: Params, stack: ExitStack) -> SentenceEncoder:
    name, expected = learned.preprocessing.embedding_model, loaded.model.encoder_digest
    try:
        encoder = encoder_of(params, name)
        if encoder.digest == expected:
            return encoder
        reason = f"another one stands at {encoder.folder} now"
    except FeatureError as error:
        reason = error.what
    if name != BUNDLED_ENCODER:
        # The model carries a copy of an encoder of the user's own.
        encoder = encoder_of(params, str(stack.enter_context(bundled_encoder_files(loaded))))
        if encoder.digest == expected:
            return encoder
    raise FeatureError(
        f"the encoder that {loaded.model.model_version} was trained with is not at hand: {reason}",
        where=f"the embedding model {name}",
        fix="put that encoder back in its place",
    )
