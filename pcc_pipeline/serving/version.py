"""A model version ready to answer: its classifier, its lexical half and its encoder, proven before it serves."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pcc_pipeline.encoder import probe
from pcc_pipeline.encoder.caches.entries import text_key
from pcc_pipeline.encoder.sentence_encoder import BUNDLED_ENCODER, Encoder, SentenceEncoder
from pcc_pipeline.encoder.sentence_width import SENTENCE_WIDTH
from pcc_pipeline.encoder.unique_texts import unique_texts
from pcc_pipeline.errors import ModelError
from pcc_pipeline.features.full_vectors import FULL_WIDTH
from pcc_pipeline.serving.kept import ServedBundle
from pcc_pipeline.tracking.logged_models.log_and_load import TrainedModel
from pcc_pipeline.tracking.logged_models.served_model import ENCODER

# As much as probabilities may differ by what a text is answered with, and their sum from 1.
_TOLERANCE = 1e-6


class TextVectors:
    """Sentence vectors of the texts that came last, under hashes of them; threads may share it.

    Args:
        size: how many; 0 keeps none.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept: OrderedDict[bytes, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def encode(self, texts: Sequence[str], encoder: Encoder) -> np.ndarray:
        """Vectors of different texts, float32 (len(texts), 384): those that are kept, and the others made."""
        if not self._size:
            return encoder.encode(texts)
        # Another encoder makes other vectors of the same text.
        keys = [text_key(f"{encoder.digest}\0{text}") for text in texts]
        with self._lock:
            known = {key: self._kept[key] for key in keys if key in self._kept}
            for key in known:
                self._kept.move_to_end(key)
        missing = [place for place, key in enumerate(keys) if key not in known]
        table = np.empty((len(texts), SENTENCE_WIDTH), dtype=np.float32)
        for place, key in enumerate(keys):
            if key in known:
                table[place] = known[key]
        if missing:
            table[missing] = made = encoder.encode([texts[place] for place in missing])
            with self._lock:
                self._kept.update((keys[place], vector) for place, vector in zip(missing, made, strict=True))
                while len(self._kept) > self._size:
                    self._kept.popitem(last=False)
        return table


@dataclass(frozen=True)
class ServedVersion:
    """What answers.

    Attributes:
        bundle: its files, with the address and the run that they are of.
        encoder: of the model's digest; None for a model that takes whole vectors.
    """

    model: TrainedModel
    bundle: ServedBundle
    encoder: SentenceEncoder | None
    vectors: TextVectors

    @property
    def name(self) -> str:
        return self.model.model_version

    @property
    def takes_texts(self) -> bool:
        return self.encoder is not None

    def sentence_vectors(self, texts: Sequence[str]) -> np.ndarray:
        """Of n texts, float32 (n, 384); each different text is encoded once."""
        assert self.encoder is not None, "asked of a model that takes texts alone"
        unique, places = unique_texts(texts)
        return self.vectors.encode(unique, self.encoder)[places] if unique else _no_rows(SENTENCE_WIDTH)

    def answer(self, texts: Sequence[str], whole: Sequence[np.ndarray], made: np.ndarray | None = None) -> np.ndarray:
        """Probabilities float64 (n + m, K) of n texts and then m vectors of 584 numbers.

        Args:
            made: the texts' sentence vectors, where they are at hand.
        """
        model = self.model
        parts = []
        if texts:
            vectors = self.sentence_vectors(texts) if made is None else made
            parts.append(model.probabilities(vectors, texts))
        if whole:
            parts.append(model.probabilities(np.stack(whole), [""] * len(whole)))
        return np.vstack(parts) if parts else _no_rows(len(model.classes), np.float64)


def ready(
    model: TrainedModel,
    folder: Path,
    bundle: ServedBundle,
    encoder_in: Callable[[str, str], SentenceEncoder],
    vectors: TextVectors,
) -> ServedVersion:
    """A version that answers, once it has answered the texts of the encoder's probe as a classifier must.

    Args:
        folder: its bundle.
        encoder_in: the encoder of a digest that has this name or lies in this folder; versions may share it.

    Raises:
        ModelError: it answers what no probabilities are, or a text otherwise alone than among others.
        FeatureError: its encoder is not at hand, or is another one.
    """
    encoder = None
    if model.vector_width != FULL_WIDTH:
        own = folder / ENCODER
        encoder = encoder_in(model.encoder_digest, str(own) if own.is_dir() else BUNDLED_ENCODER)
        if encoder.digest != model.encoder_digest:
            raise ModelError(
                f"the encoder at hand is not the one that {model.model_version} was trained with",
                where=str(encoder.folder),
                fix="install the package of that training's encoder, or train again with this one",
            )
    version = ServedVersion(model, bundle, encoder, vectors)
    _prove(version)
    return version


def _prove(version: ServedVersion) -> None:
    if version.encoder is None:
        together = version.answer([], [*np.eye(2, FULL_WIDTH), np.zeros(FULL_WIDTH)])
        alone = version.answer([], [np.eye(1, FULL_WIDTH)[0]])
    else:
        texts = [text for text in probe.TEXTS if text.strip()]
        # Not out of memory, and not into it: the encoder itself is to be seen at work.
        encode = version.encoder.encode
        together = version.answer(texts, [], encode(texts))
        alone = version.answer(texts[:1], [], encode(texts[:1]))
    if not np.isfinite(together).all() or (together < 0).any() or abs(together.sum(axis=1) - 1).max() > _TOLERANCE:
        reason = "its answers to the probe are no probabilities"
    elif abs(together[:1] - alone).max() > _TOLERANCE:
        reason = "it answers a text otherwise alone than among others"
    else:
        return
    raise ModelError(
        f"{version.name} does not answer as a classifier must: {reason}",
        where=version.bundle.model_uri,
        fix="train again; the version that served so far goes on",
    )


def _no_rows(width: int, kind: type = np.float32) -> np.ndarray:
    return np.zeros((0, width), dtype=kind)
