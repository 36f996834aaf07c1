"""Public sets of real messages beside the checkout, for benchmarks: `../shared/data/<set>/train.parquet`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

from pcc_pipeline.encoder.cache import EmbeddingCache
from pcc_pipeline.encoder.embed_texts import embed
from pcc_pipeline.encoder.sentence_encoder import SENTENCE_WIDTH, SentenceEncoder

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data"
_LABEL = {"pcc_bitext": "pcc_intent"}


@dataclass(frozen=True)
class Messages:
    """`texts` (n), `vectors` (n, 384) float32 by the real encoder, `labels` (n,)."""

    texts: list[str]
    vectors: np.ndarray
    labels: np.ndarray


def messages(name: str, n_rows: int | None = None, cache: Path | None = None) -> Messages | None:
    """A set's training rows, embedded: all, or a stratified draw of `n_rows`. None where the set is not there.

    Args:
        cache: a folder that keeps the vectors for the next call.
    """
    path = FOLDER / name / "train.parquet"
    if not path.is_file():
        return None
    frame = pd.read_parquet(path)
    labels = frame[_LABEL.get(name, "intent")].astype(object)
    if n_rows is not None and n_rows < len(frame):
        chosen, _ = train_test_split(np.arange(len(frame)), train_size=n_rows, stratify=labels, random_state=0)
        frame, labels = frame.iloc[np.sort(chosen)], labels.iloc[np.sort(chosen)]
    texts, encoder = [str(text) for text in frame["text"]], SentenceEncoder()
    if cache is None:
        return Messages(texts, embed(texts, encoder, None)[0], labels.to_numpy())
    with EmbeddingCache(cache, encoder.digest, SENTENCE_WIDTH) as kept:
        return Messages(texts, embed(texts, encoder, kept)[0], labels.to_numpy())
