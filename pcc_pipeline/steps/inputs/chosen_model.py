"""The model that a user means: the one that is named, or the champion."""

from __future__ import annotations

from pcc_pipeline.config import Params
from pcc_pipeline.errors import TrackingError
from pcc_pipeline.tracking.logged_models.log_and_load import LoadedModel, load_trained_model
from pcc_pipeline.tracking.registry.versions import find_alias


def chosen_model(params: Params, uri: str | None) -> LoadedModel:
    """The model at an address; None is the champion.

    Raises:
        TrackingError: there is no such model, or no champion yet; the message names the challenger that there is.
    """
    name = params.registry.model_name
    champion = f"models:/{name}@champion"
    if uri in (None, champion) and find_alias(name, "champion") is None and (lacking := no_champion(name)):
        raise lacking
    return load_trained_model(uri or champion)


def no_champion(name: str) -> TrackingError | None:
    """What to tell whoever asks for the champion where there is none; None if there is no challenger either.

    Raises:
        TrackingError: MLflow does not answer.
    """
    if find_alias(name, "challenger") is None:
        return None
    return TrackingError(
        f"{name} has no champion yet: no version has been promoted",
        where=f"models:/{name}@champion",
        fix=f"promote one with: pcc promote; or name the model to use: --model models:/{name}@challenger",
    )
