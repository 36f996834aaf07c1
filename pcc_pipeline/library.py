"""The package as a library: what `pcc_pipeline` itself offers. Configuration in, frozen outcomes out.

Every step is a run in MLflow, in the store and the experiment that MLflow's own settings name (`MLFLOW_TRACKING_URI`,
`mlflow.set_tracking_uri`, `mlflow.set_experiment`, …), as with the command of its name. What a user can mend is a
`PccError`, which says what, where and what to do. Steps are imported when they are called.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pcc_pipeline.config import Params
from pcc_pipeline.errors import PccError, SearchError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from pcc_pipeline.encoder.sentence_encoder import Encoder
    from pcc_pipeline.steps.embed import EmbedOutcome
    from pcc_pipeline.steps.evaluate import EvaluateOutcome
    from pcc_pipeline.steps.monitor import MonitorOutcome
    from pcc_pipeline.steps.pipeline import PipelineOutcome
    from pcc_pipeline.steps.promote import PromoteOutcome, WaitingOutcome
    from pcc_pipeline.steps.score import ScoreOutcome
    from pcc_pipeline.steps.train import SharedOutcome, TrainOutcome
    from pcc_pipeline.tracking.logged_models.log_and_load import LoadedModel

__all__ = [
    "Classifier",
    "Params",
    "PccError",
    "embed",
    "evaluate",
    "load_model",
    "load_params",
    "monitor",
    "promote",
    "run_pipeline",
    "score",
    "train",
]


def load_params(path: str | Path | None = None, /, **overrides: object) -> Params:
    """The configuration of a params.yaml, or the defaults, with what `overrides` change.

        load_params("params.yaml", data="cases.csv", search_method="none", model__cv_folds=3)

    Args:
        path: a params.yaml; None for the defaults.
        overrides: the options that commands have by name (data, test_data, label, search_method, n_iter, model_type),
            and any other by its dotted key with two underscores for the dot. They win over the environment
            (`PCC_MODEL__CV_FOLDS=3`), and that over the file.

    Raises:
        PccError: the file cannot be read, or the configuration has faults; the message lists them all.
    """
    from pcc_pipeline.steps.parameters import from_names

    return from_names(path, overrides, os.environ)


def embed(params: Params) -> EmbedOutcome:
    """Write the rows of `data.path` with their sentence vectors as Parquet; each text is encoded once in its life."""
    from pcc_pipeline.steps import embed as step

    return step.run(params)


def train(params: Params) -> TrainOutcome:
    """Train a classifier on `data.path`, log it, and register it with the alias challenger.

    The outcome has `model_uri`, `pcc_version`, `registered_version`, `validation.scores` and `warnings`.

    Raises:
        PccError: what a user can mend; or several runs searched one study, and another one registered the model.
    """
    from pcc_pipeline.steps import train as step

    outcome = step.run(params)
    if isinstance(outcome, step.SharedOutcome):
        raise _left_to_another(outcome)
    return outcome


def evaluate(params: Params, model: str | None = None) -> EvaluateOutcome:
    """Measure a model on `data.test_path`, or else on the rows that its training set aside.

    Args:
        model: `models:/name@alias`, `models:/name/3` or `runs:/<id>/model`; None for the challenger.

    The outcome has `test.scores`, `test.intervals`, `predictions` (the file) and `warnings`.
    """
    from pcc_pipeline.steps import evaluate as step

    return step.run(params, model)


def score(params: Params, model: str | None = None, output: str | None = None) -> ScoreOutcome:
    """Write the predictions for the messages of `data.path`, which need no labels.

    Args:
        model: as for `evaluate`; None for the champion.
        output: a .parquet or .csv, or a folder, with a slash at its end, for a part for each file; None for
            `output.scores`.
    """
    from pcc_pipeline.steps import score as step

    return step.run(params, model, output)


def monitor(params: Params, model: str | None = None, labels: str | None = None) -> MonitorOutcome:
    """Look at the messages of `data.path`, or at predictions of them, beside what a version learned.

    Args:
        model: as for `evaluate`; None for the champion.
        labels: a file of labels that came later, by case id.

    The outcome has `alarms` (what is wrong now), `watched` (one for each window, with `health` and `observed`), `page`
    and `novel` (the files).
    """
    from pcc_pipeline.steps import monitor as step

    return step.run(params, model, labels)


def promote(
    params: Params, model: str | None = None, *, reason: str = "", force: bool = False
) -> PromoteOutcome | WaitingOutcome:
    """Make a registered version the champion, and publish it, if it passes `registry.gates`.

    With `registry.approvals` 1 it then waits for an approver.

    Args:
        model: `models:/name@alias` or `models:/name/3`; None for the challenger.
        reason: why, for the record; needed with `force`.
        force: go past failed gates.

    Raises:
        PccError: a gate failed (the message holds the table of gates), or the version could not be published.
    """
    from pcc_pipeline.steps import promote as step

    return step.run(params, model, reason=reason, force=force)


def run_pipeline(params: Params, *, promotion: bool = False) -> PipelineOutcome:
    """Embed, train and evaluate, as nested runs of one: from a file of labelled messages to a registered model.

    The outcome has `embedded`, `trained`, `evaluated` and `promoted`.

    Args:
        promotion: also promote the version if it passes the gates; a refusal is `outcome.promoted`, and no error.

    Raises:
        PccError: as `train`.
    """
    from pcc_pipeline.steps import pipeline as step

    outcome = step.run(params, promotion=promotion)
    if isinstance(outcome, step.SharedPipelineOutcome):
        raise _left_to_another(outcome.trained)
    return outcome


def _left_to_another(outcome: SharedOutcome) -> PccError:
    return SearchError(
        f"run {outcome.concluded_by} of the same study has registered the model; this run tried {outcome.tried:,} of "
        f"its {outcome.trials:,} candidates",
        where=f"study {outcome.study_name}",
        fix=f"go on with version {outcome.registered_version or '(once MLflow is back)'} of {outcome.registered_name}",
    )


def load_model(uri: str) -> Classifier:
    """A logged model, ready to classify. No code that is stored beside it is run.

    Args:
        uri: `models:/name@alias`, `models:/name/3` or `runs:/<id>/model`.

    Raises:
        PccError: there is no such model, or its files are not those that were logged.
    """
    from pcc_pipeline.tracking.logged_models.log_and_load import load_trained_model

    return Classifier(load_trained_model(uri))


class Classifier:
    """A trained model: texts in, labels and probabilities out. `load_model` makes it.

    Args:
        loaded: the model out of MLflow.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded

    @property
    def uri(self) -> str:
        """Its address in MLflow."""
        return self._loaded.model_uri

    @property
    def version(self) -> str:
        """Its name, such as v20261126_024500."""
        return self._loaded.model.model_version

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels that it may give."""
        return self._loaded.model.classes

    def predict(self, texts: Sequence[str], vectors: np.ndarray | None = None) -> pd.DataFrame:
        """One row for each text: its `predicted_label`, and the `confidence` in it from 0 to 1.

        Args:
            texts: each not blank and of at most 10,000 characters.
            vectors: their sentence vectors (n, 384) by the encoder of the training, or whole vectors (n, 584), where
                they are there already; else the texts are encoded.

        Raises:
            PccError: a text or a vector cannot be classified, or the encoder of the training is not at hand.
        """
        import numpy as np
        import pandas as pd

        shares = self.probabilities(texts, vectors).to_numpy()
        labels = np.array(self.classes, dtype=object)[shares.argmax(axis=1)]
        return pd.DataFrame({"predicted_label": pd.Series(labels, dtype="str"), "confidence": shares.max(axis=1)})

    def probabilities(self, texts: Sequence[str], vectors: np.ndarray | None = None) -> pd.DataFrame:
        """One row for each text and a column for each label. Arguments and errors as for `predict`."""
        import numpy as np
        import pandas as pd

        from pcc_pipeline.errors import DataError
        from pcc_pipeline.tracking.logged_models.served_model import text_fault

        if isinstance(texts, str):
            raise DataError("expected a list of texts, got one text", where="texts", fix="put it in a list: [text]")
        texts = list(texts)
        if not texts:
            return pd.DataFrame(columns=list(self.classes), dtype=np.float64)
        faults = ((place, text_fault(text)) for place, text in enumerate(texts))
        if wrong := next(((place, fault) for place, fault in faults if fault), None):
            raise DataError(
                f"a text cannot be classified: it is {wrong[1]}", where=f"texts[{wrong[0]}]", fix="leave it out"
            )
        if vectors is None:
            vectors = self._encoded(texts)
        if np.ndim(vectors) != 2 or len(vectors) != len(texts):
            raise DataError(
                f"expected a row of numbers for each of {len(texts)} texts, got an array of shape {np.shape(vectors)}",
                where="vectors",
                fix="give an array (n, 384) or (n, 584)",
            )
        if not np.isfinite(vectors).all():
            raise DataError("a number in the vectors is not finite", where="vectors", fix="encode the texts anew")
        return pd.DataFrame(self._loaded.model.probabilities(vectors, texts), columns=list(self.classes))

    def _encoded(self, texts: Sequence[str]) -> np.ndarray:
        from pcc_pipeline.encoder.embed_texts import embed as encode

        return encode(texts, self._encoder, None)[0]

    @cached_property
    def _encoder(self) -> Encoder:
        from pcc_pipeline.steps.inputs.model_vectors import own_encoder

        return own_encoder(self._loaded)
