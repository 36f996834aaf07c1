"""Two versions on one file: chance deals out which of them answers a case, or the second answers beside, unused."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import PurePosixPath

import numpy as np
import pandas as pd

from pcc_pipeline.config import Params
from pcc_pipeline.config.schema import AbTestParams
from pcc_pipeline.data.contract import TEXT, CheckedBatch
from pcc_pipeline.encoder.caches.entries import VectorCache
from pcc_pipeline.encoder.embed_texts import embed
from pcc_pipeline.encoder.sentence_encoder import SentenceEncoder
from pcc_pipeline.errors import ConfigError
from pcc_pipeline.model.decision import DecisionRule
from pcc_pipeline.steps.inputs.datasets import cache_of
from pcc_pipeline.steps.inputs.model_vectors import own_encoder
from pcc_pipeline.tracking.logged_models.log_and_load import LoadedModel, TrainedModel, load_trained_model
from pcc_pipeline.tracking.registry.versions import find_alias

# Of a file of shadow answers, in this order; `ab_test` knows it by them.
SHADOW_COLUMNS = (
    "case_id",
    "champion_label",
    "challenger_label",
    "champion_confidence",
    "challenger_confidence",
    "champion_version",
    "challenger_version",
)
_KEY = b"pcc-ab-test"


def is_challengers(case_ids: np.ndarray, share: float) -> np.ndarray:
    """Which cases the challenger answers, bool (n,): by a hash of the case's id, the same in every file and run."""
    hashes = [blake2b(str(case).encode(errors="surrogatepass"), digest_size=8, key=_KEY).digest() for case in case_ids]
    # 53 bits are exact as a float, and stay below 1.
    numbers = np.frombuffer(b"".join(hashes), dtype="<u8") >> np.uint64(11)
    below: np.ndarray = numbers / 2.0**53 < share
    return below


@dataclass
class Challenge:
    """The challenger beside the model that scores."""

    loaded: LoadedModel
    settings: AbTestParams
    params: Params
    _stack: ExitStack = field(default_factory=ExitStack)
    _opened: tuple[SentenceEncoder, VectorCache | None] | None = None

    @property
    def model(self) -> TrainedModel:
        return self.loaded.model

    def vectors(self, checked: CheckedBatch, made: np.ndarray, by: TrainedModel) -> np.ndarray:
        """The vectors that the challenger answers by: those at hand, where they are of its own encoder, or its own.

        Args:
            made: what `by` answered by.
        """
        if by.encoder_digest == self.model.encoder_digest and by.vector_width == self.model.vector_width:
            return made
        if self._opened is None:
            encoder = own_encoder(self.loaded, self.params)
            self._opened = encoder, self._stack.enter_context(cache_of(self.params, encoder))
        encoder, cache = self._opened
        vectors, _ = embed([str(text) for text in checked.good[TEXT]], encoder, cache, lambda _: None)
        return vectors

    @property
    def used(self) -> bool:
        """Whether its answers are among the predictions."""
        return not self.settings.shadow

    def loosest(self, rule: DecisionRule) -> DecisionRule:
        """Of this rule and its own the one that leaves rows without a label, if either does."""
        own = self.model.decision
        return own if self.used and own.abstains and own.label is None else rule

    def close(self) -> None:
        """Give back what it opened."""
        self._stack.close()


def shadow_path(target: str) -> str:
    """Where the challenger's unused answers go, beside the predictions in the file or object `target`."""
    folder, slash, name = target.rpartition("/")
    return f"{folder}{slash}{PurePosixPath(name).stem}.shadow.parquet"


def shadow_frame(champion: pd.DataFrame, challenger: pd.DataFrame) -> pd.DataFrame:
    """Both versions' answers to the same cases: `SHADOW_COLUMNS`, from their frames of predictions."""
    columns = {"case_id": champion["case_id"]}
    for name, source in (("label", "predicted_label"), ("confidence", "confidence"), ("version", "model_version")):
        columns |= {f"champion_{name}": champion[source], f"challenger_{name}": challenger[source]}
    return pd.DataFrame(columns, columns=list(SHADOW_COLUMNS))


def challenge_of(params: Params, scoring: LoadedModel) -> Challenge | None:
    """The challenger that `ab_test` asks for; None where it asks for none.

    Raises:
        ConfigError: there is no challenger beside the model that scores.
    """
    settings, name = params.ab_test, params.registry.model_name
    if not settings.challenger_share and not settings.shadow:
        return None
    standing = find_alias(name, "challenger")
    if standing is None or standing.model_id == scoring.source.model_id:
        raise ConfigError(
            f"{name} has no challenger beside {scoring.model.model_version}, which scores",
            where="ab_test.shadow" if settings.shadow else f"ab_test.challenger_share: {settings.challenger_share:g}",
            fix="train a version that is to challenge it, or leave these options out",
        )
    return Challenge(load_trained_model(standing.model_uri), settings, params)
