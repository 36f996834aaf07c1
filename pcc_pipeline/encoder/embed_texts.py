"""Texts to sentence vectors: each different text once, from the cache where it is, in the order asked for."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pcc_pipeline.encoder.caches.entries import VectorCache, text_key
from pcc_pipeline.encoder.sentence_encoder import Encoder
from pcc_pipeline.encoder.sentence_width import SENTENCE_WIDTH
from pcc_pipeline.encoder.unique_texts import unique_texts

# A transaction of this many texts bounds what an interruption can lose, at a second or two of encoding.
_TEXTS_PER_COMMIT = 1024

Progress = Callable[[int], object]


@dataclass(frozen=True)
class EmbeddingCounts:
    """What embedding did: rows asked for, different texts, those found in the cache, seconds spent encoding."""

    rows: int = 0
    unique: int = 0
    hits: int = 0
    seconds: float = 0.0

    @property
    def encoded(self) -> int:
        return self.unique - self.hits

    @property
    def texts_per_second(self) -> float:
        """Texts that went through the encoder, per second; 0 where none did."""
        return self.encoded / self.seconds if self.seconds else 0.0

    def __add__(self, other: EmbeddingCounts) -> EmbeddingCounts:
        return EmbeddingCounts(
            self.rows + other.rows, self.unique + other.unique, self.hits + other.hits, self.seconds + other.seconds
        )


def embed(
    texts: Sequence[str], encoder: Encoder, cache: VectorCache | None, progress: Progress = lambda rows: None
) -> tuple[np.ndarray, EmbeddingCounts]:
    """Sentence vectors of `texts`, float32 (len(texts), 384), and what it took.

    `progress` is told how many rows have their vector since it was last called.
    """
    unique, positions = unique_texts(texts)
    keys = [text_key(text) for text in unique]
    known = cache.get(keys) if cache is not None else {}
    rows_of = np.bincount(positions, minlength=len(unique))

    table = np.empty((len(unique), SENTENCE_WIDTH), dtype=np.float32)
    missing = [position for position, key in enumerate(keys) if key not in known]
    hits = len(unique) - len(missing)
    if hits:
        there = [position for position, key in enumerate(keys) if key in known]
        table[there] = np.stack([known[keys[position]] for position in there])
    progress(int(rows_of.sum() - rows_of[missing].sum()))

    # Like lengths together waste the least padding; longest first, so that memory peaks at once and not at the end.
    missing.sort(key=lambda position: -len(unique[position]))
    started = time.perf_counter()
    for start in range(0, len(missing), _TEXTS_PER_COMMIT):
        part = missing[start : start + _TEXTS_PER_COMMIT]
        vectors = encoder.encode([unique[position] for position in part])
        table[part] = vectors
        if cache is not None:
            cache.put([keys[position] for position in part], vectors)
        progress(int(rows_of[part].sum()))
    seconds = time.perf_counter() - started if missing else 0.0
    # Where no text stands twice, the table is the rows' already.
    rows = table if len(unique) == len(texts) else table[positions]
    return rows, EmbeddingCounts(len(texts), len(unique), hits, seconds)
